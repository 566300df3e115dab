"""Ending a population, bringing a lost ledger back, and going on with a new log, through the commands."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.commanded import contents, invoked, refused
from tests.e2e.projects import Project, simulated, true_cells

from quietcount_aggregates.populations import Population
from quietcount_aggregates.state import migrations, state_file
from quietcount_aggregates.state.state import State
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.readers.query import query_command
from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_consumers.maintenance.recovery import retire_population

pytestmark = pytest.mark.quick


def check_that_a_no_retires_nothing(project: Project) -> None:
    before = contents(project)
    asked = CliRunner().invoke(ledger_command, ["retire", "requests", "--config", str(project.config)], input="n\n")
    assert asked.exit_code == 1
    assert "requests ends permanently. What was released of its tables stays published" in asked.output
    assert "their epsilon 20 stays spent" in asked.output
    assert "Is it to be retired?" in asked.output
    assert contents(project) == before
    assert "Retired requests." in invoked(project, ledger_command, "retire", "requests", "--yes").stderr


def test_retire_says_what_it_does_and_asks_first(released: Project, tmp_path: Path) -> None:
    check_that_a_no_retires_nothing(released.copy(tmp_path / "project"))


def test_a_twin_that_asks_when_it_is_done_is_found(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hasty(configuration: Configuration, name: str, now: dt.datetime, agree: Callable[[Population], None]) -> None:
        found: list[Population] = []
        retire_population(configuration, name, now, found.append)
        agree(found[0])

    monkeypatch.setattr("quietcount_consumers.commands.ledger.retire_population", hasty)
    with pytest.raises(AssertionError):
        check_that_a_no_retires_nothing(released.copy(tmp_path / "project"))


@pytest.mark.check
def test_a_retired_population_is_released_no_more_and_its_epsilon_stays_spent(project: Project) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    assert "known" not in refused(project, ledger_command, "retire", "nothing")
    assert "court_cases" in refused(project, ledger_command, "retire", "nothing")
    invoked(project, ledger_command, "retire", "court_cases", "--yes")
    assert "retired already" in refused(project, ledger_command, "retire", "court_cases")
    assert "court_cases' was retired" in refused(project, run_command, "--until-idle")
    assert "retired" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(text[: text.rindex("[[population]]")], encoding="utf-8")
    rows = json.loads(invoked(project, release_command, "--as-of", "2023-03-08", "--format", "json").stdout)
    assert [row["statistic"] for row in rows] == ["requests"]
    budget = invoked(project, query_command, "SELECT statistic, epsilon, retired FROM budget ORDER BY ALL").stdout
    assert budget == "statistic,epsilon,retired\ncourt_cases,20.0,True\nrequests,20.0,False\n"


def without_ledger(project: Project) -> None:
    for path in project.private.glob("ledger.sqlite*"):
        path.unlink()


@pytest.mark.parametrize("left", ["statistics.duckdb", "service-head"])
def test_a_ledger_that_is_lost_is_told_from_one_that_never_was(released: Project, tmp_path: Path, left: str) -> None:
    project = released.copy(tmp_path / "project")
    without_ledger(project)
    if left == "service-head":
        project.public.unlink()
    else:
        (project.folder / "secrets" / "service-head").unlink()
    for arguments in (("show",), ("verify",), ("retire", "requests"), ("record-loss", "--yes")):
        said = refused(project, ledger_command, *arguments)
        assert left in said
        assert "with: quietcount ledger restore" in said
        assert "quietcount run" not in said
    assert not list(project.private.glob("ledger.sqlite*"))


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000], ids=["empty", "garbage"])
def test_what_may_be_the_last_copy_of_a_ledger_is_never_told_to_be_deleted(
    released: Project, tmp_path: Path, content: bytes
) -> None:
    project = released.copy(tmp_path / "project")
    without_ledger(project)
    whole = project.public.read_bytes()
    copy = tmp_path / "copy.duckdb"
    said = []
    for damaged in (whole[:20_000], content):
        copy.write_bytes(damaged)
        said.append(refused(project, ledger_command, "restore", "--yes", str(copy)))
        assert "Keep it, and try another copy" in said[-1]
    project.public.write_bytes(content)
    said.append(refused(project, run_command, "--until-idle"))
    said.append(refused(project, query_command, "FROM requests"))
    copy.write_bytes(whole)
    said.append(refused(project, ledger_command, "restore", "--yes", str(copy)))
    assert "Move it away and keep it" in said[-1]
    assert not [each for each in said if "elete" in each]
    assert "there is no such file" in refused(project, ledger_command, "restore", "--yes", str(tmp_path / "none"))
    without_ledger(project)
    project.public.unlink()
    restored = invoked(project, ledger_command, "restore", "--yes", str(copy)).stderr
    assert restored.splitlines()[0] == f"Restored the ledger from {copy}."
    assert "Error" not in invoked(project, run_command, "--until-idle", "--as-of", "2023-02-08").stderr


def test_a_restore_that_is_refused_changes_nothing_not_even_the_format_of_the_state(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = released.copy(tmp_path / "project")
    older = tmp_path / "older.duckdb"
    older.write_bytes(project.public.read_bytes())
    project.run_here("2023-03-08")
    without_ledger(project)
    before = contents(project)
    # As the version after this one, whose format is another.
    monkeypatch.setattr(migrations, "STEPS", {**migrations.STEPS, state_file.FORMAT: "SELECT 1"})
    monkeypatch.setattr(state_file, "FORMAT", state_file.FORMAT + 1)
    assert "state-0.duckdb was built from" in refused(project, ledger_command, "restore", "--yes", str(older))
    assert contents(project) == before
    with State(project.folder / "other.duckdb") as other:
        other.bind(ledger_id="0" * 32)
    (project.folder / "other.duckdb").replace(project.private / "state-0.duckdb")
    assert "the ledger is another one" in refused(project, ledger_command, "restore", "--yes", str(project.public))
    assert not (project.private / "ledger.sqlite").exists()


def test_a_ledger_is_not_restored_under_a_service_that_runs(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    without_ledger(project)
    with State(project.private / "state-0.duckdb"):
        said = refused(project, ledger_command, "restore", "--yes", str(project.public))
        assert "another quietcount service holds it" in said
    assert not (project.private / "ledger.sqlite").exists()


def test_retire_before_the_first_run_brings_nothing_into_being(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.private.mkdir(parents=True)
    assert "there is no ledger yet" in refused(project, ledger_command, "retire", "requests")
    assert list(project.private.iterdir()) == []
    EmbeddedLedger(project.private / "ledger.sqlite").close()  # made by a first run that was refused
    before = contents(project)
    assert "there is no ledger yet" in refused(project, ledger_command, "retire", "requests")
    assert "there is no ledger yet" in refused(project, ledger_command, "record-loss", "--yes")
    assert contents(project) == before


def test_retire_without_the_state_names_the_way_on_and_makes_none(released: Project) -> None:
    state = released.private / "state-0.duckdb"
    state.rename(aside := state.with_name("aside"))
    try:
        assert "record-loss" in refused(released, ledger_command, "retire", "requests")
        assert not state.exists()
    finally:
        aside.rename(state)


@pytest.mark.check
def test_after_a_lost_log_the_service_goes_on_with_a_new_one(project: Project) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    released = project.released()
    log = project.private / "log.sqlite"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{log}{suffix}").unlink(missing_ok=True)
    assert "quietcount ledger new-log" in refused(project, run_command, "--until-idle", "--as-of", "2023-02-08")
    asked = CliRunner().invoke(ledger_command, ["new-log", "--config", str(project.config)], input="n\n")
    assert asked.exit_code == 1
    assert "Is the old log lost permanently?" in asked.output
    assert "Nothing was changed." in asked.output
    with State(project.private / "state-0.duckdb"):
        assert "another quietcount service holds it" in refused(project, ledger_command, "new-log", "--yes")
    assert "emit again" in invoked(project, ledger_command, "new-log", "--yes").stderr
    # Emitted again, as the command says: what was folded from the old log counts once.
    project.emit(simulated(100))
    invoked(project, run_command, "--until-idle", "--as-of", "2024-01-08")
    assert released.items() < project.released().items()
    assert {cell: n for cell, n in project.released().items() if n} == true_cells(simulated(100))
    assert "holds exactly" in invoked(project, ledger_command, "verify").stdout


def test_a_new_log_is_refused_where_there_is_none_to_follow(project: Project) -> None:
    assert "there is no ledger yet" in refused(project, ledger_command, "new-log")  # before it asks
    invoked(project, release_command, "--as-of", "2023-02-08")
    state = project.private / "state-0.duckdb"
    state.rename(aside := state.with_name("aside"))
    assert "record-loss" in refused(project, ledger_command, "new-log")
    assert not state.exists()
    aside.rename(state)
    before = project.state()
    assert "folds already" in refused(project, ledger_command, "new-log", "--yes")
    assert project.state() == before
