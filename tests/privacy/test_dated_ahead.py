"""Events that are dated far ahead: a settlement drops them and says so."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.aggregates_world import TRIALS, MemoryLog, UnpurgedLog, World, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates import settling
from quietcount_aggregates.counting import bounding
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.populations import Horizon, Population
from quietcount_aggregates.release import Step
from quietcount_aggregates.state.state import State
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.rejection import ClientFault, RejectReason

pytestmark = [pytest.mark.quick, pytest.mark.promise("forgetting")]

JANUARY, FEBRUARY, MARCH = (dt.date(2024, month, 1) for month in (1, 2, 3))
FAR = dt.date(2099, 6, 1)
TWO_DAYS = dt.timedelta(days=2)

past_world = partial(world_in, today=JANUARY, published=False)
"""The settlements of these worlds are made at the time that they state."""

Values = dict[dt.date, tuple[int, ...]]


def asked(horizon: Horizon = Horizon.LIFETIME) -> Population:
    return population_of(
        "asked",
        events=["Asked"],
        registry=TRIALS,
        period=Period.MONTH,
        since=JANUARY,
        epsilon=1.0,
        by=["colour"],
        horizon=horizon,
    )


def event(case: int, number: int, day: dt.date, revision: int = 0, colour: str = "RED") -> CaseEvent:
    return CaseEvent("Asked", case_key(case), event_id(number), revision, day, {"colour": colour, "urgent": None})


def values(world: World) -> Values:
    return {start: cells for (_, start), cells in world.released.items()}


def settle(world: World, first: dt.date) -> None:
    """Fold and release on the day on which a month begins."""
    world.fold(first)
    world.release(utc(first))


Trouble = Callable[[World], None]


def fold_again(world: World) -> None:
    """Drop what was folded and begin at the log's beginning again, with the marks and limits that are there."""
    with world.there.transaction() as connection:
        connection.execute("DELETE FROM open_events")
        connection.execute("DELETE FROM offsets")
    world.fold(FEBRUARY)


def lived(folder: Path, before: Trouble = lambda _: None, after: Trouble = lambda _: None) -> Values:
    """Emit one event that is dated 2099 first of all; check what is left of it after each settlement."""
    log = MemoryLog()
    with past_world(folder, [asked()], log=log) as world:
        world.emit([event(1, 1, FAR)])
        world.emit([event(case, case, JANUARY) for case in range(2, 12)])
        world.fold(JANUARY)
        before(world)
        settle(world, FEBRUARY)
        assert log.records == [[]]
        assert not world.there.rows("FROM open_events"), "an event that is dated far ahead is kept until then"
        world.emit([event(case, 100 + case, FEBRUARY, colour="GREEN") for case in range(12, 17)])
        world.emit([event(1, 1, FEBRUARY, colour="GREEN")])  # again, with the right date
        world.fold(FEBRUARY)
        after(world)
        settle(world, MARCH)
        assert log.records == [[]]
        return values(world)


EXPECTED: Values = {JANUARY: (0, 0, 10), FEBRUARY: (6, 0, 0)}
"""GREEN, NONE, RED is the order of the colours."""


def test_nothing_is_kept_of_an_event_that_is_dated_2099_and_it_counts_once_it_has_the_right_date(
    tmp_path: Path,
) -> None:
    assert lived(tmp_path) == EXPECTED


@pytest.mark.promise("deterministic-fold")
def test_folding_the_log_again_before_or_after_the_settlement_gives_the_same_values(tmp_path: Path) -> None:
    assert lived(tmp_path / "before", before=fold_again) == EXPECTED
    assert lived(tmp_path / "after", after=fold_again) == EXPECTED


def dropped_and_lost(folder: Path, log: MemoryLog) -> Values:
    """Lose the state once a settlement has dropped an event whose date comes soon after."""
    with past_world(folder, [asked()], log=log) as world:
        world.emit([event(1, 1, FEBRUARY + dt.timedelta(days=20)), event(2, 2, JANUARY)])
        settle(world, FEBRUARY)
        world.emit([event(3, 3, FEBRUARY)])
        world.lose_state(utc(FEBRUARY))
        world.restart(utc(FEBRUARY))
        settle(world, MARCH)
        return values(world)


@pytest.mark.promise("deterministic-fold")
def test_what_a_settlement_dropped_stays_dropped_after_a_loss_even_if_the_log_still_holds_it(tmp_path: Path) -> None:
    for log in (MemoryLog(), UnpurgedLog()):
        assert dropped_and_lost(tmp_path / type(log).__name__, log) == {JANUARY: (0, 0, 1), FEBRUARY: (0, 0, 1)}


def check_two_days(folder: Path) -> None:
    """At the settlement on the first of February, what is dated up to its third stays, and counts in February."""
    days = [FEBRUARY, FEBRUARY + TWO_DAYS, FEBRUARY + TWO_DAYS + dt.timedelta(days=1), MARCH]
    with past_world(folder, [asked()]) as world:
        world.emit([event(case, case, day) for case, day in enumerate(days)])
        settle(world, FEBRUARY)
        kept = [day for (day,) in world.there.rows("SELECT occurred_on FROM open_events ORDER BY 1")]
        assert kept == days[:2]
        settle(world, MARCH)
        settle(world, dt.date(2024, 4, 1))
        assert {start: sum(cells) for start, cells in values(world).items()} == {JANUARY: 0, FEBRUARY: 2, MARCH: 0}


def test_an_event_may_be_dated_two_days_after_the_settlement_and_no_more(tmp_path: Path) -> None:
    check_two_days(tmp_path)


def check_versions(folder: Path) -> None:
    with past_world(folder, [asked()]) as world:
        world.emit(
            [event(1, 1, JANUARY, colour="GREEN"), event(1, 1, FAR, 1), event(2, 2, FAR), event(2, 2, JANUARY, 1)]
        )
        settle(world, FEBRUARY)
        assert values(world) == {JANUARY: (1, 0, 1)}, "each version is judged by its own date"


@pytest.mark.promise("corrections")
def test_an_earlier_version_stands_again_when_the_later_one_is_dropped(tmp_path: Path) -> None:
    check_versions(tmp_path)


def flags(folder: Path, far: int) -> list[frozenset[RejectReason | ClientFault]]:
    """Return the reasons of the day before the settlement, of its day, and of the day after it."""
    with past_world(folder, [asked()]) as world:
        world.emit([event(case, case, FAR) for case in range(far)] + [event(100, 100, JANUARY)])
        world.fold(JANUARY)
        world.release(utc(FEBRUARY))
        assert world.there.rows("FROM dead_letters") == [], "it is no dead letter"
        seen = [world.there.noted_on(FEBRUARY + dt.timedelta(days=day)) for day in (-1, 0, 1)]
        world.restart(utc(FEBRUARY + dt.timedelta(days=1)))
        assert world.there.noted_on(FEBRUARY) == seen[1], "the day after, the service shows what was on the day"
        return seen


@pytest.mark.promise("silence")
def test_the_reject_is_shown_for_the_day_of_the_settlement_and_nothing_of_how_many(tmp_path: Path) -> None:
    one = flags(tmp_path / "one", 1)
    assert one == [frozenset(), {RejectReason.DATED_AHEAD}, frozenset()]
    assert flags(tmp_path / "twenty", 20) == one
    assert flags(tmp_path / "none", 0) == [frozenset()] * 3


def test_nothing_of_it_is_left_in_the_state(tmp_path: Path) -> None:
    states = []
    for name, events in (("with", [event(1, 1, FAR)]), ("without", [])):
        with past_world(tmp_path / name, [asked()]) as world:
            world.emit([*events, event(2, 2, JANUARY), event(3, 3, FEBRUARY)])
            settle(world, FEBRUARY)
            tables = ("open_events", "closed_events", "limits", "sums", "first_open", "dead_letters", "withdrawn")
            places = 'EXCLUDE ("offset", first_offset)'
            states.append(
                [
                    world.there.rows(f"SELECT * {places if table == 'open_events' else ''} FROM {table} ORDER BY ALL")
                    for table in tables
                    if table != "dead_letters" or not world.there.rows(f"FROM {table}")
                ]
            )
    assert states[0] == states[1]


def test_no_secret_of_a_far_year_is_made_for_it(tmp_path: Path) -> None:
    with past_world(tmp_path, [asked(Horizon.YEAR)]) as world:
        world.emit([event(1, 1, FAR)])
        settle(world, FEBRUARY)
        assert world.years.years() == [2024]


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.promise("drawn-once")
@pytest.mark.parametrize("step", list(Step))
def test_a_crash_at_any_step_drops_it_all_the_same(step: Step, tmp_path: Path) -> None:
    def observe(reached: Step) -> None:
        if reached is step:
            raise Crash

    log = MemoryLog()
    with past_world(tmp_path, [asked()], log=log, observe=observe) as world:
        world.emit([event(1, 1, FAR), event(2, 2, JANUARY)])
        with pytest.raises(Crash):
            settle(world, FEBRUARY)
        world.observe = None
        world.restart(utc(FEBRUARY))
        settle(world, FEBRUARY)
        assert values(world) == {JANUARY: (0, 0, 1)}
        assert world.there.noted_on(FEBRUARY) == {RejectReason.DATED_AHEAD}
        assert log.records == [[]]


def check_the_past(folder: Path) -> None:
    """Settle January as of the first of February, much later, as `run --as-of` does."""
    with world_in(folder, [asked()], today=dt.date(2024, 6, 1), published=False) as world:
        world.emit([event(1, 1, JANUARY), event(2, 2, dt.date(2024, 5, 20)), event(3, 3, FAR)])
        settle(world, FEBRUARY)
        assert [day for (day,) in world.there.rows("SELECT occurred_on FROM open_events")] == [dt.date(2024, 5, 20)]


def test_a_settlement_of_the_past_drops_nothing_that_has_come_true_since(tmp_path: Path) -> None:
    check_the_past(tmp_path)


# ---------------------------------------------------------------- mutants


def settling_until(patch: pytest.MonkeyPatch, newest_of: Callable[[dt.date], dt.date]) -> None:
    """Make a twin whose settlements take other days to be the last that an event may have."""
    real = Settlement.make

    def mutant(after: int, day: dt.date, _: dt.date, *more: Any) -> Settlement:
        return real(after, day, newest_of(day), *more)

    patch.setattr(Settlement, "make", mutant)


def test_a_settlement_that_takes_its_own_time_for_today_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settling_until(monkeypatch, lambda day: day + TWO_DAYS)
    with pytest.raises(AssertionError):
        check_the_past(tmp_path)


def test_a_settlement_that_drops_nothing_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settling_until(monkeypatch, lambda _: dt.date.max)
    with pytest.raises(AssertionError, match="is kept until then"):
        lived(tmp_path)


@pytest.mark.parametrize("days", [1, 3, 40])
def test_another_number_of_days_is_caught(days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settling_until(monkeypatch, lambda day: day + dt.timedelta(days=days))
    with pytest.raises(AssertionError):
        check_two_days(tmp_path)


def test_dropping_an_event_with_all_its_versions_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bounding._versions

    def mutant(table: str, counted: str) -> str:
        newest = re.search("occurred_on <= (DATE '[0-9-]+')", counted)
        assert newest is not None
        ahead = f"SELECT event_mark FROM open_events WHERE occurred_on > {newest[1]}"
        return real(table, f"{counted} AND event_mark NOT IN ({ahead})")

    monkeypatch.setattr(bounding, "_versions", mutant)
    with pytest.raises(AssertionError, match="judged by its own date"):
        check_versions(tmp_path)


def test_a_flag_that_is_raised_without_a_reject_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(state: State, _: int, settlement: Settlement) -> None:
        state.note({RejectReason.DATED_AHEAD}, settlement.day)

    monkeypatch.setattr(settling, "note_ahead", mutant)
    with pytest.raises(AssertionError):
        test_the_reject_is_shown_for_the_day_of_the_settlement_and_nothing_of_how_many(tmp_path)
