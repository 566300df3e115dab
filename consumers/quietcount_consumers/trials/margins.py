"""Margins: which tables of a population are sums of another one's cells and periods, and those sums."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from quietcount_aggregates.populations import Population, Table

__all__ = ["Release", "cells_of", "margins", "summed"]

Release = tuple[str, dt.date]
"""A table's name, and the first day of a period of it."""


def cells_of(table: Table) -> list[tuple[str, ...]]:
    """Return the symbols of each cell of a table, in the order of a release."""
    return list(itertools.product(*(dimension.symbols for dimension in table.by)))


def margins(population: Population) -> list[tuple[Table, Table]]:
    """Return each table with another one whose sums it is: of the same filter, by fewer fields or coarser."""
    return [
        (coarse, fine)
        for coarse, fine in itertools.permutations(population.tables, 2)
        if coarse.where == fine.where
        and coarse.sum == fine.sum
        and {each.name for each in coarse.by} <= {each.name for each in fine.by}
        and coarse.period.is_made_of(fine.period)
    ]


def summed(coarse: Table, fine: Table, released: Mapping[Release, Sequence[int]]) -> dict[Release, tuple[int, ...]]:
    """Return the releases of `coarse` as sums of those of `fine`, for each period of which `fine` has every part."""
    names = [each.name for each in fine.by]
    kept = [names.index(each.name) for each in coarse.by]
    parts: dict[dt.date, Counter[tuple[str, ...]]] = defaultdict(Counter)
    ends: dict[dt.date, tuple[dt.date, dt.date]] = {}
    for (name, start), values in sorted(released.items()):
        if name != fine.name:
            continue
        whole, following = coarse.period.start(start), fine.period.next(start)
        ends[whole] = ends.get(whole, (start, following))[0], following
        for cell, value in zip(cells_of(fine), values, strict=True):
            parts[whole][tuple(cell[place] for place in kept)] += value
    return {
        (coarse.name, whole): tuple(parts[whole][cell] for cell in cells_of(coarse))
        for whole, reach in ends.items()
        if reach == (whole, coarse.period.next(whole))
    }
