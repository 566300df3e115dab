"""Releasing: exact counts become published values, once.

The order is the promise: fence other releasers, read the ledger to its end, write down what is settled, count, draw,
append, read back, publish from the ledger, write the states again without what was counted, purge the log. A crash
before the append leaks nothing, because nothing drawn has left the process. After it the ledger is read, and nothing is
drawn again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from quietcount_aggregates.due_periods import DuePeriod, due_in
from quietcount_aggregates.errors import LedgerError, NoiseError, PopulationError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released, Settled
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.ledger.signed_heads import check_key, sign_head
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.ledger.witness import Witness
from quietcount_aggregates.noise import NoiseMechanism
from quietcount_aggregates.populations import Population, Table
from quietcount_aggregates.publication.publication import Publish, publish, published_head
from quietcount_aggregates.settling import Counting, Sums, behind, populations_of, stored_symbols
from quietcount_aggregates.state.state import State
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["Releaser", "Step", "check_newest", "check_schemas", "check_seen"]

_REPORT: Final = "Report this line. What is due is released once that is mended"

_AHEAD: Final = dt.timedelta(days=2)
"""How far ahead an event may be dated: an emitter's clock may be wrong by a day, and its time zone ahead of UTC.

One that is dated further ahead would be kept in the state until its own period ends."""


class Step(StrEnum):
    """The moments of a release between which a crash may fall."""

    SETTLEMENT_WRITTEN = "settlement written"
    COUNTED = "counted"
    DRAWN = "drawn"
    APPENDED = "appended"
    PUBLISHED = "published"
    STATE_WRITTEN = "state written"
    PURGED = "purged"


def check_newest(ledger: Ledger, states: Iterable[State], public: Path, witness: Witness) -> None:
    """Raise LedgerBehind unless the ledger holds what public file, states, witness and private log of places have seen.

    To be called on a fenced ledger before anything is appended to it or published from it.
    """
    check_seen(ledger, states, public, witness)
    ledger.check_places()


def check_seen(ledger: Ledger, states: Iterable[State], public: Path, witness: Witness) -> None:
    """Raise LedgerBehind unless the ledger holds what public file, states and witness have seen; in this order.

    The witness is also asked when the whole folder was put back. The others know that only the ledger was.
    """
    head = published_head(public)
    if head is not None:
        ledger.check_not_behind(head, public.name)
    for state in states:
        ledger.check_not_behind(state.head, state.path.name)
    witness.check(ledger)


def check_schemas(populations: Iterable[Population], registry: SchemaRegistry) -> None:
    """Raise PopulationError if the schemas no longer have what a declared population counts."""
    stored = stored_symbols(registry)
    for population in populations:
        columns = [f"{event}.{field}" for event in population.events for field in population.fields_of(event)]
        gone = [name for name in population.events if name not in registry.event_types]
        gone += [column for column in columns if column not in stored]
        if gone:
            raise PopulationError(
                f"population {population.name!r} counts {gone[0]}, which the schemas no longer have",
                "Put the schema back, or end the population permanently with: quietcount ledger retire "
                f"{population.name}",
            )


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def _unobserved(_: Step) -> None:
    """Take no notice of a step."""


class Releaser:
    """Releases the populations of one ledger from what `settlers` count.

    `signing_key` signs each head that is published, `observe` is called at each step, and `publishing` stands in for
    `publish`. `today` is the real day (UTC), which `now` may lie before.
    """

    def __init__(
        self,
        settlers: Counting,
        *,
        ledger: Ledger,
        registry: SchemaRegistry,
        mechanism: NoiseMechanism,
        public: Path,
        witness: Witness,
        signing_key: SigningKey,
        observe: Callable[[Step], None] | None = None,
        publishing: Publish | None = None,
        today: Callable[[], dt.date] | None = None,
    ) -> None:
        self._settlers = settlers
        self._ledger = ledger
        self._registry = registry
        self._mechanism = mechanism
        self._public = public
        self._publishing = publishing
        self._witness = witness
        self._signing_key = signing_key
        self._observe = observe or _unobserved
        self._today = today or _today
        self._open: Settlement | None = None

    @property
    def populations(self) -> list[Population]:
        """Return the declared populations that are not retired."""
        return populations_of(self._ledger.chain)

    def recover(self) -> None:
        """Finish what a crash interrupted, from the ledger; call it on a fenced ledger and before folding anything.

        Raises LedgerBehind if the ledger is older than what it published, StateBehind if it has releases that a state
        does not know, and SigningKeyError if it names another key than the one that signs.
        """
        if self._ledger.chain.entries:
            check_key(self._ledger.chain, self._signing_key)
        check_newest(self._ledger, self._settlers.states, self._public, self._witness)
        check_schemas(self.populations, self._registry)
        self._settlers.recover()

    def publish(self) -> None:
        """Publish the ledger, even over a damaged or altered public file: it does not outlive a start."""
        self._publish(self._ledger.chain)
        for state in self._settlers.states:
            with state.transaction():
                state.see(self._ledger.chain.head)

    def _publish(self, chain: Chain) -> None:
        # Before it is signed: whoever puts an older ledger back must not get a second head of this length signed.
        self._witness.see(chain.head)
        (self._publishing or publish)(chain, self._public, sign_head(chain, self._signing_key).data)

    def adopt(self) -> None:
        """Let the states count what is declared now; later populations from their places in the private log on."""
        self._settlers.adopt()

    def due(self, now: dt.datetime, grace: dt.timedelta) -> list[DuePeriod]:
        """Return what is due at `now`: what ended `grace` or more before."""
        return due_in(self._ledger.chain, now - grace)

    def release(self, now: dt.datetime, grace: dt.timedelta) -> list[DuePeriod]:
        """Release what is due, all in one append, and return it; the states must have folded to the end of the log.

        Raises StateBehind if another service has released on this ledger meanwhile, and SumsMissing if states that are
        elsewhere have not counted yet. Then the next call goes on with the same settlement.
        """
        due = self.due(now, grace)
        if not due:
            return due
        for state in self._settlers.states:
            if self._ledger.chain.unknown_to(state.first_open):
                # `recover` finishes ours: these came in while this service ran, from one that shut it out.
                raise behind(state)
        settlement = self._settled or self._settle(now, grace)
        sums = self._settlers.sums(settlement, due_in(self._ledger.chain, settlement.until))
        self._observe(Step.COUNTED)
        due = self._append(settlement, sums, now)
        self._publish(self._ledger.chain)
        self._observe(Step.PUBLISHED)
        self._settlers.close(settlement)
        self._observe(Step.STATE_WRITTEN)
        self._settlers.purge()
        self._observe(Step.PURGED)
        return due

    def announce(self, now: dt.datetime, grace: dt.timedelta) -> None:
        """Write down that workers count for this ledger, if that is not known: else it would be at the first release.

        Until then one process that does all would take states of its own for those of the workers.
        """
        if not self._ledger.has_workers:
            self._ledger.settle(self._settlement(now, grace))

    def _settle(self, now: dt.datetime, grace: dt.timedelta) -> Settlement:
        """Write down that what is due at `now` counts what the log holds now."""
        settlement = self._settlement(now, grace)
        self._ledger.settle(settlement)
        self._open = settlement
        self._observe(Step.SETTLEMENT_WRITTEN)
        return settlement

    def _settlement(self, now: dt.datetime, grace: dt.timedelta) -> Settlement:
        newest = max(now.date(), self._today()) + _AHEAD
        return Settlement.make(
            len(self._ledger.chain.entries),
            now.date(),
            newest,
            now - grace,
            self._settlers.point,
            self._settlers.new_key(),
        ).signed(self._signing_key)

    @property
    def _settled(self) -> Settlement | None:
        """Return the settlement that waits for sums, if it still holds. Who counts here waits for nobody."""
        if self._open is None or not self._open.seal_to:
            return None
        self._ledger.read_places()  # another releaser may have taken over
        asked, there = self._open.point, self._settlers.point
        reached = all(there.offsets.get(partition, 0) >= offset for partition, offset in asked.offsets.items())
        if self._ledger.open_settlement != self._open or asked.topic_id != there.topic_id or not reached:
            return None  # a log that is another one by now, or lost its end, never comes to that place
        return self._open

    def _append(self, settlement: Settlement, sums: Sums, now: dt.datetime) -> list[DuePeriod]:
        """Draw what is due in a settlement, and append it to the ledger. Raises NoiseError for sums that cannot be."""
        due = due_in(self._ledger.chain, settlement.until)
        bodies = self._draw(due, sums)
        self._observe(Step.DRAWN)
        # One place for all periods: what lies before it is what they count.
        self._ledger.append([Settled(), *bodies], now, settlement.point)
        self._open = None
        self._observe(Step.APPENDED)
        return due

    def purge(self) -> None:
        """Cut the log off at the place of the newest settlement, if that is left to do; else do nothing."""
        self._settlers.purge()

    def _draw(self, due: Sequence[DuePeriod], sums: Sums) -> list[Released]:
        """Return the drawn releases in the order of `due`."""
        bodies: dict[DuePeriod, Released] = {}
        for population in self.populations:
            for table in population.tables:
                periods = [period for period in due if period.statistic == table.name]
                if periods:
                    bodies |= self._draw_table(population, table, periods, sums)
        return [bodies[period] for period in due]

    def _draw_table(
        self, population: Population, table: Table, periods: Sequence[DuePeriod], sums: Sums
    ) -> dict[DuePeriod, Released]:
        reach = table.sensitivity(population.max_contributions)
        scale = self._mechanism.scale(cells=table.cells, sensitivity=reach, epsilon=table.epsilon)
        digest = population.digest
        bodies = {}
        for period in periods:
            if table.sum is None and min(sums[period]) < 0:
                raise NoiseError(f"statistic {table.name!r}: an exact count is below 0; nothing was drawn", _REPORT)
            drawn = self._mechanism.draw(sums[period], scale=scale, sensitivity=reach, epsilon=table.epsilon)
            if len(drawn) != table.cells:
                raise LedgerError(
                    f"statistic {table.name!r}: the draw does not cover the domain; nothing was released",
                    _REPORT,
                )
            bodies[period] = Released(
                population=population.name,
                statistic=table.name,
                digest=digest,
                period_start=period.start,
                period_end=period.end,
                values=tuple(drawn),
                mechanism=self._mechanism.name,
                noise_scale=scale,
            )
        return bodies
