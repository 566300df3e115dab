"""Stories from a seed: what happens to a few cases, told in the event types and fields of any catalogue.

Cases come often and rarely; their events come late, twice, again long after, and under ids that other cases have, too.
Corrections change the date, the type, the numbers, and what a filter asks. Some events are dated ahead, some cases are
withdrawn, and the service starts anew in between.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from quietcount_aggregates.populations import Population
from quietcount_consumers.trials.deployment import Day, Emission
from quietcount_schemas.events.event_types import EPOCH_ORDINAL, EventType, Field, FieldKind, Role
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["CASES", "START", "Story", "Storyteller", "all_over", "case_name"]

START: Final = dt.date(2040, 11, 6)
CASES: Final = 6
"""How many cases a story has."""
NEWCOMER: Final = "newcomer"
"""A case that comes long after the others, in some stories."""
_FIRST: Final = 3
"""How many events it has."""
_BEFORE_ITS_END: Final = (0, 20, 45)
"""How many days before the end of the year that is past they are dated."""
_IDS: Final = 12
"""How many event ids the events of one population share: so few that cases share them, too."""
_GAPS: Final = (1, 12, 25, 40, 60)
_AGES: Final = (0, 0, 3, 20, 45, 120)
_AHEAD: Final = (2, 5, 30, 100, 400, 6_000)


@dataclass(frozen=True, slots=True)
class Story:
    """Days, the case that the story is told without, and half of its cases."""

    since: dt.date
    days: tuple[Day, ...]
    left_out: str
    half: frozenset[str]

    def of(self, cases: Collection[str]) -> tuple[Day, ...]:
        """Return the days with what these cases do alone."""
        return tuple(replace(day, emissions=[e for e in day.emissions if e.case in cases]) for day in self.days)

    @property
    def cases(self) -> frozenset[str]:
        """Return all cases that do something."""
        return frozenset(each.case for day in self.days for each in day.emissions)

    @property
    def years(self) -> frozenset[int]:
        """Return the years in which an event of the case that is left out is dated."""
        return frozenset(
            each.occurred_on.year for day in self.days for each in day.emissions if each.case == self.left_out
        )


def case_name(number: int) -> str:
    """Return the identifier of a case."""
    return f"case-{number:04}"


def all_over(populations: Iterable[Population], day: dt.date, grace: dt.timedelta) -> dt.date:
    """Return the first day on which every period that holds `day` is due."""
    last = max(table.period.next(day) for population in populations for table in population.tables)
    return last + grace + dt.timedelta(days=1)


class Storyteller:
    """Tells stories in the event types that a catalogue counts, those that withdraw, and one that nobody counts."""

    def __init__(self, populations: Sequence[Population], registry: SchemaRegistry, grace: dt.timedelta) -> None:
        self._populations = populations
        self._grace = grace
        counted = sorted({event for population in populations for event in population.events})
        self._counted: list[EventType] = [registry.event_types[each] for each in counted]
        others = [each for each in registry.event_types.values() if each.name not in counted]
        self._withdrawals = [each for each in others if each.role is Role.WITHDRAWAL]
        self._idle = [each for each in others if each.role is Role.EVENT][:1]
        self._asked = _asked(populations)

    def story(self, rng: random.Random) -> Story:
        """Return the next story of `rng`."""
        sent: list[Emission] = []
        days: list[Day] = []
        day = START
        symbols = _Symbols(rng)
        for _ in range(rng.randint(2, 4)):
            day += dt.timedelta(days=rng.choice(_GAPS))
            fresh: list[Emission] = []
            for _ in range(rng.choice((2, 4, 9)) * len(self._populations)):
                fresh.append(self._emission(rng, day, [*sent, *fresh], symbols))
            sent += fresh
            days.append(Day(day, fresh, released=rng.random() < 0.5, restarted=rng.random() < 0.1))
        days.append(Day(all_over(self._populations, day, self._grace)))
        comes_again = rng.random() < 0.3
        if comes_again:  # long after, much comes again
            again = rng.sample(sent, len(sent) // 2)
            late = days[-1].day + dt.timedelta(days=rng.choice((1, 20)))
            days.append(Day(late, again, released=False, restarted=rng.random() < 0.2))
            days.append(Day(all_over(self._populations, late, self._grace)))
        days = [replace(each, emissions=_with_dated_ahead(rng, each.emissions)) for each in days]
        cases = [case_name(number) for number in range(CASES)]
        often = Counter(each.case for each in sent)
        left_out = often.most_common(1)[0][0] if rng.random() < 0.7 else rng.choice(cases)
        if comes_again:
            # Drawn apart from the rest of the story, which is the same without it.
            aside = random.Random(f"{days[-2].day} {len(sent)}")  # noqa: S311 (a made-up story, not a secret)
            days[-2] = replace(days[-2], emissions=[*days[-2].emissions, *self._newcomer(aside, days[-2].day)])
            left_out = NEWCOMER if aside.random() < 0.5 else left_out
        # One half is often that case alone: then the other half is the log without it, which has to be played anyway.
        half = [left_out] if rng.random() < 0.5 else rng.sample(cases, CASES // 2)
        return Story(
            since=START - dt.timedelta(days=rng.choice((0, 40, 309))),
            days=tuple(days),
            left_out=left_out,
            half=frozenset(half),
        )

    def _newcomer(self, rng: random.Random, late: dt.date) -> list[Emission]:
        """Return what a case does that comes for the first time, with events of the year before.

        Nothing of it is dated ahead: it may be told of that year alone.
        """
        last = dt.date(late.year - 1, 12, 31) if late.year > START.year else late
        past = last - dt.timedelta(days=rng.choice(_BEFORE_ITS_END))
        events = [self._emission(rng, late, [], _Symbols(rng)) for _ in range(_FIRST)]
        return [replace(each, case=NEWCOMER, occurred_on=past) for each in events]

    def _emission(self, rng: random.Random, day: dt.date, sent: Sequence[Emission], symbols: _Symbols) -> Emission:
        """Return one more event of a story in which some were sent."""
        chance = rng.random()
        occurred = day - dt.timedelta(days=rng.choice(_AGES))
        if sent and chance < 0.15:
            return rng.choice(sent)  # once more, perhaps long after its period was closed
        # Often, so that its limit is used up and more comes.
        case = case_name(rng.choice((0, 0, *range(CASES))))
        if self._withdrawals and chance > 1 - 0.02 / len(self._populations):
            kind = rng.choice(self._withdrawals)
            return Emission(kind.name, case, occurred, self._told(rng, kind, occurred, symbols), _event_id(rng, 1))
        kind = rng.choice(self._idle) if self._idle and chance > 0.94 else rng.choice(self._counted)
        attributes = self._told(rng, kind, occurred, symbols)
        if sent and chance < 0.45:
            old = rng.choice(sent)  # a correction: of the date, the type, a number, or what a filter asks
            if old.event not in {each.name for each in self._withdrawals}:
                revision = max(0, old.revision + rng.choice((0, 1, 1, 2, -1)))
                occurred = old.occurred_on if rng.random() < 0.5 else occurred
                return Emission(kind.name, old.case, occurred, attributes, old.event_id, revision)
        identity = _event_id(rng, _IDS * len(self._populations))
        return Emission(kind.name, case, occurred, attributes, identity, rng.choice((0, 0, 0, 1)))

    def _told(self, rng: random.Random, kind: EventType, occurred: dt.date, symbols: _Symbols) -> dict[str, object]:
        return {each.name: self.value(rng, each, occurred, symbols.of(each)) for each in kind.attributes}

    def value(self, rng: random.Random, field: Field, occurred: dt.date, symbols: Sequence[str]) -> object:
        """Return a value of a field, mostly one at which something that the catalogue asks for changes."""
        if field.nullable and rng.random() < 0.15:
            return None
        asked = self._asked.get(field.name, ())
        match field.kind:
            case FieldKind.ENUM:
                telling = [each for each in asked if each in field.symbols]
                return rng.choice(telling) if telling and rng.random() < 0.5 else rng.choice(symbols)
            case FieldKind.BOOLEAN:
                return rng.choice((True, False))
            case FieldKind.DATE:
                first, last = field.minimum + EPOCH_ORDINAL, field.maximum + EPOCH_ORDINAL
                return dt.date.fromordinal(min(max(occurred.toordinal(), first), last))
            case _:
                numbers = [each for each in asked if isinstance(each, int)]
                return min(max(rng.choice([field.minimum, field.maximum, *numbers]), field.minimum), field.maximum)


class _Symbols:
    """The symbols of each enum that a story uses: a few, so that cells meet."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._kept: dict[str, list[str]] = {}

    def of(self, field: Field) -> Sequence[str]:
        if field.name not in self._kept:
            self._kept[field.name] = self._rng.sample(field.symbols, min(3, len(field.symbols)))
        kept = [each for each in self._kept[field.name] if each in field.symbols]
        return kept or field.symbols  # two types may have different enums of one name


def _asked(populations: Iterable[Population]) -> Mapping[str, Sequence[str | int]]:
    """Return by field the symbols that a filter accepts, and the numbers at which a bucket or a sum ends."""
    found: dict[str, set[str | int]] = {}
    for population in populations:
        for table in population.tables:
            for each in (*population.where, *table.where):
                found.setdefault(each.field.name, set()).update(each.accepted)
            for dimension in table.by:
                for least, most in dimension.bounds:
                    found.setdefault(dimension.name, set()).update((least, most))
            if table.sum is not None:
                low, high = table.sum.low, table.sum.high
                found.setdefault(table.sum.field, set()).update((low - 1, low, table.sum.middle, high, high + 1))
    return {name: sorted(values, key=str) for name, values in found.items()}


def _event_id(rng: random.Random, most: int) -> UUID:
    return UUID(int=(0xE0E1E2E3E4E5 << 80) | rng.randrange(most), version=4)


def _with_dated_ahead(rng: random.Random, emissions: Sequence[Emission]) -> list[Emission]:
    """Send some events also as versions that are dated ahead, by days or by years."""
    told = list(emissions)
    for place, each in reversed(list(enumerate(told))):
        if rng.random() < 0.08 and each.attributes:
            day = each.occurred_on + dt.timedelta(days=rng.choice(_AHEAD))
            revision = max(0, each.revision + rng.choice((-1, 0, 1)))
            told.insert(place + rng.choice((0, 1)), replace(each, occurred_on=day, revision=revision))
    return told
