"""A worker: folds its partitions, counts what the releaser settles, and forgets what the ledger has released."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from typing import Final

from quietcount_aggregates.due_periods import due_in
from quietcount_aggregates.ledger.entries import Settled
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.state.state import State
from quietcount_consumers import dead_letters
from quietcount_consumers.monitoring.standing import Standing
from quietcount_consumers.monitoring.status import Status
from quietcount_consumers.partitions import Partitions
from quietcount_consumers.service import Log, Tick
from quietcount_consumers.workers.sums_channel import SumsChannel
from quietcount_schemas.log import CASE_EVENTS

__all__ = ["Worker"]

_AUDIT_EVERY: Final = dt.timedelta(hours=1)


class Worker:
    """The states of some partitions, bound to the log and to a ledger that another process appends to.

    For use in a with statement; leaving it closes `resources`. `opened` is the tick at which the ledger was read.
    """

    def __init__(
        self,
        *,
        log: Log,
        partitions: Partitions,
        ledger: Ledger,
        channel: SumsChannel,
        standing: Standing,
        opened: dt.datetime,
        resources: contextlib.ExitStack,
    ) -> None:
        self._log = log
        self._partitions = partitions
        self._ledger = ledger
        self._channel = channel
        self._standing = standing
        self._audited = opened
        self._resources = resources
        self._answered = b"", opened
        """The settlement for which the sums were handed over, and in which hour."""
        self._length = 0
        """How much of the ledger the states have followed."""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def tick(self, now: dt.datetime, stopping: Callable[[], bool] = lambda: False) -> Tick:
        """Follow the ledger, fold to the end of the log, and count what is settled; release nothing."""
        # The end comes first: a declaration that is not read yet has its place there or behind it.
        ends = self._log.end_offsets(CASE_EVENTS)
        self._read(now)
        self._partitions.check_topic()
        self.follow(now)
        caught_up = self._partitions.fold_to_end(now.date(), stopping, ends)
        self._log.report(CASE_EVENTS, self._partitions.offsets)
        for state in self._partitions.states:
            dead_letters.relay(state, self._log, CASE_EVENTS)
        if caught_up:
            self._answer(now)
        self._partitions.settlers.purge()
        for state in self._with_letters:
            dead_letters.purge_again(state, self._log)
        return Tick(caught_up, [])

    def due(self, _: dt.datetime) -> object:
        """Return what a tick would release: nothing."""
        return []

    def status(self, now: dt.datetime, tick: Tick) -> Status:
        """Return what an operator may know after the tick at `now`, which came to `tick`."""
        return self._standing.after(
            now, caught_up=tick.caught_up, released=False, purged=not self._partitions.purge_due
        )

    def show(self) -> bool:
        """Nothing is published here."""
        return False

    def at_end(self) -> bool:
        """Return whether nothing was appended to the log since the last fold."""
        return self._partitions.at_end()

    @property
    def _with_letters(self) -> list[State]:
        """Return the state that remembers how far the dead letters are purged, if it is here: all are in one topic."""
        return [state for state in self._partitions.states if state.partition == 0]

    def follow(self, now: dt.datetime | None = None) -> None:
        """Let the states forget what the ledger has released, and count what it declares; `now` is that of a tick.

        Raises StateBehind if the ledger has releases that a state cannot learn of any more.
        """
        chain = self._ledger.chain
        if len(chain.entries) == self._length:
            return
        for settler in self._partitions.settlers:
            settler.recover()
        self._partitions.settlers.adopt()
        self._partitions.renew()
        fresh = chain.entries[self._length :] if self._length else []
        if now is not None and any(isinstance(entry.body, Settled) for entry in fresh):
            for state in self._with_letters:
                dead_letters.purge(state, self._log, now.date())
        self._length = len(chain.entries)

    def _read(self, now: dt.datetime) -> None:
        """Verify what is new in the ledger, and once an hour all of it; raise LedgerBehind for an older one."""
        if now - self._audited >= _AUDIT_EVERY:
            self._ledger.audit()
            self._audited = now
        else:
            self._ledger.refresh()
        self._ledger.read_places()
        for state in self._partitions.states:
            self._ledger.check_not_behind(state.head, state.path.name)

    def _answer(self, now: dt.datetime) -> None:
        """Hand over what the newest settlement asks for, if all of it is folded; again after an hour, if it is open."""
        settlement, offsets = self._ledger.open_settlement, self._partitions.offsets
        if (
            settlement is None
            or not offsets
            or not settlement.seal_to
            or (settlement.identity, _hour(now)) == self._answered
        ):
            return
        if settlement.point.topic_id != self._partitions.settlers.point.topic_id:
            return  # of a log that was lost; the releaser settles again
        if any(offsets[partition] < settlement.point.offsets.get(partition, 0) for partition in offsets):
            return  # it was written after this tick asked for the end of the log
        due = due_in(self._ledger.chain, settlement.until)
        if not due:
            return  # it says that there are workers, and no more
        for settler in self._partitions.settlers:
            self._channel.send(settlement, settler.state.partition, due, settler.sums(settlement, due))
            settler.forget()
        self._answered = settlement.identity, _hour(now)


def _hour(now: dt.datetime) -> dt.datetime:
    return now.replace(minute=0, second=0, microsecond=0)
