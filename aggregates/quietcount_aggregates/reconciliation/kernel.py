"""The kernel: the least-squares weights as rows, from which SQL finds the noise of any sum of figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from quietcount_aggregates.axes import Axes
from quietcount_aggregates.noise import variance
from quietcount_aggregates.reconciliation.figures import Reconciliation
from quietcount_aggregates.reconciliation.solution import Parts, Shape

__all__ = ["Rows", "alike", "kernel_rows"]

Rows = list[tuple[object, ...]]


def kernel_rows(reconciliation: Reconciliation) -> dict[str, Rows]:
    """Return the rows of each table noise_* of the public file, without the population's name; see projection.sql."""
    axes, solutions = reconciliation.axes, reconciliation.solutions
    shapes = {shape: number for number, shape in enumerate(solutions, 1)}
    tables = [layout.table.name for layout in axes.layouts]
    period = reconciliation.population.period
    # What varies within a part has a number of its own; a total of parts is told by its parts.
    responses: dict[tuple[Parts, Parts], int] = {}
    signals: dict[tuple[Parts, Parts], int] = {}
    weights: Rows = []
    for shape, solution in solutions.items():
        for component in solution.components:
            unknowns = itertools.product(range(shape.periods), component.responses)
            for (place, parts), row in zip(unknowns, component.weights.tolist(), strict=True):
                response = responses.setdefault((component.varying, parts), len(responses) + 1)
                for signal, weight in zip(component.signals, row, strict=True):
                    told = signals.setdefault((component.varying, signal.parts), len(signals) + 1)
                    if weight:
                        weights.append(
                            (shapes[shape], place, response, tables[signal.table], signal.node, told, weight)
                        )
    return {
        "noise_symbols": list(_symbols(axes)),
        "noise_periods": [
            (day, period.end(day), number, shapes[block.shape], place, alike(block.shape, place))
            for number, block in enumerate(reconciliation.blocks, 1)
            for place, day in enumerate(block.periods)
        ],
        "noise_scales": [
            (name, scale, variance(scale))
            for name, scale in zip(tables, reconciliation.scales, strict=True)
            if scale is not None
        ],
        "noise_responses": [
            (number, axis.dimension.name, part + 1)
            for (_, parts), number in responses.items()
            for axis, part in zip(axes.axes, parts, strict=True)
            if part is not None
        ],
        "noise_signals": [
            (number, axis.dimension.name, part + 1, varies is not None)
            for (varying, parts), number in signals.items()
            for axis, part, varies in zip(axes.axes, parts, varying, strict=True)
            if part is not None
        ],
        "noise_weights": weights,
    }


def alike(shape: Shape, place: int) -> int:
    """Return the first place in a block that the same longer releases span: what weighs is the same for both."""

    def spanning(at: int) -> list[tuple[int, int, int]]:
        return [
            (table, first, behind)
            for table, spans in enumerate(shape.spans)
            for first, behind in spans
            if first <= at < behind and behind - first > 1
        ]

    return next(at for at in range(place + 1) if spanning(at) == spanning(place))


def _symbols(axes: Axes) -> Iterator[tuple[object, ...]]:
    for layout in axes.layouts:
        own = [dimension.name for dimension in layout.table.by]
        for axis, counted in zip(axes.axes, layout.counted, strict=True):
            name = axis.dimension.name
            place = own.index(name) + 1 if name in own else 0
            for symbol, part in zip(axis.dimension.symbols, axis.part_of, strict=True):
                yield layout.table.name, name, place, symbol, part + 1, part in counted
