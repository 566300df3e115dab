"""The clock's guard: which jumps it sees, and when it believes the clock again."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.running_world import MINUTE, NOON, MovedClocks

from quietcount_consumers.errors import ClockBehind
from quietcount_consumers.running.timekeeping import STANDING, TOLERANCE, ClockGuard, Grid, SystemClocks

pytestmark = pytest.mark.quick

SECOND = dt.timedelta(seconds=1)
DAY = dt.timedelta(days=1)


@pytest.fixture
def clocks() -> MovedClocks:
    return MovedClocks()


@pytest.fixture
def guard(clocks: MovedClocks) -> ClockGuard:
    guard = ClockGuard(clocks)
    assert guard.objection() is None
    return guard


@given(st.lists(st.timedeltas(dt.timedelta(0), dt.timedelta(days=40)), max_size=20))
def test_a_clock_that_goes_as_time_passes_is_trusted_however_long_a_tick_or_a_sleep_takes(
    passed: list[dt.timedelta],
) -> None:
    clocks = MovedClocks()
    guard = ClockGuard(clocks)
    for each in passed:
        clocks.go_on(each)
        assert guard.objection() is None


@given(st.lists(st.timedeltas(-TOLERANCE, TOLERANCE), max_size=20))
def test_small_corrections_are_trusted_and_time_stands_rather_than_going_back(steps: list[dt.timedelta]) -> None:
    clocks = MovedClocks()
    guard, grid = ClockGuard(clocks), Grid(MINUTE, clocks.wall)
    ticks = []
    for step in steps:
        clocks.jump(step)
        assert guard.objection() is None
        ticks.append(guard.held(grid()))
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(
    "jump, said",
    [
        (TOLERANCE + SECOND, "went forward"),
        (-TOLERANCE - SECOND, "set back"),
        (365 * DAY, "went forward"),
        (-365 * DAY, "set back"),
    ],
)
def test_a_jump_is_not_trusted_until_the_clock_is_back(
    clocks: MovedClocks, guard: ClockGuard, jump: dt.timedelta, said: str
) -> None:
    clocks.go_on(MINUTE)
    clocks.jump(jump)
    for _ in range(50):
        objection = guard.objection()
        assert objection is not None
        assert said in objection
        clocks.go_on(MINUTE)
    clocks.jump(-jump)
    assert guard.objection() is None


@pytest.mark.parametrize("jump", [30 * DAY, -30 * DAY])
def test_a_new_time_is_trusted_once_it_has_stood_for_an_hour_and_not_before(
    clocks: MovedClocks, guard: ClockGuard, jump: dt.timedelta
) -> None:
    clocks.jump(jump)
    stood = dt.timedelta(0)
    while stood < STANDING:
        assert guard.objection() is not None, stood
        clocks.go_on(MINUTE)
        stood += MINUTE
    assert guard.objection() is None
    assert guard.held(NOON - 90 * DAY) == NOON - 90 * DAY  # earlier ticks were of the wrong time
    clocks.jump(-jump)
    assert guard.objection() is not None


def test_a_clock_that_goes_on_jumping_never_stands(clocks: MovedClocks, guard: ClockGuard) -> None:
    for _ in range(200):
        clocks.jump(DAY)
        assert guard.objection() is not None
        clocks.go_on(MINUTE)


def test_a_clock_before_the_ledgers_newest_entry_is_not_trusted_until_it_is_behind_it(clocks: MovedClocks) -> None:
    guard = ClockGuard(clocks)
    assert guard.objection() is None  # at the start nothing speaks against it
    with pytest.raises(ClockBehind, match="behind the newest entry of the ledger"):
        guard.admit(NOON + DAY)
    assert guard.objection() is not None
    clocks.jump(DAY)  # a service for the time sets it, which is no jump away from anything that could be trusted
    assert guard.objection() is None
    guard.admit(NOON + DAY)


def test_a_machine_that_starts_in_1970_waits_for_the_time_and_goes_on_with_it(clocks: MovedClocks) -> None:
    clocks.moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    guard = ClockGuard(clocks)
    assert guard.objection() is None
    with pytest.raises(ClockBehind):
        guard.admit(NOON)
    assert guard.objection() is not None
    clocks.moment = NOON + MINUTE
    assert guard.objection() is None


def test_an_entry_made_by_a_clock_that_was_ahead_holds_a_service_up_for_an_hour_and_no_longer(
    clocks: MovedClocks,
) -> None:
    guard = ClockGuard(clocks)
    assert guard.objection() is None
    with pytest.raises(ClockBehind):
        guard.admit(NOON + 30 * DAY)
    for _ in range(60):
        assert guard.objection() is not None
        clocks.go_on(MINUTE)
    assert guard.objection() is None
    guard.admit(NOON + 30 * DAY)
    with pytest.raises(ClockBehind):
        guard.admit(NOON + 31 * DAY)


def test_an_opening_is_admitted_by_the_time_that_was_judged_and_not_by_a_later_one(clocks: MovedClocks) -> None:
    guard = ClockGuard(clocks)
    assert guard.objection() is None
    clocks.jump(30 * DAY)  # meanwhile
    assert guard.judged == NOON
    with pytest.raises(ClockBehind):
        guard.admit(NOON + DAY)


def test_the_machines_clocks_are_utc_and_the_time_since_it_was_started() -> None:
    clocks = SystemClocks()
    assert clocks.wall().tzinfo is dt.UTC
    before = clocks.running()
    assert clocks.running() >= before > dt.timedelta(0)


@pytest.mark.parametrize(
    "moment, tick, floor, left",
    [
        ("2023-05-01T12:00:00", 60, "2023-05-01T12:00:00", 60.0),
        ("2023-05-01T12:00:00.500", 60, "2023-05-01T12:00:00", 59.5),
        ("2023-05-01T12:00:59.999", 60, "2023-05-01T12:00:00", 0.001),
        ("2023-05-01T12:34:56", 3600, "2023-05-01T12:00:00", 1504.0),
        ("2023-05-01T12:34:56", 86400, "2023-05-01T00:00:00", 41104.0),
    ],
)
def test_a_grid_shows_the_clock_floored_and_how_long_it_is_to_the_next_point(
    clocks: MovedClocks, moment: str, tick: int, floor: str, left: float
) -> None:
    clocks.moment = dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC)
    grid = Grid(dt.timedelta(seconds=tick), clocks.wall)
    assert grid() == dt.datetime.fromisoformat(floor).replace(tzinfo=dt.UTC)
    assert grid.left == pytest.approx(left)


def test_the_points_of_a_grid_are_multiples_of_its_tick_and_follow_a_tick_that_is_changed(clocks: MovedClocks) -> None:
    grid = Grid(MINUTE, clocks.wall)
    clocks.go_on(dt.timedelta(minutes=17, seconds=12))
    assert (grid(), grid.left) == (NOON + 17 * MINUTE, 48)
    grid.tick = dt.timedelta(hours=1)
    assert (grid(), grid.left) == (NOON, 42 * 60 + 48)
