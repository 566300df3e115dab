"""A log that is lost after a release that a crash cut short: the new log is followed once the release is finished."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.commanded import invoked, losses, refused
from tests.e2e.projects import Cell, Project
from tests.unit.consumers.maintenance.lost_states import MARCH, Crash, asked, crash

from quietcount_aggregates.settling import Settler
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.service import run_command
from quietcount_consumers.opening import open_service

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("light")]


FEBRUARY = asked(range(20), "2023-02")


def nonzero(project: Project) -> dict[Cell, int]:
    return {cell: value for cell, value in project.ledger_values().items() if value}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that appended a release of twenty cases and crashed before its state forgot them; its log is gone."""
    project = Project(tmp_path / "project")
    project.emit(FEBRUARY)
    project.run_here("2023-02-08")
    with pytest.raises(Crash), open_service(project.configuration, MARCH, observe=crash) as service:
        service.tick(MARCH)
    for path in project.private.glob("log.sqlite*"):
        path.unlink()
    return project


def check_it_goes_on(project: Project) -> None:
    """Follow a new log, to which comes again what was counted, and five new cases."""
    assert sum(nonzero(project).values()) == 20
    invoked(project, ledger_command, "new-log", "--yes")
    project.emit(FEBRUARY)
    project.emit(asked(range(25), "2023-03"), "march.jsonl")
    project.run_here("2023-04-08")
    assert nonzero(project) == {
        ("requests", "2023-02-01", "help_kind=DESERTION"): 20,
        ("requests", "2023-03-01", "help_kind=DESERTION"): 5,
    }
    assert losses(project) == 0


def test_a_release_that_a_crash_cut_short_is_finished_before_a_new_log_is_followed(project: Project) -> None:
    check_it_goes_on(project)


def test_a_twin_that_follows_the_new_log_first_is_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hasty:
        hasty.setattr(Settler, "recover", lambda _: None)
        invoked(project, ledger_command, "new-log", "--yes")
    said = refused(project, run_command, "--until-idle", "--as-of", "2023-04-08")
    assert "does not know: the state was lost" in said
