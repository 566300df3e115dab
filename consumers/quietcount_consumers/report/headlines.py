"""Headlines: what is said of a population before anything else, and no more than the intervals allow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from quietcount_consumers.report.figures import Breakdown, Change, Figure, Headline, Lead, Median, Share, Statistic
from quietcount_schemas.events.periods import Period

__all__ = ["Headlines", "leading"]

_Ask = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""Puts a question with its parameters to the published file."""


class Headlines:
    """What makes headlines, with the questions that the file's macros answer."""

    def __init__(self, ask: _Ask, label: Callable[[str, str, str], str], statistics: Sequence[Statistic] = ()) -> None:
        self._ask = ask
        self._statistics = statistics
        self._label = label

    def of(self, statistic: Statistic) -> Headline | None:
        """Return what is said of a table, if anything of it is released."""
        whole = _newest_whole(statistic)
        if whole is None:
            return None
        period, before, total = whole
        own = statistic.totals[statistic.period].newest if statistic.period in statistic.totals else None
        newest = own if own is not None and own.end > total.end else None
        last_year = _year_before(statistic, newest or total)
        leads = (self._lead(statistic, each, total) for each in statistic.breakdowns)
        return Headline(
            statistic,
            period,
            total,
            change=None if before is None else self._change(statistic, before, total),
            lead=next((each for each in leads if each is not None), None),
            newest=newest,
            year=None if last_year in (None, before) else self._change(statistic, last_year, newest or total),
            medians=() if statistic.averaged else tuple(self._medians(statistic.population)),
        )

    def _medians(self, population: str) -> Iterator[Median]:
        """Yield the median of each number in buckets, once, from the first table that has it and counts them all."""
        told: set[str] = set()
        for table in self._statistics:
            whole = _newest_whole(table)
            if table.population != population or table.averaged or table.partial or whole is None:
                continue
            period, _, total = whole
            for each in table.breakdowns:
                if not each.ordered or each.dimension in told:
                    continue
                told.add(each.dimension)
                ((lower, upper),) = self._ask(
                    "SELECT lower, upper FROM percentile(?, ?, ?, ?, 50)",
                    [table.name, each.dimension, total.start, total.end],
                )
                yield Median(each.title, period, total, lower, upper)

    def _change(self, statistic: Statistic, before: Figure, newest: Figure) -> Change | None:
        if statistic.averaged:
            return None
        ((lower, upper, percent_lower, percent_upper),) = self._ask(
            "SELECT difference_lower, difference_upper, percent_lower, percent_upper FROM compare(?, ?, ?, ?, ?)",
            [statistic.name, before.start, before.end, newest.start, newest.end],
        )
        if percent_lower is None or percent_upper is None:
            return Change(before, lower, upper, None)
        return Change(before, lower, upper, (Decimal(str(percent_lower)), Decimal(str(percent_upper))))

    def _lead(self, statistic: Statistic, breakdown: Breakdown, total: Figure) -> Lead | None:
        """Return which symbol is the highest in the span of `total`, if it is drawn or among the margins."""
        if statistic.averaged:
            return None
        margins = self._ask(
            "SELECT symbol, shown, lower, upper FROM margins "
            "WHERE statistic = ? AND dimension = ? AND period_start = ? AND period_end = ?",
            [statistic.name, breakdown.dimension, total.start, total.end],
        )
        found = {
            symbol: Figure(total.start, total.end, shown, lower, upper, total.provisional)
            for symbol, shown, lower, upper in margins
        } or {
            each.symbol: figure
            for each in breakdown.series
            for figure in each.figures
            if (figure.start, figure.end) == (total.start, total.end)
        }
        if len(found) < 2:
            return None
        first, second, *_ = sorted(found, key=lambda symbol: (-found[symbol].shown, symbol))
        labels = [self._label(statistic.population, breakdown.dimension, symbol) for symbol in (first, second)]
        # Two intervals of 95 % that do not meet are wrong about their order at most once in 20: that often if another
        # table tells the sum of the two, so that one is too high by what the other is too low, and else far less often.
        leads = all(found[first].lower > figure.upper for symbol, figure in found.items() if symbol != first)
        share = None
        if leads:
            cells = f"{breakdown.dimension}={first}"
            ((lower, upper),) = self._ask(
                "SELECT share_lower, share_upper FROM share(?, ?, ?, ?)",
                [statistic.name, total.start, total.end, cells],
            )
            if lower is not None and upper is not None:
                share = Share(Decimal(str(lower)), Decimal(str(upper)))
        return Lead(breakdown.title, (labels[0], found[first]), labels[1], leads, share)


def leading(statistics: Sequence[Statistic]) -> list[Statistic]:
    """Return the table of each population that its headline is about, and each that gives averages.

    The tables of a population agree. The one with the most to say is the one with the finest period.
    """
    found: list[Statistic] = []
    for name in dict.fromkeys(each.population for each in statistics):
        tables = [each for each in statistics if each.population == name]
        counts = [each for each in tables if not each.averaged]
        if counts:
            found.append(min(counts, key=lambda each: (each.partial, list(Period).index(each.period))))
        found += [each for each in tables if each.averaged]
    return found


def _newest_whole(statistic: Statistic) -> tuple[Period, Figure | None, Figure] | None:
    """Return the longest period of which the newest figure can be compared with one before it, and both.

    Spans are compared if they hold as many periods of the table; without such a pair, the newest figure of the longest.
    """
    alone: tuple[Period, Figure | None, Figure] | None = None
    for period in reversed(Period):
        points = statistic.totals[period].points if period in statistic.totals else ()
        figures = [each for each in points if isinstance(each, Figure)]
        if not figures:
            continue
        newest = figures[-1]
        alone = alone or (period, None, newest)
        before = points[points.index(newest) - 1] if points.index(newest) else None
        if isinstance(before, Figure) and _length(statistic.period, before) == _length(statistic.period, newest):
            return period, before, newest
    return alone


def _year_before(statistic: Statistic, figure: Figure) -> Figure | None:
    """Return the figure of the same period a year before, of a week the one 52 weeks before, if they compare."""
    if statistic.period is Period.WEEK:
        start = figure.start - dt.timedelta(weeks=52)
    elif (figure.start.month, figure.start.day) == (2, 29):
        return None
    else:
        start = figure.start.replace(year=figure.start.year - 1)
    if statistic.yearly and statistic.began > dt.date(start.year, 1, 1):
        # In that year fewer had been counted by then. As many people would look like fewer.
        return None
    series = statistic.totals.get(statistic.period)
    figures = series.figures if series else []
    return next((each for each in figures if each.start == start and figure in figures), None)


def _length(period: Period, span: Figure) -> int:
    """Return how many periods the span holds."""
    day, count = span.start, 0
    while day <= span.end:
        day, count = period.next(day), count + 1
    return count
