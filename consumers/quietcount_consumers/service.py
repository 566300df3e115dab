"""The service: folds the log in fixed ticks, releases what is due, publishes.

A tick looks at the clock once. Everything that it decides follows from that reading, from the log as it stood then, and
from the ledger. Nothing that it says outside the private folder depends on how much there was to fold. `opening` makes
a service from a configuration.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from quietcount_aggregates.due_periods import DuePeriod
from quietcount_aggregates.errors import SumsMissing
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.release import Releaser
from quietcount_consumers import dead_letters
from quietcount_consumers.monitoring.log_events import (
    PARTITION_MISSING,
    PUBLICATION_WAITS,
    RELEASED,
    WITNESSED,
    Say,
    unheard,
)
from quietcount_consumers.monitoring.standing import Standing
from quietcount_consumers.monitoring.status import Status
from quietcount_consumers.partitions import Partitions
from quietcount_schemas.log import CASE_EVENTS, LogReader, LogWriter

__all__ = ["Service", "Tick"]

_AUDIT_EVERY: Final = dt.timedelta(hours=1)
"""How often the whole ledger is read again: on the clock's grid, no matter what was folded."""


class Log(LogReader, LogWriter, Protocol):
    """The log, read for case events and written for dead letters."""


class Publication(Protocol):
    """What was published and is not seen yet: a HeldPublication, or a WitnessedPublication."""

    def show(self) -> str: ...


def _by_itself(_: Chain) -> None:
    """Ask nobody whether the ledger is the newest."""


class Tick(NamedTuple):
    """What a tick came to: whether the fold reached the end of the log, what was released, and whether workers lack."""

    caught_up: bool
    released: list[DuePeriod]
    waiting: bool = False


class Service:
    """States, one log, one ledger, bound together: what `open_service` returns, for use in a with statement.

    Leaving it closes `resources`. `opened` is the tick (UTC) at which the whole ledger was read. `vouched` is handed
    the ledger before anything is drawn, and raises if others know of a newer one, or do not answer.
    """

    def __init__(
        self,
        *,
        log: Log,
        partitions: Partitions,
        ledger: Ledger,
        releaser: Releaser,
        standing: Standing,
        opened: dt.datetime,
        grace: dt.timedelta,
        say: Say = unheard,
        publication: Publication | None = None,
        vouched: Callable[[Chain], None] = _by_itself,
        resources: contextlib.ExitStack,
    ) -> None:
        self._log = log
        self._partitions = partitions
        self._ledger = ledger
        self._releaser = releaser
        self._standing = standing
        self._audited = _hour(opened)
        self._grace = grace
        self._say = say
        self._publication = publication
        self._vouched = vouched
        self._now = opened
        self._missing: frozenset[int] | None = None
        """The partitions whose workers have yet to hand over what they counted; None if there are no workers."""
        self._said_missing: set[int] = set()
        self._waits = ""
        """What the publication was last said to wait for."""
        self._resources = resources

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def due(self, now: dt.datetime) -> list[DuePeriod]:
        """Return what a tick at `now` would release."""
        return self._releaser.due(now, self._grace)

    def tick(self, now: dt.datetime, stopping: Callable[[], bool] = lambda: False) -> Tick:
        """Fold to the end of the log as it stands, then release what is due at `now`.

        If `stopping` says so, the fold ends after the batch in hand, and nothing is released.
        """
        self._now = now
        self._refresh_ledger(now)
        self._partitions.check_topic()
        if self.due(now):
            # Before the fold, on the tick's grid: when others are asked must not say how long the fold took.
            self._vouched(self._ledger.chain)
        caught_up = self._partitions.fold_to_end(now.date(), stopping)
        self._log.report(CASE_EVENTS, self._partitions.offsets)
        for state in self._partitions.states:
            dead_letters.relay(state, self._log, CASE_EVENTS)
        due = self.due(now) if caught_up else []
        # All letters are in one topic, so one state remembers how far that is purged.
        first = self._partitions.states[:1]
        self._missing = None if first else frozenset()
        if due:
            self._ledger.audit()
            try:
                due = self._releaser.release(now, self._grace)
            except SumsMissing as error:
                self._missing = error.partitions
                return Tick(caught_up, [], waiting=True)
            self._partitions.renew()
            if first:
                dead_letters.purge(first[0], self._log, now.date())
            self._say_released(due, now)
        self._releaser.purge()
        if first:
            dead_letters.purge_again(first[0], self._log)
        return Tick(caught_up, due)

    def status(self, now: dt.datetime, tick: Tick) -> Status:
        """Return what an operator may know after the tick at `now`, which came to `tick`."""
        status = self._standing.after(
            now,
            caught_up=tick.caught_up,
            released=bool(tick.released),
            purged=not self._partitions.purge_due,
            missing=self._missing,
        )
        missing = {partition for partition, is_missing in status.missing if is_missing}
        for partition in sorted(missing - self._said_missing):
            self._say(PARTITION_MISSING.at(now, partition=str(partition)))
        self._said_missing = missing
        return status

    def show(self) -> bool:
        """Let what was published be seen, even if the service is closed; return whether it waits for witnesses.

        Raises PublicationError, and LedgerBehind if a witness knows a head that the ledger does not hold.
        """
        waits = "" if self._publication is None else self._publication.show()
        if waits and not self._waits:
            self._say(PUBLICATION_WAITS.at(self._now, meaning=waits))
        elif self._waits and not waits:
            self._say(WITNESSED.at(self._now))
        self._waits = waits
        return bool(waits)

    def at_end(self) -> bool:
        """Return whether nothing was appended to the log since the last fold."""
        return self._partitions.at_end()

    def _refresh_ledger(self, now: dt.datetime) -> None:
        """Verify what is new in the ledger, and in the first tick of an hour all of it."""
        if _hour(now) == self._audited:
            self._ledger.refresh()
        else:
            self._ledger.audit()
            self._audited = _hour(now)

    def _say_released(self, due: list[DuePeriod], now: dt.datetime) -> None:
        """Say one event for each statistic."""
        for name in sorted({period.statistic for period in due}):
            periods = [period for period in due if period.statistic == name]
            first, last = periods[0].start, periods[-1].end
            self._say(RELEASED.at(now, statistic=name, period_start=first, period_end=last))


def _hour(now: dt.datetime) -> dt.datetime:
    """Return the hour of the clock in which `now` lies."""
    return now - (now - dt.datetime.min.replace(tzinfo=dt.UTC)) % _AUDIT_EVERY
