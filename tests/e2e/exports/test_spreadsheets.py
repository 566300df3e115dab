"""The CSV files in LibreOffice: it finds the figures that are there, runs no text, and takes none for a date."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.exported_world import hostile_file, numbers_file

from quietcount_consumers.exporting import spreadsheet_cells
from quietcount_consumers.exporting.export import export

Require = Callable[[bool, str], None]

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("spreadsheets"), pytest.mark.promise("handed-on")]

SECONDS = 120  # its first start makes a profile
OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
NUMBER = re.compile(r"-?\d+(\.\d+)?")
DATE = re.compile(r"\d{4}-\d\d-\d\d")

# Languages by their numbers in Windows, which LibreOffice takes: what a date and a decimal look like depends on them.
LANGUAGES = {"English": 1033, "German": 1031, "Russian": 1049, "Ukrainian": 1058}


@pytest.fixture(scope="module")
def office(require: Require) -> str:
    found = shutil.which("soffice")
    require(found is not None, "LibreOffice Calc (on Debian and Ubuntu: apt install libreoffice-calc-nogui)")
    assert found is not None
    return found


Sheet = list[list[tuple[str, str]]]
"""Rows of cells: what LibreOffice takes each for (float, date, string, formula, empty), and its value as text."""


@pytest.fixture(scope="module")
def opened(office: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Path], int], dict[str, Sheet]]:
    """Open files as somebody does who lets LibreOffice guess what a cell is, in a country's language."""
    profile = tmp_path_factory.mktemp("profile")

    def open_files(files: list[Path], language: int) -> dict[str, Sheet]:
        out = tmp_path_factory.mktemp("opened")
        # Commas, double quotes, UTF-8, from the first line on; "detect special numbers", which takes text for dates.
        options = f"CSV:44,34,76,1,,{language},false,true,false,false"
        command = [office, "--headless", "--norestore", f"-env:UserInstallation={profile.as_uri()}"]
        command += ["--convert-to", "fods", f"--infilter={options}", "--outdir", str(out), *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return {path.stem: list(sheet(path)) for path in out.glob("*.fods")}

    return open_files


def sheet(path: Path) -> Iterator[list[tuple[str, str]]]:
    for row in ET.parse(path).getroot().iter(f"{TABLE}table-row"):  # noqa: S314  # LibreOffice wrote it
        cells: list[tuple[str, str]] = []
        for each in row.iter(f"{TABLE}table-cell"):
            kind = each.get(f"{OFFICE}value-type", "empty")
            value = each.get(f"{OFFICE}value") or each.get(f"{OFFICE}date-value")
            if each.get(f"{TABLE}formula"):
                kind = "formula"
            text = "".join("".join(part.itertext()) for part in each.iter(f"{TEXT}p"))
            times = min(int(each.get(f"{TABLE}number-columns-repeated", 1)), 50)
            cells += [(kind, value or text)] * times
        times = int(row.get(f"{TABLE}number-rows-repeated", 1))
        if any(kind != "empty" for kind, _ in cells):
            yield from [cells] * times


def exported(public: Path, folder: Path) -> list[Path]:
    export(public, folder)
    return sorted((folder / "csv").glob("*.csv"))


def rows_of(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.reader(lines))


def faults(files: list[Path], sheets: dict[str, Sheet], *, point: bool) -> list[str]:
    """What LibreOffice took for something else: `point` says that the language has a decimal point."""
    found: list[str] = []
    for file in files:
        rows, read = rows_of(file), sheets[file.stem]
        assert len(read) == len(rows), file.stem
        for row, cells in zip(rows, read, strict=True):
            for text, (kind, value) in zip(row, [*cells, *[("empty", "")] * len(row)], strict=False):
                wanted = "empty" if not text else "date" if DATE.match(text) else "string"
                if NUMBER.fullmatch(text) and (point or "." not in text):
                    wanted = "float"
                if text in ("true", "false") and kind == "boolean":
                    continue  # which says the same
                same = float(text) == float(value) if kind == wanted == "float" else text.startswith(value[:10])
                if kind != wanted or not same:
                    found.append(f"{file.stem}: {text!r} is {kind} {value!r}")
    return found


@pytest.mark.parametrize(
    "language",
    [
        pytest.param(each, marks=() if each in ("English", "Russian") else pytest.mark.soak, id=each)
        for each in LANGUAGES
    ],
)
@pytest.mark.parametrize("made", [lambda folder: hostile_file(folder / "statistics.duckdb"), numbers_file])
def test_libreoffice_finds_the_figures_and_takes_no_text_for_anything_else(
    opened: Callable[[list[Path], int], dict[str, Sheet]], tmp_path: Path, made: Callable[[Path], Path], language: str
) -> None:
    """A language with a decimal comma reads decimals as text if it is left to guess; whole numbers are the same."""
    files = exported(made(tmp_path), tmp_path / "figures")
    assert faults(files, opened(files, LANGUAGES[language]), point=language == "English") == []


def test_cells_as_they_are_would_be_run_and_turned_into_dates(
    opened: Callable[[list[Path], int], dict[str, Sheet]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: without apostrophes there are formulas, and symbols of buckets become numbers."""
    monkeypatch.setattr(spreadsheet_cells, "inert", spreadsheet_cells.plain_text)
    (tmp_path / "other").mkdir()
    hostile = exported(hostile_file(tmp_path / "statistics.duckdb"), tmp_path / "hostile")
    numbers = exported(numbers_file(tmp_path / "other"), tmp_path / "numbers")
    found = faults(hostile, opened(hostile, LANGUAGES["English"]), point=True)
    assert any("is formula" in each for each in found), found
    found = faults(numbers, opened(numbers, LANGUAGES["English"]), point=True)
    assert any("'30+' is float" in each for each in found), found
