"""The ledger: a hash-chained record of what was declared and released, and the truth for everything public.

It is read to its end before every decision and appended to only by the holder of the fence. Replaying its entries
gives the declarations, the budget and the releases; an entry that the rules would not have allowed breaks the chain.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from quietcount_aggregates.entries import (
    GENESIS,
    Body,
    Declared,
    Entry,
    Head,
    Opened,
    Released,
    Retired,
    StateLost,
    of_newer_schema,
)
from quietcount_aggregates.errors import (
    RESTORE_LEDGER,
    BudgetError,
    LedgerBehind,
    LedgerBroken,
    LedgerError,
    LedgerNewer,
    PopulationError,
)
from quietcount_aggregates.populations import Horizon, Population, Table
from quietcount_schemas.log import LedgerLog

__all__ = ["Budget", "Chain", "Ledger"]

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Budget:
    """What the declared populations may tell about one person, and what is left to declare."""

    lifetime_epsilon: Decimal
    declared: Decimal
    losses: int
    yearly: Decimal
    """How much of `declared` is for populations with a yearly horizon: once for each year in which a person came."""

    @property
    def left(self) -> Decimal:
        return self.lifetime_epsilon - self.declared

    @property
    def bound(self) -> Decimal:
        """Return the stated bound: the lifetime epsilon, once more for each recorded loss of the state."""
        return self.lifetime_epsilon * (1 + self.losses)


@dataclass(slots=True)
class Chain:
    """What a sequence of entries adds up to. `extend` accepts an entry or raises LedgerBroken.

    `declarations`, `retired` and `first_open` are by population: `first_open` is the first day of the earliest period
    that is not settled. `releases` and `withheld` are by table and first day of the period: a period is withheld if a
    part of it was counted in a state that was lost. `following` is, by table, the first day of the earliest period that
    is neither released nor withheld.
    """

    entries: list[Entry] = field(default_factory=list)
    declarations: dict[str, Population] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    releases: dict[tuple[str, dt.date], Entry] = field(default_factory=dict)
    first_open: dict[str, dt.date] = field(default_factory=dict)
    following: dict[str, dt.date] = field(default_factory=dict)
    withheld: dict[tuple[str, dt.date], Entry] = field(default_factory=dict)
    losses: int = 0

    @property
    def head(self) -> Head:
        return Head(len(self.entries), self.entries[-1].digest if self.entries else GENESIS)

    @property
    def opened(self) -> Opened:
        body = self.entries[0].body if self.entries else None
        if not isinstance(body, Opened):
            raise LedgerError("the ledger is empty", "`quietcount run` opens it")
        return body

    @property
    def budget(self) -> Budget:
        populations = self.declarations.values()
        return Budget(
            lifetime_epsilon=self.opened.lifetime_epsilon,
            declared=sum((each.epsilon for each in populations), Decimal(0)),
            losses=self.losses,
            yearly=sum((each.epsilon for each in populations if each.horizon is Horizon.YEAR), Decimal(0)),
        )

    @property
    def tables(self) -> list[tuple[Population, Table]]:
        """Return each declared table with its population, in the order of the names of the tables."""
        found = [(population, table) for population in self.declarations.values() for table in population.tables]
        return sorted(found, key=lambda each: each[1].name)

    def unknown_to(self, first_open: Mapping[str, dt.date]) -> list[Released]:
        """Return the releases of periods that a state with these first open days still has open."""
        return [
            entry.body
            for entry in self.releases.values()
            if isinstance(entry.body, Released)
            and (entry.body.population not in first_open or entry.body.period_end >= first_open[entry.body.population])
        ]

    def is_ahead_of(self, first_open: Mapping[str, dt.date], intent: bytes) -> bool:
        """Return whether the ledger has releases that a state neither knows nor began: its limits are forgotten.

        A crash during a release leaves a state that does not know it, and says in its `intent` that it began it.
        """
        return any(released.intent != intent for released in self.unknown_to(first_open))

    def extend(self, data: bytes) -> Entry:
        """Accept the next entry's bytes, or raise LedgerBroken or LedgerNewer and change nothing."""
        place = len(self.entries)
        if of_newer_schema(data, place, self.head.digest):
            raise LedgerNewer(
                f"ledger entry {place} was written by a newer version of quietcount, and this one cannot read it. "
                "Nothing was changed",
                "Use the newer version",
            )
        entry = Entry.read(data, place)
        if entry.index != place or entry.previous != self.head.digest:
            raise LedgerBroken(
                f"ledger entry {place} does not follow from the one before: the ledger was altered, damaged or mixed "
                "with another. Nothing is released until it is mended",
                RESTORE_LEDGER,
            )
        reason = self._objection(entry.body)
        if reason is not None:
            raise LedgerBroken(
                f"ledger entry {place} is not one that may stand there: {reason}",
                RESTORE_LEDGER,
            )
        self.entries.append(entry)
        match entry.body:
            case Declared(population):
                self.declarations[population.name] = population
                self.first_open[population.name] = population.first_day
                self.following |= {table.name: table.first_day(population.first_day) for table in population.tables}
            case Released(population=name, statistic=statistic, period_start=start, period_end=end):
                self.releases[statistic, start] = entry
                self.following[statistic] = end + _DAY
                self.first_open[name] = max(self.first_open[name], end + _DAY)
            case Retired(name):
                self.retired.add(name)
            case StateLost(losses):
                self.losses = losses
                self._withhold(entry)
            case Opened():
                pass
        return entry

    def _withhold(self, loss: Entry) -> None:
        """Give up the periods of coarser tables of which a part was settled in the state that is lost."""
        for population, table in self.tables:
            start = self.following[table.name]
            if start < self.first_open[population.name] and population.name not in self.retired:
                self.withheld[table.name, start] = loss
                self.following[table.name] = table.period.next(start)

    def _objection(self, body: Body) -> str | None:
        """Return why `body` may not be the next entry, or None: the rules of the ledger."""
        if isinstance(body, Opened) != (not self.entries):
            return "a ledger is opened once, by its first entry"
        match body:
            case Opened(lifetime_epsilon=epsilon, partitions=partitions):
                if epsilon <= 0:
                    return "the lifetime epsilon is not a positive number"
                return None if partitions > 0 else "events lie in at least one partition"
            case Declared(population):
                names = [table.name for table in population.tables]
                if population.name in self.declarations:
                    return f"population {population.name!r} is declared already"
                if len(set(names)) < len(names) or any(name in self.following for name in names):
                    return f"a table of population {population.name!r} is declared already"
                if not population.finest or not all(t.period.is_made_of(population.period) for t in population.tables):
                    return f"the tables of population {population.name!r} do not fit its period"
                if population.epsilon > self.budget.left:
                    return f"population {population.name!r} passes the lifetime epsilon"
            case Released():
                return self._release_objection(body)
            case Retired(name):
                if name not in self.declarations or name in self.retired:
                    return f"no population {name!r} is there to retire"
            case StateLost(losses):
                if losses != self.losses + 1:
                    return "losses are counted one by one"
        return None

    def _release_objection(self, body: Released) -> str | None:
        population = self.declarations.get(body.population)
        if population is None or population.digest != body.digest:
            return f"population {body.population!r} is not declared so"
        table = next((each for each in population.tables if each.name == body.statistic), None)
        if table is None:
            return f"population {body.population!r} has no table {body.statistic!r}"
        if body.population in self.retired:
            return f"population {body.population!r} is retired"
        if (body.statistic, body.period_start) in self.releases:
            return f"statistic {body.statistic!r} is released already for the period from {body.period_start}"
        if body.period_start != self.following[body.statistic]:
            due = self.following[body.statistic]
            return f"statistic {body.statistic!r} is released period by period, and the next one starts on {due}"
        if body.period_end != table.period.end(body.period_start) or len(body.values) != table.cells:
            return f"the release of statistic {body.statistic!r} does not cover its declared period and cells"
        first_open = self.first_open[body.population]
        if table.period is not population.period:
            if body.period_end >= first_open:
                return f"statistic {body.statistic!r} is released for a period of which a part is not settled"
        elif body.period_start >= first_open:
            late = [each.name for each in population.tables if each.period.end(self.following[each.name]) < first_open]
            if late:
                return f"statistic {late[0]!r} is not released for a period that is settled"
        return None


class Ledger:
    """A chain bound to the log it is kept in."""

    def __init__(self, log: LedgerLog) -> None:
        self._log = log
        self._epoch: int | None = None
        self.chain = Chain()

    def fence(self) -> None:
        """Shut out other releasers and read to the end: what follows is decided on the whole ledger."""
        self._epoch = self._log.fence()
        self.refresh()

    def refresh(self) -> None:
        """Read to the end of the log and verify what is new; raise LedgerBroken, LedgerBehind or LedgerNewer."""
        # The last entry known is read again, so that a ledger replaced behind our back does not pass for a longer one.
        self._read_from(max(0, len(self.chain.entries) - 1))

    def audit(self) -> None:
        """Read the whole log and verify it, known entries too; raise LedgerBroken, LedgerBehind or LedgerNewer.

        An older entry that is altered behind our back is found by nothing else before the next start. The work follows
        the length of the ledger, which is public.
        """
        self._read_from(0)

    def _read_from(self, start: int) -> None:
        """Compare the entries from `start` on with those known, and extend the chain by what is new."""
        known = self.chain.entries[start:]
        data = self._log.read(start)
        if len(data) < len(known):
            raise LedgerBehind(
                "the ledger lost entries while the service was running. Nothing is folded or released until that is "
                "mended",
                "Put the newest ledger back",
            )
        for entry, now in zip(known, data, strict=False):
            if now != entry.data:
                raise LedgerBroken(
                    f"ledger entry {entry.index} is another one than was read before: the ledger was altered or "
                    "replaced while the service was running. Nothing is folded or released until it is mended",
                    "Put the newest ledger back",
                )
        for now in data[len(known) :]:
            self.chain.extend(now)

    def append(self, bodies: Sequence[Body], now: dt.datetime) -> list[Entry]:
        """Append entries, all or none, read them back from the log and return them.

        The rules are tried on a copy first, so that nothing is appended that a reader would not accept.
        """
        if self._epoch is None:
            raise LedgerError("the ledger is open for reading only", "Call fence() before append()")
        trial = Chain(
            list(self.chain.entries),
            dict(self.chain.declarations),
            set(self.chain.retired),
            dict(self.chain.releases),
            dict(self.chain.first_open),
            dict(self.chain.following),
            dict(self.chain.withheld),
            self.chain.losses,
        )
        made = []
        for body in bodies:
            entry = Entry.make(len(trial.entries), trial.head.digest, now, body)
            trial.extend(entry.data)
            made.append(entry)
        self._log.append([entry.data for entry in made], epoch=self._epoch, expected=len(self.chain.entries))
        self.refresh()
        if self.chain.head != trial.head:
            raise LedgerError(
                "what was appended to the ledger did not come back as written; nothing is published from it",
                "Look at the disk or the brokers, then start again",
            )
        return made

    def check_not_behind(self, head: Head, where: str) -> None:
        """Raise LedgerBehind unless this chain holds the head that `where` was built from."""
        if not head.length:
            return
        entries = self.chain.entries
        if len(entries) < head.length or entries[head.length - 1].digest != head.digest:
            raise LedgerBehind(
                f"the ledger does not hold what {where} was built from: an older copy, or another ledger, was put in "
                "its place. Releasing from it would draw new noise for released values and lay them bare",
                "Put the newest ledger back, or bring it back from the newest file that was published, with: "
                "quietcount ledger restore",
            )

    def declare(
        self, wanted: Iterable[Population], lifetime_epsilon: Decimal, now: dt.datetime, *, partitions: int
    ) -> list[Population]:
        """Declare the populations that are new, all or none, and return them; open the ledger if it is empty.

        Opening and the first declarations are one append: a first run that is refused has fixed nothing. `partitions`
        is how many the log has: opening fixes it. Raises PopulationError for a declared population that was changed,
        left out or retired and for a table whose name is taken, and BudgetError for declarations that pass the lifetime
        epsilon, or a lifetime epsilon that is not the one the ledger was opened with.
        """
        wanted = list(wanted)
        bodies: list[Body] = []
        if not self.chain.entries:
            bodies.append(Opened(secrets.token_bytes(16), lifetime_epsilon, partitions))
        elif self.chain.opened.lifetime_epsilon != lifetime_epsilon:
            opened = self.chain.opened.lifetime_epsilon
            raise BudgetError(
                f"lifetime_epsilon is {lifetime_epsilon} in the configuration, and this ledger was opened with "
                f"{opened}. The bound is stated once and never changes",
                f"Write lifetime_epsilon = {opened}",
            )
        new = []
        for population in wanted:
            declared = self.chain.declarations.get(population.name)
            if declared is None:
                new.append(population)
            else:
                self._check_unchanged(population, declared)
        missing = sorted(set(self.chain.declarations) - self.chain.retired - {each.name for each in wanted})
        if missing:
            raise PopulationError(
                f"population {missing[0]!r} is declared in the ledger and missing in the configuration",
                f"Put it back, or end it permanently with: quietcount ledger retire {missing[0]}",
            )
        _check_budget(new, self.chain.budget.left if self.chain.entries else lifetime_epsilon, lifetime_epsilon)
        self._check_names(new)
        bodies += [Declared(population) for population in new]
        if bodies:
            self.append(bodies, now)
        return new

    def _check_names(self, new: Sequence[Population]) -> None:
        taken = {table.name: population.name for population, table in self.chain.tables}
        for population in new:
            for table in population.tables:
                if table.name in taken:
                    raise PopulationError(
                        f"population {population.name!r}: the name of table {table.name!r} is taken by population "
                        f"{taken[table.name]!r}",
                        "Give it another name: each has a view of its own in statistics.duckdb",
                    )
                taken[table.name] = population.name

    def _check_unchanged(self, population: Population, declared: Population) -> None:
        if population.name in self.chain.retired:
            raise PopulationError(
                f"population {population.name!r} was retired, which is permanent", "Remove it or give it another name"
            )
        changed = population.differences(declared)
        if changed:
            raise PopulationError(
                f"population {population.name!r}: {', '.join(map(repr, changed))} differs from its declaration in the "
                "ledger, and a declared population never changes",
                "Put the declared value back (quietcount ledger show), or give the changed population, and its tables, "
                "new names: it then spends its own epsilon",
            )


def _check_budget(new: Sequence[Population], left: Decimal, lifetime_epsilon: Decimal) -> None:
    asked = sum((each.epsilon for each in new), Decimal(0))
    if asked > left:
        names = ", ".join(each.name for each in new)
        raise BudgetError(
            f"declaring {names} would spend epsilon {asked}, and {left} of lifetime_epsilon {lifetime_epsilon} is "
            "left. Nothing was declared",
            f"Lower the epsilon of their tables to {left} together, or leave some of them out"
            if left
            else "Leave it out: what is declared is spent permanently, also if it is retired",
        )
