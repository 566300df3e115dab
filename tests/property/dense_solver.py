"""Reconciliation by the book: one row an observation, one column a finest cell, and a solver for any matrix.

It shares no code with the product: cells are matched by their symbols, one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quietcount_aggregates.populations import Population

__all__ = ["Spans", "dense_weights", "observed"]

Floats = npt.NDArray[np.float64]
Spans = Sequence[Sequence[tuple[int, int]]]
"""For each table, the periods of the population that each of its releases spans: first, and one behind the last."""


def observed(population: Population, periods: int, spans: Spans) -> Floats:
    """Return what each released cell counts: cells (by table, release and place in the domain) x finest cells."""
    dimensions = {each.name: each for table in population.tables for each in table.by}
    dimensions |= {each.field.name: each.field for table in population.tables for each in table.where}
    dimensions |= {each.field.name: each.field for each in population.where}
    finest = [
        dict(zip(dimensions, symbols, strict=True))
        for symbols in itertools.product(*(each.symbols for each in dimensions.values()))
    ]
    rows = []
    for table, own in zip(population.tables, spans, strict=True):
        conditions: dict[str, set[str]] = {}
        for each in (*population.where, *table.where):
            conditions[each.field.name] = conditions.get(each.field.name, set(each.accepted)) & set(each.accepted)
        for first, behind in own:
            for symbols in itertools.product(*(each.symbols for each in table.by)):
                cell = dict(zip((each.name for each in table.by), symbols, strict=True))
                counted = [
                    all(each[name] == symbol for name, symbol in cell.items())
                    and all(each[name] in accepted for name, accepted in conditions.items())
                    for each in finest
                ]
                row = np.zeros((periods, len(finest)))
                row[first:behind] = counted
                rows.append(row.reshape(-1))
    return np.array(rows)


def dense_weights(design: Floats, variances: Floats) -> Floats:
    """Return how each observation weighs in each estimate, by the inverse of Moore and Penrose."""
    precision = 1 / np.sqrt(variances)
    weights: Floats = design @ np.linalg.pinv(design * precision[:, None], rcond=1e-10) * precision
    return weights
