"""The check of the intervals: how often they miss what is true, by the kind of figure that is published.

Counts are made up, the mechanism of the service draws, the ledger records, and the public file is built and asked: all
of it by the code that a deployment runs. An interval of 95 % may miss 5 times in 100.

Figures that hold the same draw miss together. Those that share no period of a block share no draw, so the unit is what
figures tie together: the periods that one release spans, and further ones where a figure spans them. Of a unit counts
the share of its figures that missed. These shares are independent, and the bound on their mean (Hoeffding, 1963) needs
nothing else: it holds whatever figures of one unit have in common. A sound interval is called broken with 1e-6 at most.
Of kinds that may tell nothing, one figure a unit is chosen beforehand, and counts if it was told.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from quietcount_aggregates.noise import CONFIDENCE
from quietcount_consumers.auditing.exact_tails import rate_allowed
from quietcount_consumers.auditing.measurement import FALSE_ALARM, Measurement, Part
from quietcount_consumers.trials.asked_figures import CONDITIONAL, QUESTIONS, Answer, answers
from quietcount_consumers.trials.audited import Audited
from quietcount_consumers.trials.made_up_publications import BEGIN, Span, published

__all__ = ["Tally", "asked", "judged", "parts", "tallied"]

_DRAWS_A_PUBLICATION: Final = 1_500
"""Of those that the audit draws for a pair of logs: so a short audit makes few publications, and the usual one 100."""

_AT_ONCE: Final = 4
"""How many publications a part makes."""

_SECONDS: Final = 2.5
"""What a publication takes with its questions, about."""


class Tally(NamedTuple):
    """Of one kind of figure: how many units there were, the sum of the shares that missed, and how many figures."""

    units: int
    missed: float
    figures: int


def parts(audited: Audited) -> list[Part]:
    """Return parts with some publications each."""
    publications = max(2, audited.draws // _DRAWS_A_PUBLICATION)
    firsts = range(0, publications, _AT_ONCE)
    return [Part(asked, (first, min(first + _AT_ONCE, publications)), _AT_ONCE * _SECONDS) for first in firsts]


def asked(
    audited: Audited, folder: Path, first: int, behind: int, questions: Mapping[str, int] = QUESTIONS
) -> dict[str, Tally]:
    """Make the publications from `first` to the one before `behind`, and return what their figures missed, by kind.

    `questions` says how often each macro is asked of a publication.
    """
    found: dict[str, Tally] = {}
    for number in range(first, behind):
        rng = np.random.default_rng([abs(audited.seed), number])
        own = folder / str(number)
        own.mkdir()
        populations = audited.populations(BEGIN)
        with published(own, populations, audited.mechanism(), rng) as publication:
            every = list(answers(publication, populations, rng, questions))
            spans: dict[str, Sequence[Span]] = {each.name: publication.spans(each) for each in populations}
        tallies = tallied(every, spans, random.Random(f"{audited.seed} units {number}").choice)  # noqa: S311
        found = {kind: _sum([each[kind] for each in (found, tallies) if kind in each]) for kind in found | tallies}
    return found


def _sum(tallies: Iterable[Tally]) -> Tally:
    units, missed, figures = zip(*tallies, strict=True)
    return Tally(sum(units), sum(missed), sum(figures))


def tallied(
    every: Sequence[Answer],
    spans: Mapping[str, Sequence[Span]],
    choose: Callable[[Sequence[Answer]], Answer] = lambda found: found[0],
) -> dict[str, Tally]:
    """Return the tally of each kind; `spans` are those of all releases of each population."""
    found: dict[str, Tally] = {}
    kinds: dict[str, list[Answer]] = defaultdict(list)
    for each in every:
        kinds[each.kind].append(each)
    for kind, own in kinds.items():
        units: dict[tuple[str, int], list[Answer]] = defaultdict(list)
        for population, of in _grouped(own).items():
            for answer, unit in zip(of, _units(of, spans[population]), strict=True):
                units[population, unit].append(answer)
        chosen = [[choose(unit)] if kind in CONDITIONAL else unit for unit in units.values()]
        told = [[each.missed for each in unit if each.missed is not None] for unit in chosen]
        shares = [sum(unit) / len(unit) for unit in told if unit]
        found[kind] = Tally(len(shares), sum(shares), sum(map(len, told)))
    return found


def _grouped(every: Iterable[Answer]) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = defaultdict(list)
    for each in every:
        found[each.population].append(each)
    return found


def _units(every: Sequence[Answer], spans: Sequence[Span]) -> list[int]:
    """Return the unit of each figure of a population: a number that figures share if any draw can be in both."""
    firsts: list[int] = []
    end = -1
    for first, last in sorted((first.toordinal(), last.toordinal()) for first, last in spans):
        if first > end:
            firsts.append(first)
        end = max(end, last)
    tied = list(range(len(firsts)))

    def root(block: int) -> int:
        while tied[block] != block:
            block = tied[block]
        return block

    blocks = []
    for each in every:
        own = [
            block
            for first, last in each.spans
            for block in range(bisect_right(firsts, first.toordinal()) - 1, bisect_right(firsts, last.toordinal()))
        ]
        for block in own[1:]:
            tied[root(block)] = root(own[0])
        blocks.append(own[0])
    return [root(block) for block in blocks]


def judged(_: Audited, results: Sequence[dict[str, Tally]]) -> list[Measurement]:
    """Return, for each kind of figure, how often its intervals missed, beside how often they may."""
    stated = 1 - CONFIDENCE
    found = []
    for kind in sorted({kind for each in results for kind in each}):
        tally = _sum([each[kind] for each in results if kind in each])
        rate = tally.missed / tally.units if tally.units else 0.0
        most = rate_allowed(stated, tally.units)
        detail = (
            f"How often {tally.figures:,} intervals missed what is true, in {tally.units:,} units that share no draw; "
            f"above {most:.3f} it would be no chance"
        )
        shown = most < 1
        if not shown:
            detail = f"Only {tally.units} units that share no draw: too few to find any interval too narrow"
        found.append(Measurement("intervals", kind, stated, rate, 1 - FALSE_ALARM, rate <= most, detail, shown))
    return found
