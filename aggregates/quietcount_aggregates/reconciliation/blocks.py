"""Blocks: the spans of time that released periods tie together.

A released quarter ties its three months together, whatever tables they are of. What lies in two blocks has no noise in
common. A block is as wide as the coarsest period that is released.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.populations import Population
from quietcount_aggregates.reconciliation.solution import Shape

__all__ = ["Block", "blocks_of"]


@dataclass(frozen=True, slots=True)
class Block:
    """Whole periods of a population, and what was released of them.

    `periods` has the first day of each period of the population. `released` has, for each table, its releases in the
    order of their periods, as places among all that were given, and `shape` how they lie on the block's periods.
    """

    periods: tuple[dt.date, ...]
    released: tuple[tuple[int, ...], ...]
    shape: Shape


def blocks_of(population: Population, releases: Sequence[Released]) -> list[Block]:
    """Return the blocks of a population, the earliest first, from all or some of its releases."""
    tables = [table.name for table in population.counts]
    spans = sorted(
        (body.period_start, -body.period_end.toordinal(), tables.index(body.statistic), place)  # type: ignore[arg-type]
        for place, body in enumerate(releases)
    )
    found: list[Block] = []
    end = dt.date.min
    inside: list[int] = []
    for start, _, _, place in spans:
        if start > end and inside:
            found.append(_block(population, releases, inside))
            inside = []
        inside.append(place)
        end = max(end, releases[place].period_end)
    if inside:
        found.append(_block(population, releases, inside))
    return found


def _block(population: Population, releases: Sequence[Released], inside: Iterable[int]) -> Block:
    places = sorted(inside, key=lambda place: releases[place].period_start)
    end = max(releases[place].period_end for place in places)
    periods = [releases[places[0]].period_start]
    while (following := population.period.next(periods[-1])) <= end:
        periods.append(following)
    at = {day: place for place, day in enumerate(periods)}
    of_table = tuple(
        tuple(place for place in places if releases[place].statistic == table.name) for table in population.counts
    )
    behind = {population.period.end(day): place + 1 for day, place in at.items()}
    spans = tuple(
        tuple((at[releases[place].period_start], behind[releases[place].period_end]) for place in own)
        for own in of_table
    )
    return Block(tuple(periods), of_table, Shape(len(periods), spans))
