"""Calendar periods: what a statistic is released by and what an emitter coarsens dates to.

All dates are UTC calendar dates. A week is the ISO 8601 week (Monday to Sunday).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from enum import StrEnum

__all__ = ["Period", "coarsest_that_serves"]


class Period(StrEnum):
    """A calendar period, from the finest to the coarsest."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"

    def start(self, day: dt.date) -> dt.date:
        """Return the first day of the period that holds `day`."""
        match self:
            case Period.DAY:
                return day
            case Period.WEEK:
                return day - dt.timedelta(days=day.weekday())
            case Period.MONTH:
                return day.replace(day=1)
            case Period.QUARTER:
                return day.replace(month=3 * ((day.month - 1) // 3) + 1, day=1)
            case Period.YEAR:
                return day.replace(month=1, day=1)

    def next(self, start: dt.date) -> dt.date:
        """Return the first day of the period after the one that holds `start`."""
        start = self.start(start)
        match self:
            case Period.DAY:
                return start + dt.timedelta(days=1)
            case Period.WEEK:
                return start + dt.timedelta(days=7)
            case Period.MONTH:
                return (start + dt.timedelta(days=31)).replace(day=1)
            case Period.QUARTER:
                return (start + dt.timedelta(days=93)).replace(day=1)
            case Period.YEAR:
                return start.replace(year=start.year + 1)

    def end(self, day: dt.date) -> dt.date:
        """Return the last day (inclusive) of the period that holds `day`."""
        return self.next(day) - dt.timedelta(days=1)

    def coarsen(self, day: dt.date) -> dt.date:
        """Return the day that stands for every day of its period: the period's first day."""
        return self.start(day)

    def is_made_of(self, finer: Period) -> bool:
        """Return whether each of these periods is made of whole ones of `finer`; a period is made of itself."""
        if Period.WEEK in (self, finer):
            return finer in (self, Period.DAY)
        return list(Period).index(finer) <= list(Period).index(self)


def coarsest_that_serves(wanted: Collection[Period]) -> Period:
    """Return the coarsest period whose first day tells the period of each kind that is `wanted`."""
    # A week can lie in two months, so its first day gives the week but not the month, quarter or year.
    if Period.WEEK in wanted and len(wanted) > 1:
        return Period.DAY
    return min(wanted, key=list(Period).index)
