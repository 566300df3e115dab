"""The publisher: what a service that does case work calls for each event.

An event is checked and encoded at once in the thread that emits it, so a mistake shows where it was made. A writer
thread then stores events in batches: it waits at most `linger` seconds for company, so a lone event is not kept back.
With a spool it stores them there, and a relay sends them on when the log takes them.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from quietcount_producers.composition import Composer, Facts, Precision, utc_today
from quietcount_producers.errors import ProducersError, PublisherClosed, refused_by
from quietcount_producers.pseudonyms import Pepper
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_producers.spool.event_spool import EventSpool, SpoolState
from quietcount_producers.spool.relay import Relay
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord, Position
from quietcount_schemas.oddity import Oddity
from quietcount_schemas.periods import Period
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["CaseEventPublisher"]

_Waiting = tuple[NewRecord, "Future[Position]"]

_QUEUE_BATCHES: Final = 10
"""How many full batches may wait before `emit` blocks: a log that stands still must not fill the memory."""
RELAY_WAIT: Final = 5.0
"""Seconds that closing waits for the relay: enough to connect and send the little that a short-lived process emits."""
_DRAIN_POLL: Final = 0.02
"""Seconds between two looks at how far the relay is: it may be another process's."""


class CaseEventPublisher:
    """Publishes case events to `log`; a context manager, safe to share between threads, not across a fork.

    `pepper` turns identifiers into case keys. `registry` holds the event types (the built-in casework by default).
    `precision` is what dates are coarsened to, for all or by event type (a type without an entry: month);
    `from_config` derives it from the declared statistics. `linger` (seconds) and `batch` (events) bound how long
    and how many events wait for one write. `today` is the UTC date. `allow_identifiers` are kinds of odd
    identifiers that are taken all the same.

    `log` is an open log, which stays open when the publisher closes, or a function that opens it, and then the
    publisher closes it. With `spool`, a folder of its own, events are stored there and sent on by a relay: neither
    `emit` nor opening a publisher needs a log that answers. Raises what opening the log or the spool raises."""

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
        spool: Path | None = None,
        allow_identifiers: Collection[Oddity] = (),
    ) -> None:
        if linger < 0 or batch < 1:
            raise ProducersError(
                "A publisher cannot wait less than nothing or write no event",
                "Give a linger of 0 seconds or more and a batch of 1 or more",
            )
        self._linger = linger
        self._batch = batch
        self._composer = Composer(registry or SchemaRegistry.load(), pepper, precision, today, allow_identifiers)
        self._spool = None if spool is None else EventSpool(spool)
        self._relay = None if spool is None else _relay(spool, log, today)
        self._owns_log = self._spool is not None or callable(log)
        self._log: LogWriter = self._spool if self._spool is not None else (log() if callable(log) else log)
        self._waiting: deque[_Waiting] = deque()
        self._most_waiting = _QUEUE_BATCHES * batch
        self._entry = threading.Lock()  # one emitter at a time; `close` takes it, so that nothing enters after the end
        self._lock = threading.Lock()  # guards what follows; each condition wakes only the threads that wait for it
        self._arrived = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._stored = threading.Condition(self._lock)
        self._emitted = 0
        self._settled = 0
        self._hurry = 0
        self._failure: Exception | None = None  # not yet raised by flush
        # The cause of `_refused_to`, which each refusal replaces.
        self._cause: Exception = ProducersError("The log refused events", "Emit them again")
        self._refused_to = 0
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="quietcount-publisher", daemon=True)
        self._writer.start()
        if self._relay is not None:
            self._relay.start()

    @classmethod
    def from_config(cls, path: Path) -> CaseEventPublisher:
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

    def __enter__(self) -> CaseEventPublisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def emit(
        self,
        event: str,
        case: str,
        occurred_on: dt.date | str,
        *,
        event_id: uuid.UUID | str | None = None,
        revision: int = 0,
        **attributes: object,
    ) -> Future[Position]:
        """Publish one event and return a future that resolves to its position when it is stored durably.

        With a spool that is when, and where, the event is stored in the spool.

        `case` is the identifier of the case; only a keyed hash of it is kept. Give `event_id` (a UUIDv4) if a retry or
        a correction has to be recognised; a correction carries the same id and a higher `revision`. An attribute that
        is left out takes the schema's default. Blocks while too many events wait for the log.

        Raises EventRefused if something is wrong with the event, and PublisherClosed.
        """
        record = self._composer.compose(Facts(event, case, occurred_on, attributes, event_id, revision))
        future: Future[Position] = Future()
        future.set_running_or_notify_cancel()  # it is on its way, and nobody could keep a promise to cancel it
        with self._entry:
            if self._closed:
                raise PublisherClosed("This publisher is closed", "Emit inside its `with` block, or make a new one")
            with self._lock:
                self._emitted += 1  # before it waits for room: it is behind a write that fails meanwhile
                self._room.wait_for(lambda: len(self._waiting) < self._most_waiting)
                self._waiting.append((record, future))
                self._arrived.notify()
        return future

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every event emitted so far is stored.

        Raises what the log raised if a write has failed since the last flush, and ProducersError after `timeout`
        seconds.
        """
        with self._lock:
            target = self._emitted
            self._hurry = max(self._hurry, target)
            self._arrived.notify()
            done = self._stored.wait_for(lambda: self._settled >= target, timeout)
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
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
        """Store what waits, stop the writer, and raise what `flush` would raise. Closing twice does no harm.

        With a spool, the relay goes on for `wait` seconds at most, less if the log does not take events. The next
        publisher with that spool, or `quietcount spool drain`, sends what is left.
        """
        with self._entry:
            if self._closed:
                return
            with self._lock:
                self._closed = True
                self._arrived.notify()
        self._writer.join()
        try:
            self.flush()
        finally:
            if self._relay is not None:
                self._relay.stop(wait)
            if self._owns_log:
                self._log.close()

    def _write(self) -> None:
        """Store batches in the order of emission until the publisher is closed and nothing waits."""
        while waiting := self._taken():
            self._store(waiting)

    def _taken(self) -> list[_Waiting]:
        """Wait for an event, then for company; return a batch, or none if the publisher is closed and nothing waits."""
        with self._lock:
            self._arrived.wait_for(lambda: self._waiting or self._closed)
            self._arrived.wait_for(self._is_due, self._linger)
            taken = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._room.notify_all()
            return taken

    def _is_due(self) -> bool:
        """Return whether nothing is gained by waiting: a batch is full, somebody flushes, or nothing more comes."""
        return len(self._waiting) >= self._batch or self._hurry > self._settled or self._closed

    def _store(self, waiting: list[_Waiting]) -> None:
        # What was emitted behind a failed write fails with it: stored alone, a correction would overtake its event.
        refused = min(len(waiting), max(0, self._refused_to - self._settled))
        for _, future in waiting[:refused]:
            future.set_exception(self._cause)
        failure = self._append(waiting[refused:])
        with self._lock:
            if failure is not None:
                self._failure = self._cause = failure
                self._refused_to = self._emitted
            self._settled += len(waiting)
            self._stored.notify_all()

    def _append(self, waiting: list[_Waiting]) -> Exception | None:
        if not waiting:
            return None
        try:
            positions = self._log.append(CASE_EVENTS, [record for record, _ in waiting])
        except QuietcountError as error:
            failure: Exception = error
        except Exception as error:  # a caller's own log may raise anything, and the writer must outlive it
            failure = refused_by(error)
        else:
            for (_, future), position in zip(waiting, positions, strict=True):
                future.set_result(position)
            if self._relay is not None:
                self._relay.wake()
            return None
        for _, future in waiting:
            future.set_exception(failure)
        return failure


def _relay(spool: Path, log: LogWriter | Callable[[], LogWriter], today: Callable[[], dt.date]) -> Relay:
    if callable(log):
        return Relay(spool, log, today=today)
    opened = log
    return Relay(spool, lambda: opened, keep=True, today=today)
