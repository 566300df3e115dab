"""Settling: what the states count for a settlement, and what they forget once the ledger holds its releases.

Each state is that of one partition of the log, and a case is in one partition. So each settles by itself, and what they
count adds up. A state counts what lies before the place that the settlement names, however far it has folded: counting
the same settlement again, after a crash or elsewhere, gives the same numbers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Final, Protocol

from quietcount_aggregates.counting.bounding import Bounding, keep_year
from quietcount_aggregates.due_periods import DuePeriod
from quietcount_aggregates.errors import StateBehind, StateDefect
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.losses import is_out_of_place
from quietcount_aggregates.populations import Horizon, Population
from quietcount_aggregates.state.marks import YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_schemas.events.event_types import FieldKind
from quietcount_schemas.log import LogReader
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import ClientFault, RejectReason

__all__ = [
    "Counting",
    "Settler",
    "Settlers",
    "Sums",
    "added",
    "behind",
    "note_changed",
    "populations_of",
    "stored_symbols",
]

_PUT_BACK: Final = (
    "Put the right state back, or stop the other service. If the state is lost permanently, run: quietcount ledger "
    "record-loss"
)

Sums = Mapping[DuePeriod, Sequence[int]]
"""What each cell of the due periods comes to, exactly, in the order of the domain."""


def stored_symbols(registry: SchemaRegistry) -> dict[str, list[str]]:
    """Return, for each column "Event.field" that may count, the symbols that its codes 0, 1, ... stand for.

    A number has none.
    """
    symbols = {FieldKind.BOOLEAN: ("false", "true")}
    return {
        f"{name}.{field.name}": list(symbols.get(field.kind, field.symbols))
        for name, event_type in registry.event_types.items()
        for field in (*event_type.dimensions, *event_type.numbers)
    }


def populations_of(chain: Chain) -> list[Population]:
    """Return the declared populations that are not retired."""
    return [population for name, population in chain.declarations.items() if name not in chain.retired]


def behind(state: State) -> StateBehind:
    """Return the error for a state that cannot learn any more what the ledger released."""
    return StateBehind(
        f"the ledger has releases that {state.path} does not know: the state was lost, is an older copy, or another "
        "service releases on this ledger",
        _PUT_BACK,
    )


def note_ahead(state: State, upto: int, settlement: Settlement) -> None:
    """Note whether a record is dated too far ahead; within the transaction. It is dropped, and only the note stays.

    Record by record: an earlier version of such an event stands again.
    """
    ahead = f'SELECT 1 FROM open_events WHERE "offset" < {upto} AND occurred_on > ? LIMIT 1'
    if state.connection.execute(ahead, [settlement.newest]).fetchone() is not None:
        state.note({RejectReason.DATED_AHEAD}, settlement.day)


def note_changed(state: State, upto: int, day: dt.date) -> None:
    """Note whether two records are one version of one event and say different things; within the transaction.

    The first of them counts. A correction that has no higher revision is lost, and its emitter does not hear of it.
    What a field was before a population asked for it is not known, so null differs from nothing.
    """
    compared = ["event", "occurred_on", *(f'"{column}"' for column in state.columns)]
    differs = " OR ".join(f"min({each}) <> max({each})" for each in compared)
    changed = state.connection.execute(
        f'SELECT 1 FROM open_events WHERE "offset" < {upto} GROUP BY event_mark, revision HAVING {differs} LIMIT 1'
    ).fetchone()
    if changed is not None:
        state.note({ClientFault.CHANGED_WITHOUT_REVISION}, day)


class Settler:
    """Settles one state of a ledger. `symbols` are those of `stored_symbols`."""

    def __init__(
        self, state: State, ledger: Ledger, *, symbols: Mapping[str, Sequence[str]], year_secrets: YearSecrets
    ) -> None:
        self.state = state
        self._ledger = ledger
        self._symbols = symbols
        self._year_secrets = year_secrets
        self._counted: tuple[Settlement, Bounding] | None = None
        """What `sums` counted: closing the same settlement need not count again."""

    @property
    def _partition(self) -> int:
        return self.state.partition

    def recover(self) -> None:
        """Finish the newest settlement if a crash kept this state from it.

        Raises StateBehind if the ledger has releases that this state can not learn of any more.
        """
        state, chain = self.state, self._ledger.chain
        if chain.is_ahead_of(state.first_open) or is_out_of_place(self._ledger, state):
            raise behind(state)
        state.limits.check_whole(state.used_up)
        # Not before: until here the state may be an older copy, and the files may belong to the right one.
        state.limits.remove_others(state.used_up)
        # What is over is forgotten, and the log purged, at the next settlement. If no population is left, there is
        # none, so each start does that: nobody needs what still comes in.
        if chain.unknown_to(state.first_open):
            self.close(self._ledger.settled)
        elif chain.retired and not populations_of(chain):
            self.close(None)
        self._destroy_years()

    def adopt(self, log: LogReader, topic: str) -> None:
        """Let the state count what is declared now; later populations from their places in the private log on."""
        chain, state, partition = self._ledger.chain, self.state, self._partition
        known, begins = state.first_open, state.begins
        for name in (population.name for population in populations_of(chain)):
            if name not in chain.later - known.keys():
                continue
            point = self._ledger.declared_at(name)
            if point is not None and point.topic_id == log.topic_id(topic):
                state.begin_at(name, {partition: point.offsets.get(partition, 0)})
            elif name not in begins:  # where it began is not known, or lies in another log
                state.begin_at(name, {partition: log.end_offsets(topic)[partition]})
        state.adopt(populations_of(chain))

    def sums(self, settlement: Settlement, due: Sequence[DuePeriod]) -> dict[DuePeriod, list[int]]:
        """Return what this state counts for a settlement; nothing may be folded between this and `close`.

        Raises StateBehind if another service has released on this ledger meanwhile.
        """
        upto = settlement.point.offsets[self._partition]
        if self._ledger.chain.unknown_to(self.state.first_open):
            raise behind(self.state)
        if self.state.offsets.get(self._partition, 0) < upto:
            raise StateDefect(
                f"{self.state.path}: was to settle what it has not folded. Nothing was counted", "Report this line"
            )
        self._keep_years(settlement.day)
        with self.state.guarded():
            bounding = self._bounding(upto, settlement.newest)
            counted: dict[DuePeriod, list[int]] = {}
            for population in populations_of(self._ledger.chain):
                for table in population.tables:
                    periods = {each.start: each for each in due if each.statistic == table.name}
                    if periods:
                        counts = bounding.counts(population.name, table, list(periods))
                        counted |= {periods[start]: cells for start, cells in counts.items()}
        self._counted = settlement, bounding
        return counted

    def forget(self) -> None:
        """Let more be folded, and give back the memory: what `sums` counted is counted again by `close`."""
        counted, self._counted = self._counted, None
        if counted is not None:
            with self.state.guarded():
                counted[1].discard()

    def close(self, settlement: Settlement | None) -> None:
        """Write the state again without the periods that the ledger has released.

        Without a settlement all that was folded is closed.
        """
        state, chain = self.state, self._ledger.chain
        upto = state.offsets.get(self._partition, 0)
        if settlement is not None:
            upto = settlement.point.offsets[self._partition]
        counted = self._counted[1] if self._counted is not None and self._counted[0] == settlement else None
        self._counted = None
        with state.transaction():
            state.see(chain.head)
            state.purged = {self._partition: upto}
            if settlement is not None:
                state["released_on"] = settlement.day.isoformat()
                note_ahead(state, upto, settlement)
                note_changed(state, upto, settlement.day)
        following = {name: chain.first_open.get(name, day) for name, day in state.first_open.items()}
        with state.guarded():
            bounding = counted or self._bounding(upto, dt.date.max if settlement is None else settlement.newest)
            bounding.close(following, chain.withheld)
        self._destroy_years()

    def _bounding(self, upto: int, newest: dt.date) -> Bounding:
        """Bound the open events for the populations that the state knows; a new one may be declared after a crash."""
        known = self.state.first_open
        counted = [population for population in populations_of(self._ledger.chain) if population.name in known]
        return Bounding(self.state, counted, self._symbols, self._year_secrets, upto=upto, latest=newest)

    def _keep_years(self, day: dt.date) -> None:
        """Make the secrets of the years that the clock has begun and that are open; refuse to go on without one.

        By the clock and not by need: neither that a year's secret is there nor that it is missed follows from events.
        Raises StateError.
        """
        opened = self._yearly_open
        for year in range(min(opened, default=day.year + 1), day.year + 1):
            keep_year(self.state, self._year_secrets, year)

    def _destroy_years(self) -> None:
        """Destroy the secrets of the years that no population with a yearly horizon has open."""
        opened = self._yearly_open
        for year in self._year_secrets.years():
            if year < min(opened, default=year + 1):
                self._year_secrets.destroy(year)

    @property
    def _yearly_open(self) -> list[int]:
        """Return the year that each population with a yearly horizon has open first."""
        first_open = self.state.first_open
        yearly = [each.name for each in populations_of(self._ledger.chain) if each.horizon is Horizon.YEAR]
        return [first_open[name].year for name in yearly if name in first_open]


class Counting(Protocol):
    """What counts for a releaser: the states that are here, as `Settlers`, or workers that are elsewhere."""

    @property
    def states(self) -> Sequence[State]:
        """The states that are here."""
        ...

    @property
    def point(self) -> LogPoint:
        """Up to where the log is settled next."""
        ...

    def new_key(self) -> bytes:
        """Return the public key to which what is counted elsewhere is to be sealed; empty if all is counted here."""
        ...

    def recover(self) -> None:
        """Finish what a crash interrupted. Raises StateBehind."""
        ...

    def adopt(self) -> None:
        """Count what is declared now."""
        ...

    def sums(self, settlement: Settlement, due: Sequence[DuePeriod]) -> Sums:
        """Return what all partitions count together. Raises SumsMissing, and StateBehind."""
        ...

    def close(self, settlement: Settlement, /) -> None:
        """Forget what the ledger has released."""
        ...

    def purge(self) -> None:
        """Cut off what nobody needs any more."""
        ...


def added(parts: Iterable[Sums]) -> Sums:
    """Return the sums of several partitions together."""
    first, *others = parts
    for other in others:
        first = {period: list(map(add, cells, other[period])) for period, cells in first.items()}
    return first


class Settlers:
    """The settlers of all states that a process holds, of one log; `topic` is what of it they fold."""

    def __init__(self, settlers: Sequence[Settler], log: LogReader, topic: str) -> None:
        self._settlers = list(settlers)
        self._log = log
        self._topic = topic

    def __iter__(self) -> Iterator[Settler]:
        return iter(self._settlers)

    @property
    def states(self) -> list[State]:
        return [settler.state for settler in self._settlers]

    def new_key(self) -> bytes:
        """Return no key: all is counted here."""
        return b""

    @property
    def point(self) -> LogPoint:
        """Return up to where the states have folded."""
        offsets = {state.partition: state.offsets.get(state.partition, 0) for state in self.states}
        return LogPoint(self.states[0]["topic_id"], offsets)

    def recover(self) -> None:
        """Finish in each state what a crash interrupted, then purge. Raises StateBehind."""
        for settler in self._settlers:
            settler.recover()
        self.purge()

    def adopt(self) -> None:
        """Let each state count what is declared now."""
        for settler in self._settlers:
            settler.adopt(self._log, self._topic)

    def sums(self, settlement: Settlement, due: Sequence[DuePeriod]) -> Sums:
        """Return what all states count together for a settlement."""
        counted = []
        for settler in self._settlers:
            counted.append(settler.sums(settlement, due))
            if len(self._settlers) > 1:
                # Memory is what ends first: that of one state at a time is worth counting again.
                settler.forget()
        return added(counted)

    def close(self, settlement: Settlement) -> None:
        """Write each state again without what the ledger has released."""
        for settler in self._settlers:
            settler.close(settlement)

    def purge(self) -> None:
        """Cut the log off at the place of the newest settlement, if that is left to do; else do nothing.

        There, and not at the oldest event that is still open: then what the log holds would hang on what somebody did.
        A log may forget that it was purged: a broker that is killed begins where it last wrote down that it does, up to
        a minute before. So the states remember where the log was to begin, and each call looks.
        """
        states = self.states
        due = [state for state in states if state.purge_due]
        purged = {partition: offset for state in states for partition, offset in state.purged.items()}
        if not due:
            if not purged:
                return
            beginnings = self._log.beginning_offsets(self._topic)
            if all(beginnings.get(partition, offset) >= offset for partition, offset in purged.items()):
                return
        # What lies before the offsets was folded in the log that they are of, and only there: in a log that was made
        # again or cut off meanwhile others lie there. The next tick reports it.
        if {state["topic_id"] for state in states} - {"", self._log.topic_id(self._topic)}:
            return
        if self._log.diverged(self._topic, {key: mark for state in states for key, mark in state.marks.items()}):
            return
        if self._log.purge(self._topic, purged):
            for state in due:
                with state.transaction():
                    state["purge_due"] = ""
