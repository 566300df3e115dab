"""A population whose tables are released by different periods, as the commands show it, end it and lose it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.catalogues import COARSER, catalogue, statistic
from tests.commanded import invoked, refused
from tests.e2e.projects import Project

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.populations import Population
from quietcount_consumers.commands.declare import declare_command
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.readers.query import query_command
from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.doctor import data
from quietcount_consumers.doctor.data import check_populations, ledger_of
from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.doctor.verdicts import CHECKS
from quietcount_consumers.maintenance.rehearsal import rehearsed
from quietcount_schemas.finding import Finding, Severity

pytestmark = pytest.mark.quick

OTHER = statistic("court_cases", "CourtCaseFiled", epsilon=5)
APRIL = ("--as-of", "2023-04-08")
MOMENT = dt.datetime(2023, 4, 9, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def project_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that released a quarter."""
    project = Project(tmp_path_factory.mktemp("coarser") / "project", catalogue(COARSER, OTHER))
    invoked(project, release_command, *APRIL)
    return project


@pytest.fixture
def project(project_once: Project, tmp_path: Path) -> Project:
    return project_once.copy(tmp_path / "project")


def shown(project: Project, form: str) -> list[dict[str, Any]]:
    text = invoked(project, ledger_command, "show", "--format", form).stdout
    return list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text)


RELEASES = [
    ("asked", "by_month", "2023-01-01"),
    ("asked", "by_month", "2023-02-01"),
    ("asked", "by_month", "2023-03-01"),
    ("asked", "by_quarter", "2023-01-01"),
    ("court_cases", "court_cases", "2023-01-01"),
    ("court_cases", "court_cases", "2023-02-01"),
    ("court_cases", "court_cases", "2023-03-01"),
]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_each_release_of_the_ledger_names_its_population_and_its_table(project_once: Project, form: str) -> None:
    rows = shown(project_once, form)
    columns = ["index", "recorded_at", "kind", "population", "statistic", "period_start", "what", "digest"]
    assert [list(row) for row in rows] == [columns] * len(rows)
    released = [row for row in rows if row["kind"] == "released"]
    assert [(row["population"], row["statistic"], row["period_start"]) for row in released] == RELEASES
    (declared, other) = (row for row in rows if row["kind"] == "declared")
    assert (declared["population"], declared["statistic"] or None) == ("asked", None)
    assert declared["what"] == "epsilon 30 spent, released as by_month by month, by_quarter by quarter"
    assert other["what"] == "epsilon 5 spent, released as court_cases by month"


def test_the_ledger_in_short_has_a_line_for_each_table_and_for_the_declaration_of_each_population(
    project_once: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = invoked(project_once, ledger_command, "show", "--format", "table")
    head, *lines = said.stdout.splitlines()
    assert head.split() == ["index", "day", "kind", "name", "what"]
    assert [line.split()[2:] for line in lines] == [
        ["opened", "lifetime", "epsilon", "100"],
        ["declared", "asked", "epsilon", "30", "by", "month"],
        ["declared", "court_cases", "epsilon", "5", "by", "month"],
        ["described", "what", "is", "said", "of", "the", "figures"],
        ["released", "by_month", "2023-01-01..2023-03-31", "(3)"],
        ["released", "by_quarter", "2023-01-01..2023-03-31", "(1)"],
        ["released", "court_cases", "2023-01-01..2023-03-31", "(3)"],
    ]
    assert all(len(line) <= 80 for line in lines)
    assert said.stderr.splitlines()[:2] == [
        "Spent when declared, for all releases together: by_month 20, by_quarter 10, court_cases 5.",
        "Left for populations that are declared later: epsilon 65 of 100.",
    ]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_dry_run_names_population_and_table_of_each_period_in_the_order_of_the_ledger(
    project_once: Project, tmp_path: Path, form: str
) -> None:
    new = Project(tmp_path / "new", catalogue(COARSER, OTHER))
    text = invoked(new, release_command, *APRIL, "--dry-run", "--format", form).stdout
    rows: list[dict[str, str]] = list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text)
    assert [list(row) for row in rows] == [["population", "statistic", "period_start", "period_end"]] * len(rows)
    assert [tuple(row.values())[:3] for row in rows] == RELEASES
    assert {(row["period_start"], row["period_end"]) for row in rows if row["statistic"] == "by_quarter"} == {
        ("2023-01-01", "2023-03-31")
    }
    assert not new.data.exists()
    more = invoked(project_once, release_command, "--as-of", "2023-07-08", "--dry-run", "--format", "json").stdout
    assert [row["statistic"] for row in json.loads(more)] == ["by_month"] * 3 + ["by_quarter"] + ["court_cases"] * 3


def test_retire_takes_a_population_and_ends_all_its_tables(project: Project) -> None:
    for name in ("by_month", "by_quarter"):
        said = refused(project, ledger_command, "retire", name, "--yes")
        assert said == f"no population {name!r} is declared. Name one of: asked, court_cases"
    asked = CliRunner().invoke(ledger_command, ["retire", "asked", "--config", str(project.config)], input="y\n")
    assert asked.exit_code == 0, asked.output
    assert "What was released of its tables stays published, and their epsilon 30 stays spent." in asked.stderr
    assert "no name of theirs can be used again" in asked.stderr
    assert f"Retired asked. Remove it from {project.config} before the next start" in asked.stderr
    assert shown(project, "json")[-1] | {"kind": "retired", "population": "asked"} == shown(project, "json")[-1]
    spent = invoked(project, ledger_command, "show").stderr.splitlines()[0]
    assert "by_month 20 (retired), by_quarter 10 (retired), court_cases 5." in spent
    said = refused(project, run_command, "--until-idle")
    assert "population 'asked' was retired: it ended permanently" in said
    assert "Take its [[population]], with its tables, out of the configuration. To count such cases again" in said
    assert "take it out there" in refused(project, ledger_command, "retire", "asked", "--yes")
    assert "it waits for no past" in refused(project, declare_command, "--complete", "asked", "--yes")
    project.config.write_text(catalogue(OTHER), encoding="utf-8")
    rows = json.loads(invoked(project, release_command, "--as-of", "2023-07-08", "--format", "json").stdout)
    assert {row["statistic"] for row in rows} == {"court_cases"}
    budget = invoked(project, query_command, "SELECT statistic, retired FROM budget ORDER BY ALL").stdout
    assert budget == "statistic,retired\nby_month,True\nby_quarter,True\ncourt_cases,False\n"


@pytest.mark.parametrize("name", ["by_quarter", "court_cases"])
def test_a_name_of_a_table_is_not_used_again_not_even_by_another_population(project: Project, name: str) -> None:
    taken = statistic("others", "OutcomeRecorded").replace('table]]\nname = "others"', f'table]]\nname = "{name}"')
    invoked(project, ledger_command, "retire", "asked", "--yes")
    invoked(project, ledger_command, "retire", "court_cases", "--yes")
    project.config.write_text(catalogue(taken), encoding="utf-8")
    said = refused(project, run_command, "--until-idle")
    assert f"population 'others': the name of table {name!r} is taken by population " in said
    assert "Give it another name" in said


def test_the_doctor_says_whether_the_next_start_takes_the_populations(project: Project) -> None:
    assert "populations" in CHECKS
    assert "statistics" not in CHECKS
    sound = [each for each in examine(project.config) if each.code == "populations"]
    assert [(each.severity, each.what) for each in sound] == [(Severity.OK, "they are as they were declared")]
    project.config.write_text(catalogue(COARSER.replace("epsilon = 10", "epsilon = 11"), OTHER), encoding="utf-8")
    (wrong,) = (each for each in examine(project.config) if each.code == "populations")
    assert "population 'asked': 'epsilon of table by_quarter' differs from its declaration" in wrong.what
    assert wrong.severity is not Severity.OK
    project.config.write_text(catalogue(COARSER, OTHER, statistic("new", "OutcomeRecorded")), encoding="utf-8")
    new, waits = check_populations(project.configuration, ledger_of(project.configuration), MOMENT)
    assert new.what == "the next start declares these, and so spends their budget permanently: new"
    assert waits.what.startswith("new begins on 2023-01-01")


def check_that_a_past_is_told(project: Project) -> None:
    """A population with a `since` in the past comes later: it waits for its past, and the doctor says so before."""
    past = statistic("past", "OutcomeRecorded", since="2023-04-01")
    next_month = statistic("next_month", "OutcomeRecorded", since=None)
    project.config.write_text(catalogue(COARSER, OTHER, past, next_month), encoding="utf-8")

    def told() -> list[Finding]:
        return list(check_populations(project.configuration, ledger_of(project.configuration), MOMENT))

    declares, *waits = told()
    assert declares.what.endswith("permanently: past, next_month")
    assert [each.severity for each in waits] == [Severity.WARNING], "it is not told"
    assert waits[0].what.startswith("past begins on 2023-04-01, and the ledger is open already")
    assert "quietcount declare --complete past" in waits[0].remedy
    # It is what comes about.
    project.run_here(str(MOMENT.date()))
    assert [each.what for each in told()] == ["past waits for its past: nothing of it is released"]


def test_the_doctor_says_that_a_population_will_wait_for_its_past(project: Project) -> None:
    check_that_a_past_is_told(project)


def test_a_doctor_that_looks_at_what_is_declared_alone_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(chain: Chain) -> Ledger:
        ledger = rehearsed(chain)
        declare = ledger.declare

        def declared(*arguments: Any, **options: Any) -> list[Population]:
            new = declare(*arguments, **options)
            ledger.chain.incomplete &= chain.incomplete
            return new

        monkeypatch.setattr(ledger, "declare", declared)
        return ledger

    monkeypatch.setattr(data, "rehearsed", blind)
    with pytest.raises(AssertionError, match="it is not told"):
        check_that_a_past_is_told(project)
