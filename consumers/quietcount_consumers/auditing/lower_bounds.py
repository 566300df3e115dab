"""The check of epsilon: how well the best test we know tells two neighbouring logs apart, by what is published of them.

Each pair of logs is played once, to see what the mechanism is handed for both. Then it draws for both many times, as a
release does. Of independent draws the logarithm of the likelihood ratio is the best statistic there is (Neyman and
Pearson, 1933): added up over all cells that differ, it sees what all tables, and all populations, tell together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from quietcount_aggregates.noise import NoiseMechanism
from quietcount_aggregates.populations import Population
from quietcount_consumers.auditing.binomial_bounds import Floats, loss_between
from quietcount_consumers.auditing.differences import Pairing, cells_of_table, drawn
from quietcount_consumers.auditing.linear_figures import Weighted, telling_figure
from quietcount_consumers.auditing.measurement import FALSE_ALARM, Measurement, Part
from quietcount_consumers.trials.audited import Audited
from quietcount_consumers.trials.deployment import Day, Played, played
from quietcount_consumers.trials.neighbours import BEGIN, PAIRS, Neighbours

__all__ = ["Bound", "bounded", "judged", "parts"]

ALL: Final = "all populations"
_GROUPS: Final = 4
"""The pairs of a group share the log without the case, which is played once."""
_NEAREST: Final = "heavy"
_CLOSER: Final = 3
_SECONDS_A_PLAY: Final = 4.0
_SECONDS_A_DRAW: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound on what is lost: of which pair and subject, and what is declared."""

    pair: str
    subject: str
    declared: float
    found: float


def parts(audited: Audited) -> list[Part]:
    """Return a part for each group of pairs."""
    names = list(PAIRS)
    groups = [names[place::_GROUPS] for place in range(_GROUPS)]
    a_pair = 2 * sum(len(section.table) for section in audited.sections) * audited.draws * _SECONDS_A_DRAW
    return [Part(bounded, (tuple(each),), _SECONDS_A_PLAY + len(each) * (_SECONDS_A_PLAY + a_pair)) for each in groups]


def bounded(audited: Audited, folder: Path, names: Sequence[str]) -> list[Bound]:
    """Return lower bounds for some pairs of logs."""
    populations = audited.populations(BEGIN)
    neighbours = Neighbours(populations, audited.registry(), audited.grace)
    known: dict[str, Played] = {}

    def play(days: Sequence[Day], name: str) -> Played:
        told = repr(days)
        if told not in known:
            known[told] = played(audited, folder / name, BEGIN, days, name)
        return known[told]

    found: list[Bound] = []
    for name in names:
        one, other = (
            play(days, f"{name}-{part}") for part, days in zip(("with", "without"), neighbours.pair(name), strict=True)
        )
        found += _bounds(audited, populations, name, one, other)
    return found


def _bounds(
    audited: Audited, populations: Sequence[Population], pair: str, one: Played, other: Played
) -> Iterator[Bound]:
    mechanism = audited.mechanism()
    alpha = FALSE_ALARM / len(PAIRS)  # of each subject the best pair counts
    # All pairs come near to what is declared, unless something is broken: one of them is looked at more closely.
    nearest = pair == _NEAREST
    runs = _CLOSER * audited.draws if nearest else max(1, audited.draws // 2)
    everything: list[tuple[Floats, Floats]] = []
    declared = 0.0
    for population in populations:
        of_population: list[tuple[Floats, Floats]] = []
        for table in population.tables:
            cells = list(cells_of_table(population, table, one, other))
            if cells:
                ratios = _ratios(mechanism, cells, runs)
                of_population.append(ratios)
                yield Bound(pair, table.name, float(table.epsilon), loss_between(*ratios, alpha))
        epsilon = float(population.epsilon)
        if len(of_population) > 1:
            yield Bound(pair, f"{population.name}: all tables", epsilon, _together(of_population, alpha))
        figure = telling_figure(population, one, other) if nearest and len(population.counts) > 1 else None
        if figure is not None:
            sides = _estimates(mechanism, figure, max(1, audited.draws // 2))  # made of many draws each
            yield Bound(pair, f"{population.name}: estimates", epsilon, loss_between(*sides, alpha))
        everything += of_population
        declared += epsilon
    if len(everything) > 1:
        yield Bound(pair, ALL, declared, _together(everything, alpha))


def _together(ratios: Sequence[tuple[Floats, Floats]], alpha: float) -> float:
    one, other = (sum(side, np.zeros(len(side[0]))) for side in zip(*ratios, strict=True))
    return loss_between(one, other, alpha)


def _ratios(mechanism: NoiseMechanism, cells: Sequence[Pairing], runs: int) -> tuple[Floats, Floats]:
    """Return the logarithms of the likelihood ratio of the one log to the other, for draws of each of them."""
    sides = []
    for side in ("one", "other"):
        total = np.zeros(runs)
        for cell in cells:
            values = drawn(mechanism, cell, getattr(cell, side), runs)
            total += (np.abs(values - cell.other) - np.abs(values - cell.one)) / cell.scale
        sides.append(total.round(9))  # equal ratios are equal, in whichever order they were added up
    return sides[0], sides[1]


def _estimates(mechanism: NoiseMechanism, figure: Sequence[Weighted], runs: int) -> tuple[Floats, Floats]:
    """Return a published estimate under each of two logs, for draws of each of them."""
    sides = []
    for side in ("one", "other"):
        total = np.zeros(runs)
        for each in figure:
            total += each.weight * drawn(mechanism, each.cell, getattr(each.cell, side), runs)
        sides.append(total.round(6))
    return sides[0], sides[1]


def judged(audited: Audited, results: Sequence[Sequence[Bound]]) -> list[Measurement]:
    """Return the highest bound of each subject."""
    found: dict[str, Bound] = {}
    for bound in itertools.chain.from_iterable(results):
        known = found.get(bound.subject)
        if known is None or bound.found > known.found:
            found[bound.subject] = bound
    order = [
        subject
        for population in audited.populations(BEGIN)
        for subject in (
            *(table.name for table in population.tables),
            f"{population.name}: all tables",
            f"{population.name}: estimates",
        )
    ]
    bounds = [found[subject] for subject in [*order, ALL] if subject in found]
    measured = [
        Measurement(
            check="epsilon",
            subject=bound.subject,
            declared=bound.declared,
            measured=bound.found,
            confidence=1 - FALSE_ALARM,
            holds=bound.found <= bound.declared,
            detail=f"The most that an attacker learns for certain about one case, of {len(PAIRS)} pairs of logs from "
            f"the pair {bound.pair!r}; that is {bound.found / bound.declared:.0%} of what is declared",
        )
        for bound in bounds
    ]
    missing = [
        Measurement(
            check="epsilon",
            subject=table.name,
            declared=float(table.epsilon),
            measured=0.0,
            confidence=1 - FALSE_ALARM,
            holds=False,
            detail=f"In no pair of logs does the case move {table.name}, so nothing is shown of it",
            shown=False,
        )
        for population in audited.populations(BEGIN)
        for table in population.tables
        if table.name not in found
    ]
    return [*measured, *missing]
