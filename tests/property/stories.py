"""Stories from a seed that every failure names, and what of them is compared.

A world has populations of up to three tables each, some of them declared later or retired, and days on which events
are emitted, folded in batches of any size, and released after some grace. Its log has up to four partitions, forgets
exactly or only its beginning, and is lost and made again. Processes restart.

Such a world plays several stories at once: each has cases and events of its own, with duplicates, events that come
late or are dated far ahead, corrections that change the date, the type or what a filter asks, redeliveries long after
the close, withdrawals, and event ids that cases share. And it plays each of them in four parts: whole, in two halves of
its cases, and without one case. Every table tells the parts apart, so that one world shows what one case changes. A
world can also be played in four logs, one for each part.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.aggregates_world import event_id
from tests.property.counting_oracle import Releases, cells_of, margins, summed
from tests.strategies import envelope, registry_of

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.populations import Horizon, Late, Population, Table
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.periods import Period
from quietcount_schemas.registry import SchemaRegistry

__all__ = [
    "PARTS",
    "START",
    "STORIES",
    "Step",
    "World",
    "check_halves",
    "check_margins",
    "check_one_case",
    "differences",
    "world_of",
]

START = dt.date(2023, 11, 6)
STORIES = 4
"""How many stories a world plays."""
CASES = 5
"""How many cases a story has."""
PARTS = ("WHOLE", "ONE", "OTHER", "WITHOUT")
"""A story of all cases, of half of them, of the other half, and of all but one."""
COLOURS = ("RED", "GREEN", "NONE")
PERIODS = (Period.WEEK, Period.WEEK, *[Period.MONTH] * 6, *[Period.QUARTER] * 3, Period.YEAR)


def _enum(name: str, symbols: Sequence[str]) -> dict[str, Any]:
    kind = {"type": "enum", "name": name.capitalize(), "symbols": [*symbols], "default": "NONE", "doc": "."}
    return {"name": name, "type": kind, "default": "NONE", "doc": "Of a trial."}


def _registry() -> SchemaRegistry:
    part = _enum("part", [*(f"{part}_{story}" for story in range(STORIES) for part in PARTS), "NONE"])
    urgent = {"name": "urgent", "type": ["null", "boolean"], "default": None, "doc": "Whether it was urgent."}
    bodies: list[tuple[str, str, list[Any]]] = [
        ("Asked", "event", [part, _enum("colour", COLOURS), urgent]),
        ("Answered", "event", [part, _enum("colour", COLOURS)]),
        ("Idle", "event", []),
        ("Left", "withdrawal", []),
    ]
    return registry_of(
        *(
            {
                "type": "record",
                "name": name,
                "namespace": "example.story",
                "doc": "A trial.",
                "quietcount.role": role,
                "fields": envelope() + fields,
            }
            for name, role, fields in bodies
        )
    )


REGISTRY = _registry()


@dataclass(frozen=True)
class Step:
    """One day: what happens to the deployment, what is emitted, and after which grace is released, if it is."""

    day: dt.date
    events: tuple[CaseEvent, ...] = ()
    release: bool = True
    grace: dt.timedelta = dt.timedelta(0)
    restart: bool = False
    new_log: bool = False
    declared: tuple[Population, ...] = ()
    completed: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """The populations that a ledger is opened with, the days, and for each story the case that it is told without."""

    seed: int
    opening: tuple[Population, ...]
    steps: tuple[Step, ...]
    partitions: int
    exact_purge: bool
    left_out: tuple[int, ...]

    @property
    def populations(self) -> list[Population]:
        return [*self.opening, *(each for step in self.steps for each in step.declared)]

    def of(self, part: str) -> World:
        """Return the same world with one part of each story alone."""
        number = PARTS.index(part)
        steps = tuple(replace(s, events=tuple(e for e in s.events if e.case_key[1] == number)) for s in self.steps)
        return replace(self, steps=steps)


Told = list[tuple[int, CaseEvent]]
"""What is emitted of one story on one day: a case's number and an event of it, without a case key and a part."""


def world_of(seed: int, most: int = 3) -> World:
    """Return the world of a seed, with `most` populations or fewer when its ledger is opened."""
    rng, ahead = random.Random(seed), random.Random(f"{seed} ahead")
    opening = tuple(_population(rng, f"p{number}") for number in range(rng.randint(1, most)))
    sent: list[Told] = [[] for _ in range(STORIES)]
    days: list[list[Told]] = []
    steps: list[Step] = []

    def add(step: Step, told: list[Told]) -> None:
        steps.append(step)
        days.append(told)

    day = START
    for number in range(rng.randint(3, 5)):
        day += dt.timedelta(days=rng.choice((1, 12, 25, 40, 60)))
        step = Step(
            day,
            release=rng.random() < 0.5,
            grace=dt.timedelta(days=rng.choice((0, 0, 7))),
            restart=rng.random() < 0.08,
            new_log=number > 0 and rng.random() < 0.08,
        )
        if number and rng.random() < 0.1:
            step = replace(step, declared=(_population(rng, f"p{10 + number}", rng.choice((-90, -20, 10)), day),))
        add(step, [_day_of(rng, day, known) for known in sent])
    steps[:] = _with_endings(rng, opening, steps)
    populations = [*opening, *(each for step in steps for each in step.declared)]
    add(Step(_all_over(populations, day)), [])
    if rng.random() < 0.4:  # long after, much comes again
        day = steps[-1].day + dt.timedelta(days=rng.choice((0, 1, 20)))
        again = [rng.sample(known, len(known) // 2) for known in sent]
        add(Step(day, release=False, restart=rng.random() < 0.2), again)
        add(Step(_all_over(populations, day)), [])

    for told in days:
        _date_ahead(ahead, told)
    halves = [set(rng.sample(range(CASES), CASES // 2)) for _ in range(STORIES)]
    left_out = tuple(_one_case(rng, known) for known in sent)
    for number, told in enumerate(days):
        copies = [
            [copy for case, event in events for copy in _copies(story, case, event, halves[story], left_out[story])]
            for story, events in enumerate(told)
        ]
        steps[number] = replace(steps[number], events=_shuffled(rng, copies))
    return World(seed, opening, tuple(steps), rng.choice((1, 2, 3, 4)), rng.random() < 0.5, left_out)


def _day_of(rng: random.Random, day: dt.date, known: Told) -> Told:
    """Return what is emitted on a day, and add it to what is known of the story."""
    fresh: Told = []
    for _ in range(rng.choice((2, 4, 9))):
        fresh.append(_event(rng, day, [*known, *fresh]))
    known.extend(fresh)
    return fresh


def _date_ahead(rng: random.Random, stories: Sequence[Told]) -> None:
    """Send some events of a day also as versions that are dated ahead, by days or by years."""
    for told in stories:
        for place, (case, event) in reversed(list(enumerate(told))):
            if rng.random() < 0.08 and event.event != "Left":
                day = event.occurred_on + dt.timedelta(days=rng.choice((2, 5, 30, 100, 400, 26_000)))
                wrong = replace(event, occurred_on=day, revision=max(0, event.revision + rng.choice((-1, 0, 1))))
                told.insert(place + rng.choice((0, 1)), (case, wrong))


def _one_case(rng: random.Random, told: Told) -> int:
    """Return the case that a story is told without: mostly the one that comes most often, which could move most."""
    came = Counter(case for case, _ in told)
    return came.most_common(1)[0][0] if rng.random() < 0.7 else rng.randrange(CASES)


def _population(rng: random.Random, name: str, after: int | None = None, day: dt.date = START) -> Population:
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
            by=["part", *(each for each in fields if rng.random() < 0.5)],
            where=where,
            period=rng.choice(coarser) if number else period,
        )
        # A table that another one is already would be refused: its epsilon buys nothing.
        tables.setdefault(repr((table.by, sorted(table.where.items()), table.period)), table)
    return resolve(
        name,
        events=events,
        registry=REGISTRY,
        where=_where(rng, fields, 0.25),
        period=period,
        max_contributions=rng.choice((1, 1, 2, 3)),
        horizon=horizon,
        late=rng.choice((Late.CARRY, Late.CARRY, Late.DROP)),
        since=day + dt.timedelta(days=rng.choice((-309, -40, -10, 0, 30)) if after is None else after),
        tables=list(tables.values()),
    )


def _where(rng: random.Random, fields: Sequence[str], chance: float) -> dict[str, list[str | bool]]:
    where: dict[str, list[str | bool]] = {}
    if rng.random() < chance:
        where["colour"] = sorted(rng.sample(COLOURS, rng.choice((1, 2))))
    if "urgent" in fields and rng.random() < chance:
        where["urgent"] = [rng.choice((True, False))]
    return where


def _with_endings(rng: random.Random, opening: Sequence[Population], steps: Sequence[Step]) -> list[Step]:
    """Let the past of what is declared later be complete one day, and retire a population of several, rarely."""
    found = list(steps)
    for number, step in enumerate(steps):
        for population in step.declared:
            later = rng.randrange(number, len(steps))
            found[later] = replace(found[later], completed=(*found[later].completed, population.name))
    if len(opening) > 1 and rng.random() < 0.1:
        later = rng.randrange(1, len(steps))
        found[later] = replace(found[later], retired=(rng.choice(opening).name,))
    return found


def _all_over(populations: Sequence[Population], day: dt.date) -> dt.date:
    """Return the day on which every period of every table that holds `day` is over."""
    return max(table.period.next(day) for population in populations for table in population.tables)


def _event(rng: random.Random, day: dt.date, sent: Told) -> tuple[int, CaseEvent]:
    """Return one more event of a story in which some were sent."""
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
        case, old = rng.choice(sent)  # a correction: of the date, the type, or what a filter asks
        if old.event != "Left":
            revision = max(0, old.revision + rng.choice((0, 1, 1, 2, -1)))
            if rng.random() < 0.5:
                occurred = old.occurred_on
            return case, CaseEvent(kind, b"", old.event_id, revision, occurred, attributes)
    case = rng.randrange(CASES)
    if chance > 0.97:
        return case, CaseEvent("Left", b"", event_id(999), 0, occurred, {})
    # Few event ids, so that cases share them.
    return case, CaseEvent(kind, b"", event_id(rng.randrange(12)), rng.choice((0, 0, 0, 1)), occurred, attributes)


def _copies(story: int, case: int, event: CaseEvent, half: Collection[int], left_out: int) -> list[CaseEvent]:
    """Return an event as each part has it that has its case. The key's first byte is the case, its second the part."""
    parts = ["WHOLE", "ONE" if case in half else "OTHER", *(["WITHOUT"] if case != left_out else [])]
    copies = []
    for part in parts:
        key = bytes([case + CASES * story, PARTS.index(part)]) + b"key of a trial"
        told = {"part": f"{part}_{story}", **event.attributes} if event.attributes else {}
        copies.append(replace(event, case_key=key, attributes=told))
    return copies


def _shuffled(rng: random.Random, told: Sequence[Sequence[CaseEvent]]) -> tuple[CaseEvent, ...]:
    """Return the events of stories among one another, each story's in its order."""
    turns = [story for story, events in enumerate(told) for _ in events]
    rng.shuffle(turns)
    rest = [iter(events) for events in told]
    return tuple(next(rest[story]) for story in turns)


# ---------------------------------------------------------------- what is compared


def _of_part(populations: Sequence[Population], released: Releases, part: str) -> Releases:
    """Return what of each release belongs to one part of one story."""
    tables: dict[str, Table] = {table.name: table for population in populations for table in population.tables}
    found = {}
    for (name, start), values in released.items():
        place = [each.name for each in tables[name].by].index("part")
        cells = zip(cells_of(tables[name]), values, strict=True)
        found[name, start] = tuple(value for cell, value in cells if cell[place] == part)
    return found


def check_halves(world: World, released: Releases) -> None:
    """Hold that each whole story is, cell by cell, the sum of its two halves."""
    for story in range(STORIES):
        whole, one, other = (_of_part(world.populations, released, f"{part}_{story}") for part in PARTS[:3])
        both = {key: tuple(a + b for a, b in zip(values, other[key], strict=True)) for key, values in one.items()}
        found = differences(whole, both)
        assert whole == both, f"seed {world.seed}, story {story}, not the sum of its halves: {found}"


def check_one_case(world: World, released: Releases) -> int:
    """Hold that one case moves no table by more than k; return how far the farthest moved in units of k, in percent."""
    farthest = 0
    for story, case in enumerate(world.left_out):
        key = bytes([case + CASES * story, 0])
        came = {0, *(e.occurred_on.year for step in world.steps for e in step.events if e.case_key.startswith(key))}
        whole, rest = (_of_part(world.populations, released, f"{part}_{story}") for part in ("WHOLE", "WITHOUT"))
        for population, table in ((each, table) for each in world.populations for table in each.tables):
            k, where = population.max_contributions, f"seed {world.seed}, story {story}: one case moves {table.name}"
            for year, moved in _distances(population, table, whole, rest).items():
                assert moved <= k, f"{where} by more than k in {year or 'its life'}"
                assert not moved or year in came, f"{where} in a year it did not come"
                farthest = max(farthest, 100 * moved // k)
    return farthest


def _distances(population: Population, table: Table, one: Releases, other: Releases) -> dict[int, int]:
    """Return the L1 distance of all releases of a table, by year if the horizon is a year."""
    moved: dict[int, int] = defaultdict(int)
    for (name, start), values in one.items():
        if name == table.name:
            year = start.year if population.horizon is Horizon.YEAR else 0
            moved[year] += sum(abs(a - b) for a, b in zip(values, other[name, start], strict=True))
    return moved


def check_margins(world: World, released: Releases) -> int:
    """Compare each table with the sums of another whose margin it is; return how many sums were above 0."""
    above = 0
    for population in world.populations:
        for coarse, fine in margins(population):
            for key, values in summed(coarse, fine, released).items():
                assert released.get(key) == values, f"seed {world.seed}: {key} is not the sum of {fine.name}"
                above += sum(value > 0 for value in values)
    return above


def differences(actual: Releases, expected: Releases) -> str:
    """Return the first releases in which two differ, and the places of the cells that do."""
    keys = sorted(key for key in actual.keys() | expected.keys() if actual.get(key) != expected.get(key))
    told = []
    for name, start in keys[:5]:
        one, other = actual.get((name, start)), expected.get((name, start))
        if one is None or other is None or len(one) != len(other):
            told.append(f"{name} from {start} is in one of them alone")
        else:
            cells = [
                f"{a} for {b} in cell {place}" for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b
            ]
            told.append(f"{name} from {start}: {', '.join(cells)}")
    return "; ".join(told)
