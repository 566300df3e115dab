"""The queue of a publisher: events wait here for a thread that stores them in batches, in the order of their emission.

The thread waits at most `linger` seconds for company, and not at all if somebody waits for an event's future.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from quietcount_producers.errors import ProducersError, PublisherFull, refused_by
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import NewRecord, Position

__all__ = ["EventQueue"]

_QUEUE_BATCHES: Final = 10
"""How many full batches may wait before `put` blocks: a log that stands still must not fill the memory."""
_FAILED_KEPT: Final = 1000
"""How many failed events are looked at, at the end, for one that nobody asked about."""
_RUNNING: Final = "RUNNING"
_FINISHED: Final = "FINISHED"
"""The states of a Future, as `concurrent.futures` calls them."""
_UNCLEAR: Final = "The log did not say of each event where it is, so nobody knows what is stored"

Refusal = Callable[[], ProducersError]


class _Outcome(threading.Condition):
    """Wakes those who wait for the outcome of an event; `hurry` lets the queue know of them."""

    def __init__(self, lock: threading.RLock, hurry: Callable[[], None]) -> None:
        super().__init__(lock)
        self.hurry = hurry


class _Stored(Future[Position]):
    """A future without a lock of its own, which would cost as much as the rest of the queue: one queue has one lock.

    It is on its way from the start, because nobody could keep a promise to cancel it.
    """

    def __init__(self, condition: _Outcome) -> None:
        self.asked = False
        """Whether somebody got the outcome."""
        self._condition = condition
        self._state = _RUNNING
        self._result = None
        self._exception = None
        self._waiters = []
        self._done_callbacks: list[Callable[[Future[Position]], object]] = []

    def result(self, timeout: float | None = None) -> Position:
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        # The base class would take a wake-up that was meant for another future of the queue for the end of `timeout`.
        if self._state != _FINISHED:
            with self._condition:
                if isinstance(self._condition, _Outcome):
                    self._condition.hurry()
                self._condition.wait_for(lambda: self._state == _FINISHED, timeout)
        self.asked = self._state == _FINISHED

    def settle(self, position: Position | None, failure: Exception | None) -> None:
        """Take the outcome; the caller holds the queue's lock, wakes its waiters, and calls `call_back` without it."""
        self._result = position
        self._exception = failure
        self._state = _FINISHED
        for waiter in self._waiters:
            if failure is None:
                waiter.add_result(self)
            else:
                waiter.add_exception(self)

    def call_back(self) -> None:
        if self._done_callbacks:
            with contextlib.suppress(SystemExit):  # it would end the thread, and no event would be stored any more
                self._invoke_callbacks()  # type: ignore[attr-defined]  # as `set_result` does


_Waiting = tuple[NewRecord, _Stored]


class EventQueue:
    """Hands what is put into it to `append`, in batches of at most `batch`, from a thread that the first event starts.

    It calls `begin` before it starts the thread. `append` stores records and returns their positions, all or none. Safe
    to share between threads.
    """

    def __init__(
        self,
        append: Callable[[Sequence[NewRecord]], list[Position]],
        *,
        linger: float,
        batch: int,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._append = append
        self._begin = begin
        self._linger = linger
        self._batch = batch
        self._most_waiting = _QUEUE_BATCHES * batch
        self._waiting: deque[_Waiting] = deque()
        self._storing: list[_Waiting] = []
        self._lock = threading.RLock()  # guards what follows; each condition wakes only the threads that wait for it
        self._arrived = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._stored = _Outcome(self._lock, self.hurry)
        self._emitted = 0
        self._settled = 0
        self._hurry = 0
        self._failure: Exception | None = None  # not raised yet
        # The cause of `_refused_to`, which each refusal replaces.
        self._cause: Exception = ProducersError("The log refused events", "Emit them again")
        self._refused_to = 0
        self._failures = 0
        self._failed: deque[_Stored] = deque(maxlen=_FAILED_KEPT)
        self._refusal: Refusal | None = None
        self._thread: threading.Thread | None = None

    @property
    def refusal(self) -> Refusal | None:
        """Why it takes nothing more, if it is closed."""
        return self._refusal

    def put(self, record: NewRecord, timeout: float | None = None) -> Future[Position]:
        """Queue `record` and return its future; wait for room for `timeout` seconds at most, without end by default.

        Raises PublisherFull if there is no room until then, or why it was closed. Then the
        record is not queued.
        """
        future = _Stored(self._stored)
        waiting = self._waiting
        with self._lock:
            if self._thread is None or self._refusal is not None or len(waiting) >= self._most_waiting:
                failure = self._ready(timeout)
                if failure is not None:
                    future.settle(None, failure)
                    self._failed.append(future)
                    return future
            waiting.append((record, future))
            self._emitted += 1
            # The thread looks for the first event and for a full batch, and need not run for the others.
            count = len(waiting)
            if count in (1, self._batch):
                self._arrived.notify()
        return future

    def _ready(self, timeout: float | None) -> Exception | None:
        """Wait until a record can be queued, or return why it fails: a write has failed that was emitted before it."""
        failures = self._failures
        if not self._room.wait_for(self._may_enter, timeout):
            raise PublisherFull(
                "Too many events wait for the log, so this one was not taken", "Emit it again later, or use a spool"
            )
        if self._refusal is not None:
            raise self._refusal()
        if self._failures != failures:  # stored alone, a correction would overtake its event
            return self._cause
        if self._thread is None:
            self._begin()
            thread = threading.Thread(target=self._write, name="quietcount-publisher", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise ProducersError(
                    "No event can be stored, because this process can start no thread (it is about to end, or has too "
                    "many)",
                    "Emit events before the process ends",
                ) from error
            self._thread = thread
        return None

    def _may_enter(self) -> bool:
        if self._refusal is not None or len(self._waiting) < self._most_waiting:
            return True
        return threading.current_thread() is self._thread  # a callback of a future: it would wait for itself

    def hurry(self) -> None:
        """Let what is queued so far wait for no company: somebody waits for it."""
        with self._lock:
            if self._hurry < self._emitted:
                self._hurry = self._emitted
                self._arrived.notify()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything that was queued so far is stored or refused; return false after `timeout` seconds."""
        with self._lock:
            target = self._emitted
            self.hurry()
            return self._stored.wait_for(lambda: self._settled >= target, timeout)

    def raise_failure(self) -> None:
        """Raise what the log raised if a write has failed since the last call of this."""
        with self._lock:
            failure, self._failure = self._failure, None
            self._failed.clear()
        if failure is not None:
            raise failure

    def unheard(self) -> Exception | None:
        """Return what `raise_failure` would raise, if there is an event that failed and whose future nobody asked."""
        with self._lock:
            return self._failure if any(not future.asked for future in self._failed) else None

    def close(self, refusal: Refusal) -> None:
        """Take nothing more, for the reason that `refusal` makes, unless it is closed already.

        What waits is stored, and `wait` waits for it.
        """
        with self._lock:
            self._refusal = self._refusal or refusal
            self._arrived.notify()
            self._room.notify_all()

    # Around a fork

    def hold(self) -> None:
        """Keep every other thread out until `release`."""
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def abandon(self, error: Exception) -> None:
        """Let the futures of what is not stored fail, in a process that has no thread to store it."""
        for _, future in (*self._storing, *self._waiting):
            future.settle(None, error)

    # The thread

    def _write(self) -> None:
        """Store batches in the order of emission until the queue is closed and nothing waits."""
        while waiting := self._taken():
            self._store(waiting)

    def _taken(self) -> list[_Waiting]:
        """Wait for an event, then for company; return a batch, or none if the queue is closed and nothing waits."""
        with self._lock:
            waiting = self._waiting
            self._arrived.wait_for(lambda: waiting or self._refusal is not None)
            self._arrived.wait_for(self._is_due, self._linger)
            self._storing = [waiting.popleft() for _ in range(min(self._batch, len(waiting)))]
            self._room.notify_all()
            return self._storing

    def _is_due(self) -> bool:
        """Return whether nothing is gained by waiting: a batch is full, somebody flushes, or nothing more comes."""
        return len(self._waiting) >= self._batch or self._hurry > self._settled or self._refusal is not None

    def _store(self, waiting: list[_Waiting]) -> None:
        # What was emitted behind a failed write fails with it: stored alone, a correction would overtake its event.
        refused = min(len(waiting), max(0, self._refused_to - self._settled))
        positions: list[Position] = []
        failure: Exception | None = None
        if refused < len(waiting):
            try:
                positions = self._append([record for record, _ in waiting[refused:]])
                if len(positions) != len(waiting) - refused:
                    raise ProducersError(_UNCLEAR, "Mend its `append`: it returns a position for each record, in order")
            except QuietcountError as error:
                failure = error
            except BaseException as error:  # a caller's own log may raise anything, and the thread must outlive it
                failure = refused_by(error)
        with self._lock:
            self._fail(waiting[:refused], self._cause)
            if failure is None:
                for (_, future), position in zip(waiting[refused:], positions, strict=True):
                    future.settle(position, None)
            else:
                self._failure = self._cause = failure
                self._failures += 1
                self._refused_to = self._emitted
                self._fail(waiting[refused:], failure)
            self._settled += len(waiting)
            self._storing = []
            self._stored.notify_all()
        for _, future in waiting:
            future.call_back()

    def _fail(self, waiting: list[_Waiting], failure: Exception) -> None:
        for _, future in waiting:
            future.settle(None, failure)
            self._failed.append(future)
