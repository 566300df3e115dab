"""Averages: the released sums of a number, over the counts of the table that they name.

A released sum S is that of values less their middle; its noise is independent of that of the count N, which all
counting tables of the population tell together. If the true average lies t from the middle, S - t N is nothing but
noise: that of S, and t times that of N. So the interval of the average has every t for which S - t N lies within its
noise (E. C. Fieller, 1954; here with the exact distribution of that noise, which grows with t).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from quietcount_aggregates.axes import Layout
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.noise import CONFIDENCE
from quietcount_aggregates.populations import ALL, Sum, Table
from quietcount_aggregates.reconciliation.estimates import MILLION
from quietcount_aggregates.reconciliation.figures import (
    CellFigures,
    Reconciliation,
    kinds_of,
    quantile_of,
    rounded,
    whole_periods,
)
from quietcount_aggregates.reconciliation.least_squares import Floats, Integers
from quietcount_aggregates.reconciliation.solution import Groups
from quietcount_schemas.events.periods import Period

__all__ = ["STRICT", "AverageFigures", "Ratio", "averages"]

STRICT: Final = 1 - (1 - CONFIDENCE) / 20
"""An average is told only if the count is above 0 at this level; up to twice that, its interval is of this level too.
Shares do the same: ratios.sql says why. So is an interval that the noise of the sum may fill from end to end."""

_STEPS: Final = 16
"""The size of t is rounded up to so many steps, of half the distance between the two ends."""

_TURNS: Final = 3
"""How often an interval is made narrower by the t that are left in it."""

Told = npt.NDArray[np.bool_]


class Intervals(NamedTuple):
    """Of each cell: how far the average lies from the middle, the ends of its interval, and whether it is told."""

    middle: Floats
    lower: Floats
    upper: Floats
    told: Told


@dataclass(frozen=True, slots=True)
class AverageFigures:
    """Sums and averages of a table over periods: one row a period, one column a cell.

    `cells` are the keys of the columns. `noisy` are the draws, if these are the released cells. The other figures are
    in millionths; where not `told`, nobody can tell the average.
    """

    table: Table
    period: Period
    starts: tuple[dt.date, ...]
    cells: tuple[str, ...]
    noisy: Integers | None
    sums: Integers
    around: Integers
    averages: Integers
    lower: Integers
    upper: Integers
    told: Told


class Ratio:
    """The average of cells whose noise has one form.

    `groups` are the draws in the count, and the sum has `draws` of `scale`. `rounding` is by how much the count is
    rounded at most.
    """

    def __init__(self, asked: Sum, groups: Groups, scale: float, draws: int, rounding: float) -> None:
        self._asked = asked
        self._groups = groups
        self._drawn: Groups = Counter({(1.0, scale): draws})
        self._rounding = rounding
        self._margins: dict[tuple[float, float], float] = {}

    def margin(self, size: float, confidence: float = CONFIDENCE) -> float:
        """Return how far S - t N lies from 0 at most, for t of this size."""
        key = size, confidence
        if key not in self._margins:
            groups = self._drawn + Counter({(weight * size, scale): n for (weight, scale), n in self._groups.items()})
            self._margins[key] = quantile_of(groups, confidence) + size * self._rounding
        return self._margins[key]

    def intervals(self, sums: Floats, counts: Floats) -> Intervals:
        """Return the intervals of averages, from the sums and the counts of cells."""
        reach = float(self._asked.reach)
        least = quantile_of(self._groups, STRICT) + self._rounding
        told = counts > least
        # Under noise as large as the whole range, too: only a sum that was drawn far out makes a narrower interval.
        strict = (counts <= 2 * least) | (reach * counts <= self._step(_STEPS, strict=False))
        divisor = np.where(told, counts, 1.0)
        steps = np.full(len(sums), _STEPS, dtype=np.int64)
        lower, upper = np.full(len(sums), -reach), np.full(len(sums), reach)
        for _ in range(_TURNS):
            # A table may have 100,000 cells, and there are few margins.
            kinds, kind_of = np.unique(2 * steps + strict, return_inverse=True)
            margins = np.array([self._step(kind // 2, bool(kind % 2)) for kind in kinds.tolist()])[kind_of]
            lower = np.clip((sums - margins) / divisor, -reach, reach)
            upper = np.clip((sums + margins) / divisor, -reach, reach)
            farthest = np.maximum(np.abs(lower), np.abs(upper)) / reach
            steps = np.minimum(steps, np.maximum(np.ceil(farthest * _STEPS), 1).astype(np.int64))
        # An interval without width: the sum is larger than any values of so many could make it.
        told = told & (lower < upper) & (upper - lower < 2 * reach)
        lower, upper = np.where(told, lower, -reach), np.where(told, upper, reach)
        return Intervals(np.clip(sums / divisor, -reach, reach), lower, upper, told)

    def _step(self, step: int, strict: bool) -> float:
        """Return the margin for all t up to a step: a sum of few small draws can have a larger one at a smaller t."""
        confidence = STRICT if strict else CONFIDENCE
        return max(self.margin(self._asked.reach * each / _STEPS, confidence) for each in (step, step - 1))


def averages(
    reconciliation: Reconciliation, counts: CellFigures, table: Table, releases: Sequence[Released]
) -> Iterator[AverageFigures]:
    """Yield the averages of a table: of its cells and of its total, by its own and each longer period.

    `counts` are the figures of the table that counts, and `releases` those of `table`. A period of which the counts are
    not all released is left out.
    """
    if table.sum is None or not releases:
        return
    ordered = sorted(releases, key=lambda body: body.period_start)
    starts = [body.period_start for body in ordered]
    drawn = np.array([body.values for body in ordered], dtype=np.int64)
    own = tuple(dimension.name for dimension in table.by)
    for period in (each for each in Period if each.is_made_of(table.period)):
        whole = whole_periods(table.period, period, starts)
        for apart in dict.fromkeys((own, ())):
            summing = _Summing(reconciliation, counts, table, table.sum, apart, ordered[0].noise_scale)
            found = {start: summing.row(start, period, drawn[places], len(places)) for start, places in whole.items()}
            rows = {start: row for start, row in found.items() if row is not None}
            if rows:
                columns = [np.stack(column) for column in zip(*rows.values(), strict=True)]
                yield AverageFigures(
                    table,
                    period,
                    tuple(rows),
                    tuple(table.domain) if apart else (ALL,),
                    drawn[[starts.index(start) for start in rows]] if apart == own and period is table.period else None,
                    *columns,
                )


class _Row(NamedTuple):
    """The figures of one period, in the order of AverageFigures."""

    sums: Integers
    around: Integers
    averages: Integers
    lower: Integers
    upper: Integers
    told: Told


class _Summing:
    """Sums a table up over everything but the dimensions named in `apart`."""

    def __init__(
        self,
        reconciliation: Reconciliation,
        counts: CellFigures,
        table: Table,
        asked: Sum,
        apart: tuple[str, ...],
        scale: float,
    ) -> None:
        self._reconciliation = reconciliation
        self._counts = counts
        self._table = table
        self._asked = asked
        self._scale = scale
        layout = next(each for each in reconciliation.axes.layouts if each.table is counts.table)
        self._kinds, self._kind_of = kinds_of(reconciliation.axes, layout, apart)
        self._others = tuple(
            1 + place for place, dimension in enumerate(counts.table.by) if dimension.name not in apart
        )
        self._shape = [len(dimension.symbols) for dimension in counts.table.by]
        # A cell that a condition excludes holds nothing but noise: its sum is 0, as its count is.
        holding = _holding(reconciliation, layout, tuple(dimension.name for dimension in table.by))
        self._holding = holding if apart or not table.by else holding[:, None]
        self._draws = 1 if apart or not table.by else int(holding.sum())
        self._ratios: dict[tuple[frozenset[tuple[tuple[float, float], int]], int, int], Ratio] = {}

    def row(self, start: dt.date, period: Period, drawn: Integers, releases: int) -> _Row | None:
        """Return the figures of a period, from the draws of its releases; None if not all of it is counted."""
        counted = self._counted(start, period)
        if counted is None:
            return None
        sums = drawn.sum(axis=0) @ self._holding if self._holding.ndim == 2 else drawn.sum(axis=0) * self._holding
        spans = list(self._reconciliation.spans(start, period.end(start)))
        kind_of = np.array(self._kind_of)
        middle = self._asked.middle
        around, average, lower, upper = np.zeros((4, len(sums)), dtype=np.int64)
        found = _Row(
            MILLION * sums + middle * counted, around, average, lower, upper, np.zeros(len(sums), dtype=np.bool_)
        )
        for kind, selection in enumerate(self._kinds):
            cells = np.flatnonzero(kind_of == kind)
            groups = self._reconciliation.noise(spans, selection)
            ratio = self._ratio(groups, releases * self._draws, rounded(spans, selection))
            found.around[cells] = -int(-ratio.margin(abs(middle)) * MILLION // 1)
            intervals = ratio.intervals(sums[cells].astype(np.float64), counted[cells] / MILLION)
            found.averages[cells] = MILLION * middle + np.rint(MILLION * intervals.middle).astype(np.int64)
            found.lower[cells] = MILLION * middle + np.floor(MILLION * intervals.lower).astype(np.int64)
            found.upper[cells] = MILLION * middle + np.ceil(MILLION * intervals.upper).astype(np.int64)
            found.told[cells] = intervals.told
        if self._holding.ndim == 1:
            found.around[:] *= self._holding
        return found

    def _counted(self, start: dt.date, period: Period) -> Integers | None:
        """Return the estimated counts, in millionths, if those of the whole period are released."""
        table = self._counts.table
        days = [self._reconciliation.releases[place].period_start for place in self._counts.places]
        row_of = {day: row for row, day in enumerate(days)}
        wanted, day = [], start
        while day <= period.end(start):
            wanted.append(row_of.get(day))
            day = table.period.next(day)
        rows = [row for row in wanted if row is not None]
        if len(rows) < len(wanted):
            return None
        shaped = self._counts.estimates[rows].sum(axis=0).reshape([1, *self._shape])
        summed: Integers = shaped.sum(axis=self._others).reshape(-1)
        return summed

    def _ratio(self, groups: Groups, draws: int, rounding: int) -> Ratio:
        key = frozenset(groups.items()), draws, rounding
        if key not in self._ratios:
            self._ratios[key] = Ratio(self._asked, groups, self._scale, draws, rounding / MILLION)
        return self._ratios[key]


def _holding(reconciliation: Reconciliation, layout: Layout, own: tuple[str, ...]) -> Integers:
    """Return for each cell of these dimensions 1, or 0 if a condition excludes it."""
    kinds, kind_of = kinds_of(reconciliation.axes, layout, own)
    holds = [int(all(sum(chosen) for chosen in selection.chosen)) for selection in kinds]
    return np.array([holds[kind] for kind in kind_of], dtype=np.int64)
