"""A clock that is behind the ledger, under a command that does not stay up: it says so, and it is no success.

By such a clock nothing is due. A command that then ended with 0 would leave a crontab quiet while nothing is released.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.commanded import contents, released_month
from tests.e2e.projects import Project

from quietcount_aggregates.ledger.chain import Chain
from quietcount_consumers.commands import service
from quietcount_consumers.errors import ClockBehind
from quietcount_consumers.maintenance.losses import record_state_loss
from quietcount_consumers.running.timekeeping import TOLERANCE, check_not_before
from quietcount_schemas.cli import main

pytestmark = pytest.mark.quick

RELEASED = dt.datetime(2023, 2, 8, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
COMMANDS = [("run", "--until-idle"), ("release",), ("declare",)]


@pytest.fixture(scope="module")
def project_once(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return released_month(tmp_path_factory.mktemp("behind") / "project")


@pytest.fixture
def project(project_once: Project, tmp_path: Path) -> Project:
    return project_once.copy(tmp_path / "project")


def check_refused(
    project: Project, command: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(project)
    monkeypatch.setattr(service, "wall_clock", lambda: RELEASED - TOLERANCE - SECOND)
    with pytest.raises(SystemExit) as ended:
        main([*command, "--config", str(project.config)])
    assert ended.value.code == 1, "it ends as if all were well"
    logged, said = capsys.readouterr().err.splitlines()
    event = json.loads(logged)
    assert (event["event"], event["level"]) == ("clock jumped", "error")
    assert said == f"Error: {event['meaning']}"
    assert "behind the newest entry of the ledger, which is of 2023-02-08T00:00:00Z" in said
    assert "Set the clock (`timedatectl`), then run this again." in said
    assert contents(project) == before


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_that_does_not_stay_up_says_that_the_clock_is_behind_and_ends_with_1(
    project: Project,
    command: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_refused(project, command, monkeypatch, capsys)


def check_a_dry_run(project: Project) -> None:
    for moment in ([], ["--as-of", "2023-02-01"]):
        with pytest.raises(SystemExit) as ended:
            main(["release", "--dry-run", *moment, "--config", str(project.config)])
        assert ended.value.code == 1, "it says that nothing is due"


def test_a_dry_run_says_so_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "wall_clock", lambda: RELEASED - TOLERANCE - SECOND)
    check_a_dry_run(project)
    monkeypatch.setattr(service, "check_moment", lambda *_: None)  # the mutant
    with pytest.raises(AssertionError, match="nothing is due"):
        check_a_dry_run(project)


def check_what_a_loss_hides(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Record a loss by a clock that is behind: its entry is the last one, and not the latest."""
    (project.private / "state-0.duckdb").unlink()
    record_state_loss(project.configuration, RELEASED - dt.timedelta(days=10))
    check_refused(project, COMMANDS[0], monkeypatch, capsys)


def test_a_loss_that_is_recorded_by_a_clock_that_is_behind_hides_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_what_a_loss_hides(project, monkeypatch, capsys)


def test_a_twin_that_goes_by_the_last_entry_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Chain, "latest", property(lambda self: self.entries[-1].recorded_at))
    with pytest.raises(AssertionError, match="as if all were well"):
        check_what_a_loss_hides(project, monkeypatch, capsys)


def test_a_twin_that_takes_any_clock_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "check_not_before", lambda *_: None)
    with pytest.raises(AssertionError, match="as if all were well"):
        check_refused(project, COMMANDS[0], monkeypatch, capsys)


def test_a_moment_that_is_asked_for_takes_the_place_of_the_clock(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "wall_clock", lambda: RELEASED - dt.timedelta(days=3))
    with pytest.raises(SystemExit) as ended:
        main(["run", "--until-idle", "--as-of", "2023-02-08", "--config", str(project.config)])
    assert ended.value.code == 0, capsys.readouterr().err


def test_a_clock_is_behind_by_more_than_a_time_service_corrects_it() -> None:
    for wall in (RELEASED - TOLERANCE, RELEASED, RELEASED + dt.timedelta(days=3000)):
        check_not_before(RELEASED, wall)
    with pytest.raises(ClockBehind):
        check_not_before(RELEASED, RELEASED - TOLERANCE - SECOND)
