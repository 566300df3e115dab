"""The margins that a population's figures will have. They follow from the forms of its tables, and from no count.

Two years of releases are made up, whose values nobody looks at, and the code of publication says how far the noise of
each figure may lie from 0.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Final

from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.populations import Filter, Population, Table
from quietcount_aggregates.reconciliation.estimates import MILLION
from quietcount_aggregates.reconciliation.figures import Reconciliation
from quietcount_schemas.events.periods import Period

__all__ = [
    "Figure",
    "Margins",
    "Over",
    "accepted",
    "compared_period",
    "counted_cells",
    "counted_of",
    "figures_of",
    "made_up",
    "span_of",
]

_FIRST: Final = dt.date(2022, 1, 1)
_LAST: Final = dt.date(2023, 12, 31)
"""Two years without a leap day, so that both have one form."""
_AMID: Final = dt.date(2023, 8, 31)
"""In the second year, and in a month that is as long as the one before: days are compared over months of one length."""


class Over(StrEnum):
    """What a sum is over."""

    CELL = "cell"
    SYMBOL = "symbol"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that a table gives: one cell, one symbol of a dimension, or all cells, over a period."""

    table: Table
    over: Over
    period: Period
    dimension: str = ""
    """The dimension of a symbol."""

    @property
    def apart(self) -> tuple[str, ...]:
        """Return the dimensions by which it is told apart from others of its kind."""
        return tuple(each.name for each in self.table.by if self.over is Over.CELL or each.name == self.dimension)


class Margins:
    """The margins of a population's figures once all tables are released.

    The tables that are `silent` release nothing: what is asked of them is made of what the others say.
    """

    def __init__(self, population: Population, silent: Collection[str] = ()) -> None:
        self.population = population
        releases = [
            body for table in population.counts if table.name not in silent for body in made_up(population, table)
        ]
        self.reconciliation = Reconciliation(population, releases, [0] * len(releases))

    def of(self, figure: Figure) -> float:
        """Return the 95 % margin of a figure; of the widest one if the cells' margins differ."""
        around = self.reconciliation.around(figure.table.name, *span_of(figure.period), figure.apart)
        return max(around) / MILLION

    def alone(self, figure: Figure) -> float:
        """Return the margin of a figure if its table were the only one of the population."""
        return self._alone[figure.table.name].of(figure)

    @cached_property
    def _alone(self) -> dict[str, Margins]:
        return {
            table.name: Margins(replace(self.population, tables=(table,), period=table.period))
            for table in self.population.counts
        }


def made_up(population: Population, table: Table) -> Iterator[Released]:
    """Yield the releases of a table over the two years, with no values."""
    scale = table.sensitivity(population.max_contributions) / table.epsilon
    start = table.first_day(_FIRST)
    while (end := table.period.end(start)) <= _LAST:
        yield Released(population.name, table.name, b"", start, end, (), "", scale)
        start = table.period.next(start)


def span_of(period: Period, before: int = 0) -> tuple[dt.date, dt.date]:
    """Return the first and the last day of a made-up period that stands for all, or of one so many periods before."""
    start = period.start(_AMID)
    for _ in range(before):
        start = period.start(start - dt.timedelta(days=1))
    return start, period.end(start)


def figures_of(population: Population, table: Table) -> Iterator[Figure]:
    """Yield the figures by which a table is judged: by its own period and the longer ones."""
    longer = compared_period(table.period)
    many = counted_cells(population, table) > 1
    yield Figure(table, Over.CELL, table.period)
    if len(table.by) > 1:
        for dimension in table.by:
            yield Figure(table, Over.SYMBOL, table.period, dimension.name)
    if many:
        yield Figure(table, Over.ALL, table.period)
    if longer is not table.period:
        yield Figure(table, Over.CELL, longer)
        if many:
            yield Figure(table, Over.ALL, longer)
    if Period.YEAR not in (longer, table.period) and Period.YEAR.is_made_of(table.period):
        yield Figure(table, Over.ALL, Period.YEAR)


def compared_period(period: Period) -> Period:
    """Return the period over which a table is compared: what is next to its own, and made of it."""
    following = {Period.DAY: Period.MONTH, Period.MONTH: Period.QUARTER, Period.QUARTER: Period.YEAR}
    return following.get(period, period)


def counted_cells(population: Population, table: Table, dimension: str | None = None) -> int:
    """Return how many cells a table counts; with a `dimension`, how many symbols of it."""
    filters = (*population.where, *table.where)
    names = [dimension] if dimension is not None else [each.name for each in table.by]
    return math.prod(len(accepted(each.symbols, each.name, filters)) for each in table.by if each.name in names)


def accepted(symbols: Collection[str], name: str, filters: Collection[Filter]) -> list[str]:
    """Return the symbols of a dimension that all conditions on it accept."""
    return [s for s in symbols if all(s in each.accepted for each in filters if each.field.name == name)]


def counted_of(population: Population, table: Table) -> Iterator[bool]:
    """Yield of each cell of a table whether anything is counted in it."""
    filters = (*population.where, *table.where)
    inside = [set(accepted(each.symbols, each.name, filters)) for each in table.by]
    for symbols in itertools.product(*(each.symbols for each in table.by)):
        yield all(symbol in own for symbol, own in zip(symbols, inside, strict=True))
