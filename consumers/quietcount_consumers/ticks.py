"""Ticks: when the service looks at the clock, and how it stops.

Ticks lie on a fixed grid of the clock (multiples of the tick's length since the epoch, UTC), so that neither the moment
of a release nor the time between two ticks follows from data.
"""

from __future__ import annotations

import datetime as dt
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Protocol

from quietcount_schemas.errors import Unavailable

from .log_events import GoingOn, Say, Waiting, unheard
from .service import Tick

__all__ = ["Clock", "StopSignal", "fixed_clock", "keep_running", "run", "system_clock"]

Clock = Callable[[], dt.datetime]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Ticking(Protocol):
    """What is run: see Service."""

    def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick: ...

    def at_end(self) -> bool: ...

    def due(self, now: dt.datetime) -> object: ...


class StopSignal:
    """Becomes set on SIGTERM or SIGINT; a with statement installs it and puts the old handlers back."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._old: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignal:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._old[number] = signal.signal(number, self._set)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __call__(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`, or until the signal comes."""
        self._event.wait(seconds)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self._event.set()


def system_clock(tick: dt.timedelta) -> Clock:
    """Return the system's clock (UTC), floored to the grid of `tick`."""

    def now() -> dt.datetime:
        moment = dt.datetime.now(dt.UTC)
        return moment - (moment - _EPOCH) % tick

    return now


def fixed_clock(moment: dt.datetime) -> Clock:
    """Return a clock that stands still at `moment`: for trials, and for history that is emitted afterwards."""
    return lambda: moment


def run(
    service: Ticking,
    clock: Clock,
    tick: dt.timedelta,
    *,
    until_idle: bool,
    stop: StopSignal,
    flush: Callable[[], None] = lambda: None,
) -> None:
    """Tick until stopped; with `until_idle`, only until the log is folded to its end and nothing is due.

    A stop lets the batch in hand be folded and committed; the release that a tick has begun is finished. `flush` writes
    what was said, at points of the grid: see LogOutput.
    """
    while not stop():
        now = clock()
        service.tick(now, stop)
        if until_idle:
            flush()
            if service.at_end() and not service.due(now):
                return
            continue
        _wait(tick, stop)
        flush()


def keep_running(
    opening: Callable[[dt.datetime], AbstractContextManager[Ticking]],
    clock: Clock,
    tick: dt.timedelta,
    *,
    stop: StopSignal,
    say: Say = unheard,
    flush: Callable[[], None] = lambda: None,
) -> None:
    """Open a service and tick until stopped; when what it needs does not answer, close it and open it anew at a tick.

    Opening finishes what was cut short, so an outage is no other case than a crash. One that is there at the first
    opening is raised: a wrong address would else wait for ever.
    """
    opened = waiting = False
    while not stop():
        now = clock()
        try:
            with opening(now) as service:
                if waiting:
                    say(GoingOn(tick=now))
                opened, waiting = True, False
                run(service, clock, tick, until_idle=False, stop=stop, flush=flush)
        except Unavailable as error:
            if not opened:
                raise
            if not waiting:
                say(Waiting(tick=now, meaning=str(error)))
            waiting = True
            _wait(tick, stop)
            flush()


def _wait(tick: dt.timedelta, stop: StopSignal) -> None:
    """Wait for the next point of the grid, from the real clock: a clock that stands still must not spin."""
    moment = dt.datetime.now(dt.UTC)
    stop.wait((tick - (moment - _EPOCH) % tick).total_seconds())
