"""Excel workbooks: what cells of each kind become, and what cannot be read from a workbook."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import openpyxl
import pytest
from tests.unit.producers.emissions import NAME, Place, place, said

from quietcount_producers.files import workbook

pytestmark = pytest.mark.quick

__all__ = ["place"]  # fixtures, which tests ask for by name

HEADER: list[object] = ["event", "case", "occurred_on", "region"]
ROW: list[object] = ["HelpRequested", "file 17", dt.date(2023, 10, 3), "URAL"]


def book(*rows: Sequence[object], change: Callable[[Any], object] = lambda _: None) -> bytes:
    made = openpyxl.Workbook()
    sheet = made.active
    assert sheet is not None
    for row in rows:
        sheet.append([*row])
    change(made)
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


def edited(data: bytes, part: str, right: str, wrong: str) -> bytes:
    """Return a workbook with text replaced in one of its parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for each in old.namelist():
            text = old.read(each)
            if each == part:
                assert right.encode() in text
                text = text.replace(right.encode(), wrong.encode())
            new.writestr(each, text)
    return file.getvalue()


SHEET = "xl/worksheets/sheet1.xml"


def test_a_workbook_gives_the_events_that_its_rows_give_as_csv(place: Place) -> None:
    rows: list[list[object]] = [
        ["Export of October", None, None, None],
        HEADER,
        ["#event", "#id", "#date", "#adm1"],
        ROW,
        [],
        ["HelpRequested", 17, dt.datetime.fromisoformat("2023-10-04 15:30"), None],
        ["HelpRequested", 79012345678.0, "2023-11-05", " VOLGA "],
    ]
    result = place.emit(book(*rows), name="cases.xlsx")
    assert result.exit_code == 0, said(result)
    assert "3 events" in result.stderr
    text = (
        "event,case,occurred_on,region\nHelpRequested,file 17,2023-10-03,URAL\nHelpRequested,17,2023-10-04,\n"
        "HelpRequested,79012345678,2023-11-05,VOLGA\n"
    )
    place.emit(text, name="cases.csv")
    events = place.events()
    assert events[3:] == events[:3]


def _merge(made: Any) -> None:
    made.active.merge_cells("D2:D3")


def _formula(made: Any) -> None:
    made.active["D2"] = "=A1"


def _second(made: Any) -> None:
    made.create_sheet("other").append(HEADER)


EXPANSIONS = f'<!ENTITY a "{"a" * 999}">' + "".join(
    f'<!ENTITY {one} "{f"&{other};" * 50}">' for one, other in zip("bcdefg", "abcdef", strict=True)
)
"""Fifteen trillion letters."""

REFUSED: dict[str, tuple[bytes, str]] = {
    "an error of a formula": (
        book(HEADER, [*ROW[:3], "#N/A"]),
        "line 2: region: holds an error of the spreadsheet in place of a value; mend its formula",
    ),
    "merged cells": (book(HEADER, ROW, ROW, change=_merge), "line 3: region: is part of merged cells"),
    "a formula without its value": (book(HEADER, ROW, change=_formula), "has formulas whose values are not stored"),
    "two sheets with events": (book(HEADER, ROW, change=_second), "has several sheets that hold events"),
    "too many digits": (
        book(HEADER, ["HelpRequested", 7.90123456789012345e17, *ROW[2:]]),
        "line 2: case: is a number of more digits than a spreadsheet keeps",
    ),
    "a day for an identifier": (book(HEADER, ["HelpRequested", dt.date(2023, 1, 1), *ROW[2:]]), "case: must be text"),
    "a fraction for an identifier": (book(HEADER, ["HelpRequested", 17.5, *ROW[2:]]), "case: must be text"),
    "a symbol that is none": (book(HEADER, [*ROW[:3], NAME]), "line 2: region: must be one of"),
    "more cells than columns": (book(HEADER, [*ROW, NAME]), "line 2: has more values than the header has columns"),
    "no header": (book(ROW, ROW), "the column event is missing"),
    "nothing": (book(), "has no header"),
    "cut off": (book(HEADER, ROW)[:-30], "is a workbook that is broken or cut off"),
    "a password": (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "is protected by a password"),
    "a part that is no XML": (edited(book(HEADER, ROW), SHEET, "<sheetData>", "<"), "is broken or cut off"),
    "a row beyond the last": (
        edited(book(HEADER, ROW), SHEET, '<row r="2"', '<row r="99999999"'),
        "more rows than a sheet can have",
    ),
    "two rows of one number": (
        edited(book(HEADER, ROW, ROW), SHEET, '<row r="3"', '<row spans="1:4" r="2"'),
        "has rows that are numbered twice or out of order",
    ),
    "expansions": (
        edited(
            edited(book(HEADER, ROW), SHEET, "<sheetData>", "<sheetData>&g;"),
            SHEET,
            "<worksheet",
            f"<!DOCTYPE x [{EXPANSIONS}]><worksheet",
        ),
        "is broken or cut off",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_from_a_workbook_is_said(place: Place, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_MOST_ROWS", 10_000)  # a million empty rows take a second
    content, message = REFUSED[what]
    result = place.emit(content, name="cases.xlsx")
    shown = said(result)
    assert result.exit_code == 1
    assert message in shown
    assert place.events() == []
    assert NAME not in shown.replace(str(place.folder), "")


def test_a_title_in_merged_cells_changes_nothing(place: Place) -> None:
    content = book(["Export"], HEADER, ROW, change=lambda made: made.active.merge_cells("A1:D1"))
    assert place.emit(content, name="cases.xlsx").exit_code == 0


def test_a_column_that_is_missing_below_a_title_is_told_alone(place: Place) -> None:
    told = said(place.emit(book(("Cases of 2023", None, None), ("event", "case", "occured_on")), name="cases.xlsx"))
    assert "the column occurred_on is missing" in told
    assert "the column case is missing" not in told


def test_what_a_sheet_says_of_its_size_is_not_believed(place: Place) -> None:
    content = edited(book(HEADER, ROW, ROW), SHEET, 'ref="A1:D3"', 'ref="A1:C2"')
    assert place.emit(content, name="cases.xlsx").exit_code == 0
    assert [event.attributes["region"] for event in place.events()] == ["URAL", "URAL"]


def test_a_workbook_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "_MOST_BYTES", 10_000)
    assert "is too large for a workbook" in said(place.emit(book(HEADER, *[ROW] * 500), name="cases.xlsx"))


def test_the_bad_rows_of_a_workbook_are_kept_as_csv_and_can_be_mended(place: Place) -> None:
    content = book(HEADER, ROW, ["HelpRequested", 18, dt.datetime.fromisoformat("2023-10-04"), "MOON"])
    assert place.emit(content, "--skip-bad", name="cases.xlsx").exit_code == 0
    kept = (place.folder / "cases.xlsx.bad.csv").read_text()
    assert "HelpRequested,18,2023-10-04" in kept
    assert place.emit(kept.replace("MOON", "URAL"), name="mended.csv").exit_code == 0
    assert len(place.events()) == 2


def test_a_workbook_comes_through_a_pipe_too(place: Place) -> None:
    assert place.run("-", "--format", "xlsx", stdin=book(HEADER, ROW)).exit_code == 0
    assert len(place.events()) == 1
