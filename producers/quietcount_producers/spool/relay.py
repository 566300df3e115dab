"""The relay: sends what waits in a spool to the log, in order, even if the log fails meanwhile.

It appends a batch first, and notes it as sent afterwards. If the process ends between the two, the next one sends the
batch again, and the fold counts an event once. So an event may arrive twice, but it always arrives. It never arrives
before an earlier one of its case, because nothing behind a batch is sent before the whole batch is in the log.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from quietcount_producers.composing.composition import utc_today
from quietcount_producers.errors import LogUnavailable, refused_by
from quietcount_producers.spool.event_spool import EventSpool
from quietcount_schemas.errors import QuietcountError, Unavailable
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord

__all__ = ["Pauses", "Relay", "relay_batch", "relay_rest"]

_LOGGER: Final = logging.getLogger(__name__)

_BATCH: Final = 1000
"""How many events go in one append. If each has the most bytes it may have, that is half of what a broker takes."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds that the relay waits. After a failure the pause doubles from the first number to the second."""

    unavailable: tuple[float, float] = (0.1, 5.0)
    """A broker that restarts is back in seconds, and hundreds of emitters must not overload it meanwhile."""
    refused: tuple[float, float] = (2.0, 60.0)
    """A wrong password does not mend itself, and each try may lock the account and fills the broker's log."""
    idle: float = 0.5
    """How soon the relay sees events that another process put into the spool; this process wakes it."""
    elsewhere: float = 1.0
    """How soon this relay takes over when the process ends that relayed so far."""
    purge: float = 5.0
    """The least between two purges while events trickle in: each costs several syncs of the disk."""


class _Outcome(Enum):
    MORE = "there may be more"
    IDLE = "nothing waits"
    FAILED = "the log did not take it"
    ELSEWHERE = "another process relays"


def relay_batch(spool: EventSpool, log: LogWriter, limit: int = _BATCH) -> bool:
    """Send the next events of `spool`, which the caller holds, to `log`; return false if none waited.

    Raises what the log raises, and notes nothing as sent then.
    """
    waiting = spool.waiting(limit)
    if not waiting:
        return False
    log.append(CASE_EVENTS, [NewRecord(each.key, each.value, each.timestamp, each.headers) for each in waiting])
    spool.forward(waiting[-1].offset + 1)
    return True


def relay_rest(spool: EventSpool, connect: Callable[[], LogWriter], today: Callable[[], dt.date] = utc_today) -> bool:
    """Send everything that waits in `spool` to the log that `connect` opens, and purge it; without a thread.

    Return false if another process or thread is the one that relays. If there is nothing to send, the log is not
    opened. Raises what opening the log or the log raises; what was not sent stays.
    """
    if not spool.hold():
        return False
    try:
        if not spool.state().empty:
            with contextlib.closing(connect()) as log:
                while relay_batch(spool, log):
                    spool.tidy()
    except QuietcountError:
        spool.unreached(today())
        raise
    finally:
        spool.tidy()
    return True


class Relay:
    """A thread that sends what waits in the spool in `folder` to the log that `connect` opens, until `stop`.

    It opens the log at once, even with nothing to send: so it reports what is wrong with the log at the start, and the
    time of that report says nothing of when events came. If the log raises a QuietcountError, the relay asks it again;
    after any other error it closes the log (unless `keep`) and opens it again. While another process relays, it waits.
    """

    def __init__(
        self,
        folder: Path,
        connect: Callable[[], LogWriter],
        *,
        keep: bool = False,
        pauses: Pauses | None = None,
        today: Callable[[], dt.date] = utc_today,
    ) -> None:
        self._folder = folder
        self._connect = connect
        self._keep = keep
        self._pauses = pauses or Pauses()
        self._today = today
        self._spool: EventSpool | None = None
        self._log: LogWriter | None = None
        self._failures = 0
        self._error: QuietcountError | None = None
        self._warned: set[tuple[str, str]] = set()
        self._purged_at = -self._pauses.purge
        self._state = threading.Condition()
        self._woken = False
        self._until: float | None = None  # when to give up, on the monotonic clock, once `stop` was called
        self._thread = threading.Thread(target=self._run, name="quietcount-relay", daemon=True)
        self._started = False

    @property
    def error(self) -> QuietcountError | None:
        """Why nothing could be sent at the last try, or None; an Unavailable passes by itself."""
        return self._error

    def start(self) -> None:
        """Begin to send, unless it has begun. One thread at a time may call this, and none once it was stopped.

        If the process can start no thread, `error` says so: what is in the spool is safe there.
        """
        if self._started:
            return
        try:
            self._thread.start()
        except RuntimeError:
            self._error = LogUnavailable(
                "No event is sent on, because this process can start no thread (it is about to end, or has too many)",
                "Let it have more threads; until then events stay in the spool",
            )
        else:
            self._started = True

    def wake(self) -> None:
        """Say that events have come. This does not cut short a pause after a failure."""
        with self._state:
            self._woken = True
            self._state.notify_all()

    def stop(self, wait: float) -> None:
        """Send what waits for `wait` seconds at most, less if the log does not take it, and end the thread.

        If the log holds the thread for longer, the thread ends as soon as the log lets go of it.
        """
        if not self._started:
            return
        with self._state:
            self._until = time.monotonic() + wait
            self._state.notify_all()
        self._thread.join(wait)

    def _run(self) -> None:
        try:
            while True:
                with self._state:
                    until = self._until
                    self._woken = False
                outcome = self._turn()
                if until is not None and (outcome is not _Outcome.MORE or time.monotonic() >= until):
                    return
                if outcome is not _Outcome.MORE and not self._waited(outcome):
                    return
        finally:
            self._disconnect()
            if self._spool is not None:
                self._tidy(now=True)
                self._spool.close()

    def _waited(self, outcome: _Outcome) -> bool:
        """Wait as long as `outcome` asks for; return false if the relay ends and the log has just failed."""
        failed = outcome is _Outcome.FAILED
        with self._state:
            self._state.wait_for(
                lambda: self._until is not None or (self._woken and outcome is _Outcome.IDLE), self._pause(outcome)
            )
            return self._until is None or not failed

    def _pause(self, outcome: _Outcome) -> float:
        if outcome is _Outcome.IDLE:
            return self._pauses.idle
        if outcome is _Outcome.ELSEWHERE:
            return self._pauses.elsewhere
        mends = isinstance(self._error, Unavailable)
        first, most = self._pauses.unavailable if mends else self._pauses.refused
        doubled: float = first * 2 ** min(self._failures - 1, 20)
        return min(doubled, most) * random.SystemRandom().uniform(0.5, 1.0)

    def _turn(self) -> _Outcome:
        try:
            if self._spool is None:
                self._spool = EventSpool(self._folder)
            if not self._spool.hold():
                return _Outcome.ELSEWHERE
            if self._log is None:
                self._log = self._connect()
            more = relay_batch(self._spool, self._log)
        except QuietcountError as error:
            self._failed(error)
            return _Outcome.FAILED
        except Exception as error:  # a caller's own log may raise anything, and the relay must outlive it
            self._disconnect()
            self._failed(refused_by(error))
            return _Outcome.FAILED
        self._failures = 0
        self._tidy()
        self._error = self._spool.fault
        return _Outcome.MORE if more else _Outcome.IDLE

    def _tidy(self, *, now: bool = False) -> None:
        """Purge what was sent, if the last time is long enough ago."""
        if self._spool is None or not self._spool.holding:
            return
        if not now and time.monotonic() < self._purged_at + self._pauses.purge:
            return
        with contextlib.suppress(QuietcountError):  # the next one tries again
            self._spool.tidy()
        self._purged_at = time.monotonic()

    def _failed(self, error: QuietcountError) -> None:
        self._failures += 1
        self._error = error
        if self._spool is not None and self._spool.holding:
            with contextlib.suppress(QuietcountError):
                self._spool.unreached(self._today())
        # The spool is there for a log that does not answer, and a line at that moment would show that an event came.
        fault = (error.what, error.remedy)
        if not isinstance(error, Unavailable) and fault not in self._warned:
            self._warned.add(fault)
            _LOGGER.warning("Events stay in the spool %s until somebody mends this: %s", self._folder, error)

    def _disconnect(self) -> None:
        log, self._log = self._log, None
        if log is not None and not self._keep:
            with contextlib.suppress(Exception):
                log.close()
