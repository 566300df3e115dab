"""The volume that a plan assumes: how many contributions the tables of a population will count in a year."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from quietcount_aggregates.planning.margins import Figure, Over, accepted, counted_cells
from quietcount_aggregates.populations import Population
from quietcount_schemas.events.periods import Period

__all__ = ["IN_A_YEAR", "Volume"]

IN_A_YEAR: Final = {Period.DAY: 365, Period.WEEK: 365 / 7, Period.MONTH: 12, Period.QUARTER: 4, Period.YEAR: 1}
"""How many periods a year has."""


@dataclass(frozen=True, slots=True)
class Volume:
    """What the tables of a population count.

    `yearly` has the contributions of a year, by the table's name, and `averages` the average of what a table sums up.
    `cells` has, if they are known, how many cells of the table's releases hold how many contributions.
    """

    yearly: Mapping[str, float]
    averages: Mapping[str, float]
    cells: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @classmethod
    def evenly(cls, population: Population, contributions: float) -> Volume:
        """Return the volume of so many contributions a year, if they are spread evenly over all that is counted.

        An average is taken to lie halfway between the middle and the lower end.
        """
        return cls(
            {table.name: contributions * _share(population, table.name) for table in population.counts},
            {table.name: (3 * table.sum.low + table.sum.high) / 4 for table in population.sums if table.sum},
        )

    def size(self, population: Population, figure: Figure) -> float:
        """Return how large a figure is on average; of a table that sums up, how many are summed."""
        table = figure.table
        name = table.sum.count if table.sum else table.name
        apart = {Over.CELL: None, Over.SYMBOL: figure.dimension, Over.ALL: ""}[figure.over]
        return self.yearly[name] / IN_A_YEAR[figure.period] / counted_cells(population, table, apart)

    def below(self, table: str, margin: float) -> float | None:
        """Return which share of a table's cells is smaller than a margin, if the cells are known."""
        cells = self.cells.get(table)
        if not cells:
            return None
        return sum(number for size, number in cells.items() if size < margin) / sum(cells.values())


def _share(population: Population, name: str) -> float:
    """Return which share of what a population counts is counted by a table, if all cells hold as much."""
    table = next(each for each in population.counts if each.name == name)
    fields = {each.field.name: each.field for each in table.where}
    share = 1.0
    for each in fields.values():
        whole = accepted(each.symbols, each.name, population.where)
        share *= len(accepted(each.symbols, each.name, (*population.where, *table.where))) / len(whole)
    return share
