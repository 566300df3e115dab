"""An oracle in plain Python: what each population counts, written from the rules of the design and not from the SQL.

It folds one record at a time and settles one period at a time. It is slow, and there is nothing in it to get wrong by
being clever: the code that it judges works on whole columns and on all open periods at once.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from quietcount_aggregates.populations import Dimension, Filter, Horizon, Late, Population, Table
from quietcount_consumers.trials.margins import cells_of
from quietcount_schemas.codec import CaseEvent

__all__ = ["Oracle", "Place", "Releases"]

EventKey = tuple[bytes, bytes]
"""The case key and the event id. Two cases may have the same event id."""

Releases = dict[tuple[str, dt.date], tuple[int, ...]]
"""The true values of each release, by the table's name and the first day of its period."""


class Place(NamedTuple):
    """Where a record lies: in which of the logs that followed one another, in which partition, and at which offset."""

    log: int
    partition: int
    offset: int


@dataclass(frozen=True)
class Version:
    """One folded record: the event, and its place in the log.

    Once a settlement has forgotten the other versions of the event, it stands for them: `first` is where the first one
    lay.
    """

    event: CaseEvent
    place: Place
    first: Place


@dataclass
class Known:
    """One event with all its versions, in the order of the log."""

    key: EventKey
    versions: list[Version] = field(default_factory=list)

    @property
    def case(self) -> bytes:
        return self.key[0]

    @property
    def place(self) -> Place:
        """The place of the first version: its corrections come in its turn. A case lies in one partition of a log."""
        return min(version.first for version in self.versions)

    @property
    def standing(self) -> Version:
        """The version of the highest revision, the first in the log among equals (`max` keeps the first)."""
        in_order = sorted(self.versions, key=lambda version: version.place)
        return max(in_order, key=lambda version: version.event.revision)

    @property
    def alone(self) -> Version:
        """The standing version, for all of them."""
        standing = self.standing
        return Version(standing.event, standing.place, self.place)


class Account:
    """One population: what is settled of it, and the limits that are used up.

    One that is declared later counts what lies at `begins` or behind. It waits until its past is complete. Once the
    state was lost, nothing is late that is dated before `lost_open`, its first open day then: it counts nowhere.
    """

    def __init__(self, population: Population, begins: Mapping[int, Place], *, waits: bool = False) -> None:
        self.population = population
        self.declared_at = self.begins = begins
        self.waits = waits
        self.first_open = population.first_day
        self.closed: dict[EventKey, dt.date] = {}
        """Each closed event with the period in which it was settled."""
        self.used: Counter[tuple[int, bytes]] = Counter()
        self.used_before = self.used.copy()
        """What was used up when the newest act of settling began."""
        self.sums: Counter[tuple[str, dt.date, tuple[str, ...]]] = Counter()
        self.withheld: set[tuple[str, dt.date]] = set()
        self.lost_open = dt.date.min

    def is_due(self, moment: dt.datetime) -> bool:
        """Return whether the first open period was over at a moment, and nothing keeps it from being settled."""
        return not self.waits and midnight(self.population.period.next(self.first_open)) <= moment

    def counted_of(self, remembered: Iterable[Known]) -> Iterable[Known]:
        """Return of what is remembered that of which this population knows."""
        return (mine for known in remembered if (mine := self.known_of(known)) is not None)

    def known_of(self, known: Known) -> Known | None:
        """Return what this population knows of an event, or None for nothing."""
        versions = [version for version in known.versions if self.knows(version)]
        return Known(known.key, versions) if versions else None

    def knows(self, version: Version) -> bool:
        """Return whether a version, and all that it stands for, exists for this population."""
        return version.first >= self.begins.get(version.place.partition, version.first)

    def lose(self, ends: Mapping[int, Place]) -> None:
        """Know nothing any more but the first open day; what is amid a coarser period is never released."""
        for table in self.population.tables:
            start = table.period.start(self.first_open)
            if self.population.first_day <= start < self.first_open:
                self.withheld.add((table.name, start))
        self.closed, self.used, self.used_before, self.sums = {}, Counter(), Counter(), Counter()
        if any(place.log != ends[partition].log for partition, place in self.declared_at.items()):
            self.begins = ends  # it was declared in a log that is gone
        self.lost_open = self.first_open

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
        if population.late is Late.DROP or not self.belongs(event):
            return None
        if event.occurred_on < max(a_year_before(self.first_open), self.lost_open):
            return None
        if population.horizon is Horizon.YEAR and self.first_open.year != event.occurred_on.year:
            return None
        return self.first_open

    def belongs(self, event: CaseEvent) -> bool:
        """Return whether the population counts such an event. Of another one nothing remains once it is settled."""
        return event.event in self.population.events and holds(self.population.where, event)

    def waits_for(self, known: Known) -> bool:
        """Return whether an event is to be remembered: not if its case had used up its limit before this settlement."""
        population = self.population
        used_up = self.used_before[0, known.case] == population.max_contributions
        return self.period_of(known) is not None and not (population.horizon is Horizon.LIFETIME and used_up)

    def settle(self, remembered: Iterable[Known]) -> Releases:
        """Count the first open period, close its events, and return the tables that end with it."""
        population, period = self.population, self.first_open
        following = population.period.next(period)
        for known in sorted(self.counted_of(remembered), key=lambda known: known.place):
            if self.period_of(known) != period:
                continue
            event = known.standing.event
            if not self.belongs(event):
                continue
            self.closed[known.key] = period
            limit = event.occurred_on.year if population.horizon is Horizon.YEAR else 0, known.case
            if self.used[limit] == population.max_contributions:
                continue
            self.used[limit] += 1
            for table in population.tables:
                if holds(table.where, event):
                    cell = tuple(symbol(event, each) for each in table.by)
                    self.sums[table.name, table.period.start(period), cell] += amount(table, event)
        self.first_open = following
        return {
            (table.name, start): tuple(self.sums[table.name, start, cell] for cell in cells_of(table))
            for table in population.tables
            if table.period.next(start := table.period.start(period)) == following and start >= population.first_day
            if (table.name, start) not in self.withheld
        }

    def forget(self) -> None:
        """Forget which events are closed after a year: one that comes again is too old then."""
        first, period = a_year_before(self.first_open), self.population.period
        self.closed = {key: settled for key, settled in self.closed.items() if period.next(settled) > first}


def a_year_before(day: dt.date) -> dt.date:
    """Return the same day of the year before; of a leap day the 28th."""
    try:
        return day.replace(year=day.year - 1)
    except ValueError:
        return day.replace(year=day.year - 1, day=28)


def symbol(event: CaseEvent, field: Dimension) -> str:
    """Return an event's symbol of a field: its default for null, and for one that came after the declaration."""
    value = event.attributes[field.name]
    for place, (least, most) in enumerate(field.bounds):
        if isinstance(value, int) and least <= value <= most:
            return field.symbols[place]
    found = str(value).lower() if isinstance(value, bool) else str(value)
    return found if found in field.symbols else field.default


def amount(table: Table, event: CaseEvent) -> int:
    """Return what an event adds to its cell: 1, or its number moved to between the two ends, less their middle."""
    if table.sum is None:
        return 1
    value = event.attributes[table.sum.field]
    assert isinstance(value, int)
    moved = table.sum.low if value < table.sum.low else min(value, table.sum.high)
    return moved - (table.sum.low + table.sum.high) // 2


def holds(where: Sequence[Filter], event: CaseEvent) -> bool:
    return all(symbol(event, each.field) in each.accepted for each in where)


class Oracle:
    """All populations over one log. They share what is remembered of it, and nothing else.

    Of some events the service does not have the schema at first, as `is_newer` tells. They are dead letters until it
    has.
    """

    def __init__(self, populations: Sequence[Population], is_newer: Callable[[CaseEvent], bool]) -> None:
        self.accounts = [Account(population, {}) for population in populations]
        self.remembered: dict[EventKey, Known] = {}
        self.gone: set[bytes] = set()
        self.log: list[Version] = []
        """What the log holds behind the newest act of settling. What lies before it is gone."""
        self.unread: list[Version] = []
        """What of the log is to be folded again after a loss."""
        self.letters: list[CaseEvent] = []
        self.is_unreadable = is_newer

    def declare(self, population: Population, day: dt.date, ends: Iterable[Place]) -> None:
        """Declare one more population on a day on which the log ends at these places."""
        begins = {place.partition: place for place in ends}
        self.accounts.append(Account(population, begins, waits=population.first_day <= day))

    def lose(self, ends: Iterable[Place]) -> None:
        """Lose the private state at a time at which the log ends at these places.

        Another state begins at the newest act of settling, or with the log if it was made again since.
        """
        now = {place.partition: place for place in ends}
        current = {place.log for place in now.values()}
        self.remembered, self.gone = {}, set()
        self.log = self.unread = [version for version in self.log if version.place.log in current]
        for account in self.accounts:
            account.lose(now)

    def upgrade(self) -> list[CaseEvent]:
        """Get the newer schemas; return the events of the dead letters, which are emitted again."""
        self.is_unreadable = lambda _: False
        return self.letters

    def complete(self, name: str) -> None:
        """Hear that the past of a population is in the log."""
        for account in self.accounts:
            if account.population.name == name:
                account.waits = False

    def retire(self, name: str) -> None:
        """Release nothing of a population any more."""
        self.accounts = [account for account in self.accounts if account.population.name != name]

    def fold(self, event: CaseEvent, place: Place) -> None:
        """Fold a record that was appended to the log."""
        self._fold_again()
        version = Version(event, place, place)
        self.log.append(version)
        self._read(version)

    def _fold_again(self) -> None:
        """Fold what a lost state had folded. The service does so when it has started: with what is declared by then."""
        unread, self.unread = self.unread, []
        for version in unread:
            self._read(version)

    def _read(self, version: Version) -> None:
        event = version.event
        if self.is_unreadable(event):
            if event not in self.letters:  # else it is there already
                self.letters.append(event)
            return
        if event.event == "Left":
            self.gone.add(event.case_key)
            self._forget()
            return
        counted = any(event.event in account.population.events for account in self.accounts)
        # What no population counts is not remembered, unless it may correct what one does.
        if event.case_key not in self.gone and (counted or event.revision > 0):
            key = event.case_key, event.event_id
            self.remembered.setdefault(key, Known(key)).versions.append(version)

    def _forget(self) -> None:
        self.remembered = {key: known for key, known in self.remembered.items() if known.case not in self.gone}

    def _drop_after(self, last: dt.date) -> None:
        """Forget every version that is dated after a day: the settlement that first meets it drops it."""
        for known in self.remembered.values():
            known.versions = [each for each in known.versions if each.event.occurred_on <= last]
        self.remembered = {key: known for key, known in self.remembered.items() if known.versions}

    def _forget_others(self) -> None:
        kept = [self._kept(known) for known in self.remembered.values()]
        self.remembered = {known.key: known for known in kept if known.versions}

    def _kept(self, known: Known) -> Known:
        """Return the version that stands for each population that still waits for the event; superseded ones go."""
        kept: list[Version] = []
        for account in self.accounts:
            mine = account.known_of(known)
            if mine is not None and account.waits_for(mine) and mine.alone not in kept:
                kept.append(mine.alone)
        return Known(known.key, kept)

    def release(self, now: dt.datetime, grace: dt.timedelta) -> Releases:
        """Settle each period that ended `grace` or more before `now`, and forget what no population waits for."""
        self._fold_again()
        values: Releases = {}
        due = [account for account in self.accounts if account.is_due(now - grace)]
        if due:
            for account in self.accounts:
                account.used_before = account.used.copy()
            self._drop_after(now.date() + dt.timedelta(days=2))
            for account in due:
                while account.is_due(now - grace):
                    values |= account.settle(self.remembered.values())
            self._forget_others()
            for account in self.accounts:
                account.forget()
            self.log = []
        return values


def midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)
