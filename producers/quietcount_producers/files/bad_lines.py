"""The file of bad lines that `--skip-bad` writes beside the good ones: the original, its line and the reason.

It is itself a file of events, so that it can be mended and emitted. It holds identifiers, so nobody else may read it.
"""

from __future__ import annotations

import contextlib
import csv
import filecmp
import io
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from quietcount_producers.errors import ProducersError
from quietcount_producers.files.columns import without_notes
from quietcount_producers.files.rows import FileFormat, Row
from quietcount_producers.mapping import Reading
from quietcount_schemas.events.event_types import BAD_LINE_NOTES

__all__ = ["BadLines", "is_not_mended", "mended"]

_LINE, _REASON, _ORIGINAL = BAD_LINE_NOTES


def is_not_mended(row: Row) -> bool:
    """Return whether `row` has nothing but what `BadLines` notes of a line that could not be read."""
    return isinstance(row.values.get(_ORIGINAL), str) and row.values.keys() <= {*BAD_LINE_NOTES}


def mended(row: Row) -> dict[str, object]:
    """Return the values of a row of an export, without what `BadLines` notes of it."""
    if not row.columns:
        kept = row.values.get(_ORIGINAL)
        return kept if isinstance(kept, dict) and row.values.keys() == {*BAD_LINE_NOTES} else row.values
    if len(without_notes(row.columns)) == len(row.columns):
        return row.values
    return {name: value for name, value in row.values.items() if name not in BAD_LINE_NOTES}


class BadLines:
    """Writes bad rows to `path` (mode 0600); made with the first of them, put in place whole by `finish`.

    The file is CSV or JSONL. With `reading`, that of a mapping, it can be read by the same mapping: the columns are
    those of the export, and of a JSON document `original` is the document. Raises ProducersError when the file cannot
    be written.
    """

    def __init__(self, path: Path, file_format: FileFormat, reading: Reading | None = None) -> None:
        self.path = path
        self._format = file_format.of_bad_lines
        self._mapped = reading is not None
        self._delimiter = (reading and reading.delimiter) or ","
        # A mapping may name another encoding, and a mark in the first bytes comes before that.
        self._mark = "\ufeff" if reading and reading.encoding else ""
        self._partial = path.with_name(f"{path.name}.partial")
        self._file: IO[str] | None = None

    def write(self, row: Row, reason: str) -> None:
        """Add one row. If it is a bad line that was not mended, it keeps the reason that it was given then."""
        if is_not_mended(row):
            reason = str(row.values.get(_REASON, reason))
        try:
            if self._file is None:
                descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.fchmod(descriptor, 0o600)
                self._file = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
                if self._format is FileFormat.CSV:
                    self._file.write(self._mark + self._csv_line([*self._columns(row), *BAD_LINE_NOTES]))
            self._file.write(self._line(row, reason))
        except OSError as error:
            raise self._refused(error) from error

    def finish(self) -> bool:
        """Put the file in its place; return whether there was a bad row.

        A file that is there already and differs is never replaced: somebody may be mending it. The reasons alone may
        differ: that of a date that lies in the future changes from day to day.
        """
        if self._file is None:
            return False
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            if self.path.exists() and not (self.path.is_file() and self._holds_the_same()):
                raise ProducersError(
                    f"{self.path} is there already and holds something else; nothing was sent",
                    "Move it away, or name another file with --bad-file",
                )
            self._file.close()
            self._partial.replace(self.path)
        except OSError as error:
            raise self._refused(error) from error
        self._file = None
        return True

    def discard(self) -> None:
        """Remove what `finish` has not put in place."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._partial.unlink()
            self._file = None

    def _line(self, row: Row, reason: str) -> str:
        # What could not be taken apart stands there as it was.
        if self._format is FileFormat.CSV:
            kept = dict(zip(row.columns, row.cells, strict=False))
            cells = [kept.get(name, "") for name in self._columns(row)]
            original = str(row.values.get(_ORIGINAL, "")) if row.cells else row.original
            return self._csv_line([*cells, str(row.line), reason, original])
        facts = row.values or {_ORIGINAL: row.original}
        if self._mapped and row.values and not is_not_mended(row):
            facts = {_ORIGINAL: mended(row)}  # a form may have a field `reason` of its own
        # ASCII escapes: half of a surrogate pair, which JSON can hold, is not UTF-8.
        return json.dumps({**facts, _LINE: row.line, _REASON: reason}, ensure_ascii=True) + "\n"

    def _columns(self, row: Row) -> list[str]:
        if self._mapped:
            return without_notes(row.columns)
        return [name for name in row.columns if name not in BAD_LINE_NOTES]

    def _csv_line(self, cells: list[str]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=self._delimiter).writerow(cells)
        return buffer.getvalue()

    def _holds_the_same(self) -> bool:
        """Return whether the file that is there differs from the new one in its reasons at most."""
        if filecmp.cmp(self._partial, self.path, shallow=False):
            return True
        with (
            self._partial.open(encoding="utf-8", newline="") as new,
            self.path.open(encoding="utf-8", newline="") as old,
        ):
            without = self._csv_without_reasons if self._format is FileFormat.CSV else _jsonl_without_reasons
            try:
                return all(one == other for one, other in itertools.zip_longest(without(new), without(old)))
            except (ValueError, TypeError, csv.Error):  # somebody is mending it
                return False

    def _csv_without_reasons(self, file: IO[str]) -> Iterator[list[str]]:
        reader = csv.reader(file, strict=True, delimiter=self._delimiter)
        header = next(reader, [])
        place = len(header) - 2 if self._mapped else header.index(_REASON)
        for row in itertools.chain([header], reader):
            yield row[:place] + row[place + 1 :]

    def _refused(self, error: OSError) -> ProducersError:
        return ProducersError(
            f"Cannot write the bad lines to {self.path}: {os.strerror(error.errno or 0).lower()}; nothing was sent",
            "Name another file with --bad-file",
        )


def _jsonl_without_reasons(file: IO[str]) -> Iterator[list[tuple[str, object]]]:
    for line in file:
        # Pairs, and no dict: of a key that somebody has written twice, none is lost.
        yield [(key, value) for key, value in json.loads(line, object_pairs_hook=list) if key != _REASON]
