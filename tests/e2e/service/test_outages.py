"""A running service whose disk fills up, whose ledger is put back, whose clock is wrong: it goes on by itself."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.catalogues import statistic
from tests.conftest import Require
from tests.e2e.mounts import small_disk
from tests.e2e.projects import Project, simulated, true_cells
from tests.running_world import Hands, MovedClocks

from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.monitoring.status import Board, beginning
from quietcount_consumers.opening import open_service
from quietcount_consumers.running.runner import Admit, Runner
from quietcount_consumers.running.timekeeping import ClockGuard, Grid
from quietcount_consumers.service import Service
from quietcount_consumers.wiring import open_ledger

pytestmark = pytest.mark.check

LINES = simulated(400)
TRUE = true_cells(LINES)
NEW_YEAR = dt.datetime(2024, 1, 8, tzinfo=dt.UTC)
YEAR = dt.timedelta(days=371)


class Lasting:
    """`quietcount run` in this process, on clocks that are moved, with something to happen in each wait."""

    def __init__(
        self,
        project: Project,
        at: Mapping[int, Callable[[], None]],
        waits: int,
        clocks: MovedClocks | None = None,
    ) -> None:
        self.clocks = clocks or MovedClocks(NEW_YEAR)
        self._file = project.folder.parent / "said.jsonl"
        configuration = project.configuration
        grid = Grid(configuration.tick, self.clocks.wall)
        self.board = Board(grid, configuration.tick, beginning(configuration))
        with self._file.open("w", encoding="utf-8") as stream:
            output = LogOutput(stream)

            def opening(configuration: Configuration, now: dt.datetime, admit: Admit) -> Service:
                return open_service(
                    configuration, now, say=output.say, admit=lambda chain: admit(chain.entries[-1].recorded_at)
                )

            Runner(
                configuration,
                opening,
                clock=grid,
                grid=grid,
                board=self.board,
                signals=Hands(self.clocks, waits, at),
                output=output,
                reading=lambda: Configuration.load(project.config),
                guard=ClockGuard(self.clocks),
                pause=lambda _: None,
            ).run()

    @property
    def events(self) -> list[str]:
        """What was said, but for what comes whenever a service starts, declares and releases."""
        said = [json.loads(line)["event"] for line in self._file.read_text(encoding="utf-8").splitlines()]
        return [name for name in said if name not in ("started", "stopped", "population declared", "released")]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def nonzero(project: Project) -> dict[tuple[str, str, str], int]:
    return {cell: value for cell, value in project.released().items() if value}


def filled(folder: Path, left: int) -> Path:
    """Fill the disk that holds `folder` but for `left` KiB."""
    filler = folder / "filler"
    disk = os.statvfs(folder)
    with filler.open("wb") as file:
        file.write(bytes(max(0, disk.f_bavail * disk.f_frsize - left * 1024)))
    return filler


@pytest.mark.parametrize("left", [0, 300, 900, 1500])
def test_a_service_whose_disk_fills_up_waits_for_room_and_goes_on(
    project: Project, require: Require, left: int
) -> None:
    """However far it came, folding, drawing, publishing or forgetting, nothing is lost or counted twice."""
    assert through_a_full_disk(project, require, left) or left


def through_a_full_disk(project: Project, require: Require, left: int) -> bool:
    """Let a year pass while so many KiB are left, then make room; return whether the service had to wait."""
    clocks = MovedClocks(NEW_YEAR - YEAR)  # nothing is due
    filler: list[Path] = []

    def fill() -> None:
        project.emit(LINES)
        filler.append(filled(project.data, left))
        clocks.go_on(YEAR)

    def room() -> None:
        filler[0].unlink()

    with small_disk(project.data, 20_000, require):
        run = Lasting(project, {2: fill, 6: room}, 9, clocks)
        assert run.events in ([], ["waiting", "going on"])
        assert run.board.shown.state_open
        assert nonzero(project) == TRUE
        assert project.ledger_values() == project.released()
        return bool(run.events)


@pytest.mark.soak
@pytest.mark.parametrize("left", range(0, 4000, 60))
def test_a_disk_that_fills_up_at_any_point_of_a_running_service(project: Project, require: Require, left: int) -> None:
    through_a_full_disk(project, require, left)


def test_a_disk_that_is_full_is_shown_as_such_and_not_as_a_log_that_is_away(project: Project, require: Require) -> None:
    def fill() -> None:
        project.emit(LINES)
        filled(project.data, 0)

    with small_disk(project.data, 20_000, require):
        shown = Lasting(project, {2: fill}, 6).board.shown
    assert not shown.state_open
    assert shown.broker_reachable
    assert shown.ledger_verified
    assert dict(shown.disk_free)["data"] == 0


@pytest.mark.parametrize("gone", ["older", "other", "damaged", "missing"])
def test_a_ledger_that_is_replaced_halts_the_service_until_the_newest_is_back(project: Project, gone: str) -> None:
    project.emit(LINES)
    project.run_here("2023-03-08")
    ledger, kept = project.private / "ledger.sqlite", project.folder / "kept"
    files = {"older": ledger.read_bytes(), "damaged": ledger.read_bytes()[:4096] + bytes(9000)}
    if gone == "other":
        other = Project(project.folder.parent / "other")
        other.run_here("2023-03-08")
        files[gone] = (other.private / "ledger.sqlite").read_bytes()

    def replaced() -> None:
        for path in (ledger, ledger.with_name(ledger.name + "-wal"), ledger.with_name(ledger.name + "-shm")):
            path.rename(kept.with_name(path.name))
        if gone in files:
            ledger.write_bytes(files[gone])

    def back() -> None:
        for path in (ledger.with_name(ledger.name + "-wal"), ledger.with_name(ledger.name + "-shm")):
            path.unlink(missing_ok=True)
        for path in (ledger, ledger.with_name(ledger.name + "-wal")):
            kept.with_name(path.name).rename(path)

    run = Lasting(project, {2: replaced, 5: back}, 8)
    assert run.events == ["halted", "going on"]
    assert nonzero(project) == TRUE
    assert project.ledger_values() == project.released()


@pytest.mark.promise("clock-alone")
def test_a_clock_that_jumps_ahead_closes_no_period_and_one_set_back_moves_nothing_back(project: Project) -> None:
    clocks = MovedClocks(dt.datetime(2023, 3, 8, tzinfo=dt.UTC))
    project.emit(LINES)
    released = []
    year = dt.timedelta(days=365)
    at: dict[int, Callable[[], None]] = {
        2: lambda: clocks.jump(year),
        4: lambda: released.append(project.ledger_values()),
        5: lambda: clocks.jump(-year),
        8: lambda: clocks.jump(-year),
        10: lambda: clocks.jump(year),
    }
    run = Lasting(project, at, 12, clocks)
    assert run.events == ["clock jumped", "clock trusted again"] * 2
    assert {start for _, start, _ in released[0]} == {"2023-01-01", "2023-02-01"}
    assert project.ledger_values() == released[0]
    project.run_here()
    assert nonzero(project) == TRUE


def test_without_the_guard_a_jump_closes_the_year(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faulty twin: so that the trial above can fail."""
    monkeypatch.setattr(ClockGuard, "objection", lambda _: None)
    with pytest.raises(AssertionError):
        test_a_clock_that_jumps_ahead_closes_no_period_and_one_set_back_moves_nothing_back(project)


def test_a_service_that_starts_before_its_ledgers_time_declares_nothing_until_the_clock_is_right(
    project: Project,
) -> None:
    """A machine that starts in 1970: what is declared without `since` would begin there, for ever."""
    project.run_here("2023-03-08")
    before = project.ledger_values()
    with project.config.open("a", encoding="utf-8") as file:
        file.write(statistic("more", "HelpRequested", since=None, epsilon=1.0))
    clocks = MovedClocks(dt.datetime(1970, 1, 3, tzinfo=dt.UTC))
    at = {4: lambda: setattr(clocks, "moment", dt.datetime(2023, 3, 9, tzinfo=dt.UTC))}
    run = Lasting(project, at, 7, clocks)
    assert run.events[:2] == ["clock jumped", "clock trusted again"]
    assert project.ledger_values() == before
    with contextlib.closing(open_ledger(project.configuration, create=False)) as log:
        ledger = Ledger(log)
        ledger.refresh()
    assert ledger.chain.entries[-1].recorded_at.date() == dt.date(2023, 3, 9)
    assert ledger.chain.declarations["more"].since == dt.date(2023, 4, 1)
