"""Estimates: the draws of a block, reconciled and rounded so that they add up exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from quietcount_aggregates.axes import Axes, Layout
from quietcount_aggregates.reconciliation.least_squares import Floats, Integers
from quietcount_aggregates.reconciliation.solution import Component, Solution

__all__ = ["MILLION", "estimate"]

MILLION: Final = 1_000_000
"""Estimates are whole numbers of millionths."""


def estimate(solution: Solution, draws: Sequence[Sequence[Integers]]) -> list[list[Integers]]:
    """Return the estimate of each cell in millionths, in the order and form of `draws`.

    `draws` has, for each table, the values of each released period (one a cell, in the order of its domain). They are
    rounded once, in the finest cells that all tables are sums of: so margins equal sums of cells, and quarters sums of
    months, to the last digit. Draws that nothing else can be held against stay as they are, but for the cells that a
    table's `where` excludes: these are 0.
    """
    axes, shape = solution.axes, solution.shape
    laid = [[_laid(axes, layout, values) for values in own] for layout, own in zip(axes.layouts, draws, strict=True)]
    if sum(map(len, laid)) == 1:
        layout, values = next((of, own[0]) for of, own in zip(axes.layouts, laid, strict=True) if own)
        alone = _told(axes, layout, MILLION * values)
        return [[alone] if own else [] for own in laid]
    finest = _finest(solution, laid)
    return [
        [_told(axes, layout, _sums(axes, layout, finest[first:behind])) for first, behind in spans]
        for layout, spans in zip(axes.layouts, shape.spans, strict=True)
    ]


def _laid(axes: Axes, layout: Layout, values: Integers) -> Integers:
    """Return a table's values with one axis for each of `axes`: of length 1 if it does not break down by it."""
    own = values.reshape([len(dimension.symbols) for dimension in layout.table.by])
    moved = own.transpose(np.argsort(layout.order)) if layout.order else own
    return moved.reshape([len(a.cells) if by else 1 for a, by in zip(axes.axes, layout.by, strict=True)])


def _told(axes: Axes, layout: Layout, laid: Integers) -> Integers:
    """Return values with one axis for each of `axes` as a table has them; what it does not count is 0."""
    kept = laid.copy()
    for place, (axis, by, counted) in enumerate(zip(axes.axes, layout.by, layout.counted, strict=True)):
        if by:
            others = [cell for cell, part in enumerate(axis.cells) if part not in counted]
            kept[(slice(None),) * place + (others,)] = 0
    own = kept.reshape([length for length, by in zip(kept.shape, layout.by, strict=True) if by])
    ordered = sorted(layout.order)
    return own.transpose([ordered.index(place) for place in layout.order]).reshape(-1)


def _sums(axes: Axes, layout: Layout, finest: Integers) -> Integers:
    """Add up the finest cells of some periods to the cells of a table."""
    total = finest.sum(axis=0)
    for place, (axis, by, counted) in enumerate(zip(axes.axes, layout.by, layout.counted, strict=True)):
        if not by:
            inside = [part in counted for part in axis.cells]
            total = total.compress(inside, axis=place).sum(axis=place, keepdims=True)
    return np.asarray(total, dtype=np.int64)


def _finest(solution: Solution, laid: Sequence[Sequence[Integers]]) -> Integers:
    """Return the finest cells of each period of the population in millionths."""
    axes = solution.axes
    finest = np.zeros((solution.shape.periods, *(len(axis.cells) for axis in axes.axes)))
    for component in solution.components:
        unknowns = _unknowns(axes, component, laid)
        # From totals of parts and differences within them to cells: a total is spread evenly over its part.
        cells = [np.arange(solution.shape.periods)]
        for place, (axis, part) in enumerate(zip(axes.axes, component.varying, strict=True), 1):
            if part is None:
                sizes = np.array(axis.sizes, dtype=np.float64).reshape([-1] + [1] * (unknowns.ndim - place - 1))
                unknowns = (unknowns / sizes).take(axis.cells, axis=place)
                cells.append(np.arange(len(axis.cells)))
            else:
                cells.append(np.flatnonzero(np.array(axis.cells) == part))
        finest[np.ix_(*cells)] += unknowns
    return np.rint(finest * MILLION).astype(np.int64)


def _unknowns(axes: Axes, component: Component, laid: Sequence[Sequence[Integers]]) -> Floats:
    """Return the solution of a component: periods x, for each axis, its parts or the cells of the part that varies."""
    varying = component.varying
    lengths = [1 if part is None else axis.sizes[part] for axis, part in zip(axes.axes, varying, strict=True)]
    solved = np.zeros((len(component.weights), *lengths))
    scaled = math.prod(lengths)
    for signal, column in zip(component.signals, component.weights.T, strict=True):
        values = laid[signal.table][signal.node]
        for place, (axis, part) in enumerate(zip(axes.axes, signal.parts, strict=True)):
            if part is not None:
                values = values.compress([each == part for each in axis.cells], axis=place)
                # Still whole numbers, whose sums are exact in any order.
                total = values.sum(axis=place, keepdims=True)
                values = total if varying[place] is None else lengths[place] * values - total
        solved += column.reshape([-1] + [1] * len(lengths)) * (values / scaled)
    responses = [axis.parts if part is None else 1 for axis, part in zip(axes.axes, varying, strict=True)]
    periods = len(component.weights) // math.prod(responses)
    shaped = solved.reshape([periods, *responses, *lengths])
    # Each axis is in one of the two: its parts in front, or its cells behind.
    paired = np.moveaxis(
        shaped, range(1, 2 * len(lengths) + 1), [*range(1, 2 * len(lengths), 2), *range(2, 2 * len(lengths) + 1, 2)]
    )
    return paired.reshape([periods, *(r * n for r, n in zip(responses, lengths, strict=True))])
