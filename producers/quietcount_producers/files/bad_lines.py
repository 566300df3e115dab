"""The file of bad lines that `--skip-bad` writes beside the good ones: the original, its line and the reason.

It is itself a file of events, so that it can be mended and emitted. It holds identifiers, so nobody else may read it.
"""

from __future__ import annotations

import contextlib
import csv
import filecmp
import io
import json
import os
from pathlib import Path
from typing import IO

from quietcount_producers.errors import ProducersError
from quietcount_producers.files.event_files import FileFormat, Row
from quietcount_schemas.event_types import BAD_LINE_NOTES

__all__ = ["BadLines"]


class BadLines:
    """Writes bad rows to `path` (mode 0600); made with the first of them, put in place whole by `finish`.

    Raises ProducersError when the file cannot be written.
    """

    def __init__(self, path: Path, file_format: FileFormat) -> None:
        self.path = path
        self._format = file_format
        self._partial = path.with_name(f"{path.name}.partial")
        self._file: IO[str] | None = None

    def write(self, row: Row, reason: str) -> None:
        """Add one row."""
        try:
            if self._file is None:
                descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.fchmod(descriptor, 0o600)
                self._file = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
                if self._format is FileFormat.CSV:
                    self._file.write(_csv_line([*_columns(row), *BAD_LINE_NOTES]))
            self._file.write(self._line(row, reason))
        except OSError as error:
            raise self._refused(error) from error

    def finish(self) -> bool:
        """Put the file in its place; return whether there was a bad row.

        A file that is there already and differs is never replaced: somebody may be mending it.
        """
        if self._file is None:
            return False
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            if self.path.exists() and not (
                self.path.is_file() and filecmp.cmp(self._partial, self.path, shallow=False)
            ):
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
            cells = [kept.get(name, "") for name in _columns(row)]
            return _csv_line([*cells, str(row.line), reason, "" if row.cells else row.original])
        facts = row.facts or {"original": row.original}
        # ASCII escapes: half of a surrogate pair, which JSON can hold, is not UTF-8.
        return json.dumps({**facts, "line": row.line, "reason": reason}, ensure_ascii=True) + "\n"

    def _refused(self, error: OSError) -> ProducersError:
        return ProducersError(
            f"Cannot write the bad lines to {self.path}: {os.strerror(error.errno or 0).lower()}; nothing was sent",
            "Name another file with --bad-file",
        )


def _columns(row: Row) -> list[str]:
    return [name for name in row.columns if name not in BAD_LINE_NOTES]


def _csv_line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()
