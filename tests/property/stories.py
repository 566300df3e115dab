"""Stories from a seed that every failure names, and what of them is compared.

A world has populations of up to three tables each, some of them declared later or retired, and days on which events
are emitted, folded in batches of any size, and released after some grace. Its log has up to four partitions, forgets
its beginning or nothing, and is lost and made again. The private state is lost. Some emitters have newer schemas than
the service, and their events are dead letters until it has them, too. Processes restart.

Such a world plays several stories at once: each has cases and events of its own, with duplicates, events that come
late or are dated far ahead, corrections that change the date, the type or what a filter asks, redeliveries long after
the close, withdrawals, and event ids that cases share. And it plays each of them in four parts: whole, in two halves of
its cases, and without one case. Every table tells the parts apart, so that one world shows what one case changes. A
world can also be played in four logs, one for each part.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.aggregates_world import event_id
from tests.property.story_schemas import COLOURS, LATER, LATER_COLOURS, PARTS, REGISTRY, STORIES, made_newer

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.numbers import Buckets, Summed
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["CASES", "START", "Step", "World", "world_of"]

START = dt.date(2023, 11, 6)
CASES = 5
"""How many cases a story has."""
PERIODS = (Period.WEEK, Period.WEEK, *[Period.MONTH] * 6, *[Period.QUARTER] * 3, Period.YEAR)


@dataclass(frozen=True)
class Step:
    """One day: what happens to the deployment, what is emitted, and after which grace is released, if it is.

    It happens in this order: the log is made again, the private state is lost, the service gets the newer schemas and
    the populations that are declared, and what was a dead letter is emitted again.
    """

    day: dt.date
    events: tuple[CaseEvent, ...] = ()
    release: bool = True
    grace: dt.timedelta = dt.timedelta(0)
    restart: bool = False
    new_log: bool = False
    lost: bool = False
    newer_schemas: bool = False
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
    forgetful: bool
    """Whether the log forgets what it may; another one keeps everything."""
    left_out: tuple[int, ...]

    @property
    def populations(self) -> list[Population]:
        return [*self.opening, *(each for step in self.steps for each in step.declared)]

    @property
    def losses(self) -> int:
        return sum(step.lost for step in self.steps)

    def of(self, part: str) -> World:
        """Return the same world with one part of each story alone."""
        number = PARTS.index(part)
        steps = tuple(replace(s, events=tuple(e for e in s.events if e.case_key[1] == number)) for s in self.steps)
        return replace(self, steps=steps)


Told = list[tuple[int, CaseEvent]]
"""What is emitted of one story on one day: a case's number and an event of it, without a case key and a part."""


def world_of(seed: int, most: int = 3) -> World:
    """Return the world of a seed, with `most` populations or fewer when its ledger is opened."""
    rng, ahead, newer = random.Random(seed), random.Random(f"{seed} ahead"), random.Random(f"{seed} newer")
    opening = tuple(_population(rng, f"p{number}") for number in range(rng.randint(1, most)))
    sent: list[Told] = [[] for _ in range(STORIES)]
    days: list[list[Told]] = []
    steps: list[Step] = []

    def add(step: Step, told: list[Told]) -> None:
        steps.append(step)
        days.append(told)

    day, first_days = START, rng.randint(3, 5)
    # From that day on the service has the newer schemas. In most worlds there are none.
    has_newer = newer.randrange(1, first_days) if newer.random() < 0.2 else first_days
    for number in range(first_days):
        day += dt.timedelta(days=rng.choice((1, 12, 25, 40, 60)))
        step = Step(
            day,
            release=rng.random() < 0.5,
            grace=dt.timedelta(days=rng.choice((0, 0, 7))),
            restart=rng.random() < 0.08,
            new_log=number > 0 and rng.random() < 0.08,
        )
        later = LATER if number >= has_newer else REGISTRY
        if number and rng.random() < 0.1:
            asked = _population(rng, f"p{10 + number}", rng.choice((-90, -20, 10)), day, later)
            step = replace(step, declared=(asked,))
        if number == has_newer:
            asked = _population(newer, f"p{20 + number}", newer.choice((-90, -20, 10)), day, LATER)
            declared = (*step.declared, asked) if newer.random() < 0.6 else step.declared
            step = replace(step, newer_schemas=True, declared=declared)
        add(step, [_day_of(rng, day, known) for known in sent])
    steps[:] = _with_endings(rng, opening, steps)
    populations = [*opening, *(each for step in steps for each in step.declared)]
    add(Step(_all_over(populations, day)), [[] for _ in sent])
    if rng.random() < 0.4:  # long after, much comes again
        day = steps[-1].day + dt.timedelta(days=rng.choice((0, 1, 20)))
        again = [rng.sample(known, len(known) // 2) for known in sent]
        add(Step(day, release=False, restart=rng.random() < 0.2), again)
        add(Step(_all_over(populations, day)), [[] for _ in sent])

    steps[:] = _with_losses(random.Random(f"{seed} lost"), steps, days)
    for told in days:
        _date_ahead(ahead, told)
        if has_newer < first_days:
            _make_newer(newer, told)
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


def _make_newer(rng: random.Random, stories: Sequence[Told]) -> None:
    """Let some events of a day come from emitters that have the newer schemas."""
    for told in stories:
        told[:] = [(case, made_newer(rng, event) if rng.random() < 0.2 else event) for case, event in told]


def _with_losses(rng: random.Random, steps: Sequence[Step], days: Sequence[list[Told]]) -> list[Step]:
    """Lose the private state once or twice in a few worlds, sometimes together with the log.

    In half of them all that was sent before is emitted again, as those are told to do who lose it.
    """
    found, chance = list(steps), rng.random()
    for number in sorted(rng.sample(range(1, len(steps)), 2 if chance < 0.05 else 1 if chance < 0.18 else 0)):
        found[number] = replace(found[number], lost=True, new_log=found[number].new_log or rng.random() < 0.1)
        if rng.random() < 0.5:
            for story, told in enumerate(days[number]):
                told[:0] = [each for day in days[:number] for each in day[story]]
    return found


def _one_case(rng: random.Random, told: Told) -> int:
    """Return the case that a story is told without: mostly the one that comes most often, which could move most."""
    came = Counter(case for case, _ in told)
    return came.most_common(1)[0][0] if rng.random() < 0.7 else rng.randrange(CASES)


def _population(
    rng: random.Random, name: str, after: int | None = None, day: dt.date = START, registry: SchemaRegistry = REGISTRY
) -> Population:
    colours: Sequence[str] = COLOURS
    kinds = [["Asked"], ["Answered"], ["Asked", "Answered"]]
    if registry is LATER:
        colours, kinds = LATER_COLOURS, [*kinds, ["Helped"], ["Asked", "Helped"], ["Answered", "Asked", "Helped"]]
    events = rng.choice(kinds)
    fields = ["colour", "urgent"] if events == ["Asked"] else ["colour"]
    period = Period.DAY if rng.random() < 0.03 else rng.choice(PERIODS)
    horizon = Horizon.LIFETIME if period is Period.WEEK else rng.choice((Horizon.LIFETIME, Horizon.YEAR))
    coarser = [each for each in Period if each.is_made_of(period)]
    if horizon is Horizon.YEAR and Period.WEEK in coarser:
        coarser.remove(Period.WEEK)
    if Period.WEEK in coarser:  # a week may lie in two months
        coarser = [each for each in coarser if each in (Period.DAY, Period.WEEK)]
    elif period is Period.DAY:  # a year of days takes too much to make agree
        coarser = [Period.DAY, Period.MONTH]
    asked: list[AskedTable] = []
    where: dict[str, list[str | bool]] = {}
    for number in range(rng.choice((1, 2, 2, 3, 3))):
        if rng.random() < 0.5:  # otherwise it has the filter of the table before, and may be a margin of it
            where = _where(rng, fields, colours, 0.4)
        asked.append(
            AskedTable(
                f"{name}_t{number}",
                1.0,
                by=["part", *(each for each in fields if rng.random() < 0.5)],
                where=where,
                period=rng.choice(coarser) if number else period,
            )
        )
    conditions = _where(rng, fields, colours, 0.25)
    tables: dict[str, AskedTable] = {}
    for table in asked:
        # Refused would be a table that counts nothing, and one that another one is already.
        kept = {name: own for name, own in table.where.items() if set(own) & set(conditions.get(name, own))}
        tables.setdefault(repr((table.by, sorted(kept.items()), table.period)), table._replace(where=kept))
    numbers = random.Random(repr(rng.getstate()))  # of its own, which leaves all other choices as they are
    sized, summing = _with_numbers(numbers, list(tables.values()), coarser)
    return resolve(
        name,
        events=events,
        registry=registry,
        where=conditions,
        period=period,
        max_contributions=rng.choice((1, 1, 2, 3)),
        horizon=horizon,
        late=rng.choice((Late.CARRY, Late.CARRY, Late.DROP)),
        since=day + dt.timedelta(days=rng.choice((-309, -40, -10, 0, 30)) if after is None else after),
        tables=[*sized, *summing],
    )


def _with_numbers(
    rng: random.Random, counts: Sequence[AskedTable], periods: Sequence[Period]
) -> tuple[list[AskedTable], list[AskedTable]]:
    """Break some tables down by buckets of a number, and sum it up in some more."""
    buckets = Buckets("size", rng.choice(((0, 4, 9), (1, 20), (3,))))
    sized = [each._replace(by=[*each.by, buckets]) if rng.random() < 0.25 else each for each in counts]
    if len({repr((each.by, each.where, each.period)) for each in sized}) < len(sized):
        sized = list(counts)
    summing: dict[str, AskedTable] = {}
    for number in range(rng.choice((0, 0, 1, 2))):
        count = rng.choice(sized)
        fields = [each for each in count.by if isinstance(each, str)]
        kept = ["part", *(each for each in fields if each != "part" and rng.random() < 0.5)]
        coarser = [each for each in periods if count.period is None or each.is_made_of(count.period)]
        asked = Summed("size", rng.choice(((0, 20), (2, 10), (5, 7))), count.name)
        table = AskedTable(f"{count.name}_s{number}", 1.0, by=kept, period=rng.choice(coarser), sum=asked)
        summing.setdefault(repr((table.by, table.period, asked)), table)
    return sized, list(summing.values())


def _where(
    rng: random.Random, fields: Sequence[str], colours: Sequence[str], chance: float
) -> dict[str, list[str | bool]]:
    where: dict[str, list[str | bool]] = {}
    if rng.random() < chance:
        where["colour"] = sorted(rng.sample(colours, rng.choice((1, 2))))
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
        if told:  # a correction changes it, too
            told["size"] = (7 * event.occurred_on.toordinal() + 3 * event.revision + 5 * case) % 21
        copies.append(replace(event, case_key=key, attributes=told))
    return copies


def _shuffled(rng: random.Random, told: Sequence[Sequence[CaseEvent]]) -> tuple[CaseEvent, ...]:
    """Return the events of stories among one another, each story's in its order."""
    turns = [story for story, events in enumerate(told) for _ in events]
    rng.shuffle(turns)
    rest = [iter(events) for events in told]
    return tuple(next(rest[story]) for story in turns)
