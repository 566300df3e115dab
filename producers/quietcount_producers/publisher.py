"""The publisher: what a service that does case work calls for each event.

An event is checked and encoded at once in the thread that emits it, so a mistake shows where it was made. A queue then
stores events in batches (see `event_queue`). With a spool it stores them there, and a relay sends them on when the log
takes them.
"""

from __future__ import annotations

import atexit
import datetime as dt
import functools
import logging
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Final, Self

from quietcount_producers import forks
from quietcount_producers.composing.composition import Composer, Facts, Precision, utc_today
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_producers.errors import LogError, LogUnavailable, ProducersError, PublisherClosed, PublisherFull
from quietcount_producers.event_queue import EventQueue
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_producers.spool.event_spool import EventSpool, SpoolState
from quietcount_producers.spool.relay import Relay
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord, Position
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["CaseEventPublisher"]

_LOGGER: Final = logging.getLogger(__name__)

RELAY_WAIT: Final = 5.0
"""Seconds that closing waits for the relay: enough to connect and send the little that a short-lived process emits."""
EXIT_WAIT: Final = 5.0
"""Seconds that the end of a process waits for all its open publishers: a log that stands still must not keep it."""
_DRAIN_POLL: Final = 0.02
"""Seconds between two looks at how far the relay is: it may be another process's."""
_ROOM_POLL: Final = (0.01, 0.5)
"""Seconds from one look for room in the queue to the next, which double: an event loop cannot be woken by the queue's
lock, and thousands of tasks that look would hold it up."""

_left_behind: list[object] = []
"""What a child got from its parent and may not close, which throwing it away would do."""


class CaseEventPublisher:
    """Publishes case events to `log`; a context manager (`with` and `async with`), safe to share between threads.

    `pepper` turns identifiers into case keys. `registry` holds the event types (the built-in casework by default).
    `precision` is what dates are coarsened to, for all or by event type (a type without an entry: month);
    `from_config` derives it from the declared statistics. `linger` (seconds) and `batch` (events) bound how long
    and how many events wait for one write; nothing lingers if somebody waits for it. `today` is the UTC date.
    `allow_identifiers` are kinds of odd identifiers that are taken all the same.

    `log` is an open log, which stays open when the publisher closes, or a function that opens it, and then the
    publisher closes it. With `spool`, a folder of its own, events are stored there and sent on by a relay: neither
    `emit` nor opening a publisher needs a log that answers. Raises what opening the log or the spool raises.

    A process that is forked may go on to use it: the function opens the log there again. What waited at the fork is
    stored by the parent alone. If `log` is open and not an EmbeddedLog, the child's `emit` raises LogError instead."""

    def __init__(
        self,
        log: LogWriter | Callable[[], LogWriter],
        *,
        pepper: Pepper,
        registry: SchemaRegistry | None = None,
        precision: Precision = Period.MONTH,
        linger: float = 0.05,
        batch: int = 1000,
        today: Callable[[], dt.date] = utc_today,
        spool: str | os.PathLike[str] | None = None,
        allow_identifiers: Collection[Oddity] = (),
    ) -> None:
        if linger < 0 or batch < 1:
            raise ProducersError(
                "A publisher cannot wait less than nothing or write no event",
                "Give a linger of 0 seconds or more and a batch of 1 or more",
            )
        self._composer = Composer(registry or SchemaRegistry.load(), pepper, precision, today, allow_identifiers)
        self._owns_log = callable(log)
        self._connect = log if callable(log) else functools.partial(_itself, log)
        self._log: LogWriter | None = None
        self._relay: Relay | None = None
        self._spool = None if spool is None else EventSpool(spool)
        if self._spool is None:
            self._log = self._connect()
        else:
            self._new_relay = functools.partial(
                Relay, self._spool.folder, self._connect, keep=not self._owns_log, today=today
            )
            self._relay = self._new_relay()
        # An open log of somebody else's may share a connection with the parent.
        self._survives_forks = self._owns_log or isinstance(log, EmbeddedLog)
        self._new_queue = functools.partial(EventQueue, self._append, linger=linger, batch=batch, begin=self._begin)
        self._queue = self._new_queue()
        self._killed_at_will = False
        self._gone = False
        self._process = os.getpid()
        forks.watch(self)
        if self._relay is not None:
            self._relay.start()

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """Return a publisher for the configuration file at `path`; with `emitter.spool` it needs no log that answers.

        Raises ProducersError or SchemasError if the configuration, the pepper, a schema, the spool or (without a spool)
        the log is not in order.
        """
        settings = EmitterSettings.load(path)
        pepper = Pepper.load(settings.pepper_file)
        registry = settings.registry()
        return cls(
            lambda: open_log(settings),
            pepper=pepper,
            registry=registry,
            precision=settings.precision,
            spool=settings.spool,
            allow_identifiers=settings.allow_identifiers,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio  # most emitters have no event loop, and it takes longer to import than all of ours

        await asyncio.to_thread(self.close)

    def emit(
        self,
        event: str,
        case: str,
        occurred_on: dt.date | str,
        *,
        event_id: uuid.UUID | str | None = None,
        revision: int = 0,
        timeout: float | None = None,
        **attributes: object,
    ) -> Future[Position]:
        """Publish one event and return a future that resolves to its position when it is stored durably.

        With a spool that is when, and where, the event is stored in the spool.

        `case` is the identifier of the case; only a keyed hash of it is kept. Give `event_id` (a UUIDv4) if a retry or
        a correction has to be recognised; a correction carries the same id and a higher `revision`. An attribute that
        is left out takes the schema's default. Blocks while too many events wait for the log, for `timeout` seconds at
        most, and in a worker of `multiprocessing.Pool`, which may be killed at any time, until the event is stored.

        Raises EventRefused if something is wrong with the event, PublisherFull after `timeout`, and PublisherClosed.
        Then nothing is emitted.
        """
        record = self._composer.compose(Facts(event, case, occurred_on, attributes, event_id, revision))
        queue = self._own_queue()
        future = queue.put(record, timeout)
        if self._killed_at_will:
            queue.wait(timeout)
        return future

    async def emit_async(
        self,
        event: str,
        case: str,
        occurred_on: dt.date | str,
        *,
        event_id: uuid.UUID | str | None = None,
        revision: int = 0,
        timeout: float | None = None,
        **attributes: object,
    ) -> Position:
        """Publish one event as `emit` does, wait until it is stored without holding up the event loop, and say where.

        `timeout` bounds the wait for room, as in `emit`. If the task is cancelled while it waits for room, nothing is
        emitted. If it is cancelled after that, the event is stored all the same, and once. Raises what `emit` and its
        future raise.
        """
        import asyncio

        record = self._composer.compose(Facts(event, case, occurred_on, attributes, event_id, revision))
        until = None if timeout is None else time.monotonic() + timeout
        pause, most = _ROOM_POLL
        while True:
            try:
                queue = self._own_queue()
                future = queue.put(record, 0)
            except PublisherFull:
                left = most if until is None else until - time.monotonic()
                if left <= 0:
                    raise
                await asyncio.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311  # not all at once
                pause = min(2 * pause, most)
            else:
                queue.hurry()
                return await asyncio.wrap_future(future)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every event emitted so far is stored.

        Raises what the log raised if a write has failed since the last flush, and ProducersError after `timeout`
        seconds.
        """
        queue = self._own_queue()
        done = queue.wait(timeout)
        queue.raise_failure()
        if not done:
            raise ProducersError(
                "The log did not take every event in the time given to flush",
                "Wait: the events are still on their way, and their futures say when they are stored",
            )

    def drain(self, timeout: float | None = None) -> None:
        """Wait until every event emitted so far is in the log; without a spool, the same as `flush`.

        Raises what `flush` raises, and ProducersError after `timeout` seconds: what waits then stays in the spool.
        """
        until = None if timeout is None else time.monotonic() + timeout
        self.flush(timeout)
        if self._spool is None:
            return
        end = self._spool.end()
        while self._spool.relayed() < end:  # another process may be the one that relays, and it wakes nobody here
            if until is not None and time.monotonic() >= until:
                error = self.relay_error
                raise ProducersError(
                    "The log did not take every event in the time given to drain; they stay in the spool and are sent "
                    f"later{'' if error is None else f'. The last failure: {error.what}'}",
                    "" if error is None else error.remedy,
                ) from error
            time.sleep(_DRAIN_POLL)

    @property
    def relay_error(self) -> QuietcountError | None:
        """Why the relay could send nothing at its last try, or None; an Unavailable passes by itself."""
        return None if self._relay is None else self._relay.error

    def spool_state(self) -> SpoolState:
        """Return whether events wait in the spool and, when the log did not take them, since which UTC day."""
        return SpoolState(empty=True) if self._spool is None else self._spool.state()

    def close(self, wait: float = RELAY_WAIT) -> None:
        """Store what waits, and raise what `flush` would raise. Closing twice does no harm.

        With a spool, the relay goes on for `wait` seconds at most, less if the log does not take events. The next
        publisher with that spool, or `quietcount spool drain`, sends what is left.
        """
        queue = self._own_queue()
        queue.close(_closed)
        queue.wait()  # also if another call was cut short here, as by Ctrl-C
        self._let_go(wait)
        queue.raise_failure()

    def end(self, until: float) -> Exception | None:
        """Close at the end of the process, until the monotonic time `until`; return why events are lost, if any are."""
        queue = self._own_queue()
        queue.close(_closed)
        if not queue.wait(max(0.0, until - time.monotonic())):
            return LogUnavailable(
                f"The log did not take them within {EXIT_WAIT:g} seconds of its end",
                "Close the publisher before the process ends, or give it a spool",
            )  # the queue's thread holds the log still, so that closing it would wait
        self._let_go(max(0.0, until - time.monotonic()))
        return queue.unheard()

    def _let_go(self, wait: float) -> None:
        """Close what this publisher opened in this process, once."""
        if self._gone:
            return
        self._gone = True
        if self._relay is not None:
            self._relay.stop(wait)
        if self._spool is not None:
            self._spool.close()
        elif self._owns_log and self._log is not None:
            self._log.close()

    def _begin(self) -> None:
        """See to what waits at the end of this process, before its first event."""
        self._killed_at_will = _ends_with_multiprocessing()

    def _append(self, records: Sequence[NewRecord]) -> list[Position]:
        """Store `records`, in the queue's thread."""
        if self._spool is not None:
            positions = self._spool.append(CASE_EVENTS, records)
            if self._relay is not None:
                self._relay.start()  # in a child of a fork it has not begun yet
                self._relay.wake()
            return positions
        if self._log is None:  # in a child of a fork
            self._log = self._connect()
        return self._log.append(CASE_EVENTS, records)

    # Around a fork

    def _own_queue(self) -> EventQueue:
        """Return the queue of this process, also if it was forked without a word to Python, as uWSGI can do."""
        if self._process != os.getpid():
            with _renewal:
                if self._process != os.getpid():
                    self._renew()
        return self._queue

    def before_fork(self) -> None:
        self._queue.hold()

    def after_fork(self) -> None:
        self._queue.release()

    def after_fork_in_child(self) -> None:
        self._queue.release()
        self._renew()

    def _renew(self) -> None:
        parents = self._queue
        parents.abandon(
            LogError("This event was emitted before a fork, and the parent process stores it", "Ask the future there")
        )
        _left_behind.extend((parents, self._log, self._relay))
        self._queue = self._new_queue()
        if parents.refusal is not None:
            self._queue.close(parents.refusal)
            self._gone = True  # what the parent opened is the parent's
        elif self._spool is not None:
            self._relay = self._new_relay() if self._survives_forks else None  # else its parent's relays
        elif self._owns_log:
            self._log = None
        elif not self._survives_forks:
            self._queue.close(_stranded)
        self._process = os.getpid()


def _itself(log: LogWriter) -> LogWriter:
    return log


def _closed() -> ProducersError:
    return PublisherClosed("This publisher is closed", "Emit inside its `with` block, or make a new one")


def _stranded() -> ProducersError:
    return LogError(
        "This publisher was given an open log, and then its process was forked, so the log is the parent's",
        "Make the publisher in the child, or give it a function that opens the log",
    )


_renewal = threading.Lock()


# At the end of a process


def _end_all() -> None:
    """Close the publishers that nobody closed, and say if events are lost; not how many, which would be a count."""
    until = time.monotonic() + EXIT_WAIT
    for each in forks.known():
        if isinstance(each, CaseEventPublisher) and (error := each.end(until)) is not None:
            _LOGGER.error("Events that this process emitted are lost. %s", error)


_finalized_in: set[int] = set()


def _ends_with_multiprocessing() -> bool:
    """Have `_end_all` called at the end of a child of multiprocessing, too: it ends without `atexit`.

    Return whether this is a daemonic child, as those of a Pool are: it is killed with SIGTERM when its parent is done.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        return False
    if os.getpid() not in _finalized_in:
        _finalized_in.add(os.getpid())
        util.Finalize(None, _end_all, exitpriority=100)
    return bool(sys.modules["multiprocessing.process"].current_process().daemon)


atexit.register(_end_all)
