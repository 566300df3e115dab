"""An oracle in plain Python, written from the rules and not from the SQL, and the worlds that it judges.

Worlds are drawn from a seed that every failure names: duplicates, corrections that change the date, the type or what
a filter asks, redeliveries after the close, withdrawals, event ids that cases share, several statistics at once, any
batches, any times of release, restarts, and logs that forget exactly or only their beginning.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.aggregates_world import TRIALS, MemoryLog, case_key, event_id, utc, world_in

from quietcount_aggregates.statistics import Horizon, Late, Statistic, resolve
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.periods import Period

START = dt.date(2023, 11, 6)

# ---------------------------------------------------------------- the oracle


@dataclass(frozen=True)
class Version:
    """One folded record: the event, its place in the log, and the day on the fold's clock."""

    event: CaseEvent
    place: int
    clock: dt.date


@dataclass
class Account:
    """What the oracle knows of one statistic."""

    statistic: Statistic
    first_open: dt.date
    closed: set[tuple[bytes, bytes]] = field(default_factory=set)
    used: dict[tuple[int, bytes], int] = field(default_factory=lambda: defaultdict(int))


class Oracle:
    """The rules, one event at a time."""

    def __init__(self, statistics: Sequence[Statistic]) -> None:
        self.accounts = {s.name: Account(s, s.first_day) for s in statistics}
        self.remembered: dict[tuple[bytes, bytes], list[Version]] = defaultdict(list)
        self.gone: set[bytes] = set()

    def fold(self, event: CaseEvent, place: int, clock: dt.date) -> None:
        if event.event == "Left":
            self.gone.add(event.case_key)
            return
        counted = any(event.event in account.statistic.events for account in self.accounts.values())
        # What no statistic counts is not remembered, unless it may correct what one does.
        if counted or event.revision > 0:
            self.remembered[event.case_key, event.event_id].append(Version(event, place, clock))

    def standing(self) -> Iterator[tuple[tuple[bytes, bytes], Version, int]]:
        for key, versions in self.remembered.items():
            if key[0] not in self.gone:
                best = min(versions, key=lambda version: (-version.event.revision, version.place))
                yield key, best, min(version.place for version in versions)

    def place_in(self, account: Account, version: Version) -> dt.date | None:
        """Return the period that an event belongs to, or None."""
        statistic, event = account.statistic, version.event
        if event.event not in statistic.events and event.revision == 0:
            return None
        own = statistic.period.start(event.occurred_on)
        if own >= account.first_open:
            return own
        if own < statistic.first_day or statistic.late is Late.DROP:
            return None
        carried = max(statistic.period.start(version.clock), account.first_open)
        if statistic.horizon is Horizon.YEAR and carried.year != event.occurred_on.year:
            return None
        return carried

    @staticmethod
    def cell(statistic: Statistic, event: CaseEvent) -> tuple[str, ...] | None:
        """Return the symbols of an event's cell, or None where it does not count."""
        if event.event not in statistic.events:
            return None

        def symbol(name: str, default: str) -> str:
            value = event.attributes[name]
            return default if value is None else str(value).lower() if isinstance(value, bool) else str(value)

        if any(symbol(f.field.name, f.field.default) not in f.accepted for f in statistic.where):
            return None
        return tuple(symbol(dimension.name, dimension.default) for dimension in statistic.by)

    def release(self, due: Sequence[tuple[str, dt.date]]) -> dict[tuple[str, dt.date], tuple[int, ...]]:
        values: dict[tuple[str, dt.date], tuple[int, ...]] = {}
        needed: set[tuple[bytes, bytes]] = set()
        for name, account in self.accounts.items():
            statistic = account.statistic
            periods = [start for each, start in due if each == name]
            following = statistic.period.next(periods[-1]) if periods else account.first_open
            counts: dict[tuple[dt.date, tuple[str, ...]], int] = defaultdict(int)
            taken: dict[tuple[int, bytes], int] = defaultdict(int)
            spent: list[tuple[int, bytes]] = []
            for key, version, _ in sorted(self.standing(), key=lambda item: item[2]):
                period = self.place_in(account, version)
                if key in account.closed or period is None:
                    continue
                cell = self.cell(statistic, version.event)
                if cell is not None:
                    budget = (period.year if statistic.horizon is Horizon.YEAR else 0, key[0])
                    if account.used[budget] + taken[budget] < statistic.max_contributions:
                        taken[budget] += 1
                        counts[period, cell] += 1
                        if period < following:
                            spent.append(budget)
                if period < following:
                    account.closed.add(key)
                else:
                    needed.add(key)
            for budget in spent:
                account.used[budget] += 1
            for start in periods:
                cells = itertools.product(*(dimension.symbols for dimension in statistic.by))
                values[name, start] = tuple(counts[start, cell] for cell in cells)
            account.first_open = following
        if due:
            self.remembered = defaultdict(list, {k: v for k, v in self.remembered.items() if k in needed})
        return values


# ---------------------------------------------------------------- worlds from a seed


@dataclass(frozen=True)
class Step:
    """One day of a world: what is emitted, and whether the fold is followed by a release, after which grace."""

    day: dt.date
    events: tuple[CaseEvent, ...]
    release: bool
    grace: dt.timedelta
    restart: bool


@dataclass(frozen=True)
class Story:
    """A world's statistics and days."""

    seed: int
    statistics: tuple[Statistic, ...]
    steps: tuple[Step, ...]
    partitions: int
    exact_purge: bool

    def without(self, key: bytes) -> Story:
        steps = tuple(replace(s, events=tuple(e for e in s.events if e.case_key != key)) for s in self.steps)
        return replace(self, steps=steps)


def statistic_of(rng: random.Random, name: str) -> Statistic:
    events = rng.choice((["Asked"], ["Answered"], ["Asked", "Answered"]))
    where: dict[str, list[str | bool]] = {}
    if rng.random() < 0.4:
        where["colour"] = rng.sample(["RED", "GREEN", "NONE"], rng.choice((1, 2)))
    if events == ["Asked"] and rng.random() < 0.3:
        where["urgent"] = [rng.choice((True, False))]
    period = rng.choice((Period.WEEK, Period.MONTH, Period.MONTH, Period.QUARTER, Period.YEAR))
    horizons = [Horizon.LIFETIME] if period is Period.WEEK else [Horizon.LIFETIME, Horizon.LIFETIME, Horizon.YEAR]
    return resolve(
        name,
        events=events,
        registry=TRIALS,
        where=where,
        by=rng.choice(([], ["colour"], ["colour", "urgent"] if events == ["Asked"] else ["colour"])),
        period=period,
        max_contributions=rng.choice((1, 1, 2, 3)),
        horizon=rng.choice(horizons),
        late=rng.choice((Late.CARRY, Late.CARRY, Late.DROP)),
        since=START + dt.timedelta(days=rng.choice((-40, -10, 0, 30))),
        epsilon=1.0,
    )


def story_of(seed: int, statistics: int = 3) -> Story:
    rng = random.Random(seed)
    day = START
    sent: list[CaseEvent] = []
    steps = []
    for _ in range(rng.randint(4, 9)):
        day += dt.timedelta(days=rng.choice((1, 9, 20, 33, 50)))
        events = []
        for _ in range(rng.choice((2, 5, 9))):
            event = _event(rng, day, sent)
            sent.append(event)
            events.append(event)
        grace = dt.timedelta(days=rng.choice((0, 0, 7)))
        steps.append(Step(day, tuple(events), rng.random() < 0.6, grace, rng.random() < 0.15))
    steps.append(Step(day + dt.timedelta(days=800), (), True, dt.timedelta(0), False))
    declared = tuple(statistic_of(rng, f"s{number}") for number in range(rng.randint(1, statistics)))
    return Story(seed, declared, tuple(steps), rng.choice((1, 3)), rng.random() < 0.5)


def _event(rng: random.Random, day: dt.date, sent: Sequence[CaseEvent]) -> CaseEvent:
    chance = rng.random()
    occurred = max(day - dt.timedelta(days=rng.choice((0, 0, 3, 20, 45, 120))), START - dt.timedelta(days=80))
    if sent and chance < 0.15:
        return rng.choice(sent)  # a redelivery, perhaps long after its period was closed
    kind = rng.choice(("Asked", "Asked", "Asked", "Answered", "Answered", "Idle"))
    attributes: dict[str, Any] = {}
    if kind != "Idle":
        attributes["colour"] = rng.choice(("RED", "GREEN", "NONE"))
    if kind == "Asked":
        attributes["urgent"] = rng.choice((True, False, None))
    if sent and chance < 0.45:
        old = rng.choice(sent)  # a correction: of the date, the type, or what a filter asks
        if old.event != "Left":
            revision = max(0, old.revision + rng.choice((0, 1, 1, 2, -1)))
            if rng.random() < 0.5:
                occurred = old.occurred_on
            return CaseEvent(kind, old.case_key, old.event_id, revision, occurred, attributes)
    case = case_key(rng.randrange(5))
    if chance > 0.97:
        return CaseEvent("Left", case, event_id(999), 0, occurred, {})
    # Few event ids, so that cases share them.
    return CaseEvent(kind, case, event_id(rng.randrange(12)), rng.choice((0, 0, 0, 1)), occurred, attributes)


Releases = dict[tuple[str, dt.date], tuple[int, ...]]


def played(story: Story, folder: Path, oracle: Oracle | None = None, batches: int | None = None) -> Releases:
    """Return every exact release of a story; compare each with the oracle where one is given."""
    rng = random.Random(story.seed if batches is None else batches)
    sizes = iter(lambda: rng.choice((1, 2, 3, 7, 1000)), 0)
    log = MemoryLog(story.partitions, exact_purge=story.exact_purge)
    with world_in(folder, story.statistics, log=log, now=utc(START)) as world:
        for step in story.steps:
            if step.restart:
                world.restart(utc(step.day))
            before = list(log.ends)
            world.emit(step.events)
            world.fold(step.day, sizes)
            if oracle is not None:
                for records in zip(log.records, before, strict=True):
                    for record in records[0]:
                        if record.offset >= records[1]:
                            oracle.fold(world.codec.decode(record.value), record.offset, step.day)
            if not step.release:
                continue
            due = world.releaser.due(utc(step.day), step.grace)
            world.release(utc(step.day), step.grace)
            if oracle is not None:
                expected = oracle.release([(period.statistic, period.start) for period in due])
                actual = {key: world.released[key] for key in expected}
                assert actual == expected, f"seed {story.seed}, {step.day}"
        return world.released
