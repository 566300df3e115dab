"""How the draws of a block weigh in its estimates: least squares, component by component.

A table's cells are split along each axis into totals of parts and what the cells of a part differ by. Noise that is
independent and of one size in each cell stays so in each component, so that each is a small problem of its own (the
decomposition is that of an analysis of variance; Barak et al. 2007 and Xiao et al. 2023 use it for marginals). In time,
tables of coarser periods see sums (Hay, Rastogi, Miklau and Suciu, 2010). All of it follows from the forms of the
tables and their noise, and nothing from what was drawn.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from quietcount_aggregates.axes import Axes, Layout
from quietcount_aggregates.reconciliation.least_squares import Floats, fit

__all__ = ["Component", "Groups", "Selection", "Shape", "Signal", "Solution"]

Parts = tuple[int | None, ...]
"""A part for each axis; None for an axis that does not matter."""

Groups = Counter[tuple[float, float]]
"""How many independent draws have a weight and a noise scale: (weight, scale) -> draws."""

_DIGITS = 12
"""To how many decimals weights are told apart: their rounding errors are some thousand times smaller."""


class Shape(NamedTuple):
    """The form of a block: how many periods of the population it has, and which of them each released period spans.

    `spans` has, for each table of the population, the places (first, behind the last) of its released periods.
    """

    periods: int
    spans: tuple[tuple[tuple[int, int], ...], ...]


class Signal(NamedTuple):
    """What one released period of a table says of a component: a total of parts, or how the cells of parts differ."""

    table: int
    node: int
    parts: Parts


class Selection(NamedTuple):
    """How many symbols of each part of each axis are selected; only a table's counted symbols can be."""

    chosen: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Component:
    """A component: along each axis, the part within which it varies, or None for totals of the parts.

    `weights` takes the signals to the unknowns: for each period of the population, first to last, each of `responses`.
    """

    varying: Parts
    responses: tuple[Parts, ...]
    signals: tuple[Signal, ...]
    weights: Floats


class Solution:
    """The least-squares solution for all blocks of one shape."""

    def __init__(self, axes: Axes, variances: Sequence[float], scales: Sequence[float], shape: Shape) -> None:
        """Prepare the solution; `variances` and `scales` are those of one draw of each table."""
        self.axes = axes
        self.shape = shape
        self._variances = variances
        self._scales = scales

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Return the components that any table sees."""
        found = (self._component(varying) for varying in self.axes.components())
        return tuple(component for component in found if component is not None)

    def _component(self, varying: Parts) -> Component | None:
        parts = [
            [None] if part is not None else range(a.parts) for part, a in zip(varying, self.axes.axes, strict=True)
        ]
        responses: list[Parts] = list(itertools.product(*parts))
        signals = tuple(self._signals(varying))
        if not signals:
            return None
        design = np.zeros((len(signals), self.shape.periods, len(responses)), dtype=np.int64)
        variances = np.zeros(len(signals))
        for place, signal in enumerate(signals):
            layout = self.axes.layouts[signal.table]
            first, behind = self.shape.spans[signal.table][signal.node]
            seen = [_sees(layout, signal.parts, response) for response in responses]
            design[place, first:behind] = seen
            variances[place] = self._variances[signal.table] * self._terms(varying, signal)
        return Component(varying, tuple(responses), signals, fit(design.reshape(len(signals), -1), variances))

    def _signals(self, varying: Parts) -> Iterator[Signal]:
        for table, layout in enumerate(self.axes.layouts):
            axes = list(zip(varying, layout.by, layout.counted, strict=True))
            if not all(part is None or (by and part in counted) for part, by, counted in axes):
                continue
            parts = [[part] if part is not None else counted if by else [None] for part, by, counted in axes]
            for node in range(len(self.shape.spans[table])):
                for each in itertools.product(*parts):
                    yield Signal(table, node, each)

    def _terms(self, varying: Parts, signal: Signal) -> int:
        """Return how many draws a signal's totals add up."""
        return math.prod(
            axis.sizes[part]
            for axis, varies, part in zip(self.axes.axes, varying, signal.parts, strict=True)
            if varies is None and part is not None
        )

    def noise(self, selection: Selection, first: int, behind: int) -> Groups:
        """Return which draws weigh how much in the sum over a selection and the periods from `first` to `behind`."""
        shares = [
            [chosen / size for chosen, size in zip(chosen, self._sizes(axis), strict=True)]
            for axis, chosen in enumerate(selection.chosen)
        ]
        gains: list[tuple[Component, dict[Signal, float]]] = []
        for component in self.components:
            # A part of which all or nothing is selected adds nothing to what varies in it.
            if any(part is not None and shares[axis][part] in (0, 1) for axis, part in enumerate(component.varying)):
                continue
            gain = np.zeros(len(component.signals))
            unknowns = itertools.product(range(self.shape.periods), component.responses)
            for (period, response), weights in zip(unknowns, component.weights, strict=True):
                if first <= period < behind:
                    share = math.prod(shares[axis][part] for axis, part in enumerate(response) if part is not None)
                    gain += share * weights
            gains.append((component, dict(zip(component.signals, gain.tolist(), strict=True))))
        groups: Groups = Counter()
        for table, layout in enumerate(self.axes.layouts):
            for parts, inside, draws in self._classes(layout, selection):
                for node in range(len(self.shape.spans[table])):
                    weight = 0.0
                    for component, gain_of in gains:
                        factor, seen = _factor(component.varying, parts, inside, shares)
                        if factor:
                            weight += factor * gain_of.get(Signal(table, node, seen), 0.0)
                    if weight := abs(round(weight, _DIGITS)):
                        groups[weight, self._scales[table]] += draws
        return groups

    def _sizes(self, axis: int) -> tuple[int, ...]:
        """Return how many symbols each part of an axis has, also of one that no table breaks down by."""
        part_of = self.axes.axes[axis].part_of
        return tuple(part_of.count(part) for part in range(self.axes.axes[axis].parts))

    def _classes(self, layout: Layout, selection: Selection) -> Iterator[tuple[Parts, tuple[bool, ...], int]]:
        """Yield the kinds of cells of a table: their parts, whether they are selected along each axis, and how many."""
        kinds: list[list[tuple[int | None, bool, int]]] = []
        for axis, (by, counted) in enumerate(zip(layout.by, layout.counted, strict=True)):
            if not by:
                kinds.append([(None, True, 1)])
                continue
            kinds.append([])
            for part in counted:
                chosen, size = selection.chosen[axis][part], self._sizes(axis)[part]
                kinds[-1] += [(part, inside, n) for inside, n in ((True, chosen), (False, size - chosen)) if n]
        for kind in itertools.product(*kinds):
            yield tuple(k[0] for k in kind), tuple(k[1] for k in kind), math.prod(k[2] for k in kind)


def _sees(layout: Layout, parts: Parts, response: Parts) -> bool:
    """Return whether a total that a table tells has a response in it."""
    return all(
        part is None or (part in counted if own is None else part == own)
        for own, part, counted in zip(parts, response, layout.counted, strict=True)
    )


def _factor(
    varying: Parts, parts: Parts, inside: Sequence[bool], shares: Sequence[Sequence[float]]
) -> tuple[float, Parts]:
    """Return how a cell of these parts weighs in a component, and the parts by which its signal is found."""
    factor = 1.0
    for axis, varies in enumerate(varying):
        if varies is not None:
            if parts[axis] != varies:
                return 0.0, parts
            factor *= inside[axis] - shares[axis][varies]
    return factor, parts
