"""The README's code and that of the analysts' page, run in its order as a newcomer would."""

from __future__ import annotations

import csv
import re
import shlex
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest
from tests.unit.docs.test_commands import shell_lines

from quietcount_consumers import Configuration
from quietcount_schemas.cli import main
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

BLOCK = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_line(line: str) -> int:
    """Run a line that begins with `quietcount`; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(shlex.split(line)[1:])
    return int(caught.value.code or 0)


def run_blocks(text: str) -> None:
    for language, block in BLOCK.findall(text):
        if language == "python":
            exec(compile(block, "README.md", "exec"), {})  # noqa: S102  # our own words, run as a reader would
            continue
        for line in block.splitlines():
            if line.startswith("quietcount "):
                assert run_line(line) == 0, line


@pytest.mark.promise("commands")
def test_the_readmes_code_runs_from_top_to_bottom(root: Path, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert {language for language, _ in BLOCK.findall(text)} == {"sh", "python"}
    run_blocks(text)
    questions = (root / "docs" / "querying.md").read_text(encoding="utf-8")
    assert len(shell_lines(questions)) > 4
    run_blocks(questions)
    handing_on = (root / "docs" / "exporting.md").read_text(encoding="utf-8")
    assert len(shell_lines(handing_on)) > 1
    run_blocks(handing_on)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert "holds exactly what the ledger says" in out
    assert sorted(path.name for path in place.iterdir()) == [
        *("cases.jsonl", "data", "figures", "quietcount.toml", "secrets"),
    ]


def test_a_line_of_the_readme_that_fails_is_found(place: Path) -> None:
    with pytest.raises(AssertionError, match="quietcount query"):
        run_blocks('```sh\nquietcount init\nquietcount query "SELECT 1"\n```\n')


def test_each_published_table_column_and_macro_is_described(root: Path, place: Path) -> None:
    """In the file's own data dictionary, whole; and the analysts' page names each table and macro, and no other."""
    assert run_line("quietcount init") == 0
    assert run_line("quietcount run --until-idle --as-of 2023-01-01") == 0
    configuration = Configuration.load(Path("quietcount.toml"))
    page = (root / "docs" / "querying.md").read_text(encoding="utf-8")
    with duckdb.connect(str(configuration.public_file), read_only=True) as connection:

        def rows(sql: str) -> set[tuple[str, ...]]:
            return set(connection.execute(sql).fetchall())

        described = rows("SELECT table_name, column_name FROM data_dictionary WHERE description <> ''")
        columns = rows("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal")
        tables = rows("SELECT table_name FROM duckdb_tables() WHERE NOT internal")
        views = rows("SELECT view_name FROM duckdb_views() WHERE NOT internal")
        macros = rows("SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal")
    assert len(columns) > 40
    assert columns <= described
    assert {(name, None) for (name,) in tables | views | macros} <= described
    wanted = {table.name for population in configuration.population for table in population.table}
    assert {name for (name,) in views} == wanted
    listed = page.partition("| name | what it holds |")[2].partition("\n\n")[0]
    named = {name for (name,) in tables} | {f"{name}()" for (name,) in macros}
    assert set(re.findall(r"^\| `(.+?)` \|", listed, re.MULTILINE)) == named


def test_the_names_that_other_programs_use_do_not_change(root: Path) -> None:
    """Topics and file names that the documentation of operators tells."""
    page = (root / "docs" / "operating.md").read_text(encoding="utf-8")
    assert f"`{CASE_EVENTS}" in page
    for name in (
        "statistics.duckdb",
        "private/store/ledger.sqlite",
        "private/store/state-0.duckdb",
        "private/store/log.sqlite",
    ):
        assert f"| `{name}` |" in page


# The demo's output on the first screen

FIGURE = re.compile(r"(\S.*?)\s{2,}([+>]? ?\d+(?: %)?)\s+([+-]?\d+)(?: %)?\s+([+-]?\d+)(?: %)? to ([+-]?\d+)(?: %)?")


class Shown(NamedTuple):
    """A row of the demo's first table: what is counted and when, and the figures beside it."""

    name: str
    published: int
    ours: int
    lower: int
    upper: int


def demo_block(text: str) -> str:
    """What the README shows of the demo."""
    return str(re.findall(r"```console\n\$ make demo\n(.*?)```", text, re.DOTALL)[0])


def shown(output: str) -> list[Shown]:
    """The rows of the demo's first table; a name that is long goes on in the next line."""
    found: list[Shown] = []
    for line in output.partition("\nRequests")[0].splitlines():
        row = FIGURE.fullmatch(line)
        if row is not None:
            found.append(Shown(row[1], *(int(re.sub("[^0-9-]", "", row[number])) for number in (2, 3, 4, 5))))
        elif found and line.strip(" ."):
            found[-1] = found[-1]._replace(name=f"{found[-1].name} {line.strip()}")
    return found


def unlike(found: list[Shown]) -> list[str]:
    """The rows that no run of the demo prints, or with an interval that missed."""
    path = resources.files("quietcount_consumers").joinpath("demo", "published_figures.csv")
    published = {
        f"{row['source']}: {row['statistic']}, {row['period_start']} to {row['period_end']}": row["value"]
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    }
    return [
        row.name
        for row in found
        if published.get(row.name) != str(row.published)
        or not row.lower <= row.ours <= row.upper
        or not row.lower <= row.published <= row.upper
    ]


def test_the_demo_s_rows_in_the_readme_are_those_of_the_published_figures(root: Path) -> None:
    """The noise is another in each run; the names and published figures are those of every run."""
    found = shown(demo_block((root / "README.md").read_text(encoding="utf-8")))
    assert len(found) == 3
    assert unlike(found) == []


def test_a_row_that_the_demo_does_not_print_is_found() -> None:
    name = "GUR: prisoners of war captured in August, 2023-08-01 to 2023-08-31"
    page = f"x\n\n{name}   200   192   182 to 202\n...\n\nRequests\n"
    assert unlike(shown(page)) == []
    assert unlike(shown(page.replace("   200", "   201"))) == [name]
    assert unlike(shown(page.replace("GUR", "gur"))) == [name.replace("GUR", "gur")]


def test_shell_lines_are_found() -> None:
    assert shell_lines("```sh\nquietcount init\n# no\nls\n```\n```\nquietcount x\n```") == ["quietcount init"]
