"""Stories from a seed that every failure names, and the worlds that play them.

A story has several populations, each of up to three tables, and days on which events are emitted: duplicates, events
that come late, corrections that change the date, the type or what a filter asks, redeliveries long after the close,
withdrawals, event ids that cases share. Its world has batches and partitions of any number, releases at any time,
restarts, and a log that forgets exactly or only its beginning.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.aggregates_world import TRIALS, MemoryLog, case_key, event_id, utc, world_in
from tests.property.counting_oracle import Oracle, Releases

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.periods import Period

__all__ = ["START", "Step", "Story", "foretold", "played", "story_of"]

START = dt.date(2023, 11, 6)
CASES = 5
COLOURS = ("RED", "GREEN", "NONE")
PERIODS = (Period.WEEK, Period.WEEK, *[Period.MONTH] * 6, *[Period.QUARTER] * 3, Period.YEAR)


@dataclass(frozen=True)
class Step:
    """One day of a story: what is emitted, and whether the fold is followed by a release, after which grace."""

    day: dt.date
    events: tuple[CaseEvent, ...]
    release: bool = True
    grace: dt.timedelta = dt.timedelta(0)
    restart: bool = False


@dataclass(frozen=True)
class Story:
    """The populations and days of a world."""

    seed: int
    populations: tuple[Population, ...]
    steps: tuple[Step, ...]
    partitions: int
    exact_purge: bool

    @property
    def cases(self) -> list[bytes]:
        return sorted({event.case_key for step in self.steps for event in step.events})

    def of(self, chosen: Callable[[bytes], bool]) -> Story:
        """Return the same days with the chosen cases alone."""
        steps = tuple(replace(s, events=tuple(e for e in s.events if chosen(e.case_key))) for s in self.steps)
        return replace(self, steps=steps)


def population_of(rng: random.Random, name: str) -> Population:
    events = rng.choice((["Asked"], ["Answered"], ["Asked", "Answered"]))
    fields = ["colour", "urgent"] if events == ["Asked"] else ["colour"]
    period = Period.DAY if rng.random() < 0.03 else rng.choice(PERIODS)
    horizon = Horizon.LIFETIME if period is Period.WEEK else rng.choice((Horizon.LIFETIME, Horizon.YEAR))
    coarser = [each for each in Period if each.is_made_of(period)]
    if horizon is Horizon.YEAR and Period.WEEK in coarser:
        coarser.remove(Period.WEEK)
    tables: dict[str, AskedTable] = {}
    where: dict[str, list[str | bool]] = {}
    for number in range(rng.choice((1, 2, 2, 3, 3))):
        if rng.random() < 0.5:  # otherwise it has the filter of the table before, and may be a margin of it
            where = _where(rng, fields, 0.4)
        table = AskedTable(
            f"{name}_t{number}",
            1.0,
            by=[each for each in fields if rng.random() < 0.5],
            where=where,
            period=rng.choice(coarser) if number else period,
        )
        # A table that another one is already would be refused: its epsilon buys nothing.
        tables.setdefault(repr((table.by, sorted(table.where.items()), table.period)), table)
    return resolve(
        name,
        events=events,
        registry=TRIALS,
        where=_where(rng, fields, 0.25),
        period=period,
        max_contributions=rng.choice((1, 1, 2, 3)),
        horizon=horizon,
        late=rng.choice((Late.CARRY, Late.CARRY, Late.DROP)),
        since=START + dt.timedelta(days=rng.choice((-309, -40, -10, 0, 30))),
        tables=list(tables.values()),
    )


def _where(rng: random.Random, fields: Sequence[str], chance: float) -> dict[str, list[str | bool]]:
    where: dict[str, list[str | bool]] = {}
    if rng.random() < chance:
        where["colour"] = sorted(rng.sample(COLOURS, rng.choice((1, 2))))
    if "urgent" in fields and rng.random() < chance:
        where["urgent"] = [rng.choice((True, False))]
    return where


def story_of(seed: int, most: int = 3) -> Story:
    """Return the story of a seed, with `most` populations or fewer."""
    rng = random.Random(seed)
    populations = tuple(population_of(rng, f"p{number}") for number in range(rng.randint(1, most)))
    day = START
    sent: list[CaseEvent] = []
    steps = []
    for _ in range(rng.randint(4, 9)):
        day += dt.timedelta(days=rng.choice((1, 9, 20, 33, 50)))
        events = []
        for _ in range(rng.choice((2, 6, 12))):
            events.append(_event(rng, day, sent))
            sent.append(events[-1])
        grace = dt.timedelta(days=rng.choice((0, 0, 7)))
        steps.append(Step(day, tuple(events), rng.random() < 0.6, grace, rng.random() < 0.15))
    steps.append(Step(_all_over(populations, day), ()))
    if rng.random() < 0.5:  # long after, much comes again
        day = steps[-1].day + dt.timedelta(days=rng.choice((0, 1, 20)))
        again = tuple(rng.sample(sent, len(sent) // 2))
        steps.append(Step(day, again, release=False, restart=rng.random() < 0.3))
        steps.append(Step(_all_over(populations, day), ()))
    return Story(seed, populations, tuple(steps), rng.choice((1, 2, 3, 4)), rng.random() < 0.5)


def _all_over(populations: Sequence[Population], day: dt.date) -> dt.date:
    """Return the day on which every period of every table that holds `day` is over."""
    return max(table.period.next(day) for population in populations for table in population.tables)


def _event(rng: random.Random, day: dt.date, sent: Sequence[CaseEvent]) -> CaseEvent:
    chance = rng.random()
    occurred = max(day - dt.timedelta(days=rng.choice((0, 0, 3, 20, 45, 120))), START - dt.timedelta(days=80))
    if sent and chance < 0.15:
        return rng.choice(sent)  # a redelivery, perhaps long after its period was closed
    kind = rng.choice(("Asked", "Asked", "Asked", "Answered", "Answered", "Idle"))
    attributes: dict[str, Any] = {}
    if kind != "Idle":
        attributes["colour"] = rng.choice(COLOURS)
    if kind == "Asked":
        attributes["urgent"] = rng.choice((True, False, None))
    if sent and chance < 0.45:
        old = rng.choice(sent)  # a correction: of the date, the type, or what a filter asks
        if old.event != "Left":
            revision = max(0, old.revision + rng.choice((0, 1, 1, 2, -1)))
            if rng.random() < 0.5:
                occurred = old.occurred_on
            return CaseEvent(kind, old.case_key, old.event_id, revision, occurred, attributes)
    case = case_key(rng.randrange(CASES))
    if chance > 0.97:
        return CaseEvent("Left", case, event_id(999), 0, occurred, {})
    # Few event ids, so that cases share them.
    return CaseEvent(kind, case, event_id(rng.randrange(12)), rng.choice((0, 0, 0, 1)), occurred, attributes)


def played(story: Story, folder: Path, oracle: Oracle | None = None, batches: int | None = None) -> Releases:
    """Return the true values of every release of a story; compare each with the oracle if one is given."""
    rng = random.Random(story.seed if batches is None else batches)
    sizes = iter(lambda: rng.choice((1, 2, 5, 1000)), 0)
    log = MemoryLog(story.partitions, exact_purge=story.exact_purge)
    with world_in(folder, story.populations, log=log, now=utc(START), published=False) as world:
        for step in story.steps:
            if step.restart:
                world.restart(utc(step.day))
            before = list(log.ends)
            world.emit(step.events)
            world.fold(step.day, sizes)
            if oracle is not None:
                for records, end in zip(log.records, before, strict=True):
                    for record in records:
                        if record.offset >= end:
                            oracle.fold(world.codec.decode(record.value), record.offset)
            if not step.release:
                continue
            earlier = world.released.keys()
            world.release(utc(step.day), step.grace)
            if oracle is not None:
                actual = {key: values for key, values in world.released.items() if key not in earlier}
                expected = oracle.release(utc(step.day), step.grace)
                assert actual == expected, f"seed {story.seed}, {step.day}: {differences(actual, expected)}"
        return world.released


def foretold(story: Story) -> Releases:
    """Return what the oracle alone says of a story: the true values of every release."""
    oracle = Oracle(story.populations)
    places = [0] * story.partitions
    values: Releases = {}
    for step in story.steps:
        for event in step.events:
            partition = event.case_key[0] % story.partitions
            oracle.fold(event, places[partition])
            places[partition] += 1
        if step.release:
            values |= oracle.release(utc(step.day), step.grace)
    return values


def differences(actual: Releases, expected: Releases) -> str:
    """Return each release in which two differ."""
    keys = sorted(actual.keys() | expected.keys())
    found = [(key, actual.get(key), expected.get(key)) for key in keys if actual.get(key) != expected.get(key)]
    return "; ".join(f"{name} from {start}: {one}, expected {other}" for (name, start), one, other in found)
