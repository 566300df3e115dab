"""The chain: what a sequence of ledger entries adds up to, and the rules by which one may follow.

Replaying the entries gives the declarations, the budget and the releases. An entry that the rules would not have
allowed breaks the chain.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from decimal import Decimal

from quietcount_aggregates.description import Description
from quietcount_aggregates.errors import RESTORE_LEDGER, LedgerBroken, LedgerError, LedgerNewer
from quietcount_aggregates.ledger.declarations import objection_to
from quietcount_aggregates.ledger.entries import (
    GENESIS,
    Body,
    Completed,
    Declared,
    Described,
    Entry,
    Head,
    Opened,
    Rekeyed,
    Released,
    Retired,
    Settled,
    StateLost,
    of_newer_schema,
)
from quietcount_aggregates.ledger.signed_heads import origin_of
from quietcount_aggregates.ledger.signed_notes import ED25519, VerifierKey
from quietcount_aggregates.populations import Horizon, Population, Table

__all__ = ["Budget", "Chain", "worst_of"]

_DAY = dt.timedelta(days=1)

_STRANGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the figures in an entry may raise that nobody wrote in good faith."""

_DIGITS = 50
"""The most digits of a lifetime epsilon, before its point or behind it: written out, a billion fill the memory."""

_RAISED = 7
"""By how many last digits at most a noise scale is raised: see DiscreteLaplace.scale in noise.py."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the declared populations may tell about one person, and what is left to declare."""

    lifetime_epsilon: Decimal
    declared: Decimal
    losses: int
    """How often the record of one person was lost at most."""
    yearly: Decimal
    """How much of `declared` is for populations with a yearly horizon: once for each year in which a person came."""

    @property
    def left(self) -> Decimal:
        return self.lifetime_epsilon - self.declared

    @property
    def bound(self) -> Decimal:
        """Return the stated bound: the lifetime epsilon, once more for each loss that may concern one person."""
        return self.lifetime_epsilon * (1 + self.losses)


@dataclass(slots=True)
class Chain:
    """What a sequence of entries adds up to. `extend` accepts an entry or raises LedgerBroken.

    `declarations`, `retired` and `first_open` are by population: `first_open` is the first day of the earliest period
    that is not settled. `releases` and `withheld` are by table and first day of the period: a period is withheld if a
    part of it was counted in a state that was lost. `following` is, by table, the first day of the earliest period that
    is neither released nor withheld. `later` are the populations that were declared after the ledger was opened: they
    count what is appended after that. `incomplete` are those of them that begin before their declaration, until
    somebody says that their past is in the log: nothing of them is released. `losses` is how often a state was lost,
    and `lost` that by partition since the newest loss of a pepper, under None if it was that of each. `earlier` is how
    often what is known of one person was lost until then. `described` is what the publisher says.
    `keys` are the public keys with which the heads were signed, the newest last.
    """

    entries: list[Entry] = field(default_factory=list)
    declarations: dict[str, Population] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    releases: dict[tuple[str, dt.date], Entry] = field(default_factory=dict)
    first_open: dict[str, dt.date] = field(default_factory=dict)
    following: dict[str, dt.date] = field(default_factory=dict)
    withheld: dict[tuple[str, dt.date], Entry] = field(default_factory=dict)
    later: set[str] = field(default_factory=set)
    incomplete: set[str] = field(default_factory=set)
    losses: int = 0
    lost: dict[int | None, int] = field(default_factory=dict)
    earlier: int = 0
    described: Description | None = None
    keys: list[bytes] = field(default_factory=list)

    def copy(self) -> Chain:
        """Return a chain of the same entries, which can be extended without this one."""
        return Chain(*(copy(getattr(self, each.name)) for each in fields(self)))

    @property
    def signer(self) -> VerifierKey:
        """Return the key with which the heads of this ledger are signed now."""
        return VerifierKey(origin_of(self.opened.ledger_id), ED25519, self.keys[-1])

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
    def latest(self) -> dt.datetime:
        """Return the latest time of an entry. It may not be the last one's: a clock can be put back between the two."""
        return max(entry.recorded_at for entry in self.entries)

    def keys_at(self, length: int) -> list[bytes]:
        """Return the public key with which the head of so many entries was signed, in a list: there may be none."""
        bodies = [entry.body for entry in self.entries[:length]]
        return [body.public_key for body in bodies if isinstance(body, Opened | Rekeyed)][-1:]

    @property
    def budget(self) -> Budget:
        populations = self.declarations.values()
        return Budget(
            lifetime_epsilon=self.opened.lifetime_epsilon,
            declared=sum((each.epsilon for each in populations), Decimal(0)),
            losses=self.worst,
            yearly=sum((each.epsilon for each in populations if each.horizon is Horizon.YEAR), Decimal(0)),
        )

    @property
    def worst(self) -> int:
        """Return how often the record of one person was lost at most: under one pepper a person is in one partition."""
        return self.earlier + worst_of(self.lost)

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

    def is_ahead_of(self, first_open: Mapping[str, dt.date]) -> bool:
        """Return whether the ledger has releases that a state cannot learn of any more: its limits are forgotten.

        A crash during a release leaves a state that does not know the newest settlement, and no older one.
        """
        newest = max((entry.index for entry in self.entries if isinstance(entry.body, Settled)), default=0)
        older = {id(entry.body) for entry in self.releases.values() if entry.index < newest}
        return any(id(released) in older for released in self.unknown_to(first_open))

    def extend(self, data: bytes) -> Entry:
        """Accept the next entry's bytes, or raise LedgerBroken or LedgerNewer and change nothing."""
        try:
            return self._extend(data)
        except LedgerError:
            raise
        except _STRANGE as error:
            raise LedgerBroken(
                f"ledger entry {len(self.entries)} says what no ledger may say ({type(error).__name__})", RESTORE_LEDGER
            ) from None

    def _extend(self, data: bytes) -> Entry:
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
            case Declared(population, whole_log=whole_log):
                self.declarations[population.name] = population
                self.first_open[population.name] = population.first_day
                if not whole_log:
                    self.later.add(population.name)
                    if population.first_day <= entry.recorded_at.date():
                        self.incomplete.add(population.name)
                self.following |= {table.name: table.first_day(population.first_day) for table in population.tables}
            case Released(population=name, statistic=statistic, period_start=start, period_end=end):
                self.releases[statistic, start] = entry
                self.following[statistic] = end + _DAY
                self.first_open[name] = max(self.first_open[name], end + _DAY)
            case Retired(name):
                self.retired.add(name)
                self.incomplete.discard(name)
            case Completed(name):
                self.incomplete.discard(name)
            case StateLost(losses=losses, partition=partition, kept=kept):
                self.losses = losses
                if kept:  # under a new pepper a person has a new key, which may lie in another partition
                    self.earlier, self.lost = self.earlier + 1 + worst_of(self.lost), {}
                else:
                    self.lost[partition] = self.lost.get(partition, 0) + 1
                    self._withhold(entry)
            case Described(description):
                self.described = description
            case Opened(public_key=key) | Rekeyed(key):
                self.keys.append(key)
            case Settled():
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
        before = self.entries[-1].body if self.entries else None
        if isinstance(before, Settled) and not isinstance(body, Released):
            return "a settlement is followed by its releases"
        match body:
            case Opened(lifetime_epsilon=epsilon, partitions=partitions):
                if not epsilon.is_finite() or epsilon <= 0:
                    return "the lifetime epsilon is not a positive number"
                if max(abs(epsilon.adjusted()), len(epsilon.as_tuple().digits)) > _DIGITS:
                    return "the lifetime epsilon has more digits than anybody would state"
                return None if partitions > 0 else "events lie in at least one partition"
            case Declared(population, whole_log, place):
                names = [table.name for table in population.tables]
                if whole_log and len(self.entries) > 1 + len(self.declarations):
                    return f"the ledger was not opened with population {population.name!r}"
                if population.name in self.declarations:
                    return f"population {population.name!r} is declared already"
                if len(set(names)) < len(names) or any(name in self.following for name in names):
                    return f"a table of population {population.name!r} is declared already"
                if not population.finest or not all(t.period.is_made_of(population.period) for t in population.tables):
                    return f"the tables of population {population.name!r} do not fit its period"
                if not all(any(map(each.sums_what_counts, _counts_of(population, each))) for each in population.sums):
                    return f"a sum of population {population.name!r} names no table that counts what it sums up"
                if (objection := objection_to(population)) is not None:
                    return objection
                if population.epsilon > self.budget.left:
                    return f"population {population.name!r} passes the lifetime epsilon"
                if whole_log is not (place is None):
                    return f"population {population.name!r} has to have a place if, and only if, it is declared later"
            case Released():
                objection = self._release_objection(body)
                if objection is not None:
                    return objection
                if not isinstance(before, Settled | Released):
                    return "a release follows its settlement, or another release of it"
            case Retired(name):
                if name not in self.declarations or name in self.retired:
                    return f"no population {name!r} is there to retire"
            case Completed(name):
                if name not in self.incomplete:
                    return f"no population {name!r} is there that waits for its past"
            case StateLost(losses=losses, partition=partition, kept=kept):
                if losses != self.losses + 1:
                    return "losses are counted one by one"
                if partition is not None and (kept or not 0 <= partition < self.opened.partitions):
                    return "the loss of a state is that of one partition of the log, or of each"
            case Described(description):
                if description == self.described:
                    return "it describes nothing anew"
            case Rekeyed(key):
                if key in self.keys:
                    return "the ledger named this key before, and a key that was given up is never used again"
            case Settled():
                pass
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
        if body.population in self.incomplete:
            return f"the past of population {body.population!r} is not complete"
        if (body.statistic, body.period_start) in self.releases:
            return f"statistic {body.statistic!r} is released already for the period from {body.period_start}"
        if body.period_start != self.following[body.statistic]:
            due = self.following[body.statistic]
            return f"statistic {body.statistic!r} is released period by period, and the next one starts on {due}"
        if body.period_end != table.period.end(body.period_start) or len(body.values) != table.cells:
            return f"the release of statistic {body.statistic!r} does not cover its declared period and cells"
        if not _fits(body.noise_scale, table.sensitivity(population.max_contributions) / table.epsilon):
            return f"the noise scale of statistic {body.statistic!r} is not the one that its epsilon asks for"
        first_open = self.first_open[body.population]
        if table.period is not population.period:
            if body.period_end >= first_open:
                return f"statistic {body.statistic!r} is released for a period of which a part is not settled"
        elif body.period_start >= first_open:
            late = [each.name for each in population.tables if each.period.end(self.following[each.name]) < first_open]
            if late:
                return f"statistic {late[0]!r} is not released for a period that is settled"
        return None


def worst_of(lost: Mapping[int | None, int]) -> int:
    """Return how many of the losses, counted by partition, concern one person at most."""
    return lost.get(None, 0) + max((times for partition, times in lost.items() if partition is not None), default=0)


def _fits(scale: float, least: float) -> bool:
    """Return whether a noise scale is `least`, or that raised by a few last digits: then no release tells more.

    A larger one would be sound too, and would make every interval of the table wider than its declaration says.
    """
    most = least
    for _ in range(_RAISED):
        most = math.nextafter(most, math.inf)
    return least <= scale <= most


def _counts_of(population: Population, table: Table) -> list[Table]:
    """Return the table that a sum names, in a list: there may be none."""
    return [each for each in population.tables if table.sum is not None and each.name == table.sum.count]
