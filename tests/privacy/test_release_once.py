"""Released once, whatever happens: a crash at each step of a release, a state or a ledger that was lost or replaced by
an older copy, and two releasers at once.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.aggregates_world import TRIALS, MemoryLedger, World, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.errors import AggregatesError, LedgerBehind, LedgerFenced, StateBehind, StateError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Entry, Released, Retired
from quietcount_aggregates.losses import begin_anew, record_loss
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_aggregates.release import Step
from quietcount_aggregates.state import state as state_module
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

SINCE = dt.date(2024, 1, 1)
DAYS = [dt.date(2024, 2, 1), dt.date(2024, 3, 1), dt.date(2024, 4, 1)]


class Crash(BaseException):
    """The process ends here."""


def populations() -> list[Population]:
    def of(name: str, **more: Any) -> Population:
        return population_of(name, events=["Asked"], registry=TRIALS, since=SINCE, epsilon=1.0, **more)

    return [
        of("once", period=Period.MONTH),
        of("twice", period=Period.MONTH, by=["colour"], max_contributions=2, late=Late.DROP),
        of("yearly", period=Period.DAY, by=["urgent"], max_contributions=3, horizon=Horizon.YEAR),
    ]


def events_of(month: int) -> list[CaseEvent]:
    """Return events dated in a month and in the one before, of cases that come every month."""
    return [
        CaseEvent(
            "Asked",
            case_key(case),
            event_id(100 * month + case),
            0,
            dt.date(2024, month - case % 2 if month > 1 else 1, 1 + case),
            {"colour": ("RED", "GREEN")[case % 2], "urgent": case % 3 == 0},
        )
        for case in range(12)
    ]


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[dict[str, Any]]:
    with EmbeddedLog(tmp_path / "log.sqlite") as log, EmbeddedLedger(tmp_path / "ledger.sqlite") as ledger:
        log.create_topic(CASE_EVENTS, 2)
        yield {"log": log, "ledger_log": ledger}


def live(world: World, months: Sequence[int] = (1, 2, 3)) -> None:
    """Emit, fold and release month by month."""
    for month in months:
        world.emit(events_of(month))
        world.fold(DAYS[month - 1])
        world.release(utc(DAYS[month - 1]))


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("SELECT statistic, period_start, cell, noisy FROM statistics ORDER BY ALL").fetchall()


def check_once(world: World) -> None:
    """The ledger holds at most one release of each period, and the public file exactly what the ledger holds."""
    released = [Entry.read(data, place).body for place, data in enumerate(world.ledger_log.read())]
    periods = Counter((body.statistic, body.period_start) for body in released if isinstance(body, Released))
    assert set(periods.values()) <= {1}
    domains: dict[str, list[str]] = {table.name: table.domain for each in populations() for table in each.tables}
    expected = [
        (body.statistic, body.period_start, cell, value)
        for body in released
        if isinstance(body, Released)
        for cell, value in zip(domains[body.statistic], body.values, strict=True)
    ]
    assert rows_of(world.public) == sorted(expected)


def crash_at(step: Step, world: World) -> None:
    """Release February's end with a crash at `step`, and start a new process."""

    def observe(reached: Step) -> None:
        if reached is step:
            raise Crash

    world.observe = observe
    world.restart(utc(DAYS[1]))
    world.emit(events_of(2))
    world.fold(DAYS[1])
    with pytest.raises(Crash):
        world.release(utc(DAYS[1]))
    world.observe = None
    world.restart(utc(DAYS[1]))


def check_crash(step: Step, folder: Path, logs: dict[str, Any], expected: dict[Any, Any]) -> None:
    with world_in(folder, populations(), **logs) as world:
        live(world, [1])
        before = dict(world.released)
        crash_at(step, world)
        appended = step not in (Step.SETTLEMENT_WRITTEN, Step.COUNTED, Step.DRAWN)
        assert (dict(world.released) != before) == appended
        check_once(world)
        world.fold(DAYS[1])
        world.release(utc(DAYS[1]))
        check_once(world)
        world.emit(events_of(2))  # everything of February is delivered again
        world.restart(utc(DAYS[1]))
        live(world, [3])
        check_once(world)
        assert world.released == expected, f"a crash when {step} changed what was counted"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    with world_in(tmp_path_factory.mktemp("undisturbed"), populations()) as world:
        live(world)
        assert sum(map(sum, world.released.values())) > 30
        return dict(world.released)


@pytest.mark.promise("drawn-once")
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=() if step in (Step.DRAWN, Step.APPENDED, Step.STATE_WRITTEN) else pytest.mark.check)
        for step in Step
    ],
)
def test_after_a_crash_at_any_step_there_is_one_value_for_one_cell(
    step: Step, tmp_path: Path, undisturbed: dict[Any, Any]
) -> None:
    check_crash(step, tmp_path / "world", {}, undisturbed)


@pytest.mark.check
@pytest.mark.promise("drawn-once")
@pytest.mark.parametrize("step", [Step.DRAWN, Step.APPENDED, Step.STATE_WRITTEN])
def test_after_a_crash_on_the_embedded_log_there_is_one_value_for_one_cell(
    step: Step, tmp_path: Path, embedded: dict[str, Any], undisturbed: dict[Any, Any]
) -> None:
    check_crash(step, tmp_path / "world", embedded, undisturbed)


@pytest.mark.promise("drawn-once", "ledger-first")
def test_what_was_drawn_and_appended_before_a_crash_is_what_is_published(tmp_path: Path) -> None:
    with world_in(tmp_path, populations(), mechanism=DiscreteLaplace()) as world:
        live(world, [1])
        crash_at(Step.APPENDED, world)
        check_once(world)
        assert all(DAYS[1] <= start for start in world.there.first_open.values() if start.day == 1)


@pytest.mark.check
@pytest.mark.parametrize("mutant", ["the ledger is not asked", "the state is not written anew"])
def test_a_recovery_that_leaves_something_out_is_caught(
    mutant: str, tmp_path: Path, undisturbed: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if mutant == "the ledger is not asked":
        monkeypatch.setattr(Chain, "unknown_to", lambda *_: [])
    else:
        real = state_module.State.rewrite

        def forgetful(self: state_module.State, fill: str, _: object) -> None:
            real(self, ";".join(line for line in fill.split(";") if "closed_events" not in line), [])

        monkeypatch.setattr(state_module.State, "rewrite", forgetful)
    with pytest.raises((AssertionError, AggregatesError)):
        check_crash(Step.APPENDED, tmp_path / "world", {}, undisturbed)


def test_a_population_retired_between_a_crash_and_the_recovery_does_not_look_like_a_lost_state(tmp_path: Path) -> None:
    with world_in(tmp_path, populations()) as world:
        live(world, [1])

        def observe(reached: Step) -> None:
            if reached is Step.APPENDED:
                raise Crash

        world.observe = observe
        world.restart(utc(DAYS[1]))
        with pytest.raises(Crash):
            world.release(utc(DAYS[1]))
        world.observe = None
        world.ledger.refresh()
        world.ledger.append([Retired("twice")], utc(DAYS[1]))
        world.populations = [population for population in world.populations if population.name != "twice"]
        world.restart(utc(DAYS[1]))
        world.restart(utc(DAYS[1]))  # and again, when nothing is left of the intent
        live(world, [3])
        check_once(world)


# ---------------------------------------------------------------- older copies


def test_a_deleted_state_is_refused_once_something_is_released(tmp_path: Path) -> None:
    with world_in(tmp_path, populations()) as world:
        world.emit(events_of(1))
        world.fold(SINCE)
        world.close()
        world.state_path.unlink()
        world.restart(utc(SINCE))  # nothing is released yet: the log has it all
        world.fold(SINCE)
        world.release(utc(DAYS[0]))
        world.close()
        world.state_path.unlink()
        with pytest.raises(StateBehind, match="record-loss"):
            world.restart(utc(DAYS[0]))
        # Refused again and again: a first refusal must not leave behind a state that passes for the right one.
        with pytest.raises(StateBehind):
            world.restart(utc(DAYS[0]))


@pytest.mark.promise("older-refused")
def test_an_older_copy_of_the_state_finishes_the_newest_settlement_or_is_refused(tmp_path: Path) -> None:
    """One that has folded all of it counts the same again, and draws nothing; one that lacks more knows too little."""
    copies = [tmp_path / "idle", tmp_path / "cut short"]
    with world_in(tmp_path / "world", populations()) as world:
        world.emit(events_of(1))
        world.fold(SINCE)
        world.close()
        shutil.copy(world.state_path, copies[0])

        def observe(reached: Step) -> None:
            if reached is Step.DRAWN:
                raise Crash

        world.observe = observe
        world.restart(utc(DAYS[0]))
        with pytest.raises(Crash):
            world.release(utc(DAYS[0]))
        world.close()
        shutil.copy(world.state_path, copies[1])  # after a settlement that came to nothing
        world.observe = None
        world.restart(utc(DAYS[0]))
        world.release(utc(DAYS[0]))
        for copy in copies:
            world.close()
            for limits in world.folder.glob("state-0.limits.*"):
                limits.unlink()
            shutil.copy(copy, world.state_path)
            world.restart(utc(DAYS[0]))
            check_once(world)
        live(world, [2])
        check_once(world)
        for copy in copies:
            world.close()
            shutil.copy(copy, world.state_path)
            with pytest.raises(StateBehind):
                world.restart(utc(DAYS[1]))


@pytest.mark.promise("losses")
def test_after_a_recorded_loss_the_service_goes_on_under_a_raised_bound(tmp_path: Path) -> None:
    with world_in(tmp_path, populations()) as world:
        live(world, [1])
        world.close()
        world.state_path.unlink()
        with pytest.raises(StateBehind):
            world.restart(utc(DAYS[0]))
        before = world.ledger.chain.budget.bound
        record_loss(world.ledger, utc(DAYS[0]))
        begin_anew(world.there, world.ledger, world.log.beginning_offsets(CASE_EVENTS), world.end)
        world.restart(utc(DAYS[0]))
        assert world.ledger.chain.budget.bound == 2 * before
        live(world, [2, 3])
        check_once(world)


@pytest.mark.promise("older-refused")
@pytest.mark.parametrize("public", [True, False])
def test_an_older_copy_of_the_ledger_is_refused(public: bool, tmp_path: Path) -> None:
    ledger = MemoryLedger()
    with world_in(tmp_path, populations(), ledger_log=ledger) as world:
        live(world, [1])
        older, places = list(ledger.entries), list(ledger.places)
        live(world, [2])
        ledger.entries[:], ledger.places[:] = older, places
        if not public:
            world.public.unlink()  # then the state still knows
        with pytest.raises(LedgerBehind, match="newest ledger"):
            world.restart(utc(DAYS[1]))


def test_another_ledger_of_the_same_length_is_refused(tmp_path: Path) -> None:
    with world_in(tmp_path / "a", populations()) as one, world_in(tmp_path / "b", populations()) as other:
        live(one, [1])
        live(other, [1])
        one.ledger_log = other.ledger_log
        with pytest.raises(LedgerBehind):
            one.restart(utc(DAYS[0]))


@pytest.mark.promise("one-releaser")
def test_a_releaser_that_was_fenced_appends_nothing(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    with world_in(tmp_path, populations(), ledger_log=ledger) as world:
        world.emit(events_of(1))
        world.fold(SINCE)
        length = len(ledger.entries)
        ledger.fence()  # another releaser
        with pytest.raises(LedgerFenced):
            world.release(utc(DAYS[0]))
        assert len(ledger.entries) == length
        assert rows_of(world.public) == []


# ---------------------------------------------------------------- writing the state anew


@pytest.mark.check
@pytest.mark.parametrize("failing", ["limits", "next", "replace"])
def test_a_crash_while_the_state_is_written_anew_leaves_the_old_one(
    failing: str, tmp_path: Path, undisturbed: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def refuse_of(name: str, fsync: Callable[[int], None] = os.fsync) -> Callable[[int], None]:
        def synced(descriptor: int) -> None:
            (refuse if name in str(Path(f"/proc/self/fd/{descriptor}").readlink()) else fsync)(descriptor)

        return synced

    with world_in(tmp_path / "world", populations()) as world:
        live(world, [1])
        world.emit(events_of(2))
        world.fold(DAYS[1])
        with monkeypatch.context() as patch:
            patch.setattr("quietcount_aggregates.release.publish", lambda *_: None)
            if failing == "fsync":
                patch.setattr("quietcount_aggregates.state.state.os.fsync", refuse)
            else:
                patch.setattr(Path, "replace", refuse)
            # The witness syncs and replaces a file of its own, before.
            patch.setattr(world.releaser._witness, "see", lambda _: None)
            with pytest.raises(StateError, match=r"cannot be (replaced|written)"):
                world.releaser.release(utc(DAYS[1]), dt.timedelta(0))
        world.restart(utc(DAYS[1]))
        check_once(world)
        live(world, [3])
        assert world.released == undisturbed
        assert not list(world.folder.glob("*.next*"))


# ---------------------------------------------------------------- what the reviews found


def test_a_year_secret_that_was_lost_or_emptied_is_refused_not_made_anew(tmp_path: Path) -> None:
    yearly = [population for population in populations() if population.horizon is Horizon.YEAR]
    assert yearly
    with world_in(tmp_path / "world", yearly) as world:
        live(world, [1])
        [secret] = list((world.folder / "years" / "0").iterdir())
        kept = secret.read_bytes()
        for spoil in (secret.unlink, lambda: secret.write_bytes(b"")):
            spoil()
            if secret.exists():
                secret.chmod(0o600)
            with pytest.raises(StateError, match=secret.name):
                live(world, [2])
            secret.write_bytes(kept)
            secret.chmod(0o600)
        live(world, [2])


@pytest.mark.check
@pytest.mark.promise("older-refused")
def test_a_whole_folder_put_back_from_a_backup_is_refused_by_the_witness(tmp_path: Path) -> None:
    with world_in(tmp_path / "world", populations()) as world:
        live(world, [1])
        assert isinstance(world.ledger_log, MemoryLedger)
        entries, places = list(world.ledger_log.entries), list(world.ledger_log.places)
        world.close()
        state, public = world.state_path.read_bytes(), world.public.read_bytes()
        world.restart(utc(DAYS[0]))
        live(world, [2])
        world.close()
        world.ledger_log.entries[:], world.ledger_log.places[:] = entries, places
        world.state_path.write_bytes(state)
        world.public.write_bytes(public)
        with pytest.raises(LedgerBehind, match="witness"):
            world.restart(utc(DAYS[2]))


@pytest.mark.check
def test_a_damaged_public_file_does_not_outlive_a_restart(tmp_path: Path) -> None:
    with world_in(tmp_path / "world", populations()) as world:
        live(world, [1])
        before = rows_of(world.public)
        with duckdb.connect(str(world.public)) as connection:
            connection.execute("UPDATE statistics SET noisy = 999")
        assert rows_of(world.public) != before
        world.restart(utc(DAYS[1]))
        assert rows_of(world.public) == before
