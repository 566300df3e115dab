"""Files of events as people have them: JSONL and CSV, read row by row, each row with the line it begins on.

A reader never stops at a bad row: it says what is wrong and goes on, so that one pass finds every mistake. Reasons
never show what stands in the file, because what stands there can be somebody's name.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from quietcount_producers.composition import close_match, listed
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_schemas.event_types import BAD_LINE_NOTES

__all__ = ["LONGEST_LINE", "FileFormat", "Row", "rows"]

LONGEST_LINE: Final = 64 * 1024
"""Bytes. An event's line has some hundred; a longer one is no event, and must not fill the memory."""

_NEEDED: Final = ("event", "case", "occurred_on")
_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


class FileFormat(StrEnum):
    """A format that events are read from."""

    JSONL = "jsonl"
    CSV = "csv"

    @classmethod
    def guess(cls, path: Path) -> FileFormat:
        """Return the format that the suffix of `path` names. Raises ProducersError."""
        match path.suffix.lower():
            case ".csv":
                return cls.CSV
            case ".jsonl" | ".ndjson":
                return cls.JSONL
            case ".xlsx" | ".xls" | ".ods" | ".numbers":
                raise ProducersError(f"{path}: is a spreadsheet", "Save the file as CSV in UTF-8")
            case _:
                pass
        raise ProducersError(f"{path}: the name does not say the format", "Give --format jsonl or --format csv")


@dataclass(slots=True)
class Row:
    """One row: the line it begins on, its text, and either what it says or why it cannot be read.

    The values of a CSV row are all text; `columns` is the header and `cells` the row as it stands under it.
    """

    line: int
    original: str
    values: dict[str, object] = field(default_factory=dict)
    columns: Sequence[str] = ()
    cells: Sequence[str] = ()
    problem: EventRefused | None = None


class _Lines:
    """The physical lines of a binary stream as text; an iterator that goes on after a line it has refused."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self.name = name
        self.number = 0
        self._record: list[str] = []
        self._size = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = self._stream.readline(LONGEST_LINE + 1)
        if not data:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            if data.startswith(_UTF_16):
                raise ProducersError(f"{self.name} is UTF-16 text; nothing was sent", "Save it as UTF-8 and run again")
            data = data.removeprefix(_BOM)
        self._size += len(data)
        if len(data) > LONGEST_LINE:
            while data and not data.endswith(b"\n"):
                data = self._stream.readline(LONGEST_LINE)
            raise EventRefused("", f"is longer than {LONGEST_LINE} bytes; one line is one event")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise EventRefused("", "is not UTF-8 text; save the file as UTF-8") from None
        self._record.append(text)
        if self._size > LONGEST_LINE:
            raise EventRefused("", f"begins a row longer than {LONGEST_LINE} bytes; is a quotation mark not closed?")
        return text

    def begin(self) -> None:
        """Forget the text so far: a new row begins."""
        self._record = []
        self._size = 0

    @property
    def text(self) -> str:
        """The text of the row so far, without its line end."""
        return "".join(self._record).rstrip("\r\n")


def rows(stream: BinaryIO, name: str, file_format: FileFormat, known: Iterable[str]) -> Iterator[Row]:
    """Yield the rows of `stream`, empty lines left out.

    `name` is what messages call the file, `known` are the names that a CSV header may have. Raises ProducersError,
    before the first row, for a header that is not in order and for a file that is not text.
    """
    lines = _Lines(stream, name)
    return _csv_rows(lines, list(known)) if file_format is FileFormat.CSV else _jsonl_rows(lines)


# JSONL


def _jsonl_rows(lines: _Lines) -> Iterator[Row]:
    while True:
        lines.begin()
        try:
            text = next(lines)
        except StopIteration:
            return
        except EventRefused as refused:
            yield Row(lines.number, lines.text, problem=refused)
            continue
        if not text.strip():
            continue
        try:
            yield Row(lines.number, lines.text, values=_object(text))
        except EventRefused as refused:
            if lines.number == 1 and not text.lstrip().startswith(("{", "[")):
                refused = EventRefused("", f"{refused.reason}. Is it CSV? Give --format csv")
            yield Row(lines.number, lines.text, problem=refused)


def _object(text: str) -> dict[str, object]:
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise EventRefused(
                "", "is not JSON: it breaks off before the end of its object; was the file cut?"
            ) from None
        raise EventRefused("", f"is not JSON (column {error.colno})") from None
    except (RecursionError, ValueError):  # nested too deep; a number of thousands of digits
        raise EventRefused("", "is not the JSON object of an event") from None
    if not isinstance(value, dict):
        raise EventRefused("", 'is not a JSON object; a line looks like {"event": ..., "case": ..., ...}')
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EventRefused("", "has a key twice, so it is unclear which of the two holds")
    return found


def _no_constant(_: str) -> object:
    raise EventRefused("", "holds NaN or Infinity, which are not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


# CSV


def _csv_rows(lines: _Lines, known: list[str]) -> Iterator[Row]:
    header, delimiter = _header(lines, known)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        lines.begin()
        line = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except EventRefused as refused:
            yield Row(line, lines.text, columns=header, problem=refused)
            continue
        except csv.Error:
            reason = "has a quotation mark that is not closed, or text after one that is"
            yield Row(line, lines.text, columns=header, problem=EventRefused("", reason))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            more = "more" if len(cells) > len(header) else "fewer"
            wrong = EventRefused("", f"has {more} values than the header has columns")
            yield Row(line, lines.text, columns=header, problem=wrong)
            continue
        values: dict[str, object] = {n: c.strip() for n, c in zip(header, cells, strict=True) if c.strip()}
        yield Row(line, lines.text, values=values, columns=header, cells=cells)


def _header(lines: _Lines, known: list[str]) -> tuple[list[str], str]:
    """Return the names of the columns, and what stands between them.

    A spreadsheet writes semicolons where decimals have a comma, as in German, Russian and Ukrainian.
    """
    header: list[str] = []
    delimiter = ","
    while not header:  # empty lines may stand before it
        lines.begin()
        try:
            line = next(lines)
            delimiter = next((each for each in ",;\t" if each in line), ",")
            header = [name.strip() for name in next(csv.reader([line], strict=True, delimiter=delimiter), [])]
        except StopIteration:
            raise ProducersError(
                f"{lines.name} has no header", f"Name the columns in the first line: {listed(known)}"
            ) from None
        except (EventRefused, csv.Error):
            raise ProducersError(
                f"{lines.name}: the header cannot be read",
                "Save the file as CSV in UTF-8, with the names of the columns in its first line",
            ) from None
    problems = []
    allowed = {*known, *BAD_LINE_NOTES}
    for number, name in enumerate(header, start=1):
        # The name is not shown: without a header, the first line is somebody's case.
        if name not in allowed:
            problems.append(f"column {number} is not a field of any event type{close_match(name, known)}")
        elif name in header[: number - 1]:
            problems.append(f"column {number} stands there twice ({name})")
    problems += [f"the column {name} is missing" for name in _NEEDED if name not in header]
    if problems:
        raise ProducersError(
            f"{lines.name}: the header is not in order: {'; '.join(problems)}", f"Columns may be: {', '.join(known)}"
        )
    return header, delimiter
