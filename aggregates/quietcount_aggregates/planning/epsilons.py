"""The other way round: the epsilon that a table needs for a margin that somebody wants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from quietcount_aggregates.planning.margins import Figure, Margins, Over
from quietcount_aggregates.populations import Epsilon, Population
from quietcount_aggregates.tables import LARGEST_EPSILON, MAX_SCALE, SMALLEST_EPSILON

__all__ = ["Needed", "needed"]

_ROUNDS: Final = 5
"""Tables of one population sharpen each other, so that each is solved again with what the others got."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What a table needs: the margin of one of its cells now, the one that is wanted, and the epsilon for it.

    `epsilon` is None if no epsilon that a catalogue may have gives this margin, and `reached` the margin that it gives.
    """

    table: str
    now: float
    wanted: float
    epsilon: float | None
    reached: float


def needed(population: Population, wanted: Mapping[str, float]) -> tuple[Population, list[Needed]]:
    """Return the population with the epsilons that the wanted margins of a cell need, and what each table needs."""
    now = {name: _margin(population, name) for name in wanted}
    changed, found = population, dict.fromkeys(wanted, 0.0)
    for _ in range(_ROUNDS):
        before = dict(found)
        for name, margin in wanted.items():
            found[name] = _smallest(changed, name, margin)
            changed = _with(changed, name, found[name])
        if found == before:
            break
    reached = {name: _margin(changed, name) for name in wanted}
    return changed, [
        Needed(name, now[name], margin, found[name] if _enough(reached[name], margin) else None, reached[name])
        for name, margin in wanted.items()
    ]


def _smallest(population: Population, name: str, margin: float) -> float:
    """Return the smallest epsilon, to three digits, that gives a margin; the largest there is if none does."""

    def gives(epsilon: float) -> bool:
        return _enough(_margin(_with(population, name, epsilon), name), margin)

    least = _up(max(SMALLEST_EPSILON, population.max_contributions / MAX_SCALE))
    most = LARGEST_EPSILON
    if gives(least):
        return least
    if not gives(most):
        return most
    while most / least > 1.0005:  # finer than the three digits
        middle = math.sqrt(least * most)
        least, most = (least, middle) if gives(middle) else (middle, most)
    return min(_up(most), LARGEST_EPSILON)


def _margin(population: Population, name: str) -> float:
    table = next(each for each in population.tables if each.name == name)
    return Margins(population).of(Figure(table, Over.CELL, table.period))


def _with(population: Population, name: str, epsilon: float) -> Population:
    tables = [replace(t, epsilon=Epsilon(epsilon)) if t.name == name else t for t in population.tables]
    return replace(population, tables=tuple(tables))


def _enough(margin: float, wanted: float) -> bool:
    """Return whether a margin is as small as wanted, but for what the rounding of estimates adds to it."""
    return margin <= wanted * 1.0001


def _up(epsilon: float) -> float:
    """Round an epsilon up to three digits."""
    digits = 2 - math.floor(math.log10(epsilon))
    return float(round(math.ceil(epsilon * 10**digits - 1e-9) / 10**digits, digits))
