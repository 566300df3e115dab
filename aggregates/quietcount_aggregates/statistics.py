"""Statistics: what is counted, over which public domain of cells, and what it costs.

A statistic is declared once. Its canonical form (with the symbols of every enum it refers to, frozen) is what the
ledger records; the domain of its cells is the cross product of those symbols and never depends on data.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, NewType

from quietcount_aggregates.errors import StatisticError
from quietcount_schemas.event_types import PUBLISHED_COLUMNS, EventType, Field, FieldKind, Role
from quietcount_schemas.periods import Period

if TYPE_CHECKING:
    from quietcount_schemas.registry import SchemaRegistry

__all__ = [
    "Dimension",
    "Epsilon",
    "Filter",
    "Horizon",
    "Late",
    "Statistic",
    "StatisticName",
    "exact_epsilon",
    "resolve",
]

StatisticName = NewType("StatisticName", str)
Epsilon = NewType("Epsilon", float)

# A vector of 100,000 cells takes OpenDP 0.65 s to draw; past that a catalogue is a mistake rather than a wish.
MAX_CELLS = 100_000
MAX_CONTRIBUTIONS = 1_000_000
# Noise of this scale hides any count that case work has; the margins of its sums take the more memory, the wider it is.
MAX_SCALE = 100_000
# The days that an event may carry.
EARLIEST, LATEST = dt.date(1970, 1, 1), dt.date(2099, 12, 31)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

RESERVED_NAMES = frozenset(
    {"statistics", "ledger", "data_dictionary", "about", "budget", "margins", "compare", "total", "series"}
)


class Horizon(StrEnum):
    """Over what span of time `max_contributions` bounds one case."""

    LIFETIME = "lifetime"
    YEAR = "year"


class Late(StrEnum):
    """What becomes of an event whose period is already released.

    With a yearly horizon no event is carried into another calendar year than its own.
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
class Statistic:
    """A declared count.

    `max_contributions` is what one case may add over `horizon` to the one long vector of all its releases: its L1
    sensitivity. `since` is the first day of the first period released; None only before the declaration.
    """

    name: StatisticName
    events: tuple[str, ...]
    where: tuple[Filter, ...]
    by: tuple[Dimension, ...]
    period: Period
    max_contributions: int
    horizon: Horizon
    since: dt.date | None
    epsilon: Epsilon
    late: Late

    @property
    def first_day(self) -> dt.date:
        """Return the first day of the first period released; raise ValueError before the declaration has set it."""
        if self.since is None:
            raise ValueError("the statistic's first period is known from its declaration on")
        return self.since

    @property
    def cells(self) -> int:
        """Return the number of cells of one release."""
        return math.prod(len(dimension.symbols) for dimension in self.by)

    @property
    def domain(self) -> list[str]:
        """Return the key of each cell as JSON text, in the order of a release's values."""
        names = [dimension.name for dimension in self.by]
        return [
            json.dumps(dict(zip(names, symbols, strict=True)), sort_keys=True, separators=(",", ":"))
            for symbols in itertools.product(*(dimension.symbols for dimension in self.by))
        ]

    @property
    def canonical(self) -> str:
        """Return the canonical JSON text that the ledger records."""
        return json.dumps(
            {
                "name": self.name,
                "events": list(self.events),
                "where": [[_plain(f.field), list(f.accepted)] for f in self.where],
                "by": [_plain(dimension) for dimension in self.by],
                "period": self.period.value,
                "max_contributions": self.max_contributions,
                "horizon": self.horizon.value,
                "since": self.first_day.isoformat(),
                "epsilon": str(exact_epsilon(self.epsilon)),
                "late": self.late.value,
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
    def from_canonical(cls, text: str) -> Statistic:
        """Read a statistic back from the canonical text of its declaration."""
        data = json.loads(text)
        statistic = cls(
            name=StatisticName(data["name"]),
            events=tuple(data["events"]),
            where=tuple(Filter(_dimension(field), tuple(accepted)) for field, accepted in data["where"]),
            by=tuple(_dimension(field) for field in data["by"]),
            period=Period(data["period"]),
            max_contributions=int(data["max_contributions"]),
            horizon=Horizon(data["horizon"]),
            since=dt.date.fromisoformat(data["since"]),
            epsilon=Epsilon(float(data["epsilon"])),
            late=Late(data["late"]),
        )
        if statistic.canonical != text:
            raise ValueError("the declaration is not in canonical form")
        return statistic

    def fields_of(self, event: str) -> list[str]:
        """Return the names of the fields of `event` that this statistic refers to."""
        if event not in self.events:
            return []
        return list(dict.fromkeys([f.field.name for f in self.where] + [d.name for d in self.by]))

    def differences(self, other: Statistic) -> list[str]:
        """Return the keys in which two statistics differ as a person writes them.

        A missing `since` is equal to any. Symbols that a schema has gained since a declaration make no difference:
        the declared domain stays as it is.
        """
        keys = ("events", "period", "max_contributions", "horizon", "epsilon", "late")
        found = [key for key in keys if getattr(self, key) != getattr(other, key)]
        if [(f.field.name, f.accepted) for f in self.where] != [(f.field.name, f.accepted) for f in other.where]:
            found.append("where")
        if [dimension.name for dimension in self.by] != [dimension.name for dimension in other.by]:
            found.append("by")
        if None not in (self.since, other.since) and self.since != other.since:
            found.append("since")
        return found


def exact_epsilon(epsilon: float) -> Decimal:
    """Return an epsilon as the decimal a person wrote, so that sums of declared epsilons are exact."""
    return Decimal(repr(float(epsilon))).normalize()


def resolve(
    name: str,
    *,
    events: Sequence[str],
    registry: SchemaRegistry,
    period: Period,
    epsilon: float,
    where: Mapping[str, Sequence[str | bool]] | None = None,
    by: Sequence[str] = (),
    max_contributions: int = 1,
    horizon: Horizon = Horizon.LIFETIME,
    since: dt.date | None = None,
    late: Late = Late.CARRY,
) -> Statistic:
    """Check a statistic as a person wrote it against the schemas and return it with its domain frozen.

    Raises StatisticError, whose message names the statistic, the key and what is allowed.
    """

    def refuse(key: str, reason: str, remedy: str) -> StatisticError:
        return StatisticError(f"statistic {name!r}, key {key!r}: {reason}", remedy)

    if not _NAME.fullmatch(name):
        raise refuse("name", "is no name", "Write lower-case letters, digits and _, a letter first, and 63 at most")
    if name in RESERVED_NAMES:
        raise refuse("name", "this name belongs to a table of statistics.duckdb", "Choose another")
    if not events:
        raise refuse("events", "is empty", "Name at least one event type")
    if len(set(events)) != len(events):
        raise refuse("events", "an event type is named twice", "Name it once")
    types = [_event_type(registry, event, partial(refuse, "events")) for event in events]
    for event_type in types:
        if event_type.role is Role.WITHDRAWAL:
            raise refuse(
                "events", f"{event_type.name} withdraws a case, and a withdrawn case counts nowhere", "Leave it out"
            )
    if isinstance(max_contributions, bool) or not 1 <= max_contributions <= MAX_CONTRIBUTIONS:
        raise refuse(
            "max_contributions",
            "is no number of events that one case may add over the horizon",
            f"Write a whole number from 1 to {MAX_CONTRIBUTIONS:,}",
        )
    if not (math.isfinite(epsilon) and 0.001 <= epsilon <= 20):
        raise refuse("epsilon", "is too small, too large or no number", "Write a number from 0.001 to 20")
    conditions = []
    for field, accepted in sorted((where or {}).items()):
        dimension = _shared_dimension(types, field, partial(refuse, "where"))
        symbols = tuple(sorted({_symbol(symbol) for symbol in accepted}))
        unknown = [symbol for symbol in symbols if symbol not in dimension.symbols]
        if unknown or not symbols:
            raise refuse(
                f"where.{field}",
                "names a symbol that the field lacks, or none",
                f"Name one or more of {', '.join(dimension.symbols)}",
            )
        conditions.append(Filter(dimension, symbols))
    if len(set(by)) != len(by):
        raise refuse("by", "a field is named twice", "Name it once")
    dimensions = tuple(_shared_dimension(types, field, partial(refuse, "by")) for field in sorted(by))
    for dimension in dimensions:
        if dimension.name in PUBLISHED_COLUMNS:
            raise refuse(
                "by", f"the field {dimension.name!r} has the name of a published column", "Break down by another field"
            )
    if since is not None and not EARLIEST <= since <= LATEST:
        raise refuse("since", "no event may have this date", f"Write a date from {EARLIEST} to {LATEST}")
    if horizon is Horizon.YEAR and period is Period.WEEK:
        raise refuse(
            "period",
            "a week may lie in two calendar years, and the limit of a case begins again with each year",
            'Choose another period, or horizon = "lifetime"',
        )
    if max_contributions / epsilon > MAX_SCALE:
        raise refuse(
            "epsilon",
            f"the noise scale, max_contributions / epsilon, would be above {MAX_SCALE:,}",
            "Write a larger epsilon or fewer contributions",
        )
    statistic = Statistic(
        name=StatisticName(name),
        events=tuple(sorted(events)),
        where=tuple(conditions),
        by=dimensions,
        period=period,
        max_contributions=int(max_contributions),
        horizon=horizon,
        since=period.start(since) if since is not None else None,
        epsilon=Epsilon(float(epsilon)),
        late=late,
    )
    if statistic.cells > MAX_CELLS:
        raise refuse("by", f"the cross product has more than {MAX_CELLS:,} cells", "Break it down by fewer fields")
    return statistic


def _event_type(registry: SchemaRegistry, event: str, refuse: Callable[[str, str], StatisticError]) -> EventType:
    if event not in registry.event_types:
        known = ", ".join(name for name, known in registry.event_types.items() if known.role is Role.EVENT)
        raise refuse(f"there is no event type {event!r}", f"Known are {known}")
    return registry.event_types[event]


def _shared_dimension(
    types: Sequence[EventType], field: str, refuse: Callable[[str, str], StatisticError]
) -> Dimension:
    """Return the one dimension that every event type has under this name, with the same symbols."""
    found: list[Dimension] = []
    for event_type in types:
        by_name = {dimension.name: dimension for dimension in event_type.dimensions}
        if field not in by_name:
            allowed = ", ".join(by_name) or "none"
            raise refuse(f"{event_type.name} has no enum or boolean field {field!r}", f"It has: {allowed}")
        found.append(_frozen(by_name[field]))
    if any(dimension != found[0] for dimension in found):
        raise refuse(f"the event types do not agree on the symbols of {field!r}", "Make a statistic of each event type")
    return found[0]


def _frozen(field: Field) -> Dimension:
    if field.kind is FieldKind.BOOLEAN:
        return Dimension(field.name, ("false", "true"), "true" if field.default is True else "false")
    # The lint lets no enum in that has no default symbol.
    return Dimension(field.name, tuple(sorted(field.symbols)), str(field.default_symbol))


def _symbol(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _plain(dimension: Dimension) -> list[object]:
    return [dimension.name, list(dimension.symbols), dimension.default]


def _dimension(plain: Sequence[object]) -> Dimension:
    name, symbols, default = plain
    if not (isinstance(name, str) and isinstance(symbols, list) and isinstance(default, str)):
        raise ValueError("a dimension is [name, [symbols], default]")
    return Dimension(name, tuple(symbols), default)
