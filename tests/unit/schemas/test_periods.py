"""Calendar periods: where they begin and end, and which is made of which, against counts of days."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pytest

from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

# Thirty years, with leap years, years of 53 weeks, and years that begin on each day of the week.
FIRST, LAST = dt.date(2000, 1, 1), dt.date(2029, 12, 31)
DAYS = [FIRST + dt.timedelta(days=number) for number in range((LAST - FIRST).days + 1)]


def spans(period: Period) -> list[tuple[dt.date, dt.date]]:
    """Return the first day of each whole period of the thirty years, and that of the next one."""
    starts = list(dict.fromkeys(period.start(day) for day in [*DAYS, LAST + dt.timedelta(days=1)]))
    return [(start, following) for start, following in pairwise(starts) if start >= FIRST]


@pytest.mark.parametrize("period", list(Period))
def test_periods_follow_one_another_without_a_gap(period: Period) -> None:
    for day in DAYS:
        assert period.start(day) <= day <= period.end(day)
        assert period.start(period.start(day)) == period.start(day) == period.coarsen(day)
        assert period.start(period.end(day)) == period.start(day)
        assert period.next(day) == period.start(period.next(day)) == period.end(day) + dt.timedelta(days=1)


@pytest.mark.parametrize("finer", list(Period))
@pytest.mark.parametrize("coarser", list(Period))
def test_a_period_is_made_of_those_whose_bounds_never_cross_its_own(coarser: Period, finer: Period) -> None:
    within = all(coarser.start(day) == coarser.start(finer.start(day)) for day in DAYS)
    assert coarser.is_made_of(finer) is within


def test_which_periods_are_made_of_which() -> None:
    day, week, month, quarter, year = Period
    made = {coarser: [finer for finer in Period if coarser.is_made_of(finer)] for coarser in Period}
    assert made == {
        day: [day],
        week: [day, week],
        month: [day, month],
        quarter: [day, month, quarter],
        year: [day, month, quarter, year],
    }
