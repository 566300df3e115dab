"""The rows of a CSV file: comma, semicolon or tab between the cells, in quotation marks or not.

A stray quotation mark opens a cell that goes on over the lines below it, up to the next mark. So rows of other people
would become part of one. A cell that goes on over lines is refused, unless its column is ignored and none of its lines
looks like a row.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Final

from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.files.columns import MOST_TITLE_ROWS, Columns, are_tags, shortened
from quietcount_producers.files.rows import Row
from quietcount_producers.files.text_lines import Lines
from quietcount_producers.mapping import Reading
from quietcount_schemas.events.event_types import BAD_LINE_NOTES

__all__ = ["csv_rows"]

_DELIMITERS: Final = (",", ";", "\t")
"""A spreadsheet writes semicolons where decimals have a comma, as in German, Russian and Ukrainian."""
_NAMED: Final = re.compile(r'"?sep=([^"])"?[,;\t]*', re.IGNORECASE)
"""The first line with which Excel says what stands between cells."""

_NOTES: Final = BAD_LINE_NOTES[-1]
"""How the header of a file of bad lines ends, above which there is no title."""

_SWALLOWS: Final = (
    "a quotation mark opens a cell that goes on over these lines, so they would be one row. Take the mark out. If "
    "the cell does hold a line break, take that out"
)
_UNCLOSED: Final = (
    "opens a cell with a quotation mark that is not closed in its column, so the lines below would become part of it. "
    "Take the mark out, or close it"
)
_STRAY: Final = (
    "holds a quotation mark that is not part of a pair around the cell. Take it out, or put the cell in quotation "
    "marks and write each mark inside it twice"
)
_BEHIND: Final = (
    "has text behind a quotation mark that closes its cell. Take the marks out, or write each mark inside a cell twice"
)


def csv_rows(lines: Lines, reading: Reading, columns: Columns) -> Iterator[Row]:
    """Yield the rows of `lines`. Raises ProducersError, before the first row, for a header that is not in order."""
    names, delimiter = _header(lines, reading, columns)
    below = lines.number + 1
    for row in _table(lines, names, delimiter, columns):
        if row.line == below and are_tags(row.values.values()):
            continue
        yield row


def _table(lines: Lines, names: list[str], delimiter: str, columns: Columns) -> Iterator[Row]:
    """Yield the rows below the header, a piece at a time: at once if each line is a row, and otherwise one by one."""
    while piece := lines.ahead():
        number = lines.number + 1
        try:
            table = [] if lines.are_refused() else list(csv.reader(piece, strict=True, delimiter=delimiter))
        except csv.Error:
            table = []
        if len(table) == len(piece):
            lines.skip(len(piece))
            for line, text, cells in zip(itertools.count(number), piece, table):
                if (row := _row(line, text, cells, names, columns)) is not None:
                    yield row
            continue
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        while lines.number < number + len(piece) - 1:
            lines.begin()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except EventRefused as refused:
                if lines.span > 1:
                    yield _only_first(lines, names)
                else:
                    yield Row(lines.number, lines.text, columns=names, problem=refused)
                continue
            except csv.Error:
                yield _only_first(lines, names)
                continue
            line = lines.number - lines.span + 1
            made = _row(line, lines.text, cells, names, columns)
            if made is None:
                continue
            if lines.span > 1:
                made.last = lines.number
                swallowing = _swallowing(lines.row, cells, names, delimiter, columns)
                if made.problem is None and swallowing is not None:
                    problem = EventRefused(swallowing, _SWALLOWS)
                    made = Row(line, lines.text, columns=names, problem=problem, last=lines.number)
            yield made


def _row(line: int, text: str, cells: list[str], names: list[str], columns: Columns) -> Row | None:
    """Return the row that has these cells, or None if it is empty."""
    count = len(names)
    if len(cells) != count and (len(cells) < count or "".join(cells[count:]).strip()):
        if not "".join(cells).strip():
            return None
        more = "more" if len(cells) > count else "fewer"
        refused = EventRefused("", f"has {more} values than the header has columns")
        return Row(line, text.rstrip("\r\n"), columns=names, problem=refused)
    if '"' in text and (stray := _stray(text, cells, names, columns)) is not None:
        return Row(line, text.rstrip("\r\n"), columns=names, problem=EventRefused(stray, _STRAY))
    values: dict[str, object] = {n: cell for n, cell in zip(names, map(str.strip, cells), strict=False) if cell}
    return Row(line, text.rstrip("\r\n"), values, names, cells) if values else None


def _stray(text: str, cells: Sequence[str], names: Sequence[str], columns: Columns) -> str | None:
    """Return the column that has a quotation mark in a cell without quotation marks around it, or None.

    It is the half of a pair, or stands behind a space. As part of an identifier it would make another person.
    """
    for name, cell in zip(names, cells, strict=False):
        if '"' in cell and not columns.ignores(name) and f'"{cell.replace(chr(34), chr(34) * 2)}"' not in text:
            return name
    return None


def _only_first(lines: Lines, names: Sequence[str]) -> Row:
    """Refuse the first line of the row alone, and go on with the second: the others may well be rows of their own."""
    reason = _BEHIND if lines.span == 1 and not lines.ended else _UNCLOSED
    lines.back(1)
    return Row(lines.number, lines.text, columns=names, problem=EventRefused("", reason))


def _swallowing(
    row: Sequence[str], cells: Sequence[str], names: Sequence[str], delimiter: str, columns: Columns
) -> str | None:
    """Return the column whose cell goes on over lines and may not, or None."""
    for name, cell in zip(names, cells, strict=False):
        if "\n" in cell or "\r" in cell:
            if not columns.ignores(name):
                return name
            # What a note says seldom has as many delimiters as a row.
            if name != "original" and any(line.count(delimiter) == len(names) - 1 for line in row[1:]):
                return name
    return None


def _header(lines: Lines, reading: Reading, columns: Columns) -> tuple[list[str], str]:
    """Return the names of the columns, and what stands between cells."""
    delimiters = (reading.delimiter,) if reading.delimiter else _DELIMITERS
    refused: ProducersError | None = None
    most, seen = -1, 0
    for number in range(reading.skip_rows + MOST_TITLE_ROWS):
        lines.begin()
        text = next(_readable(lines), None)
        if text is None:
            break
        if number == 0 and (named := _NAMED.fullmatch(text.rstrip("\r\n"))):
            delimiters = (named[1],)
            continue
        seen += 1
        above = seen <= reading.skip_rows
        if above and not text.rstrip("\r\n").endswith(_NOTES):
            continue
        if not text.strip(" \t\r\n,;"):
            continue
        likely: list[str] = []
        for delimiter in delimiters:
            lines.back()
            try:
                cells = shortened(next(csv.reader(lines, strict=True, delimiter=delimiter), []))
            except (EventRefused, csv.Error):
                continue
            if columns.is_header(cells):
                columns.check(cells)
                return cells, delimiter
            likely = max(likely, cells, key=lambda each: (columns.found(each), len(each)))
        if not above and columns.found(likely) > most:  # a title is not told in place of the header below it
            most = columns.found(likely)
            try:
                columns.check(likely)
                refused = _unreadable(lines)
            except ProducersError as error:
                refused = error if likely else _unreadable(lines)
        lines.back(1)
    if refused is None:
        columns.check([])
        refused = _unreadable(lines)
    raise refused


def _readable(lines: Lines) -> Iterator[str]:
    try:
        yield from lines
    except EventRefused as refused:
        what, _, remedy = refused.reason.partition("; ")
        raise ProducersError(
            f"{lines.name} line {lines.number} {what}",
            f"{remedy[:1].upper()}{remedy[1:]}",
        ) from None


def _unreadable(lines: Lines) -> ProducersError:
    return ProducersError(
        f"{lines.name}: the header cannot be read",
        "Save the file as CSV in UTF-8, with the names of the columns in its first line",
    )
