"""An oracle in plain Python: what each population counts, written from the rules of the design and not from the SQL.

It folds one record at a time and settles one period at a time. It is slow, and there is nothing in it to get wrong by
being clever: the code that it judges works on whole columns and on all open periods at once.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from quietcount_aggregates.populations import Filter, Horizon, Late, Population, Table
from quietcount_schemas.codec import CaseEvent

__all__ = ["Oracle", "Releases", "margins", "summed"]

EventKey = tuple[bytes, bytes]
"""The case key and the event id. Two cases may have the same event id."""

Releases = dict[tuple[str, dt.date], tuple[int, ...]]
"""The true values of each release, by the table's name and the first day of its period."""


@dataclass(frozen=True)
class Version:
    """One folded record: the event, and its place in the log."""

    event: CaseEvent
    place: int


@dataclass
class Known:
    """One event with all its versions, in the order of the log."""

    key: EventKey
    versions: list[Version] = field(default_factory=list)

    @property
    def case(self) -> bytes:
        return self.key[0]

    @property
    def place(self) -> int:
        """The place of the first version: its corrections come in its turn."""
        return self.versions[0].place

    @property
    def standing(self) -> Version:
        """The version of the highest revision, the first in the log among equals (`max` keeps the first)."""
        return max(self.versions, key=lambda version: version.event.revision)


class Account:
    """One population: what is settled of it, and the limits that are used up."""

    def __init__(self, population: Population) -> None:
        self.population = population
        self.first_open = population.first_day
        self.closed: dict[EventKey, dt.date] = {}
        """Each closed event with the period in which it was settled."""
        self.used: Counter[tuple[int, bytes]] = Counter()
        self.sums: Counter[tuple[str, dt.date, tuple[str, ...]]] = Counter()

    def period_of(self, known: Known) -> dt.date | None:
        """Return the open period that an event lies in, or None."""
        population, event = self.population, known.standing.event
        if known.key in self.closed:
            return None
        if event.event not in population.events and event.revision == 0:
            return None  # it is none of this population's events and corrects none
        own = population.period.start(event.occurred_on)
        if own < population.first_day:
            return None
        if own >= self.first_open:
            return own
        if population.late is Late.DROP:
            return None
        if event.occurred_on < a_year_before(self.first_open):
            return None
        if population.horizon is Horizon.YEAR and self.first_open.year != event.occurred_on.year:
            return None
        return self.first_open

    def settle(self, remembered: Iterable[Known]) -> Releases:
        """Count the first open period, close its events, and return the tables that end with it."""
        population, period = self.population, self.first_open
        following = population.period.next(period)
        for known in sorted(remembered, key=lambda known: known.place):
            if self.period_of(known) != period:
                continue
            self.closed[known.key] = period
            event = known.standing.event
            if event.event not in population.events or not holds(population.where, event):
                continue
            limit = event.occurred_on.year if population.horizon is Horizon.YEAR else 0, known.case
            if self.used[limit] == population.max_contributions:
                continue
            self.used[limit] += 1
            for table in population.tables:
                if holds(table.where, event):
                    cell = tuple(symbol(event, each.name, each.default) for each in table.by)
                    self.sums[table.name, table.period.start(period), cell] += 1
        self.first_open = following
        # For a year, after which an event that comes again is too old anyway.
        kept = {
            key: settled
            for key, settled in self.closed.items()
            if population.period.next(settled) > a_year_before(following)
        }
        self.closed = kept
        return {
            (table.name, start): tuple(self.sums[table.name, start, cell] for cell in cells_of(table))
            for table in population.tables
            if table.period.next(start := table.period.start(period)) == following and start >= population.first_day
        }


def a_year_before(day: dt.date) -> dt.date:
    """Return the same day of the year before; of a leap day the 28th."""
    try:
        return day.replace(year=day.year - 1)
    except ValueError:
        return day.replace(year=day.year - 1, day=28)


def symbol(event: CaseEvent, name: str, default: str) -> str:
    value = event.attributes[name]
    return default if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def holds(where: Sequence[Filter], event: CaseEvent) -> bool:
    return all(symbol(event, each.field.name, each.field.default) in each.accepted for each in where)


def cells_of(table: Table) -> list[tuple[str, ...]]:
    return list(itertools.product(*(dimension.symbols for dimension in table.by)))


class Oracle:
    """All populations over one log. They share what is remembered of it, and nothing else."""

    def __init__(self, populations: Sequence[Population]) -> None:
        self.accounts = [Account(population) for population in populations]
        self.remembered: dict[EventKey, Known] = {}
        self.gone: set[bytes] = set()

    def fold(self, event: CaseEvent, place: int) -> None:
        if event.event == "Left":
            self.gone.add(event.case_key)
            self._forget()
            return
        counted = any(event.event in account.population.events for account in self.accounts)
        # What no population counts is not remembered, unless it may correct what one does.
        if event.case_key not in self.gone and (counted or event.revision > 0):
            key = event.case_key, event.event_id
            self.remembered.setdefault(key, Known(key)).versions.append(Version(event, place))

    def _forget(self) -> None:
        self.remembered = {key: known for key, known in self.remembered.items() if known.case not in self.gone}

    def release(self, now: dt.datetime, grace: dt.timedelta) -> Releases:
        """Settle each period that ended `grace` or more before `now`, and forget what no population waits for."""
        values: Releases = {}
        settled = False
        for account in self.accounts:
            while midnight(account.population.period.next(account.first_open)) + grace <= now:
                values |= account.settle(self.remembered.values())
                settled = True
        if settled:
            self.remembered = {
                key: known
                for key, known in self.remembered.items()
                if any(account.period_of(known) is not None for account in self.accounts)
            }
        return values


def midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


# ---------------------------------------------------------------- what released tables owe one another


def margins(population: Population) -> list[tuple[Table, Table]]:
    """Return each table with another one whose sums it is: of the same filter, by fewer fields or coarser."""
    return [
        (coarse, fine)
        for coarse, fine in itertools.permutations(population.tables, 2)
        if coarse.where == fine.where
        and {each.name for each in coarse.by} <= {each.name for each in fine.by}
        and coarse.period.is_made_of(fine.period)
    ]


def summed(coarse: Table, fine: Table, released: Releases) -> Releases:
    """Return the releases of `coarse` as sums of those of `fine`, for each period of which `fine` has every part."""
    names = [each.name for each in fine.by]
    kept = [names.index(each.name) for each in coarse.by]
    parts: dict[dt.date, Counter[tuple[str, ...]]] = defaultdict(Counter)
    ends: dict[dt.date, tuple[dt.date, dt.date]] = {}
    for (name, start), values in sorted(released.items()):
        if name != fine.name:
            continue
        whole, following = coarse.period.start(start), fine.period.next(start)
        ends[whole] = ends.get(whole, (start, following))[0], following
        for cell, value in zip(cells_of(fine), values, strict=True):
            parts[whole][tuple(cell[place] for place in kept)] += value
    return {
        (coarse.name, whole): tuple(parts[whole][cell] for cell in cells_of(coarse))
        for whole, reach in ends.items()
        if reach == (whole, coarse.period.next(whole))
    }
