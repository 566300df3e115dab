"""The relay: sends what waits in a spool to the log, in order, whatever becomes of the log meanwhile.

A batch is appended first and noted as sent afterwards. Whatever ends the process between the two sends it again, and
the fold counts an event once: an event may come twice, never not at all, and never before an earlier one of its case,
because nothing behind a batch is sent before the whole batch is in the log.
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

from quietcount_producers.composition import utc_today
from quietcount_producers.errors import ProducersError
from quietcount_producers.spool.event_spool import EventSpool
from quietcount_schemas.errors import QuietcountError, Unavailable
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord

__all__ = ["Pauses", "Relay", "relay_batch", "relay_rest"]

_LOGGER: Final = logging.getLogger(__name__)

_BATCH: Final = 1000
"""How many events go in one append: at the most bytes an event may have, half of what a broker takes in one batch."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds that the relay waits. What fails is tried again after a pause that doubles from the first to the most."""

    unavailable: tuple[float, float] = (0.1, 5.0)
    """A broker that restarts is back in seconds; hundreds of emitters must not hold it down meanwhile."""
    refused: tuple[float, float] = (2.0, 60.0)
    """A wrong password does not mend itself, and tries at it lock accounts and fill the broker's log."""
    idle: float = 0.5
    """How soon events that another process put into the spool are seen; one's own wake the relay."""
    elsewhere: float = 1.0
    """How soon the place of another process's relay is taken when that process ends."""
    purge: float = 5.0
    """The least between two purges while events trickle in: each costs several syncs of the disk."""


class _Outcome(Enum):
    MORE = "there may be more"
    IDLE = "nothing waits"
    FAILED = "the log did not take it"
    ELSEWHERE = "another process relays"


def relay_batch(spool: EventSpool, log: LogWriter, limit: int = _BATCH) -> bool:
    """Send the next events of `spool`, which the caller holds, to `log`; return false when none waited.

    Raises what the log raises; then nothing is noted as sent.
    """
    waiting = spool.waiting(limit)
    if not waiting:
        return False
    log.append(CASE_EVENTS, [NewRecord(each.key, each.value, each.timestamp, each.headers) for each in waiting])
    spool.forward(waiting[-1].offset + 1)
    return True


def relay_rest(spool: EventSpool, connect: Callable[[], LogWriter], today: Callable[[], dt.date] = utc_today) -> bool:
    """Send everything that waits in `spool` to the log that `connect` opens, and purge it; without a thread.

    Return false when another process or thread is the one that relays. With nothing to send the log is not opened.
    Raises what opening the log or the log raises; what was not sent stays.
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

    The log is opened at once, also with nothing to send: so what is wrong with it is told at the start, and the time
    when it is told says nothing of when events came. A log that raised a QuietcountError is asked again; after anything
    else it is closed (unless `keep`) and opened anew. While another process relays this one stands by.
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
        self._warned: set[str] = set()
        self._purged_at = -self._pauses.purge
        self._state = threading.Condition()
        self._woken = False
        self._until: float | None = None  # when to give up, on the monotonic clock, once `stop` was called
        self._thread = threading.Thread(target=self._run, name="quietcount-relay", daemon=True)

    @property
    def error(self) -> QuietcountError | None:
        """Why nothing could be sent at the last try, or None; an Unavailable goes away by itself."""
        return self._error

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Say that events have come. A pause after a failure is not cut short by it."""
        with self._state:
            self._woken = True
            self._state.notify_all()

    def stop(self, wait: float) -> None:
        """Send what waits for `wait` seconds at most, less when the log does not take it, and end the thread.

        A log that holds the thread for longer is left to it: the thread ends when the log lets go of it.
        """
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
        """Wait as long as `outcome` asks for; return false when the relay ends and the log has just failed."""
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
        except Exception as error:  # a log of one's own may raise anything; the relay must outlive it
            self._disconnect()
            wrapped = ProducersError(f"The log refused events: {type(error).__name__}.")
            wrapped.__cause__ = error
            self._failed(wrapped)
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
        # A log that does not answer is what a spool is for; a line at that moment would tell that an event had come.
        said = str(error)
        if not isinstance(error, Unavailable) and said not in self._warned:
            self._warned.add(said)
            _LOGGER.warning("Events stay in the spool %s until this is mended: %s", self._folder, said)

    def _disconnect(self) -> None:
        log, self._log = self._log, None
        if log is not None and not self._keep:
            with contextlib.suppress(Exception):
                log.close()
