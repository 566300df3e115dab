"""The examples of docs/examples: each is run as its page says, and its figures are those of the published file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.e2e.projects import Project
from tests.readers.programs import answered, run

from quietcount_consumers.exporting.export import export

Require = Callable[[bool, str], None]

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("examples"), pytest.mark.promise("commands")]

SECONDS = 300
CATALOGUES = ("clinic", "shelter", "whistleblowers")


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo publishes."""
    place = tmp_path_factory.mktemp("demo")
    Project(place, create=False).quietcount("demo", "--json").done()
    return place / "quietcount-demo" / "data" / "statistics.duckdb"


def test_every_example_is_on_the_page_of_examples(root: Path) -> None:
    examples = root / "docs" / "examples"
    page = (examples / "README.md").read_text(encoding="utf-8")
    there = {path.name for path in examples.iterdir()} - {"README.md"}
    assert {name for name in there if f"[{name}](" in page} == there
    assert set(CATALOGUES) == {path.name for path in examples.iterdir() if path.is_dir()}


# The notebook and the script


def test_the_notebook_holds_no_output(root: Path) -> None:
    notebook = json.loads((root / "docs" / "examples" / "statistics.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_the_notebook_runs_from_top_to_bottom_without_a_warning_and_draws_two_plots(
    root: Path, public: Path, tmp_path: Path
) -> None:
    runner = root / "tests" / "readers" / "notebook.py"
    notebook = root / "docs" / "examples" / "statistics.ipynb"
    done = run("-W", "error", str(runner), str(notebook), str(tmp_path), environment={"STATISTICS": str(public)})
    assert done.returncode == 0, done.stderr
    assert re.search(r"rose by about \d+ % \(between \d+ % and \d+ %\)", done.stdout)
    with duckdb.connect(str(public), read_only=True) as connection:
        told = connection.execute(
            "SELECT shown, lower, upper "
            "FROM total('requests_by_kind', '2023-09-01', '2023-11-30', cells := 'help_kind=DESERTION')"
        ).fetchall()
    assert all(str(figure) in done.stdout for figure in told[0])
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["1.png", "2.png"]
    assert all(path.stat().st_size > 5000 for path in tmp_path.iterdir())


def test_a_cell_of_a_notebook_that_fails_is_found(root: Path, tmp_path: Path) -> None:
    """The mutant: the runner must not pass over an error."""
    cells = [{"cell_type": "code", "source": ["1 / 0"]}]
    (tmp_path / "wrong.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    done = run(str(root / "tests" / "readers" / "notebook.py"), str(tmp_path / "wrong.ipynb"), str(tmp_path))
    assert done.returncode == 1
    assert "wrong.ipynb, cell 1" in done.stderr


def test_the_script_in_r_finds_the_figures_of_the_published_file(
    root: Path, public: Path, tmp_path: Path, require: Require
) -> None:
    program = shutil.which("Rscript")
    require(program is not None, "R (on Debian and Ubuntu: apt install r-base-core)")
    assert program is not None
    export(public, tmp_path / "figures")
    script = root / "docs" / "examples" / "statistics.R"
    command = [program, "--vanilla", str(script), str(tmp_path / "figures"), str(tmp_path / "plot.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    with duckdb.connect(str(public), read_only=True) as connection:
        months = connection.execute(
            "SELECT period_start, shown, lower, upper, status FROM requests_by_kind "
            "WHERE help_kind = 'DESERTION' AND period_start >= '2023-04-01' ORDER BY ALL"
        ).fetchall()
        [quarter] = connection.execute(
            "SELECT shown, lower, upper FROM margins WHERE statistic = 'requests_by_kind' AND symbol = 'DESERTION' "
            "AND period = 'quarter' AND period_start = '2023-07-01'"
        ).fetchall()
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line for line in lines if re.match(r"2023-\d\d-01$", line[0])] == [[*map(str, row)] for row in months]
    assert "July to September 2023: {} (between {} and {})".format(*quarter) in done.stdout
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


# The catalogues


def block(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found, language
    return found[1]


@pytest.fixture(scope="module", params=CATALOGUES)
def desk(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything was done that the page of a catalogue says."""
    name = str(request.param)
    place = tmp_path_factory.mktemp("desks")
    shutil.copytree(root / "docs" / "examples" / name, place / "docs" / "examples" / name)
    page = (root / "docs" / "examples" / name / "README.md").read_text(encoding="utf-8")
    done = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input=block(page, "sh"),
        cwd=place,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "110"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    (place / name / "said.txt").write_text(done.stdout, encoding="utf-8")
    return place / name


def test_the_plan_on_the_page_of_a_catalogue_is_what_the_command_says(desk: Path) -> None:
    page = (desk / "README.md").read_text(encoding="utf-8")
    plan = Project(desk, create=False).quietcount(
        "plan", "cases.jsonl", "--format", "table", environment={"COLUMNS": "110"}
    )
    assert plan.done().out.rstrip() == block(page, "text").rstrip()
    assert "quietcount plan cases.jsonl\n" in block(page, "sh")


def answers(desk: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(desk / "data" / "statistics.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_each_line_of_the_page_of_a_catalogue_works_and_the_query_is_answered(desk: Path) -> None:
    assert "nothing found wrong" in (desk / "said.txt").read_text(encoding="utf-8")
    rows = (desk / "said.txt").read_text(encoding="utf-8").splitlines()
    assert sum(line.count(",") >= 3 and bool(re.search(r"\d", line)) for line in rows) >= 5


def test_every_table_of_a_catalogue_is_released_to_the_end_of_the_second_year(desk: Path) -> None:
    assert answers(desk, "SELECT DISTINCT data_until FROM descriptions") == [("2025-12-31",)]
    assert answers(desk, "FROM withheld") == []
    assert answers(desk, "SELECT DISTINCT status FROM statistics") == [("final",)]
    known = {row[0] for row in answers(desk, "SELECT value FROM about WHERE key = 'licence'")}
    assert known == {"CC-BY-4.0"}


def test_every_symbol_of_a_catalogue_has_a_label_in_english_and_russian(desk: Path) -> None:
    counted = answers(desk, "SELECT DISTINCT dimension, symbol FROM margins WHERE dimension <> 'all'")
    for language in ("en", "ru"):
        labelled = answers(desk, f"SELECT dimension, symbol FROM labels WHERE language = '{language}'")
        assert set(counted) <= set(labelled)
        assert {(each, "") for each, _ in counted} <= set(labelled)


def test_most_totals_of_a_catalogue_are_worth_publishing(desk: Path) -> None:
    """False alarms: none in 10^6. A total's margin is fixed, and its estimate moves by a fraction of it."""
    figures = answers(
        desk, "SELECT reliability, count(*) FROM margins WHERE dimension = 'all' AND period = 'year' GROUP BY 1"
    )
    assert {reliability for reliability, _ in figures} <= {"good", "fair"}


def test_the_averages_of_a_catalogue_are_near_the_true_ones(desk: Path) -> None:
    """False alarms: below 1e-7 for each figure, as in the demo's test: within six times the interval's width."""
    if desk.name == "whistleblowers":
        assert answers(desk, "FROM averages") == []
        return
    field, top, event = (
        ("days_waited", 120, "AppointmentHeld") if desk.name == "clinic" else ("nights", 90, "StayEnded")
    )
    seen: dict[tuple[str, int], int] = {}
    lines = [json.loads(line) for line in (desk / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in sorted((line for line in lines if line["event"] == event), key=lambda line: line["occurred_on"][:7]):
        year = int(line["occurred_on"][:4])
        seen.setdefault((line["case"], year), min(line[field], top))
    for year in (2024, 2025):
        values = [value for (_, when), value in seen.items() if when == year]
        [(average, lower, upper)] = answers(
            desk,
            "SELECT average, average_lower, average_upper FROM averages "
            f"WHERE cell = 'all' AND period = 'year' AND period_start = '{year}-01-01'",
        )
        true = sum(values) / len(values)
        assert float(lower) - 6 * float(upper - lower) <= true <= float(upper) + 6 * float(upper - lower)
        assert abs(float(average) - true) < 5


def test_the_export_of_a_catalogue_is_a_valid_package(desk: Path) -> None:
    code = "import json, sys, frictionless; print(json.dumps(frictionless.validate(sys.argv[1]).valid))"
    assert answered(code, str(desk / "figures" / "datapackage.json"))
