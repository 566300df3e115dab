"""The axes of a population: its dimensions, as its tables tell their symbols apart.

A `where` tells some symbols of a dimension from others: that of a table, or that of the population, whose other symbols
are never counted. Symbols that no `where` tells apart form one part: noise weighs the same on each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from quietcount_aggregates.populations import Dimension, Filter, Population, Table

__all__ = ["Axes", "Axis", "Layout"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension that a table breaks down by, or has a `where` on.

    `part_of` has the part of each symbol, counted from 0. `listed` says that a table breaks down by the dimension:
    the cells of one that no table does are its parts.
    """

    dimension: Dimension
    part_of: tuple[int, ...]
    listed: bool

    @property
    def parts(self) -> int:
        """Return how many parts there are."""
        return max(self.part_of) + 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return how many cells of the finest table each part has."""
        return tuple(self.part_of.count(part) if self.listed else 1 for part in range(self.parts))

    @property
    def cells(self) -> tuple[int, ...]:
        """Return the part of each cell of the finest table."""
        return self.part_of if self.listed else tuple(range(self.parts))


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table lies on the axes: for each, whether it breaks down by it, and which parts it counts.

    `order` has the places of the axes in the order of the table's own dimensions.
    """

    table: Table
    by: tuple[bool, ...]
    counted: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a population, in the order of their names, and how each of its tables lies on them."""

    axes: tuple[Axis, ...]
    layouts: tuple[Layout, ...]

    @classmethod
    def of(cls, population: Population) -> Axes:
        """Return the axes of a population."""
        tables = population.counts
        dimensions = {each.name: each for table in tables for each in table.by}
        listed = set(dimensions)
        dimensions |= {each.field.name: each.field for table in tables for each in table.where}
        axes = tuple(_axis(dimensions[name], population, name in listed) for name in sorted(dimensions))
        return cls(axes, tuple(_layout(population, table, axes) for table in tables))

    @property
    def cells(self) -> int:
        """Return how many cells the finest table would have that all tables are sums of."""
        return math.prod(len(axis.cells) for axis in self.axes)

    def weights(self, periods: int, releases: Sequence[int]) -> int:
        """Return how many weights the least squares have for a block of so many periods.

        `releases` says how many releases of each table lie in it.
        """
        total = 0
        for varying in self.components():
            unknowns, signals = periods, 0
            for axis, part in zip(self.axes, varying, strict=True):
                unknowns *= axis.parts if part is None else 1
            for layout, times in zip(self.layouts, releases, strict=True):
                own = 1
                for part, by, counted in zip(varying, layout.by, layout.counted, strict=True):
                    if part is None:
                        own *= len(counted) if by else 1
                    elif not (by and part in counted):
                        own = 0
                signals += times * own
            total += unknowns * signals
        return total

    def components(self) -> Iterator[tuple[int | None, ...]]:
        """Yield each choice of a part an axis, or of None: the parts in which a component varies from cell to cell.

        A part of one symbol does not vary. Tables see the components apart from each other: what one adds up to along
        an axis is None there, and how its cells differ within a part is in the component with that part.
        """
        varying = [
            [None, *(part for part, size in enumerate(axis.sizes) if size > 1)] if axis.listed else [None]
            for axis in self.axes
        ]
        yield from itertools.product(*varying)


def _axis(dimension: Dimension, population: Population, listed: bool) -> Axis:
    conditions = [population.where, *(table.where for table in population.counts)]
    kinds = [tuple(symbol in _accepted(dimension, filters) for filters in conditions) for symbol in dimension.symbols]
    order = list(dict.fromkeys(kinds))
    return Axis(dimension, tuple(order.index(kind) for kind in kinds), listed)


def _layout(population: Population, table: Table, axes: Sequence[Axis]) -> Layout:
    counted = []
    for axis in axes:
        accepted = _accepted(axis.dimension, (*population.where, *table.where))
        parts = {part for symbol, part in zip(axis.dimension.symbols, axis.part_of, strict=True) if symbol in accepted}
        counted.append(tuple(sorted(parts)))
    names = [axis.dimension.name for axis in axes]
    own = [dimension.name for dimension in table.by]
    return Layout(table, tuple(name in own for name in names), tuple(counted), tuple(names.index(name) for name in own))


def _accepted(dimension: Dimension, filters: Iterable[Filter]) -> set[str]:
    """Return the symbols of a dimension that all conditions on it accept."""
    accepted = set(dimension.symbols)
    for each in filters:
        if each.field.name == dimension.name:
            accepted &= set(each.accepted)
    return accepted
