"""The rows of an Excel workbook, read by openpyxl, which the extra `xlsx` installs.

openpyxl is pure Python and reads a sheet row by row. A reader in another language, such as calamine, is faster, but
allots a sheet whole: a file of some hundred bytes that names a cell in the last row and column ends the process.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final
from xml.etree import ElementTree

from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.files.columns import MOST_TITLE_ROWS, Columns, are_tags, shortened
from quietcount_producers.files.rows import Row, cell_text
from quietcount_producers.mapping import Reading

__all__ = ["workbook_rows"]

_MOST_BYTES: Final = 1 << 30
"""Unpacked. A sheet of a million rows has some hundred megabytes; a file made to fill the memory has more."""
_MOST_TEXTS: Final = 1 << 28
"""Unpacked bytes of the texts that the cells share. They are all in memory while a sheet is read."""
_MOST_PARTS: Final = 10_000
_MOST_ROWS: Final = 1 << 20
"""As many as a sheet can have."""
_BATCH: Final = 500
_PROTECTED: Final = b"\xd0\xcf\x11\xe0"
_ERRORS: Final = frozenset(
    ("#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#SPILL!", "#CALC!", "#FIELD!", "#BLOCKED!")
)
_MERGED: Final = re.compile(rb"""<(?:\w+:)?mergeCell\s[^>]*?ref=["']([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})["']""")
_NO_VALUE: Final = re.compile(
    rb"""<(?:\w+:)?c\b(?![^>]*\bt=["']str["'])[^>]*>\s*<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)\s*"""
    rb"""(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"""
)
"""A formula behind which no value is stored. A formula that gives an empty text has the type `str`."""
_ROW: Final = re.compile(rb"""<(?:\w+:)?row\s(?:[^>]*?\s)?r=["'](\d{1,9})["']""")
_PIECE: Final = 1 << 18
_OVERLAP: Final = 1 << 14
"""Bytes: longer than the longest formula with its cell."""
_RELATION: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"

_Merged = tuple[int, int, int, int]
"""First and last row, first and last column, from 1."""


def workbook_rows(stream: BinaryIO, name: str, reading: Reading, columns: Columns) -> Iterator[Row]:
    """Yield the rows of the sheet that holds events. Raises ProducersError for a workbook that cannot be read."""
    file = _whole(stream, name)
    try:
        with zipfile.ZipFile(file) as archive:
            _bound(archive, name)
            parts = _sheet_parts(archive)
            with _opened(file, name) as book:
                sheet, names, header = _chosen(book, name, reading, columns)
                merged = _scanned(archive, parts.get(sheet.title, ""), name)
                yield from _rows(sheet, name, names, header, merged)
    except ProducersError:
        raise
    except OSError:
        raise
    except zipfile.BadZipFile:
        raise _broken(name) from None
    except Exception as error:  # a faulty workbook makes zipfile, zlib, expat and openpyxl raise whatever they like
        raise _broken(name) from error


def _whole(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the file in a form that can be read from its end, which is where an archive begins."""
    if stream.seekable():
        head = stream.read(4)
        stream.seek(0)
        found: BinaryIO = stream
    else:
        data = stream.read(_MOST_TEXTS + 1)
        if len(data) > _MOST_TEXTS:
            raise ProducersError(f"{name} is too long for a workbook that is not a file", "Give its path")
        head, found = data[:4], io.BytesIO(data)
    if head == _PROTECTED:
        raise ProducersError(
            f"{name} is protected by a password, or an old workbook (.xls)",
            "Open it, take the password out, and save it as .xlsx",
        )
    if not head.startswith(b"PK"):
        raise ProducersError(f"{name} is not an .xlsx workbook", "If it is text, give its format with --format")
    return found


def _bound(archive: zipfile.ZipFile, name: str) -> None:
    parts = archive.infolist()
    texts = sum(each.file_size for each in parts if "sharedstrings" in each.filename.lower())
    if len(parts) > _MOST_PARTS or sum(each.file_size for each in parts) > _MOST_BYTES or texts > _MOST_TEXTS:
        raise ProducersError(f"{name} is too large for a workbook", "Save the sheet as CSV in UTF-8")


def _sheet_parts(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return, by the title of a sheet, the part of the archive that holds it."""
    relations = {
        str(each.get("Id")): str(each.get("Target"))
        for each in ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))  # noqa: S314  # bounded; expat stops expansions
    }
    found = {}
    for element in ElementTree.fromstring(archive.read("xl/workbook.xml")).iter():  # noqa: S314
        if element.tag.endswith("}sheet"):
            target = relations.get(str(element.get(_RELATION)), "")
            found[str(element.get("name"))] = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    return found


def _opened(file: BinaryIO, name: str) -> Any:
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise ProducersError(
            f"{name} is a workbook, and what reads workbooks is not installed",
            "Install the extra: pip install './producers[xlsx]'. Or save the sheet as CSV in UTF-8",
        ) from None
    import contextlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts of a workbook that do not matter here
        return contextlib.closing(openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False))


def _chosen(book: Any, name: str, reading: Reading, columns: Columns) -> tuple[Any, list[str], int]:
    """Return the sheet that holds events, the names of its columns, and the row they stand in."""
    sheets = list(book.worksheets)
    if reading.sheet is not None:
        sheets = [each for each in sheets if each.title.strip() == reading.sheet.strip()]
        if not sheets:
            raise ProducersError(f"{name} has no sheet of the name that the mapping gives", "Correct `sheet` there")
    found: list[tuple[Any, list[str], int]] = []
    likely: list[str] = []
    for sheet in sheets:
        sheet.reset_dimensions()  # what a sheet says of its size may be wrong, and would cut columns off
        head = itertools.islice(_batches(sheet), reading.skip_rows + MOST_TITLE_ROWS)
        for number, cells in enumerate(head, start=1):
            names = shortened([cell_text(each) for each in cells])
            if number <= reading.skip_rows or not names:
                continue
            if columns.is_header(names):
                found.append((sheet, names, number))
                break
            likely = max(likely, names, key=columns.found) if likely else names
    if len(found) > 1:
        raise ProducersError(
            f"{name} has several sheets that hold events", "Name one in the mapping, or save each as a file of its own"
        )
    if not found:
        columns.check(likely)
        raise ProducersError(f"{name}: no row names the columns", "Name them in the first row")
    columns.check(found[0][1])
    return found[0]


def _batches(sheet: Any) -> Iterator[Sequence[object]]:
    """Yield the cells of each row, without the warnings about cells that openpyxl gives."""
    rows = sheet.iter_rows(values_only=True)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = list(itertools.islice(rows, _BATCH))
        yield from batch
        if len(batch) < _BATCH:
            return


def _scanned(archive: zipfile.ZipFile, part: str, name: str) -> list[_Merged]:
    """Return the merged cells of a sheet. Raises ProducersError for formulas without values and rows out of order.

    openpyxl tells of neither when it reads row by row. A cell without its value would count as its default, and a row
    whose number is not above that of the row before is passed over.
    """
    merged: set[_Merged] = set()
    with archive.open(part) as file:
        before = b""
        begun = row = 0
        last = -1
        while piece := file.read(_PIECE):
            text = before + piece
            if _NO_VALUE.search(text):
                raise ProducersError(
                    f"{name} has formulas whose values are not stored",
                    "Open it in a spreadsheet program and save it: that works them out",
                )
            for left, first, right, end in _MERGED.findall(text):
                merged.add((int(first), int(end), _number(left), _number(right)))
            for found in _ROW.finditer(text):
                if begun + found.start() <= last:  # seen in the piece before
                    continue
                last = begun + found.start()
                if int(found[1]) <= row:
                    raise ProducersError(
                        f"{name} has rows that are numbered twice or out of order",
                        "Open it in a spreadsheet program and save it again",
                    )
                row = int(found[1])
            before = text[-_OVERLAP:]
            begun += len(text) - len(before)
    return sorted(merged)


def _number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _rows(sheet: Any, file: str, names: list[str], header: int, merged: list[_Merged]) -> Iterator[Row]:
    ahead = [each for each in reversed(merged) if each[1] > header]
    standing: list[_Merged] = []
    for number, cells in enumerate(_batches(sheet), start=1):
        if number > _MOST_ROWS:
            raise ProducersError(f"{file} has more rows than a sheet can have", "Export the file again")
        if number <= header:
            continue
        if number == header + 1 and are_tags(cells):
            continue
        while ahead and ahead[-1][0] <= number:
            standing.append(ahead.pop())
        if standing:
            standing = [each for each in standing if each[1] >= number]
        values: dict[str, object] = {}
        faulty: list[EventRefused] = []
        for name, cell in zip(names, cells, strict=False):
            value, reason = _read(cell)
            if reason:
                faulty.append(EventRefused(name, reason))
            elif value is not None:
                values[name] = value
        if not values and not faulty:
            continue
        for first, _, left, right in standing:
            covered = names[left - 1 : right] if number > first else names[left:right]
            faulty += [
                EventRefused(name, "is part of merged cells; unmerge them, and fill in each row") for name in covered
            ]
        texts = [cell_text(values.get(name)) for name in names]
        problem = None
        if any(each is not None for each in cells[len(names) :]):
            problem = EventRefused("", "has more values than the header has columns")
        yield Row(number, "", values, names, texts, problem, number, faulty)


def _read(cell: object) -> tuple[object, str]:
    """Return the value of a cell, and why it has none that can be used."""
    match cell:
        case None:
            return None, ""
        case str():
            text = cell.strip()
            if text in _ERRORS:
                return None, "holds an error of the spreadsheet in place of a value; mend its formula"
            return text or None, ""
        case dt.datetime():
            return (cell.date() if cell.time() == dt.time() else cell), ""
        case bool():
            return cell, ""
        case int() | float() if abs(cell) >= 1e15:
            return (
                None,
                "is a number of more digits than a spreadsheet keeps; let the column be text and write it again",
            )
        case bool() | int() | float() | dt.date():
            return cell, ""
        case _:
            return cell_text(cell), ""


def _broken(name: str) -> ProducersError:
    return ProducersError(
        f"{name} is a workbook that is broken or cut off", "Open it in a spreadsheet program and save it again"
    )
