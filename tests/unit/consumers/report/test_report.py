"""The report of a file that has every case: averages, buckets, withheld quarters, provisional months, attacks."""

from __future__ import annotations

import base64
import builtins
import html
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import duckdb
import pytest
from click.testing import CliRunner
from tests.report_world import ATTACK, daily, lost, scarce, twice, unreleased, varied

from quietcount_aggregates.populations import Horizon
from quietcount_consumers.commands.readers.report import report_command
from quietcount_consumers.queries import QueryError
from quietcount_consumers.report import illustrations, report
from quietcount_consumers.report.drawing import DrawingMissing
from quietcount_consumers.report.reading import read
from quietcount_schemas.cli import EXIT_BROKEN_PIPE
from quietcount_schemas.errors import QuietcountError

pytestmark = [pytest.mark.quick, pytest.mark.xdist_group("report")]

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Outline(HTMLParser):
    """The elements of a page in their order, and its text; an element that is closed wrongly is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return varied(tmp_path_factory.mktemp("varied") / "world")


@pytest.fixture(scope="module")
def page(public: Path) -> str:
    return report(public, "en", alone=True)


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


# ---------------------------------------------------------------- it stands alone


@pytest.mark.promise("report")
def test_the_page_holds_no_program_and_nothing_that_asks_another_computer(outline: Outline) -> None:
    tags = {tag for tag, _ in outline.elements}
    assert not tags & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "img",
        "image",
        "use",
        "foreignobject",
    }
    for tag, attributes in outline.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/svg+xml;")), (tag, attributes[name])
    (policy,) = [each["content"] for each in outline.named("meta") if "http-equiv" in each]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_what_people_wrote_is_text_wherever_it_stands(page: str, outline: Outline) -> None:
    attack = " ".join("".join(each if each.isprintable() else " " for each in ATTACK).split())
    for where in ("Desk", "CC", "mail", "Cite", "Visits", "A visit.", "Kind", "Old"):
        assert f"{where} {attack}" in outline.text, where
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("</style>") == 1


def test_the_same_file_gives_the_same_bytes(public: Path, page: str) -> None:
    assert report(public, "en", alone=True) == page


# ---------------------------------------------------------------- what it says


def test_what_is_withheld_is_said_in_words_and_is_neither_blank_nor_zero(outline: Outline) -> None:
    assert "withheld: a part of it was counted in a state that was lost" in outline.text
    assert "Withheld: April to June 2024." in outline.text
    hovered = [words for words in outline.words if words.startswith("April to June 2024: withheld, a part of it")]
    # The total and each of three kinds, in both widths.
    assert len(hovered) == 2 * (1 + 3)
    for row in re.findall(r"April to June 2024 (.{30})", outline.text):
        assert not re.match(r"0\b", row)


def test_what_is_provisional_is_said_in_words_and_drawn_with_dashes(page: str, outline: Outline) -> None:
    assert "November 2024" in outline.text
    assert "provisional" in outline.text
    assert "Dashed lines and hollow points are provisional." in outline.text
    assert "Pale bars are provisional." in outline.text
    assert 'stroke-dasharray="5,4"' in page


def test_an_average_that_nobody_can_tell_is_said_to_be_that(outline: Outline) -> None:
    assert "Average: Days of waiting" in outline.text
    assert "A value below 0 counts as 0, and one above 60 as 60." in outline.text
    assert "Of too few to tell: NONE." in outline.text
    assert outline.text.count("nobody can tell") >= 11


@pytest.mark.parametrize(
    "cases, said",
    [
        pytest.param(2, "Of too few to tell: January 2024, February 2024, March 2024.", id="nothing"),
        pytest.param(4, "Drawn by quarter: the data file has every single period.", id="longer periods alone"),
        pytest.param(6, "Kind. Of too few to tell: NEW, NONE, OLD.", id="all cells together alone"),
        pytest.param(8, "Each small picture has a scale of its own. Of too few to tell: NONE.", id="some cells"),
    ],
)
def test_averages_of_too_few_are_said_to_be_that(tmp_path: Path, cases: int, said: str) -> None:
    outline = Outline(report(scarce(tmp_path / "world", cases), "en", alone=True))
    assert said in outline.text
    assert "Nothing is released yet" not in outline.text


def test_a_table_whose_only_period_is_withheld_says_so(tmp_path: Path) -> None:
    """And not that it will come out when the first period is over."""
    outline = Outline(report(lost(tmp_path / "world"), "en", alone=True))
    assert "Withheld: January to March 2024." in outline.text
    assert "Nothing is released yet" not in outline.text


def test_a_picture_of_bars_has_the_largest_and_its_table_all(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(illustrations, "BARS", 2)
    outline = Outline(report(public, "en", alone=True))
    assert outline.text.count("The pictures show the 2 largest. The table has all.") == 3
    bars = [
        each["aria-label"] for each in outline.named("svg") if "Bar chart, the largest" in each.get("aria-label", "")
    ]
    kinds = [each for each in bars if "Epsilon" not in each and "New" in each]
    assert kinds
    assert not [each for each in kinds if "NONE" in each]


def test_buckets_stand_in_their_order(public: Path, tmp_path: Path) -> None:
    """And not by their size, in the lines, the bars and the tables."""
    path = tmp_path / "statistics.duckdb"
    shutil.copy(public, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS buckets (population VARCHAR, dimension VARCHAR, place INTEGER, symbol VARCHAR, "
            "lower BIGINT, upper BIGINT); DELETE FROM buckets; "
            "INSERT INTO buckets VALUES ('visits', 'days', 1, '0..6', 0, 6), ('visits', 'days', 2, '7..29', 7, 29), "
            "('visits', 'days', 3, '30+', 30, 400)"
        )
    with read(path, "en", alone=True) as publication:
        publication.headlines()
        ordered = {each.dimension: each for one in publication.statistics for each in one.breakdowns}["days"]
        assert ordered.ordered
        assert [each.symbol for each in ordered.series] == ["0..6", "7..29", "30+"]


def test_how_a_case_counts_stands_beside_each_table(outline: Outline) -> None:
    assert outline.text.count("A case counts at most 2 times in its lifetime.") == 3


def test_the_bound_and_its_raise_are_what_the_file_says(public: Path, outline: Outline) -> None:
    with duckdb.connect(str(public), read_only=True) as connection:
        ((bound,),) = connection.execute("SELECT value FROM about WHERE key = 'bound'").fetchall()
    assert "stays under epsilon 200" in bound
    assert "was lost once" in bound
    assert "stays under epsilon 200. The bound was raised" in outline.text
    assert "was lost once." in outline.text


def test_what_the_limit_does_to_a_comparison_is_said_once(outline: Outline, tmp_path: Path) -> None:
    assert outline.text.count("figures fall over the years even if as many people come") == 1
    assert "counts again only in the next" not in outline.text
    assert "With every number that may ever stand here, 50 % becomes at most 100 %" in outline.text
    yearly = Outline(report(unreleased(tmp_path / "world", horizon=Horizon.YEAR), "en", alone=True)).text
    assert "If you came in one calendar year, 50 % becomes at most" in yearly
    assert "If you came in more years, it becomes more." in yearly


def test_every_figure_of_the_file_stands_in_a_table(public: Path, outline: Outline) -> None:
    with duckdb.connect(str(public), read_only=True) as connection:
        rows = connection.execute(
            "SELECT shown, lower, upper FROM margins WHERE period = 'month' AND statistic = 'by_days'"
        ).fetchall()
    assert len(rows) == 11 * (1 + 3 + 3)
    for shown, lower, upper in rows:
        assert re.search(rf"\b{shown} {lower}–{upper}\b", outline.text), (shown, lower, upper)


@pytest.mark.check
def test_what_is_too_much_for_a_picture_is_drawn_by_longer_periods_and_by_the_largest(tmp_path: Path) -> None:
    outline = Outline(report(daily(tmp_path / "world"), "en", alone=True))
    assert "Drawn by week: the data file has every single period." in outline.text
    assert "The pictures show the 12 largest. The table has all." in outline.text
    (words,) = {
        each["aria-label"] for each in outline.named("svg") if "small line charts" in each.get("aria-label", "")
    }
    assert words.startswith("12 small line charts")
    assert {"364 and more", *(f"{low}–{low + 25}" for low in range(0, 364, 26))} <= set(outline.words)


def test_tables_that_count_the_same_show_their_total_once(tmp_path: Path) -> None:
    outline = Outline(report(twice(tmp_path / "world"), "en", alone=True))
    names = [each["download"] for each in outline.named("a") if "download" in each]
    totals = [name for name in names if name.endswith("-total.svg")]
    assert totals == ["by_kind-total.svg", "new_by_days-total.svg", "quarterly-total.svg"]
    assert {"by_days", "new_by_days", "quarterly"} <= {name.partition("-")[0] for name in names}


# ---------------------------------------------------------------- for everybody


def test_headings_are_in_order_and_each_section_has_a_name(outline: Outline) -> None:
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for section in outline.named("section"):
        assert section["aria-labelledby"] in ids
    for link in outline.named("a"):
        if link["href"].startswith("#"):
            assert link["href"][1:] in ids


def test_each_picture_has_words_a_table_and_a_download_with_a_name_of_its_own(page: str, outline: Outline) -> None:
    figures = len(outline.named("figure"))
    pictures = [each for each in outline.named("svg") if each.get("role") == "img"]
    assert len(pictures) == 2 * figures
    assert all("table below" in each["aria-label"] for each in pictures)
    assert [each["class"] for each in pictures] == ["wide", "narrow"] * figures
    assert len(outline.named("figcaption")) == len(outline.named("details")) == figures
    # Where there is no SVG, this is what is seen; its style is what hides the rest.
    assert page.count("<desc ") == 2 * figures
    assert "figure svg { font-size: 0; }" in page
    names = [each["download"] for each in outline.named("a") if "download" in each]
    assert len(set(names)) == len(names) == figures
    for cell in outline.named("th"):
        assert cell["scope"] in ("col", "row")


def test_a_picture_that_was_downloaded_stands_alone(outline: Outline) -> None:
    for link in (each for each in outline.named("a") if "download" in each):
        text = base64.b64decode(link["href"].partition("base64,")[2]).decode()
        picture = fromstring(text)  # noqa: S314 it is XML, whatever people wrote
        assert "var(--" not in text
        words = " ".join(picture.itertext())
        assert "Source: Cite" in words
        assert link["aria-label"].startswith("Download this picture (SVG): ")


# ---------------------------------------------------------------- before the first release, and what goes wrong


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without a release, of which a page is made in a moment."""
    return unreleased(tmp_path_factory.mktemp("early") / "world")


@pytest.mark.parametrize(
    "language, said",
    [
        ("en", "Nothing is released yet."),
        ("ru", "Пока ничего не опубликовано."),
        ("uk", "Поки що нічого не опубліковано."),
    ],
)
def test_before_the_first_release_the_page_says_so(early: Path, language: str, said: str) -> None:
    outline = Outline(report(early, language, alone=True))
    assert outline.named("html") == [{"lang": language}]
    assert said in outline.text
    assert outline.named("figure") == outline.named("figure")[:1]  # the budget is known


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(report_command, [*arguments])
    assert isinstance(result.exception, QuietcountError), result.output
    assert result.exception.remedy
    return str(result.exception)


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "statistics.duckdb"
    path.write_bytes(content)
    said = refused("--database", str(path), "-o", str(tmp_path / "report.html"))
    assert "is damaged, or not a file that quietcount published" in said
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_lacks_a_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE about AS SELECT 'bound' AS key, 'x' AS value")
    assert "lacks what a report needs" in refused("--database", str(path), "-o", str(tmp_path / "report.html"))


def test_a_defect_of_the_page_is_not_taken_for_one_of_the_file(public: Path) -> None:
    with pytest.raises(KeyError), read(public, "en", alone=True):
        raise KeyError("a word that no language has")
    with pytest.raises(QueryError):
        report(public.with_name("nothing.duckdb"), "en", alone=True)


def test_without_the_library_that_draws_the_command_says_what_to_install(
    public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "vl_convert":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "vl_convert", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DrawingMissing, match=re.escape("pip install 'vl-convert-python>=1.9,<2'")):
        report(public, "en", alone=True)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "report.html"
    path.write_text("the old page", encoding="utf-8")
    yield path
    assert sorted(each.name for each in tmp_path.iterdir()) == ["report.html"]  # no draft stays


def test_the_page_is_written_whole_with_the_usual_rights(early: Path, written: Path) -> None:
    result = CliRunner().invoke(report_command, ["--database", str(early), "-o", str(written)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"Wrote {written}. Open it in a browser, or send it on: it is one file.\n"
    assert written.read_text(encoding="utf-8") == report(early, "en", alone=True)
    assert stat.S_IMODE(written.stat().st_mode) == 0o644


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    early: Path, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    said = refused("--database", str(early), "-o", str(written))
    assert said.startswith(f"{written}: cannot be written (no space left on device)")
    assert written.read_text(encoding="utf-8") == "the old page"


def test_a_folder_that_is_not_there_is_named(early: Path, tmp_path: Path) -> None:
    assert "no such file or directory" in refused("--database", str(early), "-o", str(tmp_path / "none" / "r.html"))


def test_the_page_can_go_to_the_standard_output_or_a_device(early: Path) -> None:
    result = CliRunner().invoke(report_command, ["--database", str(early), "-o", "-"])
    assert result.stdout_bytes.decode() == report(early, "en", alone=True)
    done = CliRunner().invoke(report_command, ["--database", str(early), "-o", os.devnull])
    assert done.exit_code == 0
    assert not Path(os.devnull).is_file()


def test_a_reader_of_the_standard_output_that_goes_away_is_noticed(public: Path) -> None:
    program = "import sys; from quietcount_schemas.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "report", "--database", str(public), "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(60) == EXIT_BROKEN_PIPE


def test_a_project_is_reported_by_its_configuration(early: Path, tmp_path: Path) -> None:
    (tmp_path / "quietcount.toml").write_text("lifetime_epsilon = 1\n", encoding="utf-8")
    asked = ["--config", str(tmp_path / "quietcount.toml"), "-o", str(tmp_path / "report.html")]
    assert "is not there: nothing is published yet" in refused(*asked)
    (tmp_path / "data").mkdir()
    shutil.copy(early, tmp_path / "data" / "statistics.duckdb")
    assert CliRunner().invoke(report_command, asked).exit_code == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report(early, "en", alone=True)


def test_titles_in_pictures_are_what_the_table_says(page: str) -> None:
    """What a mouse meets is the figure with its interval, in words."""
    titles = [html.unescape(each) for each in re.findall(r"<title>([^<]*)</title>", page)]
    hovered = [each for each in titles if re.search(r"2024: [\d,.]+ \([\d,.]+\sto\s[\d,.]+\)", each)]
    assert len(hovered) > 200
