"""The demo's report as people open it: in a real browser, on a phone and a desk, by day and night, without scripts.

Pictures of it, and what a screen reader meets, come to lie in the folder that QUIETCOUNT_TEST_PICTURES names, if it
names one. Those in docs/report were made so:

    QUIETCOUNT_TEST_PICTURES=docs/report .venv/bin/pytest -n 0 tests/e2e/service/test_report_pages.py
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.chromium import WANTED_BROWSER, Chromium, Tab, browser, chromium
from tests.e2e.projects import Project

from quietcount_consumers.commands.readers.report import report_command

Require = Callable[[bool, str], None]

# One demonstration for all.
pytestmark = [pytest.mark.check, pytest.mark.xdist_group("report-pages")]

PHONE, DESK = 390, 1280
PAPER = 672  # A4 without its margins, in pixels
MOST_BYTES = 3_000_000
LANGUAGES = ("en", "ru", "uk")

SHOWN = """Array.from(document.querySelectorAll('figure svg[role=img]'))
    .filter(each => getComputedStyle(each).display !== 'none')"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's report in each language."""
    folder = tmp_path_factory.mktemp("report")
    answer = json.loads(Project(folder, create=False).quietcount("demo", "--json").done().out)
    public = folder / answer["statistics_db"]
    made = {}
    for language in LANGUAGES:
        made[language] = folder / f"report-{language}.html"
        arguments = ["--database", str(public), "--language", language]
        result = CliRunner().invoke(report_command, [*arguments, "-o", str(made[language])])
        assert result.exit_code == 0, result.output
    return made


@pytest.fixture(scope="module")
def running(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = browser()
    require(program is not None, WANTED_BROWSER)
    assert program is not None
    with chromium(program, tmp_path_factory.mktemp("profile")) as started:
        yield started


def kept(made: Path, name: str) -> None:
    """Keep what was made where somebody asked for it."""
    if folder := os.environ.get("QUIETCOUNT_TEST_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(made, Path(folder) / name)


def test_the_demos_report_is_small(pages: dict[str, Path]) -> None:
    for page in pages.values():
        assert 100_000 < page.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_whole_and_asks_for_nothing(
    pages: dict[str, Path], running: Chromium, language: str, width: int, dark: bool, scripts: bool
) -> None:
    tab = Tab(running, pages[language].as_uri(), width=width, dark=dark, scripts=scripts)
    try:
        assert tab.requests == [pages[language].as_uri()]
        assert tab.complaints == []
        assert tab.value("document.documentElement.scrollWidth") == width
        # Six tables have totals, and five of them small lines and bars; and there is the budget.
        assert tab.value("document.querySelectorAll('figure').length") == 6 + 2 * 5 + 1
        assert tab.value(f"{SHOWN}.length") == 17
        assert tab.value(f"{SHOWN}.every(each => each.getBoundingClientRect().width <= {width})")
        # A mark for each figure of a line and for each bar, which says what it is when it is pointed at.
        marks = f"{SHOWN}.flatMap(each => Array.from(each.querySelectorAll('.hover > path')))"
        months, quarters = 15 * (2 * 1 + 6 + 4) + 15 + 4 * (1 + 3), 4 * (1 + 7) + 2 * (1 + 9)
        bars = 6 + 7 + 4 + 3 + 9 + 6
        assert tab.value(f"{marks}.length") == months + quarters + bars
        assert tab.value(f"{marks}.every(each => each.querySelector('title').textContent.length > 5)")
        box = tab.value(
            f"(() => {{ const each = {marks}[1]; each.scrollIntoView(); const box = each.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        hit = f"document.elementFromPoint({box[0]}, {box[1]})"
        assert tab.value(f"{hit}.querySelector('title').textContent.includes('2022')"), "a mouse meets no mark"
        paper = tab.value("getComputedStyle(document.documentElement).backgroundColor")
        assert paper == ("rgb(18, 23, 30)" if dark else "rgb(255, 255, 255)")
        line = tab.value(f"getComputedStyle({SHOWN}[0].querySelector('path[stroke=\"#1f5fa8\"]')).stroke")
        assert line == ("rgb(116, 182, 247)" if dark else "rgb(31, 95, 168)")
    finally:
        tab.close()


def test_labels_are_inside_their_pictures(pages: dict[str, Path], running: Chromium) -> None:
    """Also in a font that is wider than the one they were measured in; a picture may reach into the page's margin."""
    for language in LANGUAGES:
        for width in (PHONE, DESK):
            tab = Tab(running, pages[language].as_uri(), width=width)
            try:
                beyond = tab.value(
                    f"{SHOWN}.flatMap(each => Array.from(each.querySelectorAll('text'))).map(each =>"
                    " [each.textContent, each.getBoundingClientRect().left, each.getBoundingClientRect().right])"
                    f".filter(each => each[1] < 0 || each[2] > {width})"
                )
                assert beyond == []
            finally:
                tab.close()


def test_tables_open_by_the_keys_and_scroll_by_themselves(pages: dict[str, Path], running: Chromium) -> None:
    tab = Tab(running, pages["en"].as_uri(), width=PHONE)
    try:
        tab.value("document.querySelector('summary').focus()")
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            tab.call("Input.dispatchKeyEvent", {"type": kind, **key})
        assert tab.value("document.querySelector('details').open")
        tab.value("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert tab.value("document.documentElement.scrollWidth") == PHONE
    finally:
        tab.close()


def test_on_paper_every_table_is_open_and_everything_is_dark_on_light(
    pages: dict[str, Path], running: Chromium
) -> None:
    tab = Tab(running, pages["en"].as_uri(), width=PAPER, dark=True, medium="print")
    try:
        assert tab.value("document.documentElement.scrollWidth") == PAPER
        assert tab.value("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert tab.value("getComputedStyle(document.documentElement).color") == "rgb(23, 32, 43)"
        heights = (
            "Array.from(document.querySelectorAll('details table')).map(each => each.getBoundingClientRect().height)"
        )
        assert tab.value(f"{heights}.every(each => each > 40)")
    finally:
        tab.close()


@pytest.mark.parametrize(
    "name, language, width, dark, height",
    [
        ("desk-light-en", "en", DESK, False, 2600),
        ("desk-dark-en", "en", DESK, True, 1300),
        ("phone-light-ru", "ru", PHONE, False, 2600),
        ("phone-dark-uk", "uk", PHONE, True, 2600),
        ("phone-dark-ru", "ru", PHONE, True, 1300),
        ("desk-light-uk", "uk", DESK, False, 1300),
    ],
)
def test_pictures_of_it_can_be_taken(
    pages: dict[str, Path],
    running: Chromium,
    tmp_path: Path,
    name: str,
    language: str,
    width: int,
    dark: bool,
    height: int,
) -> None:
    tab = Tab(running, pages[language].as_uri(), width=width, dark=dark)
    try:
        picture = tmp_path / f"{name}.png"
        top = 0 if height > 2000 else tab.value("document.querySelector('main section:nth-of-type(3)').offsetTop")
        tab.picture(picture, top=int(top), height=height)
        assert picture.read_bytes().startswith(b"\x89PNG")
        kept(picture, picture.name)
    finally:
        tab.close()


def test_a_screen_reader_meets_each_picture_once_with_its_words(
    pages: dict[str, Path], running: Chromium, tmp_path: Path
) -> None:
    tab = Tab(running, pages["en"].as_uri(), width=DESK)
    try:
        read = list(tab.read_aloud())
    finally:
        tab.close()
    pictures = [each for each in read if each.strip().startswith("image ")]
    assert len(pictures) == 17
    assert all("The table below has" in each for each in pictures)
    assert not any("graphics-symbol" in each for each in read), "a listener meets every mark of a picture"
    assert sum("DisclosureTriangle “Table: " in each for each in read) == 17
    roles = {each.split()[0] for each in read if each.strip()}
    assert {"banner", "navigation", "main", "contentinfo", "heading", "figure"} <= roles
    told = tmp_path / "read-aloud-en.txt"
    told.write_text("\n".join(read) + "\n", encoding="utf-8")
    kept(told, told.name)
