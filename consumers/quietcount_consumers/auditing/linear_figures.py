"""Published estimates as sums of weighted draws: the one that tells two logs apart best, and how it is made.

The weights are found by the code that publishes: each draw in turn is raised by one, and the estimates are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from quietcount_aggregates.axes import Axes
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.noise import variance
from quietcount_aggregates.populations import Population
from quietcount_aggregates.reconciliation.blocks import Block, blocks_of
from quietcount_aggregates.reconciliation.estimates import MILLION, estimate
from quietcount_aggregates.reconciliation.solution import Solution
from quietcount_consumers.auditing.binomial_bounds import Floats
from quietcount_consumers.auditing.differences import Pairing, pairings
from quietcount_consumers.trials.deployment import Played
from quietcount_consumers.trials.margins import Release

__all__ = ["Weighted", "telling_figure"]

_MOST_DRAWS: Final = 300
"""Of a block: with more of them, finding the weights and drawing takes longer than all the rest."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """How much a draw weighs in a figure."""

    weight: float
    cell: Pairing


def telling_figure(population: Population, one: Played, other: Played) -> list[Weighted] | None:
    """Return the draws whose weighted sum is the estimate that differs most between two logs, for its noise.

    None if no estimate differs, or those that do are made of too many draws.
    """
    tables = {table.name: table for table in population.counts}
    common = sorted(one.draws.keys() & other.draws.keys())
    releases = [_released(population, each, one) for each in common if each[0] in tables]
    best: tuple[float, list[Weighted]] | None = None
    scales = [next((r.noise_scale for r in releases if r.statistic == name), 1.0) for name in tables]
    for block in blocks_of(population, releases):
        cells = [
            each
            for own in block.released
            for place in own
            for each in pairings((releases[place].statistic, releases[place].period_start), one, other)
        ]
        moved = np.array([cell.one - cell.other for cell in cells], dtype=np.float64)
        if not moved.any() or len(cells) > _MOST_DRAWS:
            continue
        solution = Solution(Axes.of(population), [variance(scale) for scale in scales], scales, block.shape)
        weights = _weights(solution, block, population)
        noise = np.sqrt((weights**2 * np.array([[variance(cell.scale)] for cell in cells])).sum(axis=0))
        with np.errstate(divide="ignore", invalid="ignore"):
            telling = np.nan_to_num(np.abs(moved @ weights) / noise)
        figure = int(np.argmax(telling))
        if telling[figure] > 0 and (best is None or telling[figure] > best[0]):
            column = weights[:, figure]
            best = telling[figure], [Weighted(float(w), c) for w, c in zip(column, cells, strict=True) if w]
    return best and best[1]


def _released(population: Population, release: Release, one: Played) -> Released:
    name, start = release
    table = next(each for each in population.tables if each.name == name)
    draw = one.draws[name, start]
    return Released(
        population=population.name,
        statistic=name,
        digest=b"",
        period_start=start,
        period_end=table.period.end(start),
        values=draw.drawn,
        mechanism="",
        noise_scale=draw.scale,
    )


def _weights(solution: Solution, block: Block, population: Population) -> Floats:
    """Return how much each draw weighs in each estimate of a block: one row a draw, one column an estimate."""
    sizes = [table.cells for table, own in zip(population.counts, block.released, strict=True) for _ in own]
    rows = []
    for place in range(sum(sizes)):
        flat = np.zeros(sum(sizes), dtype=np.int64)
        flat[place] = 1
        values = iter(np.split(flat, np.cumsum(sizes)[:-1]))
        draws = [[next(values) for _ in own] for own in block.released]
        rows.append(np.concatenate([cells for own in estimate(solution, draws) for cells in own]) / MILLION)
    return np.array(rows)
