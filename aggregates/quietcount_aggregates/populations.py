"""Populations: whom we count, how much one person may count, and the tables that break it down.

A population is declared once. Its canonical form (with the symbols of every enum it refers to, frozen) is what the
ledger records. The domain of a table's cells is the cross product of those symbols and never depends on data. One limit
holds for all tables of a population, so their true values agree: quarters are sums of months, margins sums of cells.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NewType

from quietcount_schemas.periods import Period

if TYPE_CHECKING:
    pass

__all__ = [
    "ALL",
    "Dimension",
    "Epsilon",
    "Filter",
    "Horizon",
    "Late",
    "Population",
    "PopulationName",
    "StatisticName",
    "Table",
    "counted_events",
    "counted_fields",
    "exact_epsilon",
]

ALL: Final = "all"
"""The cell of a table without dimensions, and what stands for the dimension and symbol of a total."""

PopulationName = NewType("PopulationName", str)
StatisticName = NewType("StatisticName", str)
"""The name of a table: what is published is a statistic."""
Epsilon = NewType("Epsilon", float)


class Horizon(StrEnum):
    """Over what span of time `max_contributions` bounds one case."""

    LIFETIME = "lifetime"
    YEAR = "year"


class Late(StrEnum):
    """What becomes of an event whose period is already settled.

    It is carried into the earliest open period, unless it is dated more than a year before that begins. With a yearly
    horizon no event is carried into another calendar year than its own.
    """

    CARRY = "carry"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Dimension:
    """An enum (or boolean) field with the symbols it had at the declaration, sorted.

    `default` stands for every symbol that a later version of the schema adds, and for null.
    """

    name: str
    symbols: tuple[str, ...]
    default: str


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition of `where`: the field's symbol is one of `accepted`."""

    field: Dimension
    accepted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A way to break a population's contributions down: one release of its cells for each of its periods.

    Each contribution lands in one cell of the table, or in none where the table's own `where` does not hold.
    """

    name: StatisticName
    where: tuple[Filter, ...]
    by: tuple[Dimension, ...]
    period: Period
    epsilon: Epsilon

    @property
    def cells(self) -> int:
        """Return the number of cells of one release."""
        return math.prod(len(dimension.symbols) for dimension in self.by)

    @property
    def domain(self) -> list[str]:
        """Return the key of each cell, as "help_kind=DESERTION, urgent=false" or "all", in the order of a release."""
        if not self.by:
            return [ALL]
        names = [dimension.name for dimension in self.by]
        return [
            ", ".join(f"{name}={symbol}" for name, symbol in zip(names, symbols, strict=True))
            for symbols in itertools.product(*(dimension.symbols for dimension in self.by))
        ]

    def first_day(self, since: dt.date) -> dt.date:
        """Return the first day of the first whole period from `since` on."""
        start = self.period.start(since)
        return start if start == since else self.period.next(since)

    @property
    def plain(self) -> dict[str, object]:
        """Return the table as it stands in the canonical form of its population."""
        return {
            "name": self.name,
            "where": [_plain_filter(each) for each in self.where],
            "by": [_plain(dimension) for dimension in self.by],
            "period": self.period.value,
            "epsilon": str(exact_epsilon(self.epsilon)),
        }

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> Table:
        """Read a table back from what `plain` returned."""
        return cls(
            name=StatisticName(data["name"]),
            where=tuple(_filter(each) for each in data["where"]),
            by=tuple(_dimension(field) for field in data["by"]),
            period=Period(data["period"]),
            epsilon=Epsilon(float(data["epsilon"])),
        )

    def differs_from(self, other: Table) -> Iterator[str]:
        """Yield the keys in which two tables of one name differ as a person writes them."""
        for key in ("period", "epsilon"):
            if getattr(self, key) != getattr(other, key):
                yield key
        if _asked(self.where) != _asked(other.where):
            yield "where"
        if [dimension.name for dimension in self.by] != [dimension.name for dimension in other.by]:
            yield "by"


@dataclass(frozen=True, slots=True)
class Population:
    """Whom a set of tables counts, and how much one person may count.

    `max_contributions` is what one case may add over `horizon` to the one long vector of all releases of a table: its
    L1 sensitivity. `period` is the finest of the tables' periods, by which contributions are settled. `since` is the
    first day of the first period that is settled; None only before the declaration.
    """

    name: PopulationName
    title: str
    description: str
    events: tuple[str, ...]
    where: tuple[Filter, ...]
    period: Period
    max_contributions: int
    horizon: Horizon
    since: dt.date | None
    late: Late
    tables: tuple[Table, ...]

    @property
    def first_day(self) -> dt.date:
        """Return the first day of the first period; raise ValueError before the declaration has set it."""
        if self.since is None:
            raise ValueError("the population's first period is known from its declaration on")
        return self.since

    @property
    def epsilon(self) -> Decimal:
        """Return what all releases of all tables may tell about one person, over the horizon."""
        return sum((exact_epsilon(table.epsilon) for table in self.tables), Decimal(0))

    @property
    def finest(self) -> tuple[Table, ...]:
        """Return the tables of the population's own period: each settlement releases them."""
        return tuple(table for table in self.tables if table.period is self.period)

    @property
    def counting(self) -> str:
        """Return in words how often a case counts: what has to stand beside each figure."""
        span = "over its lifetime" if self.horizon is Horizon.LIFETIME else "in a calendar year"
        late = "counts when it arrives" if self.late is Late.CARRY else "does not count"
        return f"At most {self.max_contributions} a case, {span}; a late event {late}"

    @property
    def canonical(self) -> str:
        """Return the canonical JSON text that the ledger records."""
        return json.dumps(
            {
                "name": self.name,
                "title": self.title,
                "description": self.description,
                "events": list(self.events),
                "where": [_plain_filter(each) for each in self.where],
                "period": self.period.value,
                "max_contributions": self.max_contributions,
                "horizon": self.horizon.value,
                "since": self.first_day.isoformat(),
                "late": self.late.value,
                "tables": [table.plain for table in self.tables],
            },
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=True,
        )

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 (32 bytes) of the canonical form."""
        return hashlib.sha256(self.canonical.encode()).digest()

    @classmethod
    def from_canonical(cls, text: str) -> Population:
        """Read a population back from the canonical text of its declaration."""
        data = json.loads(text)
        population = cls(
            name=PopulationName(data["name"]),
            title=data["title"],
            description=data["description"],
            events=tuple(data["events"]),
            where=tuple(_filter(each) for each in data["where"]),
            period=Period(data["period"]),
            max_contributions=int(data["max_contributions"]),
            horizon=Horizon(data["horizon"]),
            since=dt.date.fromisoformat(data["since"]),
            late=Late(data["late"]),
            tables=tuple(Table.of_plain(each) for each in data["tables"]),
        )
        if population.canonical != text or not population.tables:
            raise ValueError("the declaration is not in canonical form")
        return population

    def fields_of(self, event: str) -> list[str]:
        """Return the names of the fields of `event` that this population refers to, its tables included."""
        if event not in self.events:
            return []
        filters = [*self.where, *(each for table in self.tables for each in table.where)]
        dimensions = [dimension for table in self.tables for dimension in table.by]
        return list(dict.fromkeys([f.field.name for f in filters] + [d.name for d in dimensions]))

    def differences(self, other: Population) -> list[str]:
        """Return the keys in which two populations differ as a person writes them, those of tables with their name.

        A missing `since` is equal to any. Symbols that a schema has gained since a declaration make no difference:
        the declared domain stays as it is.
        """
        keys = ("title", "description", "events", "period", "max_contributions", "horizon", "late")
        found = [key for key in keys if getattr(self, key) != getattr(other, key)]
        if _asked(self.where) != _asked(other.where):
            found.append("where")
        if None not in (self.since, other.since) and self.since != other.since:
            found.append("since")
        ours, theirs = ({table.name: table for table in each.tables} for each in (self, other))
        found.extend(f"table {name}" for name in sorted(ours.keys() ^ theirs.keys()))
        for name in sorted(ours.keys() & theirs.keys()):
            found.extend(f"{key} of table {name}" for key in ours[name].differs_from(theirs[name]))
        return found


def exact_epsilon(epsilon: float) -> Decimal:
    """Return an epsilon as the decimal a person wrote, so that sums of declared epsilons are exact."""
    return Decimal(repr(float(epsilon))).normalize()


def counted_events(populations: Sequence[Population]) -> set[str]:
    """Return the event types that any of `populations` counts."""
    return {event for population in populations for event in population.events}


def counted_fields(populations: Sequence[Population]) -> list[str]:
    """Return the columns "Event.field" that any of `populations` refers to, sorted."""
    return sorted({f"{e}.{f}" for each in populations for e in each.events for f in each.fields_of(e)})


def _asked(where: Sequence[Filter]) -> list[tuple[str, tuple[str, ...]]]:
    """Return filters as a person writes them."""
    return [(each.field.name, each.accepted) for each in where]


def _plain_filter(each: Filter) -> list[object]:
    return [_plain(each.field), list(each.accepted)]


def _filter(plain: Sequence[Any]) -> Filter:
    field, accepted = plain
    return Filter(_dimension(field), tuple(accepted))


def _plain(dimension: Dimension) -> list[object]:
    return [dimension.name, list(dimension.symbols), dimension.default]


def _dimension(plain: Sequence[object]) -> Dimension:
    name, symbols, default = plain
    if not (isinstance(name, str) and isinstance(symbols, list) and isinstance(default, str)):
        raise ValueError("a dimension is [name, [symbols], default]")
    return Dimension(name, tuple(symbols), default)
