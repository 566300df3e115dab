"""Late events: they go into the earliest open period, unless they are dated more than a year before it begins."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tests.aggregates_world import TRIALS, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.counting import contributions
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period

pytestmark = [pytest.mark.quick, pytest.mark.promise("late")]

SINCE = dt.date(2023, 1, 1)


def asked(period: Period = Period.MONTH, since: dt.date = SINCE, **options: object) -> Population:
    return population_of(
        "asked",
        events=["Asked"],
        registry=TRIALS,
        period=period,
        since=since,
        epsilon=1.0,
        **options,  # type: ignore[arg-type]
    )


def counted(
    folder: Path, population: Population, settled: dt.date, days: list[dt.date], clock: dt.date, release: dt.date
) -> dict[dt.date, int]:
    """Settle up to a day, fold an event of a case for each of `days`, release; return the periods that count some."""
    with world_in(folder, [population], now=utc(SINCE), published=False) as world:
        world.release(utc(settled))
        world.emit(
            [
                CaseEvent("Asked", case_key(number), event_id(number), 0, day, {"colour": "RED", "urgent": None})
                for number, day in enumerate(days)
            ]
        )
        world.fold(clock)
        world.release(utc(release))
        return {start: sum(values) for (_, start), values in world.released.items() if sum(values)}


EDGES = [
    # The period, the first open day, the oldest day that is carried.
    (Period.MONTH, dt.date(2024, 3, 1), dt.date(2023, 3, 1)),
    (Period.QUARTER, dt.date(2024, 4, 1), dt.date(2023, 4, 1)),
    (Period.WEEK, dt.date(2024, 3, 4), dt.date(2023, 3, 4)),
    (Period.DAY, dt.date(2024, 2, 29), dt.date(2023, 2, 28)),
    (Period.DAY, dt.date(2024, 3, 1), dt.date(2023, 3, 1)),
]


def check_edge(folder: Path, period: Period, opened: dt.date, oldest: dt.date) -> None:
    """Send a late event of the oldest day, of the day before it, of the first day of all, and of the day before."""
    since = period.start(dt.date(2023, 2, 14))
    day_before = oldest - dt.timedelta(days=1)
    days = [oldest, day_before, since, opened - dt.timedelta(days=1)]
    found = counted(folder, asked(period, since), opened, days, opened, period.next(opened))
    assert found == {opened: 2}, "the one a year before counts, the day before that no more"


@pytest.mark.parametrize("period, opened, oldest", EDGES)
def test_a_late_event_is_carried_if_it_is_dated_at_most_a_year_before_the_period_begins(
    period: Period, opened: dt.date, oldest: dt.date, tmp_path: Path
) -> None:
    check_edge(tmp_path, period, opened, oldest)


def test_with_late_drop_none_is_carried(tmp_path: Path) -> None:
    march = dt.date(2024, 3, 1)
    days = [dt.date(2024, 2, 29), march]
    assert counted(tmp_path, asked(late=Late.DROP), march, days, march, dt.date(2024, 4, 1)) == {march: 1}


def check_earliest(folder: Path) -> None:
    """March is over and not settled yet, and so are April and May, when the event comes."""
    march = dt.date(2024, 3, 1)
    for number, clock in enumerate((dt.date(2024, 3, 1), dt.date(2024, 4, 3), dt.date(2024, 6, 3))):
        found = counted(folder / str(number), asked(), march, [dt.date(2024, 2, 3)], clock, dt.date(2024, 6, 4))
        assert found == {march: 1}, "what the fold's clock shows makes no difference"


def test_a_late_event_goes_into_the_earliest_open_period_whatever_the_clock_shows(tmp_path: Path) -> None:
    check_earliest(tmp_path)


def test_with_a_yearly_horizon_it_is_carried_within_its_own_calendar_year_alone(tmp_path: Path) -> None:
    yearly = asked(horizon=Horizon.YEAR)
    march, january = dt.date(2024, 3, 1), dt.date(2024, 1, 1)
    days = [dt.date(2024, 2, 3), dt.date(2023, 12, 31)]
    assert counted(tmp_path / "march", yearly, march, days, march, dt.date(2024, 4, 1)) == {march: 1}
    # In January the whole year before lies within a year of the open period, and in another calendar year.
    assert counted(tmp_path / "january", yearly, january, [days[1]], january, dt.date(2024, 2, 1)) == {}
    # While December waits for its settlement, it is the open period.
    december = dt.date(2023, 12, 1)
    days = [dt.date(2023, 11, 30)]
    assert counted(tmp_path / "december", yearly, december, days, january, january) == {december: 1}


def check_age_of_the_carried_period(folder: Path) -> None:
    """An event that comes in time, and is settled more than a year after its date, is not late: it counts."""
    found = counted(folder, asked(), SINCE, [dt.date(2023, 1, 9)], SINCE, dt.date(2024, 6, 1))
    assert found == {SINCE: 1}


def test_an_event_whose_own_period_is_open_counts_there_however_old_it_is(tmp_path: Path) -> None:
    check_age_of_the_carried_period(tmp_path)


# ---------------------------------------------------------------- mutants


def _within(days: int, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(contributions, "year_before", lambda day: f"(DATE '{day}' - INTERVAL {days} DAY)")


@pytest.mark.check
@pytest.mark.parametrize("days", [366 * 2, 367, 365, 364])
def test_another_limit_than_a_year_is_caught(days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _within(days, monkeypatch)
    with pytest.raises(AssertionError, match="the one a year before counts"):
        check_edge(tmp_path, *(EDGES[0] if days > 366 else EDGES[1]))


@pytest.mark.check
def test_carrying_by_the_clock_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = contributions.placement

    def mutant(population: Population, symbols: contributions.Symbols, first_open: dt.date, *rest: Any) -> str:
        sql, opened = real(population, symbols, first_open, *rest), f"THEN DATE '{first_open}' END"
        assert sql.count(opened) == 1
        return sql.replace(opened, "THEN DATE '2024-04-01' END")

    monkeypatch.setattr(contributions, "placement", mutant)
    with pytest.raises(AssertionError, match="makes no difference"):
        check_earliest(tmp_path)
