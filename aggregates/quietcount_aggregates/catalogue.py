"""The catalogue: populations as a person wrote them, checked against the schemas and their domains frozen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from quietcount_aggregates.axes import Axes
from quietcount_aggregates.errors import PopulationError
from quietcount_aggregates.populations import Horizon, Late, Population, PopulationName
from quietcount_aggregates.tables import NAME, NAME_WANTED, AskedTable, conditions, resolve_tables
from quietcount_schemas.events.event_types import EARLIEST, LATEST, EventType, Role
from quietcount_schemas.events.periods import Period

if TYPE_CHECKING:
    from quietcount_schemas.registry import SchemaRegistry

__all__ = ["AskedTable", "check", "resolve"]

MAX_CONTRIBUTIONS = 1_000_000
# Of the table that all tables of a population are sums of: reconciling a year of months then takes some 100 MB.
MAX_FINEST_CELLS = 1_000_000
# Of the least squares: publishing takes ten seconds with as many, at each release.
MAX_WEIGHTS = 300_000

_DAYS: Final = {Period.DAY: 1, Period.WEEK: 7, Period.MONTH: 31, Period.QUARTER: 92, Period.YEAR: 366}


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

    if not NAME.fullmatch(name):
        raise refuse("name", "is no name", NAME_WANTED)
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
        where=conditions(types, where, refuse),
        period=period,
        max_contributions=int(max_contributions),
        horizon=horizon,
        since=period.start(since) if since is not None else None,
        late=late,
        tables=resolve_tables(tables, population=name, types=types, period=period, max_contributions=max_contributions),
    )
    check(population)
    return population


def check(population: Population) -> None:
    """Raise PopulationError if the tables of a population do not fit its periods, or each other."""

    def refuse(key: str, reason: str, remedy: str) -> PopulationError:
        return PopulationError(f"population {population.name!r}, key {key!r}: {reason}", remedy)

    if (
        Period.WEEK in (population.period, *(table.period for table in population.tables))
        and population.horizon is Horizon.YEAR
    ):
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


def _check_twice(population: Population) -> None:
    """Raise PopulationError for the same table under two names.

    Two draws of it together have half the variance of one. One draw with the epsilon of both has a quarter.
    """
    seen: dict[object, str] = {}
    for table in population.tables:
        other = seen.setdefault((table.where, table.by, table.period, table.sum), table.name)
        if other != table.name:
            raise PopulationError(
                f"population {population.name!r}, table {table.name!r}: it is table {other!r} once more",
                f"Leave it out, and give {other!r} the epsilon of both: that is more precise",
            )


def _check_reconciliation(population: Population) -> None:
    """Raise PopulationError for tables that cannot be reconciled with each other."""
    periods = {table.period: table.name for table in population.counts}
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
    widest = max((table.period for table in population.counts), key=_DAYS.__getitem__)
    wide = _DAYS[widest]
    releases = [round(wide / _DAYS[table.period]) for table in population.counts]
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
