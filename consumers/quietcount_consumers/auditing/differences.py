"""Differences: the cells in which what two logs count differs, and draws of them as a release makes them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from quietcount_aggregates.noise import NoiseMechanism
from quietcount_aggregates.populations import Horizon, Population, Table
from quietcount_consumers.auditing.binomial_bounds import Floats
from quietcount_consumers.trials.deployment import Played
from quietcount_consumers.trials.margins import Release

__all__ = ["Pairing", "cells_of_table", "distance", "drawn", "far", "pairings"]

_CHUNK: Final = 1000
"""Cells get independent noise of one scale, so that a vector of a thousand is a thousand draws."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """A cell of a release under two logs, and how the service asks for its noise."""

    one: int
    other: int
    scale: float
    sensitivity: int
    epsilon: float


def distance(
    population: Population, table: Table, one: Mapping[Release, Sequence[int]], other: Mapping[Release, Sequence[int]]
) -> Counter[int]:
    """Return the L1 distance of all releases of a table together: by calendar year if that is the horizon, else by 0.

    A release that only one of two logs has is as far from nothing as its values are, and one more.
    """
    moved: Counter[int] = Counter()
    for release in one.keys() | other.keys():
        name, start = release
        if name == table.name:
            year = start.year if population.horizon is Horizon.YEAR else 0
            moved[year] += far(one.get(release), other.get(release))
    return moved


def far(one: Sequence[int] | None, other: Sequence[int] | None) -> int:
    """Return the L1 distance of two releases, one of which may be missing."""
    if one is None or other is None:
        return 1 + sum(map(abs, one or other or ()))
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def cells_of_table(population: Population, table: Table, one: Played, other: Played) -> Iterator[Pairing]:
    """Yield the cells of a table that differ; with a yearly horizon, those of the year in which the population does."""
    year = 0
    if population.horizon is Horizon.YEAR:
        by_year: Counter[int] = Counter()
        for each in population.tables:
            by_year += distance(population, each, one.exact, other.exact)
        year = max(by_year, key=by_year.__getitem__, default=0)
    for release in sorted(one.draws.keys() & other.draws.keys()):
        name, start = release
        if name == table.name and year in (0, start.year):
            yield from (each for each in pairings(release, one, other) if each.one != each.other)


def pairings(release: Release, one: Played, other: Played) -> list[Pairing]:
    """Return each cell of a release under two logs."""
    draw = one.draws[release]
    return [
        Pairing(a, b, draw.scale, draw.sensitivity, draw.epsilon)
        for a, b in zip(draw.exact, other.draws[release].exact, strict=True)
    ]


def drawn(mechanism: NoiseMechanism, cell: Pairing, exact: int, runs: int) -> Floats:
    """Return independent draws of `exact` as a release makes them of that cell."""
    chunks = [
        mechanism.draw(
            [exact] * min(_CHUNK, runs - begin),
            scale=cell.scale,
            sensitivity=cell.sensitivity,
            epsilon=cell.epsilon,
        )
        for begin in range(0, runs, _CHUNK)
    ]
    return np.fromiter(itertools.chain.from_iterable(chunks), dtype=np.float64, count=runs)
