"""Releasing: exact counts become published values, once.

The order is the promise: fence other releasers, read the ledger to its end, state the intent, draw, append, read back,
publish from the ledger, write the state again without what was counted, purge the log. A crash before the append leaks
nothing, because nothing drawn has left the process. After it the ledger is read, and nothing is drawn again.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from quietcount_aggregates.counting.bounding import Bounding, keep_year
from quietcount_aggregates.due_periods import DuePeriod, due_periods
from quietcount_aggregates.errors import LedgerError, NoiseError, PopulationError, StateBehind
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released, Settled
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.signed_heads import check_key, sign_head
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.ledger.witness import Witness
from quietcount_aggregates.losses import is_out_of_place
from quietcount_aggregates.noise import NoiseMechanism
from quietcount_aggregates.populations import Horizon, Population, Table
from quietcount_aggregates.publication.publication import Publish, publish, published_head
from quietcount_aggregates.state.marks import YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_schemas.events.event_types import FieldKind
from quietcount_schemas.log import LogReader
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import ClientFault, RejectReason

__all__ = ["Releaser", "Step", "check_newest", "check_seen", "drop_ahead", "stored_symbols"]

_PUT_BACK: Final = (
    "Put the right state back, or stop the other service. If the state is lost permanently, run: quietcount ledger "
    "record-loss"
)

_REPORT: Final = "Report this line. What is due is released once that is mended"

_DAYS_AHEAD = 2
"""How far ahead an event may be dated: an emitter's clock may be wrong by a day, and its time zone ahead of UTC.

One that is dated further ahead would be kept in the state until its own period ends."""


class Step(StrEnum):
    """The moments of a release between which a crash may fall."""

    INTENT_STATED = "intent stated"
    DRAWN = "drawn"
    APPENDED = "appended"
    PUBLISHED = "published"
    STATE_WRITTEN = "state written"
    PURGED = "purged"


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


def check_newest(ledger: Ledger, state: State, public: Path, witness: Witness) -> None:
    """Raise LedgerBehind unless the ledger holds what public file, state, witness and private log of places have seen.

    To be called on a fenced ledger before anything is appended to it or published from it.
    """
    check_seen(ledger, state, public, witness)
    ledger.check_places()


def check_seen(ledger: Ledger, state: State, public: Path, witness: Witness) -> None:
    """Raise LedgerBehind unless the ledger holds what public file, state and witness have seen; in this order.

    The witness is also asked when the whole folder was put back. The others know that only the ledger was.
    """
    head = published_head(public)
    if head is not None:
        ledger.check_not_behind(head, public.name)
    ledger.check_not_behind(state.head, state.path.name)
    witness.check(ledger)


def drop_ahead(state: State, now: dt.date, today: dt.date) -> None:
    """Drop each record that a settlement at `now` meets and that is dated too far ahead; within its transaction.

    Record by record: an earlier version of such an event stands again. Nothing remains of it but the day's reject.
    `today` is the day on which the settlement is made: it is later than `now` if somebody looks at the past, as it then
    was, and then no event is ahead that has come true since.
    """
    row = state.connection.execute(
        f"DELETE FROM open_events WHERE occurred_on > ?::DATE + {_DAYS_AHEAD}", [max(now, today)]
    ).fetchone()
    if row is not None and row[0]:
        state.note({RejectReason.DATED_AHEAD}, now)


def note_changed(state: State, now: dt.date) -> None:
    """Note whether two records are one version of one event and say different things; within the transaction.

    The first of them counts. A correction that has no higher revision is lost, and its emitter does not hear of it.
    What a field was before a population asked for it is not known, so null differs from nothing.
    """
    compared = ["event", "occurred_on", *(f'"{column}"' for column in state.columns)]
    differs = " OR ".join(f"min({each}) <> max({each})" for each in compared)
    changed = state.connection.execute(
        f"SELECT 1 FROM open_events GROUP BY event_mark, revision HAVING {differs} LIMIT 1"
    ).fetchone()
    if changed is not None:
        state.note({ClientFault.CHANGED_WITHOUT_REVISION}, now)


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def _unobserved(_: Step) -> None:
    """Take no notice of a step."""


class Releaser:
    """Releases the populations of one ledger from one state.

    `topic` is what of the log the state folds. `signing_key` signs each head that is published, `observe` is called at
    each step, and `publishing` stands in for `publish`. `today` is the real day (UTC), which `now` may lie before.
    """

    def __init__(
        self,
        *,
        state: State,
        ledger: Ledger,
        log: LogReader,
        topic: str,
        registry: SchemaRegistry,
        mechanism: NoiseMechanism,
        year_secrets: YearSecrets,
        public: Path,
        witness: Witness,
        signing_key: SigningKey,
        observe: Callable[[Step], None] | None = None,
        publishing: Publish | None = None,
        today: Callable[[], dt.date] | None = None,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._log = log
        self._topic = topic
        self._events = frozenset(registry.event_types)
        self._symbols = stored_symbols(registry)
        self._mechanism = mechanism
        self._year_secrets = year_secrets
        self._public = public
        self._publishing = publishing
        self._witness = witness
        self._signing_key = signing_key
        self._observe = observe or _unobserved
        self._today = today or _today

    @property
    def populations(self) -> list[Population]:
        """Return the declared populations that are not retired."""
        chain = self._ledger.chain
        return [population for name, population in chain.declarations.items() if name not in chain.retired]

    def recover(self) -> None:
        """Finish what a crash interrupted, from the ledger; call it on a fenced ledger and before folding anything.

        Raises LedgerBehind if the ledger is older than what it published, StateBehind if it has releases that this
        state does not know, and SigningKeyError if it names another key than the one that signs.
        """
        if self._ledger.chain.entries:
            check_key(self._ledger.chain, self._signing_key)
        check_newest(self._ledger, self._state, self._public, self._witness)
        self._check_schemas()
        chain, first_open = self._ledger.chain, self._state.first_open
        if chain.is_ahead_of(first_open, self._state.intent):
            raise self._behind()
        if is_out_of_place(self._ledger, self._state):
            raise StateBehind(
                f"{self._state.path} has not folded exactly what the newest releases of the ledger count: it is an "
                "older copy, or was altered",
                _PUT_BACK,
            )
        self._state.limits.check_whole(self._state.used_up)
        # Not before: until here the state may be an older copy, and the files may belong to the right one.
        self._state.limits.remove_others(self._state.used_up)
        # What is over is forgotten, and the log purged, at the next settlement. If no population is left, there is
        # none, so each start does that: nobody needs what still comes in.
        if chain.unknown_to(first_open) or (chain.retired and not self.populations):
            self._finish()
        self._destroy_years()
        self.purge()

    def publish(self) -> None:
        """Publish the ledger, even over a damaged or altered public file: it does not outlive a start."""
        self._publish(self._ledger.chain)
        with self._state.transaction():
            self._state.see(self._ledger.chain.head)

    def _publish(self, chain: Chain) -> None:
        # Before it is signed: whoever puts an older ledger back must not get a second head of this length signed.
        self._witness.see(chain.head)
        (self._publishing or publish)(chain, self._public, sign_head(chain, self._signing_key).data)

    def adopt(self) -> None:
        """Let the state count what is declared now; later populations from their places in the private log on."""
        known, begins = self._state.first_open, self._state.begins
        for population in self.populations:
            name = population.name
            if name not in self._ledger.chain.later - known.keys():
                continue
            point = self._ledger.declared_at(name)
            if point is not None and point.topic_id == self._log.topic_id(self._topic):
                self._state.begin_at(name, point.offsets)
            elif name not in begins:  # where it began is not known, or lies in another log
                self._state.begin_at(name, self._log.end_offsets(self._topic))
        self._state.adopt(self.populations)

    def due(self, now: dt.datetime, grace: dt.timedelta) -> list[DuePeriod]:
        """Return what is due at `now`."""
        waiting = self._ledger.chain.incomplete
        complete = [population for population in self.populations if population.name not in waiting]
        return due_periods(complete, self._state.first_open, now, grace, self._ledger.chain.withheld)

    def release(self, due: Sequence[DuePeriod], now: dt.datetime) -> None:
        """Release what is due, all in one append; the fold must have reached the end of the log.

        Raises StateBehind if another service has released on this ledger meanwhile.
        """
        if not due:
            return
        if self._ledger.chain.unknown_to(self._state.first_open):
            # `recover` finishes ours: these came in while this service ran, from one that shut it out.
            raise self._behind()
        self._keep_years(now)
        intent = secrets.token_bytes(16)
        with self._state.transaction():
            self._state.begin_release(intent, now.date())
            drop_ahead(self._state, now.date(), self._today())
            note_changed(self._state, now.date())
        self._observe(Step.INTENT_STATED)
        with self._state.guarded():
            bounding = self._bounding()
            bodies = self._draw(bounding, due, intent)
        self._observe(Step.DRAWN)
        # Once for all periods: what was folded is what they count, and a state that finishes this has to have it.
        place = LogPoint(self._state["topic_id"], self._state.offsets)
        self._ledger.append([Settled(), *bodies], now, place)
        self._observe(Step.APPENDED)
        self._finish(bounding)
        self._destroy_years()
        self.purge()
        self._observe(Step.PURGED)

    def _behind(self) -> StateBehind:
        return StateBehind(
            f"the ledger has releases that {self._state.path} does not know: the state was lost, is an older copy, or "
            "another service releases on this ledger",
            _PUT_BACK,
        )

    def _check_schemas(self) -> None:
        """Raise PopulationError if the schemas no longer have what a declared population counts."""
        for population in self.populations:
            columns = [f"{event}.{field}" for event in population.events for field in population.fields_of(event)]
            gone = [name for name in population.events if name not in self._events]
            gone += [column for column in columns if column not in self._symbols]
            if gone:
                raise PopulationError(
                    f"population {population.name!r} counts {gone[0]}, which the schemas no longer have",
                    "Put the schema back, or end the population permanently with: quietcount ledger retire "
                    f"{population.name}",
                )

    def _bounding(self) -> Bounding:
        """Bound the open events for the populations that the state knows; a new one may be declared after a crash."""
        known = self._state.first_open
        counted = [population for population in self.populations if population.name in known]
        return Bounding(self._state, counted, self._symbols, self._year_secrets)

    def _draw(self, bounding: Bounding, due: Sequence[DuePeriod], intent: bytes) -> list[Released]:
        """Return the drawn releases in the order of `due`."""
        bodies: dict[DuePeriod, Released] = {}
        for population in self.populations:
            for table in population.tables:
                periods = [period for period in due if period.statistic == table.name]
                if periods:
                    bodies |= self._draw_table(bounding, population, table, periods, intent)
        return [bodies[period] for period in due]

    def _draw_table(
        self, bounding: Bounding, population: Population, table: Table, periods: Sequence[DuePeriod], intent: bytes
    ) -> dict[DuePeriod, Released]:
        counts = bounding.counts(population.name, table, [period.start for period in periods])
        reach = table.sensitivity(population.max_contributions)
        scale = self._mechanism.scale(cells=table.cells, sensitivity=reach, epsilon=table.epsilon)
        digest = population.digest
        bodies = {}
        for period in periods:
            if table.sum is None and min(counts[period.start]) < 0:
                raise NoiseError(f"statistic {table.name!r}: an exact count is below 0; nothing was drawn", _REPORT)
            drawn = self._mechanism.draw(counts[period.start], scale=scale, sensitivity=reach, epsilon=table.epsilon)
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
                intent=intent,
            )
        return bodies

    def _finish(self, bounding: Bounding | None = None) -> None:
        """Publish the ledger, then write the state again without the periods that it has released.

        `bounding` is what the values were drawn from; after a crash the same is settled again.
        """
        chain = self._ledger.chain
        self._publish(chain)
        self._observe(Step.PUBLISHED)
        with self._state.transaction():
            self._state.see(chain.head)
            self._state.purged = self._state.offsets
        known = self._state.first_open
        following = {name: chain.first_open.get(name, day) for name, day in known.items()}
        with self._state.guarded():
            (bounding or self._bounding()).close(following, chain.withheld)
        self._observe(Step.STATE_WRITTEN)

    def purge(self) -> None:
        """Cut the log off at the place of the newest settlement, if that is left to do; else do nothing.

        There, and not at the oldest event that is still open: then what the log holds would hang on what somebody did.
        A log may forget that it was purged: a broker that is killed begins where it last wrote down that it does, up to
        a minute before. So the state remembers where the log was to begin, and each call looks.
        """
        due, purged = self._state.purge_due, self._state.purged
        if not due:
            if not purged:
                return
            beginnings = self._log.beginning_offsets(self._topic)
            if all(beginnings.get(partition, offset) >= offset for partition, offset in purged.items()):
                return
        # What lies before the offsets was folded in the log that they are of, and only there: in a log that was made
        # again or cut off meanwhile others lie there. The next tick reports it.
        if self._state["topic_id"] not in ("", self._log.topic_id(self._topic)):
            return
        if self._log.diverged(self._topic, self._state.marks):
            return
        if self._log.purge(self._topic, purged) and due:
            with self._state.transaction():
                self._state["purge_due"] = ""

    def _keep_years(self, now: dt.datetime) -> None:
        """Make the secrets of the years that the clock has begun and that are open; refuse to go on without one.

        By the clock and not by need: neither that a year's secret is there nor that it is missed follows from events.
        Raises StateError.
        """
        opened = self._yearly_open
        for year in range(min(opened, default=now.year + 1), now.year + 1):
            keep_year(self._state, self._year_secrets, year)

    def _destroy_years(self) -> None:
        """Destroy the secrets of the years that no population with a yearly horizon has open."""
        opened = self._yearly_open
        for year in self._year_secrets.years():
            if year < min(opened, default=year + 1):
                self._year_secrets.destroy(year)

    @property
    def _yearly_open(self) -> list[int]:
        """Return the year that each population with a yearly horizon has open first."""
        first_open = self._state.first_open
        yearly = [each.name for each in self.populations if each.horizon is Horizon.YEAR]
        return [first_open[name].year for name in yearly if name in first_open]
