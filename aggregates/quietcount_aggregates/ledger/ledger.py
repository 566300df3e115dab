"""The ledger: a hash-chained record of what was declared and released, and the truth for everything public.

It is read to its end before every decision and appended to only by the holder of the fence. What its entries add up to,
and the rules by which one may follow, are in chain.py.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from quietcount_aggregates.description import Description
from quietcount_aggregates.errors import (
    RESTORE_PLACES,
    BudgetError,
    LedgerBehind,
    LedgerBroken,
    LedgerError,
    PopulationError,
)
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import (
    Body,
    Declared,
    Described,
    Entry,
    Head,
    Opened,
    Settled,
    commitment_of,
)
from quietcount_aggregates.ledger.places import LogPoint, Place, record_of
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.populations import Population
from quietcount_schemas.log import LedgerLog

__all__ = ["Ledger"]

_MOST_DESCRIBED: Final = 500_000
"""Kafka takes a megabyte as one record."""

_REPORT: Final = "Report this line. Nothing was appended"


class Ledger:
    """A chain bound to the log it is kept in. `public_key` is the owner's, and only opening a ledger needs it."""

    def __init__(self, log: LedgerLog, public_key: bytes | None = None) -> None:
        self._log = log
        self._public_key = public_key
        self._epoch: int | None = None
        self.chain = Chain()
        self._places: list[Place] = []
        self._settlements: dict[int, Settlement] = {}
        """By the length of the ledger when it was written, the newest; settled or not."""
        self._settlement: Settlement | None = None
        """The newest of all."""
        self._checked = 0
        """How many places were held against their entries."""
        self._ahead = 0
        """How long the ledger was when something was settled on it, if it is shorter now."""
        self._lines = 0
        """How much of the private log was read."""

    def fence(self) -> None:
        """Shut out other releasers and read to the end: what follows is decided on the whole ledger and its places."""
        self._epoch = self._log.fence()
        self.refresh()
        self.read_places()

    def read_places(self) -> None:
        """Read the private log to its end; raise LedgerBroken if a place is not what its entry commits to.

        A place whose entry is not read yet is checked once it is.
        """
        again = True
        while again:
            again = False
            for data in self._log.read_places(self._lines):
                record = record_of(data, self._lines)
                if "settle" in record:
                    again |= self._keep(Settlement.of(record, data, self._lines))
                else:
                    self._places.append(Place.of(record, data, self._lines))
                self._lines += 1
        self._check_commitments()

    def _check_commitments(self) -> None:
        entries = self.chain.entries
        while self._checked < len(self._places) and self._places[self._checked].entry < len(entries):
            place = self._places[self._checked]
            if commitment_of(entries[place.entry].body) != place.commitment:
                raise LedgerBroken(
                    f"place {self._checked} of the private log beside the ledger is not what the ledger commits to: "
                    "one of the two was altered, or belongs to another",
                    RESTORE_PLACES,
                )
            self._checked += 1

    def _keep(self, settlement: Settlement) -> bool:
        """Keep a settlement that is signed as the heads were then; return whether more of the ledger was read.

        Raises LedgerBroken for one that is not.
        """
        behind = settlement.after > len(self.chain.entries)
        if behind:  # what it follows may have been appended since the ledger was read
            self.refresh()
        if settlement.after > len(self.chain.entries):
            self._ahead = settlement.after  # the ledger is an older copy, or is lost: nobody can say who signed this
            return behind
        if not settlement.is_signed(self.chain.keys_at(settlement.after)):
            raise LedgerBroken(
                f"place {self._lines} of the private log beside the ledger is a settlement that was not signed with "
                "the key that the ledger named then: it was altered, or belongs to another",
                RESTORE_PLACES,
            )
        self._settlement = self._settlements[settlement.after] = settlement
        return behind

    def settle(self, settlement: Settlement) -> None:
        """Write down what is settled next. Nothing may be counted before.

        Raises LedgerFenced if another releaser took over.
        """
        self._log.append([], [settlement.data], epoch=self._fenced, expected=settlement.after)
        self.read_places()
        if self._settlement != settlement:
            raise _not_as_written()

    @property
    def has_workers(self) -> bool:
        """Return whether the newest settlement counts what other processes folded."""
        return self._settlement is not None and bool(self._settlement.seal_to)

    @property
    def open_settlement(self) -> Settlement | None:
        """Return the newest settlement, if nothing was appended to the ledger since."""
        newest = self._settlement
        return newest if newest is not None and newest.after == len(self.chain.entries) else None

    @property
    def settled(self) -> Settlement | None:
        """Return the settlement of the newest releases; None if there are none, or if it is not known."""
        entry = self._newest_settled
        found = None if entry is None else self._settlements.get(entry.index)
        if entry is None or found is None:
            return None
        return found if self._place_of(entry) == found.point else None

    def check_places(self) -> None:
        """Raise LedgerBehind if a place is of an entry that the ledger does not hold, LedgerBroken if a place is gone.

        A restored ledger has no places of its old entries; from its first place on each entry has its own.
        """
        placed, length = [place.entry for place in self._places], len(self.chain.entries)
        if any(entry >= length for entry in placed) or self._ahead > length:
            raise LedgerBehind(
                "the ledger does not hold an entry of which the private log beside it has the place: an older copy, or "
                "another ledger, was put in its place",
                "Put the newest ledger back, or bring it back from the newest file that was published, with: "
                "quietcount ledger restore",
            )
        committed = [entry.index for entry in self.chain.entries if commitment_of(entry.body) is not None]
        if placed != committed[len(committed) - len(placed) :]:
            raise LedgerBroken("a place of the private log beside the ledger is missing", RESTORE_PLACES)

    @property
    def settled_at(self) -> LogPoint | None:
        """Return up to where the newest releases count the log; None if there are none, or if that is not known."""
        newest = self._newest_settled
        return None if newest is None else self._place_of(newest)

    @property
    def _newest_settled(self) -> Entry | None:
        return next((each for each in reversed(self.chain.entries) if isinstance(each.body, Settled)), None)

    def declared_at(self, population: str) -> LogPoint | None:
        """Return where the log ended when a population was declared; None if it counts all of it, or if unknown."""
        for entry in self.chain.entries:
            if isinstance(entry.body, Declared) and entry.body.population.name == population:
                return self._place_of(entry)
        return None

    def _place_of(self, entry: Entry) -> LogPoint | None:
        return next((place.point for place in self._places if place.entry == entry.index), None)

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

    def append(self, bodies: Sequence[Body], now: dt.datetime, point: LogPoint | None = None) -> list[Entry]:
        """Append entries, all or none, read them back from the log and return them.

        A settlement and a later declaration get their place here: at `point`, under a new key, in the same
        append. The rules are tried on a copy first, so that nothing is appended that a reader would not accept.
        """
        epoch = self._fenced
        trial = self.chain.copy()
        made, places = [], []
        for body in bodies:
            placed = body
            if isinstance(body, Settled) or (isinstance(body, Declared) and not body.whole_log):
                if point is None:
                    raise LedgerError("an entry that has a place in the log was to be appended without it", _REPORT)
                places.append(Place.make(len(trial.entries), point))
                placed = replace(body, place=places[-1].commitment)
            entry = Entry.make(len(trial.entries), trial.head.digest, now, placed)
            trial.extend(entry.data)
            made.append(entry)
        self._log.append(
            [entry.data for entry in made],
            [place.data for place in places],
            epoch=epoch,
            expected=len(self.chain.entries),
        )
        self.refresh()
        if places:
            self.read_places()
        if self.chain.head != trial.head or self._places[len(self._places) - len(places) :] != places:
            raise _not_as_written()
        return made

    @property
    def _fenced(self) -> int:
        if self._epoch is None:
            raise LedgerError("the ledger is open for reading only", "Call fence() before append()")
        return self._epoch

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
        self, wanted: Iterable[Population], lifetime_epsilon: Decimal, now: dt.datetime, *, end: LogPoint
    ) -> list[Population]:
        """Declare the populations that are new, all or none, and return them; open the ledger if it is empty.

        Opening and the first declarations are one append: a first run that is refused has fixed nothing. `end` is the
        log's end: opening fixes how many partitions there are, and a later declaration has its place there. Raises
        PopulationError for a declared population that was changed, left out or retired and for a table whose name is
        taken, and BudgetError for declarations that pass the lifetime epsilon, or a lifetime epsilon that is not the
        one the ledger was opened with.
        """
        wanted = list(wanted)
        bodies: list[Body] = []
        if not self.chain.entries:
            if self._public_key is None:
                raise LedgerError("a ledger was to be opened without the key of its owner", _REPORT)
            bodies.append(Opened(self._public_key, lifetime_epsilon, len(end.offsets)))
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
        bodies += [Declared(population, whole_log=not self.chain.entries) for population in new]
        if bodies:
            self.append(bodies, now, end)
        return new

    def describe(self, description: Description, now: dt.datetime) -> None:
        """Append what the publisher says of the figures, unless the ledger says it already. Raises LedgerError."""
        if description != self.chain.described:
            if len(description.canonical.encode()) > _MOST_DESCRIBED:
                raise LedgerError(
                    f"the labels of the schemas take more than {_MOST_DESCRIBED:,} bytes of the ledger together",
                    "Shorten them, or remove languages",
                )
            self.append([Described(description)], now)

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
                f"population {population.name!r} was retired: it ended permanently, and no name of it or of its tables "
                "can be used again",
                "Take its [[population]], with its tables, out of the configuration. To count such cases again, write "
                "a population under new names: it spends its own epsilon",
            )
        changed = population.differences(declared)
        if changed:
            raise PopulationError(
                f"population {population.name!r}: {', '.join(map(repr, changed))} differs from its declaration in the "
                "ledger, and a declared population never changes",
                "Put the declared value back (quietcount ledger show), or give the changed population, and its tables, "
                "new names: it then spends its own epsilon",
            )


def _not_as_written() -> LedgerError:
    return LedgerError(
        "what was appended to the ledger did not come back as written; nothing is published from it",
        "Look at the disk or the brokers, then start again",
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
