"""The check of the stories: how far one case moves what is counted, and whether it touches what others count.

Each story is played four times: whole, without one case, and in two halves of its cases. What the mechanism was handed
is compared cell by cell, so chance has no part in it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quietcount_aggregates.populations import Horizon, Population, Table
from quietcount_consumers.auditing.differences import distance, far
from quietcount_consumers.auditing.measurement import Measurement, Part
from quietcount_consumers.trials.audited import Audited
from quietcount_consumers.trials.deployment import Played, played
from quietcount_consumers.trials.margins import Release, margins, summed
from quietcount_consumers.trials.storytelling import START, Storyteller

__all__ = ["Told", "judged", "parts", "told"]

_SECONDS: Final = 9.0
"""What a story takes, about."""

Values = Mapping[Release, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Told:
    """What one story showed, by table (`moved`, `astray`) and by population (`apart`, `disagreeing`)."""

    number: int
    moved: Mapping[str, int]
    """The farthest that one case moved all releases of a table together, in L1, over the horizon."""
    elsewhere: Mapping[str, int]
    """How far it moved the table in calendar years in which it did not come."""
    apart: Mapping[str, int]
    """How far the whole is from the sum of its halves, in L1."""
    disagreeing: Mapping[str, int]
    """How many published estimates are not the sum of those of a finer table."""
    altered: int
    """How many draws are not what was published."""
    met: Mapping[str, int]
    """How far the table is from one of zeros, in L1: with none, the story says nothing of it."""


def parts(audited: Audited) -> list[Part]:
    """Return a part for each story."""
    return [Part(told, (number,), _SECONDS) for number in range(audited.stories)]


def told(audited: Audited, folder: Path, number: int) -> Told:
    """Play a story, and compare what came of its parts."""
    populations = audited.populations(START)
    story = Storyteller(populations, audited.registry(), audited.grace).story(
        random.Random(f"{audited.seed} story {number}")  # noqa: S311  # a story that can be told again
    )
    every = story.cases
    of_parts = {
        "whole": every,
        "without": every - {story.left_out},
        "half": every & story.half,
        "rest": every - story.half,
    }
    known: dict[frozenset[str], Played] = {}
    for name, cases in of_parts.items():
        if cases not in known:
            known[cases] = played(audited, folder / name, story.since, story.of(cases), f"{number}-{name}")
    found = {name: known[cases] for name, cases in of_parts.items()}
    exact = {name: each.exact for name, each in found.items()}
    moved: dict[str, int] = {}
    elsewhere: dict[str, int] = {}
    apart: dict[str, int] = {}
    disagreeing: dict[str, int] = {}
    for population in populations:
        for table in population.tables:
            by_year = distance(population, table, exact["whole"], exact["without"])
            moved[table.name] = max(by_year.values(), default=0)
            strange = [far for year, far in by_year.items() if year and year not in story.years]
            elsewhere[table.name] = max(strange, default=0)
        apart[population.name] = sum(_apart(table, exact) for table in population.tables)
        disagreeing[population.name] = sum(_disagreeing(population, each) for each in known.values())
    altered = sum(each.altered for each in known.values())
    met = dict.fromkeys(moved, 0)
    for (name, _), values in exact["whole"].items():
        met[name] += sum(map(abs, values))
    return Told(number, moved, elsewhere, apart, disagreeing, altered, met)


def _apart(table: Table, exact: Mapping[str, Values]) -> int:
    whole, half, rest = (
        {release: values for release, values in exact[name].items() if release[0] == table.name}
        for name in ("whole", "half", "rest")
    )
    if not whole.keys() == half.keys() == rest.keys():
        return 1 + len(whole.keys() ^ half.keys()) + len(whole.keys() ^ rest.keys())
    return sum(
        far(values, [a + b for a, b in zip(half[release], rest[release], strict=True)])
        for release, values in whole.items()
    )


def _disagreeing(population: Population, found: Played) -> int:
    """Return how many published estimates are not the sum of those of a finer table."""
    wrong = 0
    for coarse, fine in margins(population):
        for release, values in summed(coarse, fine, found.estimates).items():
            if coarse.sum is None:
                there = found.estimates.get(release)
                wrong += there is None or any(a != b for a, b in zip(values, there, strict=True))
    return wrong


def judged(audited: Audited, results: Sequence[Told]) -> list[Measurement]:
    """Return how far the farthest story went, by table and by population."""
    found = []
    for population in audited.populations(START):
        yearly = population.horizon is Horizon.YEAR
        for table in population.tables:
            most = table.sensitivity(population.max_contributions)
            farthest = max(results, key=lambda each: each.moved[table.name])
            strange = max(each.elsewhere[table.name] for each in results)
            moved = farthest.moved[table.name]
            detail = (
                f"The farthest that one case moved all releases of {table.name} together"
                f"{' of one calendar year' if yearly else ''}, in L1 (story {farthest.number})"
            )
            if strange:
                moved += most
                detail = f"One case moved {table.name} in a calendar year in which it did not come"
            met = any(each.met[table.name] for each in results)
            if not met:
                detail = f"No story has anything that {table.name} counts, so nothing is shown of it"
            holds = met and moved <= most and not strange
            found.append(Measurement("stories", table.name, most, moved, 1.0, holds, detail, met))
        apart = max(results, key=lambda each: each.apart[population.name])
        found.append(
            _none(
                f"{population.name}: halves",
                apart.apart[population.name],
                "How far what all cases count together is from what two halves of them count apart"
                f" (story {apart.number})",
            )
        )
        wrong = sum(each.disagreeing[population.name] for each in results)
        found.append(
            _none(f"{population.name}: margins", wrong, "Published estimates that are not the sums of a finer table's")
        )
    altered = sum(each.altered for each in results)
    return [*found, _none("all tables", altered, "Draws that are not what the published file has, to the last digit")]


def _none(subject: str, measured: int, detail: str) -> Measurement:
    return Measurement("stories", subject, 0, measured, 1.0, not measured, detail)
