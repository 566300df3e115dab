"""Neighbours: pairs of logs that differ in all that one case does, made to be as far apart as the rules let them be.

The case comes to every population at once, each time in the same cell, with the number that moves a sum farthest, and
more often than it may count. All other cases do the same in both logs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from quietcount_aggregates.populations import Filter, Population
from quietcount_consumers.trials.deployment import Day, Emission
from quietcount_consumers.trials.storytelling import all_over, case_name
from quietcount_schemas.events.event_types import EPOCH_ORDINAL, EventType, Field, FieldKind, Role
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["BEGIN", "PAIRS", "Neighbours"]

BEGIN: Final = dt.date(2041, 1, 15)
"""Early in a year: so that what comes after the first settlement lies in the same one, by which some limits count."""
_OTHERS: Final = 4
_BEYOND: Final = 2
"""How many more events the case sends than may count."""


class Neighbours:
    """The pairs of logs of a catalogue.

    A log has four days: what comes on time, a settlement, what comes after it, and the end of all periods.
    """

    def __init__(self, populations: Sequence[Population], registry: SchemaRegistry, grace: dt.timedelta) -> None:
        self._populations = populations
        self._registry = registry
        self._grace = grace
        # By then each population has settled the period in which the logs begin.
        self._settled = max(each.period.next(BEGIN) for each in populations) + grace + dt.timedelta(days=1)
        self._ids = 0
        self._favoured = 0

    def pair(self, name: str) -> tuple[list[Day], list[Day]]:
        """Return the two logs of the pair `name`, the one with the case first.

        If no event can be in all tables, each pair favours another one, so that none is left out.
        """
        self._ids = 0
        self._favoured = list(PAIRS).index(name)
        others = self._others()
        first, second = PAIRS[name](self)
        if name == "order":
            return self._days([*others, *first], second), self._days(others[::-1], [])
        return self._days([*first, *others], second), self._days(others, [])

    def _days(self, first: Sequence[Emission], second: Sequence[Emission]) -> list[Day]:
        following = self._settled + dt.timedelta(days=1)
        return [
            Day(BEGIN, first, released=False),
            Day(self._settled),
            Day(following, second, released=False, restarted=True),
            Day(all_over(self._populations, following, self._grace)),
        ]

    # What the case does: on time, and after the first settlement

    def heavy(self) -> tuple[list[Emission], list[Emission]]:
        """More events than may count, all in one period and cell."""
        return self._events(BEGIN), []

    def alone(self) -> tuple[list[Emission], list[Emission]]:
        """The case comes in a period in which nobody else does."""
        return [], self._events(self._settled)

    def late(self) -> tuple[list[Emission], list[Emission]]:
        """All that the case does comes when its period is settled."""
        return [], self._events(BEGIN)

    def duplicated(self) -> tuple[list[Emission], list[Emission]]:
        """Each event is sent twice under one id."""
        sent = self._events(BEGIN)
        return [each for each in sent for _ in range(2)], []

    def redelivered(self) -> tuple[list[Emission], list[Emission]]:
        """Each event is sent again when its period is settled, and so are new ones."""
        sent = self._events(BEGIN)
        return sent, [*sent, *self._events(self._settled)]

    def corrected(self) -> tuple[list[Emission], list[Emission]]:
        """As many events as may count are settled, and then corrected: they move into the open period."""
        sent = self._events(BEGIN, beyond=0)
        moved = [replace(each, occurred_on=self._settled, revision=1) for each in sent]
        return sent, moved

    def withdrawn(self) -> tuple[list[Emission], list[Emission]]:
        """The case comes again after a settlement, and is then withdrawn."""
        return self._events(BEGIN, beyond=0), [*self._events(self._settled), *self._withdrawals(self._settled)]

    def spread(self) -> tuple[list[Emission], list[Emission]]:
        """The case comes once, and after the settlement more often than it may still count."""
        first = [sent[0] for sent in self._by_population(BEGIN, 0)]
        return first, self._events(self._settled)

    # Events

    def _events(self, day: dt.date, beyond: int = _BEYOND) -> list[Emission]:
        return [each for sent in self._by_population(day, beyond) for each in sent]

    def _by_population(self, day: dt.date, beyond: int) -> list[list[Emission]]:
        """Return as many events as may count, and so many more, for each population."""
        return [
            [self._event(case_name(0), population, day) for _ in range(population.max_contributions + beyond)]
            for population in self._populations
        ]

    def _others(self) -> list[Emission]:
        return [
            self._event(case_name(1 + number), population, BEGIN)
            for number in range(_OTHERS)
            for population in self._populations
        ]

    def _event(self, case: str, population: Population, day: dt.date) -> Emission:
        """Return an event that the population counts, in all of its tables if one event can be in all."""
        kind = self._registry.event_types[population.events[0]]
        attributes = {each.name: _telling(each, population, day, self._favoured) for each in kind.attributes}
        return Emission(kind.name, case, day, attributes, self._id())

    def _withdrawals(self, day: dt.date) -> list[Emission]:
        kinds = [each for each in self._registry.event_types.values() if each.role is Role.WITHDRAWAL]
        return [Emission(each.name, case_name(0), day, _plain(each, day), self._id()) for each in kinds]

    def _id(self) -> UUID:
        self._ids += 1
        return UUID(int=(0xF0F1F2F3F4F5 << 80) | self._ids, version=4)


PAIRS: Final[dict[str, Callable[[Neighbours], tuple[list[Emission], list[Emission]]]]] = {
    "heavy": Neighbours.heavy,
    "alone": Neighbours.alone,
    "late": Neighbours.late,
    "duplicated": Neighbours.duplicated,
    "redelivered": Neighbours.redelivered,
    "corrected": Neighbours.corrected,
    "withdrawn": Neighbours.withdrawn,
    "spread": Neighbours.spread,
    "order": Neighbours.heavy,
}
"""What the case does in each pair. In "order" the other cases come the other way round, too."""


def _telling(field: Field, population: Population, day: dt.date, favoured: int) -> object:
    """Return the value that each condition on a field accepts, as far as one does, and the highest of a number.

    The conditions of the table at the place `favoured`, counted round, come before those of the others.
    """
    place = favoured % len(population.tables)
    tables = [*population.tables[place:], *population.tables[:place]]
    conditions: list[Filter] = [*population.where, *(each for table in tables for each in table.where)]
    accepted = [set(each.accepted) for each in conditions if each.field.name == field.name]
    if field.kind is FieldKind.BOOLEAN:
        names = {"true", "false"}
        for each in accepted:
            names = names & each or names
        return "true" in names
    if field.kind is FieldKind.ENUM:
        left = set(field.symbols)
        for each in accepted:
            left = left & each or left
        return min(left)
    return _least(field, day) if field.kind is FieldKind.DATE else field.maximum


def _plain(kind: EventType, day: dt.date) -> dict[str, object]:
    return {each.name: _least(each, day) for each in kind.attributes}


def _least(field: Field, day: dt.date) -> object:
    match field.kind:
        case FieldKind.ENUM:
            return field.symbols[0]
        case FieldKind.BOOLEAN:
            return False
        case FieldKind.DATE:
            first, last = field.minimum + EPOCH_ORDINAL, field.maximum + EPOCH_ORDINAL
            return dt.date.fromordinal(min(max(day.toordinal(), first), last))
        case _:
            return field.minimum
