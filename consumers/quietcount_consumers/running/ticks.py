"""Ticks until nothing is left to do, and the signals that end ticks or ask for something.

Ticks lie on a fixed grid of the clock (multiples of the tick's length since the epoch, UTC), so that neither the moment
of a release nor the time between two ticks follows from data. The lasting service is in `runner`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import select
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, Protocol

from quietcount_consumers.running.timekeeping import Clock
from quietcount_consumers.service import Tick

__all__ = ["Signals", "StopSignal", "Ticking", "run_until_idle"]


_A_MOMENT: Final = 1.0
"""Seconds between two looks at what workers hand over."""


class Ticking(Protocol):
    """What ticks: see Service."""

    def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick: ...

    def at_end(self) -> bool: ...

    def due(self, now: dt.datetime, /) -> object: ...


class StopSignal:
    """Becomes set on SIGTERM or SIGINT; a with statement installs it and puts the old handlers back.

    If it was set, the process is about to end, and goes on ignoring these signals: another one would change how it
    ends.
    """

    numbers: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._stopped = False
        # Not an Event: the code that a handler interrupts may hold its lock, and both would wait without end.
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignal:
        for number in self.numbers:
            self._old[number] = signal.signal(number, self._set)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_IGN if self._stopped else handler)  # type: ignore[arg-type]
        self._old.clear()

    def __del__(self) -> None:
        for descriptor in (self._reader, self._writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def __call__(self) -> bool:
        return self._stopped

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`, or until the signal comes; return at once if it came before."""
        select.select([self._reader], [], [], seconds)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"\0")


class Signals(StopSignal):
    """A StopSignal that also remembers SIGHUP: the wish to read the configuration again."""

    numbers = (*StopSignal.numbers, signal.SIGHUP)

    def __init__(self) -> None:
        super().__init__()
        self._reload = False

    def __enter__(self) -> Signals:
        super().__enter__()
        return self

    def reload_asked(self) -> bool:
        """Return whether SIGHUP came since this was last asked."""
        asked, self._reload = self._reload, False
        return asked

    def _set(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            super()._set(number, frame)


def run_until_idle(
    service: Ticking, clock: Clock, stop: StopSignal, *, flush: Callable[[], None] = lambda: None
) -> None:
    """Tick until the log is folded to its end and nothing is due, or until stopped.

    A stop lets the batch in hand be folded and committed; a release that has begun is finished. `flush` writes what was
    said after each tick: see LogOutput.
    """
    while not stop():
        now = clock()
        tick = service.tick(now, stop)
        flush()
        if service.at_end() and not service.due(now):
            return
        if tick.waiting:
            stop.wait(_A_MOMENT)
