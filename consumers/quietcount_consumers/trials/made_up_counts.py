"""Made-up contributions: the true counts of an audit's publications, from none to hundreds a period, known exactly.

No event and no person stands behind them. All tables of a population count the same contributions, as the tables of a
real one do, so their true values agree.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quietcount_aggregates.populations import Dimension, Filter, Population, Table
from quietcount_schemas.events.periods import Period

__all__ = ["MadeUp"]

_Integers = npt.NDArray[np.int64]
_Truths = npt.NDArray[np.bool_]

_USUAL = (0, 3, 12, 50, 200, 800)
"""How many contributions a period has on average: one of these for each span of the coarsest period."""


@dataclass(frozen=True, slots=True)
class MadeUp:
    """The contributions of one population.

    `starts` are the first days of its periods, `ends` their last ones; `period` has the place of each contribution
    among them, `symbols` its symbol in each dimension (as a place among the dimension's symbols), and `numbers` the
    number it has in each field that a table sums up.
    """

    population: Population
    starts: tuple[dt.date, ...]
    ends: tuple[dt.date, ...]
    period: _Integers
    symbols: Mapping[str, _Integers]
    numbers: Mapping[str, _Integers]

    @classmethod
    def of(cls, population: Population, behind: dt.date, rng: np.random.Generator) -> MadeUp:
        """Make contributions up for each period of a population before the day `behind`."""
        starts = [population.first_day]
        while (following := population.period.next(starts[-1])) < behind:
            starts.append(following)
        coarsest = max((table.period for table in population.tables), key=list(Period).index)
        usual: dict[dt.date, int] = {}
        for start in starts:
            usual.setdefault(coarsest.start(start), int(rng.choice(_USUAL)))
        counts = rng.poisson([usual[coarsest.start(start)] for start in starts])
        period = np.repeat(np.arange(len(starts)), counts)
        filters = [*population.where, *(each for table in population.tables for each in table.where)]
        dimensions = {each.field.name: each.field for each in filters}
        dimensions |= {each.name: each for table in population.tables for each in table.by}
        symbols = {
            name: rng.choice(len(each.symbols), size=len(period), p=_chances(each, population, rng))
            for name, each in dimensions.items()
        }
        ends: dict[str, list[int]] = {}
        for table in population.sums:
            if table.sum is not None:
                ends.setdefault(table.sum.field, []).extend((table.sum.low, table.sum.high))
        numbers = {
            field: _numbers(dimensions.get(field), symbols.get(field), (min(of), max(of)), len(period), rng)
            for field, of in ends.items()
        }
        return cls(population, tuple(starts), tuple(map(population.period.end, starts)), period, symbols, numbers)

    def counted(self, table: Table) -> _Truths:
        """Return of each contribution whether the table counts it."""
        kept = np.ones(len(self.period), dtype=np.bool_)
        for each in (*self.population.where, *table.where):
            kept &= np.isin(self.symbols[each.field.name], _accepted(each))
        return kept

    def values(self, table: Table, *, middle: bool = False) -> _Integers:
        """Return the exact values of a table: periods of the population x cells, in the order of its domain.

        A table that sums has the sums of its numbers less their middle, as it is released, or with it.
        """
        kept = self.counted(table)
        cells = np.zeros(int(kept.sum()), dtype=np.int64)
        for each in table.by:
            cells = cells * len(each.symbols) + self.symbols[each.name][kept]
        weights = None
        if table.sum is not None:
            asked = table.sum
            weights = np.clip(self.numbers[asked.field][kept], asked.low, asked.high) - (0 if middle else asked.middle)
        size = len(self.starts) * table.cells
        found = np.bincount(self.period[kept] * table.cells + cells, weights=weights, minlength=size)
        return np.rint(found).astype(np.int64).reshape(len(self.starts), table.cells)


def _accepted(each: Filter) -> list[int]:
    return [each.field.symbols.index(symbol) for symbol in each.accepted]


def _chances(dimension: Dimension, population: Population, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return uneven chances of the symbols: some are rare. What the population does not count does not come."""
    chances = rng.dirichlet([0.7] * len(dimension.symbols)) + 0.01
    for each in population.where:
        if each.field.name == dimension.name:
            kept = np.isin(np.arange(len(chances)), _accepted(each))
            chances = np.where(kept, chances, 0)
    return np.asarray(chances / chances.sum())


def _numbers(
    buckets: Dimension | None, symbols: _Integers | None, ends: tuple[int, int], size: int, rng: np.random.Generator
) -> _Integers:
    """Return numbers that lie in their buckets, or between the two ends if the field is no dimension."""
    if buckets is None or symbols is None or not buckets.bounds:
        low, high = ends
        return np.rint(low + (high - low) * rng.beta(0.7, 1.5, size)).astype(np.int64)
    bounds = np.array(buckets.bounds, dtype=np.int64)
    found: _Integers = rng.integers(bounds[symbols, 0], bounds[symbols, 1], endpoint=True)
    return found
