"""The figures of a population: what is published of its releases, each with the margin of its noise.

Nothing here draws or counts: it is all computed from the releases in the ledger, and spends no budget.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from quietcount_aggregates.axes import Axes, Layout
from quietcount_aggregates.intervals import quantile
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.noise import CONFIDENCE, variance
from quietcount_aggregates.populations import Dimension, Population, Table
from quietcount_aggregates.reconciliation.blocks import Block, blocks_of
from quietcount_aggregates.reconciliation.estimates import MILLION, estimate
from quietcount_aggregates.reconciliation.least_squares import Integers
from quietcount_aggregates.reconciliation.solution import Groups, Selection, Shape, Solution
from quietcount_schemas.events.periods import Period

__all__ = [
    "CellFigures",
    "MarginFigures",
    "Reconciliation",
    "Span",
    "kinds_of",
    "quantile_of",
    "rounded",
    "whole_periods",
]

_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CellFigures:
    """The cells of a table: one row a released period, one column a cell, in the order of the table's domain.

    `places` are those of the releases. `estimates`, `first` (as it was when the release was published) and `around`
    (the margin of the noise) are in millionths.
    """

    table: Table
    places: tuple[int, ...]
    noisy: Integers
    estimates: Integers
    first: Integers
    around: Integers


@dataclass(frozen=True, slots=True)
class MarginFigures:
    """Sums of a table's cells over a period: of all of them (`dimension` is None), or for each symbol of a dimension.

    `spans` are the first days of the sums, as rows; the symbols are the columns. In millionths.
    """

    table: Table
    dimension: Dimension | None
    period: Period
    starts: tuple[dt.date, ...]
    estimates: Integers
    around: Integers


class Span(NamedTuple):
    """Some periods of a block, by their places: from `first` to the one before `behind`."""

    shape: Shape
    first: int
    behind: int


class Reconciliation:
    """All released tables of a population, made to agree.

    `releases` are its releases in the order of the ledger; `settlements` says of each with which settlement it was
    published. Raises nothing: a chain that was verified has only releases of whole periods.
    """

    def __init__(self, population: Population, releases: Sequence[Released], settlements: Sequence[int]) -> None:
        self.population = population
        self.axes = Axes.of(population)
        self.blocks = blocks_of(population, releases)
        self.releases = releases
        self._settlements = settlements
        scales = {body.statistic: body.noise_scale for body in releases}
        self.scales = [scales.get(table.name) for table in population.counts]
        """The noise scale of each table; None before its first release."""
        self._solutions: dict[Shape, Solution] = {}
        self._quantiles: dict[frozenset[tuple[tuple[float, float], int]], int] = {}
        self._noise: dict[tuple[Selection, Span], Groups] = {}

    @property
    def solutions(self) -> dict[Shape, Solution]:
        """Return the solution for the shape of each block."""
        return {block.shape: self._solution(block.shape) for block in self.blocks}

    def _solution(self, shape: Shape) -> Solution:
        if shape not in self._solutions:
            scales = [scale or 1.0 for scale in self.scales]  # what is not released has no signal
            self._solutions[shape] = Solution(self.axes, [variance(scale) for scale in scales], scales, shape)
        return self._solutions[shape]

    def _values(self, place: int) -> Integers:
        return np.array(self.releases[place].values, dtype=np.int64)

    def _estimated(self, block: Block) -> dict[int, Integers]:
        """Return the estimates of each release of a block, by its place."""
        draws = [[self._values(place) for place in own] for own in block.released]
        found = estimate(self._solution(block.shape), draws)
        return dict(zip(itertools.chain(*block.released), itertools.chain(*found), strict=True))

    def _first(self, block: Block) -> dict[int, Integers]:
        """Return how the releases of a block were published at first, without those that a later one did not revise."""
        inside = list(itertools.chain(*block.released))
        when = {place: self._settlements[place] for place in inside}
        found: dict[int, Integers] = {}
        for settlement in sorted(set(when.values()))[:-1]:
            known = [place for place in inside if when[place] <= settlement]
            for part in blocks_of(self.population, [self.releases[place] for place in known]):
                own = tuple(tuple(known[at] for at in table) for table in part.released)
                if any(when[place] == settlement for place in itertools.chain(*own)):
                    estimated = self._estimated(Block(part.periods, own, part.shape))
                    found |= {place: cells for place, cells in estimated.items() if when[place] == settlement}
        return found

    def newest(self, statistic: str) -> tuple[Integers, Integers] | None:
        """Return the estimates of the newest release of a table, and their margins, in millionths; None before it."""
        places = [place for place, body in enumerate(self.releases) if body.statistic == statistic]
        if not places:
            return None
        block = next(block for block in self.blocks if any(places[-1] in own for own in block.released))
        layout = next(each for each in self.axes.layouts if each.table.name == statistic)
        return self._estimated(block)[places[-1]], self._around(layout, _spans_of(block)[places[-1]])

    def cells(self) -> Iterator[CellFigures]:
        """Yield the figures of each table that has a release."""
        estimates: dict[int, Integers] = {}
        first: dict[int, Integers] = {}
        spans: dict[int, Span] = {}
        for block in self.blocks:
            estimates |= self._estimated(block)
            first |= self._first(block)
            spans |= _spans_of(block)
        for layout in self.axes.layouts:
            places = [place for place, body in enumerate(self.releases) if body.statistic == layout.table.name]
            if places:
                yield CellFigures(
                    table=layout.table,
                    places=tuple(places),
                    noisy=np.stack([self._values(place) for place in places]),
                    estimates=np.stack([estimates[place] for place in places]),
                    first=np.stack([first.get(place, estimates[place]) for place in places]),
                    around=np.stack([self._around(layout, spans[place]) for place in places]),
                )

    def around(self, statistic: str, start: dt.date, end: dt.date, apart: tuple[str, ...]) -> list[int]:
        """Return the margins of a table's sums over whole periods of the population, in millionths.

        The sums are those of the dimensions named in `apart`, in the table's order: one for each kind whose noise has
        one form, without what the table does not count. Both days are inclusive.
        """
        layout = next(each for each in self.axes.layouts if each.table.name == statistic)
        spans = list(self.spans(start, end))
        kinds = [kind for kind in kinds_of(self.axes, layout, apart)[0] if all(map(sum, kind.chosen))]
        return [self._margin(spans, kind) for kind in kinds]

    def _around(self, layout: Layout, span: Span) -> Integers:
        """Return the margin of each cell of a table."""
        kinds, kind_of = kinds_of(self.axes, layout, tuple(each.name for each in layout.table.by))
        return np.array([self._margin([span], selection) for selection in kinds], dtype=np.int64)[kind_of]

    def margins(self, cells: CellFigures) -> Iterator[MarginFigures]:
        """Yield the margins of a table: its total and each dimension alone, by its own and each coarser period."""
        table = cells.table
        layout = next(each for each in self.axes.layouts if each.table is table)
        starts = [self.releases[place].period_start for place in cells.places]
        shaped = cells.estimates.reshape([len(starts), *(len(each.symbols) for each in table.by)])
        for period in (each for each in Period if each.is_made_of(table.period)):
            whole = whole_periods(table.period, period, starts)
            for axis in (None, *range(len(table.by))):
                if not whole or (axis is not None and period is table.period and len(table.by) == 1):
                    continue  # these are the cells themselves
                others = tuple(1 + each for each in range(len(table.by)) if each != axis)
                summed = shaped.sum(axis=others).reshape([len(starts), -1])
                kinds, kind_of = kinds_of(self.axes, layout, () if axis is None else (table.by[axis].name,))
                rows, around = [], []
                for places in whole.values():
                    rows.append(summed[places].sum(axis=0))
                    spans = list(self.spans(starts[places[0]], table.period.end(starts[places[-1]])))
                    around.append([self._margin(spans, selection) for selection in kinds])
                yield MarginFigures(
                    table=table,
                    dimension=None if axis is None else table.by[axis],
                    period=period,
                    starts=tuple(whole),
                    estimates=np.stack(rows),
                    around=np.array(around, dtype=np.int64)[:, kind_of],
                )

    def spans(self, start: dt.date, end: dt.date) -> Iterator[Span]:
        """Yield the parts of blocks that lie between two days, both inclusive."""
        for block in self.blocks:
            inside = [place for place, day in enumerate(block.periods) if start <= day <= end]
            if inside:
                yield Span(block.shape, inside[0], inside[-1] + 1)

    def noise(self, spans: Sequence[Span], selection: Selection) -> Groups:
        """Return which draws weigh how much in the sum over a selection."""
        groups: Groups = Counter()
        for span in spans:
            if (selection, span) not in self._noise:
                solution = self._solution(span.shape)
                self._noise[selection, span] = solution.noise(selection, span.first, span.behind)
            groups += self._noise[selection, span]
        return groups

    def _margin(self, spans: Sequence[Span], selection: Selection) -> int:
        """Return the margin of a sum over a selection, in millionths: of its noise, and of what was rounded."""
        groups = self.noise(spans, selection)
        key = frozenset(groups.items())
        if key not in self._quantiles:
            self._quantiles[key] = -int(-quantile_of(groups, CONFIDENCE) * MILLION // 1)
        return self._quantiles[key] + rounded(spans, selection)


def quantile_of(groups: Groups, confidence: float) -> float:
    """Return how far the noise of these draws lies from 0 at most, with this confidence."""
    ordered = sorted(groups.items())
    weights, scales = ([each[0][place] for each in ordered] for place in (0, 1))
    return quantile(weights, scales, [count for _, count in ordered], confidence)


def rounded(spans: Sequence[Span], selection: Selection) -> int:
    """Return by how many millionths rounding moves a sum at most: half a one for each finest cell and period."""
    cells = math.prod(sum(chosen) for chosen in selection.chosen)
    periods = sum(span.behind - span.first for span in spans)
    return (cells * periods + 1) // 2


def _spans_of(block: Block) -> dict[int, Span]:
    """Return which periods of a block each of its releases spans."""
    return {
        place: Span(block.shape, *span)
        for own, spans in zip(block.released, block.shape.spans, strict=True)
        for place, span in zip(own, spans, strict=True)
    }


@functools.lru_cache(maxsize=64)
def kinds_of(axes: Axes, layout: Layout, apart: tuple[str, ...]) -> tuple[list[Selection], list[int]]:
    """Return the kinds of cells of a table, whose noise has one form, and the kind of each cell.

    The cells are those of the dimensions named in `apart`, in the table's order, summed over everything else.
    """
    names = [axis.dimension.name for axis in axes.axes]
    kinds: dict[Selection, int] = {}
    known: dict[tuple[int, ...], int] = {}  # a table may have 100,000 cells, and few parts
    kind_of: list[int] = []
    for parts in itertools.product(*(axes.axes[names.index(name)].part_of for name in apart)):
        if parts not in known:
            part_at = dict(zip(apart, parts, strict=True))
            chosen = tuple(
                tuple(
                    (axis.part_of.count(part) if part in counted else 0)
                    if axis.dimension.name not in part_at
                    else int(part == part_at[axis.dimension.name] and part in counted)
                    for part in range(axis.parts)
                )
                for axis, counted in zip(axes.axes, layout.counted, strict=True)
            )
            known[parts] = kinds.setdefault(Selection(chosen), len(kinds))
        kind_of.append(known[parts])
    return list(kinds), kind_of


def whole_periods(finer: Period, coarser: Period, starts: Sequence[dt.date]) -> dict[dt.date, list[int]]:
    """Return the coarser periods that are made of released ones alone, with the places of those."""
    found: dict[dt.date, list[int]] = {}
    for place in sorted(range(len(starts)), key=lambda each: starts[each]):
        found.setdefault(coarser.start(starts[place]), []).append(place)
    return {
        start: places
        for start, places in found.items()
        if starts[places[0]] == start
        and finer.end(starts[places[-1]]) == coarser.end(start)
        and all(finer.next(starts[a]) == starts[b] for a, b in itertools.pairwise(places))
    }
