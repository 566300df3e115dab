"""The catalogue: populations as a person wrote them, checked against the schemas and their domains frozen."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from quietcount_aggregates.axes import Axes
from quietcount_aggregates.errors import PopulationError
from quietcount_aggregates.populations import (
    Dimension,
    Epsilon,
    Filter,
    Horizon,
    Late,
    Population,
    PopulationName,
    StatisticName,
    Table,
)
from quietcount_schemas.event_types import EARLIEST, LATEST, PUBLISHED_COLUMNS, EventType, Field, FieldKind, Role
from quietcount_schemas.periods import Period

if TYPE_CHECKING:
    from quietcount_schemas.registry import SchemaRegistry

__all__ = ["AskedTable", "resolve"]

# A vector of 100,000 cells takes OpenDP 0.65 s to draw; past that a catalogue is a mistake rather than a wish.
MAX_CELLS = 100_000
MAX_CONTRIBUTIONS = 1_000_000
# Of the table that all tables of a population are sums of: reconciling a year of months then takes some 100 MB.
MAX_FINEST_CELLS = 1_000_000
# Of the least squares: publishing takes ten seconds with as many, at each release.
MAX_WEIGHTS = 300_000
# Noise of this scale hides any count that case work has.
MAX_SCALE = 100_000

_DAYS: Final = {Period.DAY: 1, Period.WEEK: 7, Period.MONTH: 31, Period.QUARTER: 92, Period.YEAR: 366}

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NAME_WANTED = "Write lower-case letters, digits and _, a letter first, and 63 at most"

RESERVED_NAMES = frozenset(
    {
        *("statistics", "margins", "ledger", "data_dictionary", "about", "budget", "withheld"),
        *("descriptions", "labels", "notes", "buckets"),
        *("noise_symbols", "noise_periods", "noise_scales", "noise_responses", "noise_signals", "noise_weights"),
    }
)


class AskedTable(NamedTuple):
    """A table as a person wrote it; without a `period` it has the population's."""

    name: str
    epsilon: float
    by: Sequence[str] = ()
    where: Mapping[str, Sequence[str | bool]] = MappingProxyType({})
    period: Period | None = None


def resolve(
    name: str,
    *,
    events: Sequence[str],
    registry: SchemaRegistry,
    period: Period,
    tables: Sequence[AskedTable],
    title: str = "",
    description: str = "",
    where: Mapping[str, Sequence[str | bool]] | None = None,
    max_contributions: int = 1,
    horizon: Horizon = Horizon.LIFETIME,
    since: dt.date | None = None,
    late: Late = Late.CARRY,
) -> Population:
    """Check a population as a person wrote it against the schemas and return it with its tables' domains frozen.

    Raises PopulationError, whose message names the population, the table, the key and what is allowed.
    """

    def refuse(key: str, reason: str, remedy: str) -> PopulationError:
        return PopulationError(f"population {name!r}, key {key!r}: {reason}", remedy)

    if not _NAME.fullmatch(name):
        raise refuse("name", "is no name", _NAME_WANTED)
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
    if since is not None and not EARLIEST <= since <= LATEST:
        raise refuse("since", "no event may have this date", f"Write a date from {EARLIEST} to {LATEST}")
    if not tables:
        raise refuse("table", "is missing", "Write at least one [[population.table]] below the population")
    names = [table.name for table in tables]
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice is not None:
        raise refuse("table", f"two tables are named {twice!r}", "Give each its own name")
    population = Population(
        name=PopulationName(name),
        title=title,
        description=description,
        events=tuple(sorted(events)),
        where=_conditions(types, where, refuse),
        period=period,
        max_contributions=int(max_contributions),
        horizon=horizon,
        since=period.start(since) if since is not None else None,
        late=late,
        tables=tuple(_table(asked, name, types, period, max_contributions) for asked in tables),
    )
    if Period.WEEK in (period, *(table.period for table in population.tables)) and horizon is Horizon.YEAR:
        raise refuse(
            "period",
            "a week may lie in two calendar years, and the limit of a case begins again with each year",
            'Choose another period, or horizon = "lifetime"',
        )
    if not population.finest:
        finest = min((table.period for table in population.tables), key=list(Period).index)
        raise refuse("period", "no table is released by it", f'Write period = "{finest}", the finest of its tables')
    _check_twice(population)
    _check_reconciliation(population)
    return population


def _table(
    asked: AskedTable, population: str, types: Sequence[EventType], period: Period, max_contributions: int
) -> Table:
    """Check one table; raise PopulationError."""

    def refuse(key: str, reason: str, remedy: str) -> PopulationError:
        where = f"population {population!r}, table {asked.name!r}"
        return PopulationError(f"{where}, key {key!r}: {reason}", remedy)

    if not _NAME.fullmatch(asked.name):
        raise refuse("name", "is no name", _NAME_WANTED)
    if asked.name in RESERVED_NAMES:
        raise refuse("name", "this name belongs to a table of statistics.duckdb", "Choose another")
    if not (math.isfinite(asked.epsilon) and 0.001 <= asked.epsilon <= 20):
        raise refuse("epsilon", "is too small, too large or no number", "Write a number from 0.001 to 20")
    own = asked.period or period
    if not own.is_made_of(period):
        possible = " or ".join(f'"{each}"' for each in Period if each.is_made_of(period))
        raise refuse(
            "period",
            f"a {own} is not made of whole {period}s, by which the population settles",
            f"Write {possible}, or give the population a finer period",
        )
    if len(set(asked.by)) != len(asked.by):
        raise refuse("by", "a field is named twice", "Name it once")
    dimensions = tuple(_shared_dimension(types, field, partial(refuse, "by")) for field in sorted(asked.by))
    for dimension in dimensions:
        if dimension.name in PUBLISHED_COLUMNS:
            raise refuse(
                "by", f"the field {dimension.name!r} has the name of a published column", "Break down by another field"
            )
    if max_contributions / asked.epsilon > MAX_SCALE:
        raise refuse(
            "epsilon",
            f"the noise scale, max_contributions / epsilon, would be above {MAX_SCALE:,}",
            "Write a larger epsilon or fewer contributions",
        )
    table = Table(
        name=StatisticName(asked.name),
        where=_conditions(types, asked.where, refuse),
        by=dimensions,
        period=own,
        epsilon=Epsilon(float(asked.epsilon)),
    )
    if table.cells > MAX_CELLS:
        raise refuse("by", f"the cross product has more than {MAX_CELLS:,} cells", "Break it down by fewer fields")
    return table


def _conditions(
    types: Sequence[EventType],
    where: Mapping[str, Sequence[str | bool]] | None,
    refuse: Callable[[str, str, str], PopulationError],
) -> tuple[Filter, ...]:
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
    return tuple(conditions)


def _check_twice(population: Population) -> None:
    """Raise PopulationError for the same table under two names.

    Two draws of it together have half the variance of one. One draw with the epsilon of both has a quarter.
    """
    seen: dict[object, str] = {}
    for table in population.tables:
        other = seen.setdefault((table.where, table.by, table.period), table.name)
        if other != table.name:
            raise PopulationError(
                f"population {population.name!r}, table {table.name!r}: it is table {other!r} once more",
                f"Leave it out, and give {other!r} the epsilon of both: that is more precise",
            )


def _check_reconciliation(population: Population) -> None:
    """Raise PopulationError for tables that cannot be reconciled with each other."""
    periods = {table.period: table.name for table in population.tables}
    for coarse in set(periods) - {Period.WEEK}:
        if Period.WEEK in periods and coarse is not Period.DAY:
            raise PopulationError(
                f"population {population.name!r}, table {periods[Period.WEEK]!r}, key 'period': a week may lie in two "
                f"of the {coarse}s of table {periods[coarse]!r}, so that the two cannot be made to agree",
                "Release by day and week, or by day, month, quarter and year; or declare the weeks as a population of "
                "their own",
            )
    axes = Axes.of(population)
    for layout in axes.layouts:
        if not all(layout.counted):
            raise PopulationError(
                f"population {population.name!r}, table {layout.table.name!r}, key 'where': it excludes what the "
                "population's own condition leaves, so the table would count nothing",
                "Leave the condition out, or the table",
            )
    widest = max((table.period for table in population.tables), key=_DAYS.__getitem__)
    wide = _DAYS[widest]
    releases = [round(wide / _DAYS[table.period]) for table in population.tables]
    if axes.weights(round(wide / _DAYS[population.period]), releases) > MAX_WEIGHTS:
        raise PopulationError(
            f"population {population.name!r}: to make its tables agree, more than {MAX_WEIGHTS:,} weights would be "
            f"needed for each {widest}",
            "Release by fewer or longer periods, use fewer conditions, or declare some of the tables as a population "
            "of their own",
        )
    if axes.cells > MAX_FINEST_CELLS:
        raise PopulationError(
            f"population {population.name!r}: all fields that its tables break down by, taken together, have more than "
            f"{MAX_FINEST_CELLS:,} cells: the tables cannot be made to agree",
            "Break down by fewer fields, or declare some of the tables as a population of their own",
        )


def _event_type(registry: SchemaRegistry, event: str, refuse: Callable[[str, str], PopulationError]) -> EventType:
    if event not in registry.event_types:
        known = ", ".join(name for name, known in registry.event_types.items() if known.role is Role.EVENT)
        raise refuse(f"there is no event type {event!r}", f"Known are {known}")
    return registry.event_types[event]


def _shared_dimension(
    types: Sequence[EventType], field: str, refuse: Callable[[str, str], PopulationError]
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
        raise refuse(f"the event types do not agree on the symbols of {field!r}", "Count each in a population")
    return found[0]


def _frozen(field: Field) -> Dimension:
    if field.kind is FieldKind.BOOLEAN:
        return Dimension(field.name, ("false", "true"), "true" if field.default is True else "false")
    # The lint lets no enum in that has no default symbol.
    return Dimension(field.name, tuple(sorted(field.symbols)), str(field.default_symbol))


def _symbol(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value
