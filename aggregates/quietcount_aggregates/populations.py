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

from quietcount_schemas.events.periods import Period

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
    "Sum",
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
    """A field to break down by: an enum (or boolean) with its symbols, or a whole number in buckets.

    The symbols of an enum are those it had at the declaration, sorted. `default` stands for every symbol that a later
    version of the schema adds, and for null. Buckets are in ascending order, and `bounds` has the least and the
    greatest number of each; one more symbol stands for null if the field may be null. An enum has no bounds.
    """

    name: str
    symbols: tuple[str, ...]
    default: str
    bounds: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition of `where`: the field's symbol is one of `accepted`."""

    field: Dimension
    accepted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """What a table sums up in place of counting: a field, moved to between `low` and `high`, less their middle.

    The two lie an even number apart, so the middle is whole. One contribution then moves a sum by `reach` at most:
    half of what it would without the middle. `count` is the table whose counts put the middle back.
    """

    field: str
    low: int
    high: int
    count: StatisticName

    @property
    def middle(self) -> int:
        """Return what is taken off each value."""
        return (self.low + self.high) // 2

    @property
    def reach(self) -> int:
        """Return how far a value may lie from the middle."""
        return self.high - self.middle


@dataclass(frozen=True, slots=True)
class Table:
    """A way to break a population's contributions down: one release of its cells for each of its periods.

    Each contribution lands in one cell of the table, or in none where the table's own `where` does not hold. It adds 1
    there, or what `sum` says.
    """

    name: StatisticName
    where: tuple[Filter, ...]
    by: tuple[Dimension, ...]
    period: Period
    epsilon: Epsilon
    sum: Sum | None = None

    def sensitivity(self, max_contributions: int) -> int:
        """Return how far one case moves all releases of the table together, in L1."""
        return max_contributions * (self.sum.reach if self.sum else 1)

    def sums_what_counts(self, count: Table) -> bool:
        """Return whether `count` says of each cell and period of this table how many values it sums up."""
        return (
            count.sum is None
            and self.where == count.where
            and self.by == tuple(dimension for dimension in count.by if dimension in self.by)
            and self.period.is_made_of(count.period)
        )

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
            **({"sum": [self.sum.field, self.sum.low, self.sum.high, self.sum.count]} if self.sum else {}),
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
            sum=_sum(*data["sum"]) if "sum" in data else None,
        )

    def differs_from(self, other: Table) -> Iterator[str]:
        """Yield the keys in which two tables of one name differ as a person writes them."""
        for key in ("period", "epsilon", "sum"):
            if getattr(self, key) != getattr(other, key):
                yield key
        if _asked(self.where) != _asked(other.where):
            yield "where"
        if _asked_by(self.by) != _asked_by(other.by):
            yield "by"


@dataclass(frozen=True, slots=True)
class Population:
    """Whom a set of tables counts, and how much one person may count.

    `max_contributions` is how often one case may count over `horizon` in all releases of a table together: the L1
    sensitivity of counts. `period` is the finest of the tables' periods, by which contributions are settled. `since`
    is the first day of the first period that is settled; None only before the declaration.
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
    def counts(self) -> tuple[Table, ...]:
        """Return the tables that count. Their true values agree, so they are reconciled."""
        return tuple(table for table in self.tables if table.sum is None)

    @property
    def sums(self) -> tuple[Table, ...]:
        """Return the tables that sum a number up."""
        return tuple(table for table in self.tables if table.sum is not None)

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
        sums = [table.sum.field for table in self.tables if table.sum is not None]
        return list(dict.fromkeys([f.field.name for f in filters] + [d.name for d in dimensions] + sums))

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


def _sum(field: str, low: int, high: int, count: str) -> Sum:
    if low >= high or (high - low) % 2:
        raise ValueError("the two ends of a sum lie an even number apart, the lower one first")
    return Sum(field, int(low), int(high), StatisticName(count))


def _asked_by(by: Sequence[Dimension]) -> list[tuple[str, tuple[int, ...]]]:
    """Return dimensions as a person writes them: by name, and with the numbers at which their buckets begin."""
    return [(each.name, tuple(lower for lower, _ in each.bounds[1:])) for each in by]


def _asked(where: Sequence[Filter]) -> list[tuple[str, tuple[str, ...]]]:
    """Return filters as a person writes them."""
    return [(each.field.name, each.accepted) for each in where]


def _plain_filter(each: Filter) -> list[object]:
    return [_plain(each.field), list(each.accepted)]


def _filter(plain: Sequence[Any]) -> Filter:
    field, accepted = plain
    return Filter(_dimension(field), tuple(accepted))


def _plain(dimension: Dimension) -> list[object]:
    plain: list[object] = [dimension.name, list(dimension.symbols), dimension.default]
    return [*plain, [list(each) for each in dimension.bounds]] if dimension.bounds else plain


def _dimension(plain: Sequence[object]) -> Dimension:
    name, symbols, default, *bounds = plain
    if not (isinstance(name, str) and isinstance(symbols, list) and isinstance(default, str)):
        raise ValueError("a dimension is [name, [symbols], default], and [[least, greatest], ...] of buckets")
    ranges = tuple((least, most) for each in bounds for least, most in each)  # type: ignore[attr-defined]
    if ranges:
        _check_buckets(symbols, ranges)
    return Dimension(name, tuple(symbols), default, ranges)


def _check_buckets(symbols: Sequence[object], bounds: Sequence[tuple[int, int]]) -> None:
    """Raise ValueError unless each number between the first bound and the last one lies in one bucket."""
    ends = [most for _, most in bounds]
    begins = [least for least, _ in bounds]
    follow = begins[1:] == [most + 1 for most in ends[:-1]] and all(map(int.__le__, begins, ends))
    if len(symbols) - len(bounds) not in (0, 1) or not follow:
        raise ValueError("buckets follow each other, and beside them there is one symbol at most")
