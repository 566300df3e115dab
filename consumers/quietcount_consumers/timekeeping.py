"""Timekeeping: the points of the clock at which anything happens, and whether the clock is to be believed.

A clock that is wrong closes periods for ever. Time that has passed is known from another clock as well, which nobody
sets (CLOCK_BOOTTIME: seconds since the machine was started, sleep included); where the two disagree by more than
TOLERANCE, nothing is folded and nothing released.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from quietcount_consumers.errors import ClockBehind

__all__ = ["STANDING", "TOLERANCE", "Clock", "ClockGuard", "Clocks", "Grid", "SystemClocks", "fixed_clock"]

TOLERANCE: Final = dt.timedelta(minutes=5)
"""How far the clock may be corrected at once: more than a service for the time does to a clock that it keeps."""

STANDING: Final = dt.timedelta(hours=1)
"""How long a new time has to stand until it is believed: whoever keeps the clock would have corrected a wrong one."""

Clock = Callable[[], dt.datetime]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BEGINNING = dt.datetime.min.replace(tzinfo=dt.UTC)
# Where there is no such clock (it is Linux's own), one that stands while the machine sleeps: waking up is a jump then.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clocks(Protocol):
    """The clock that people set, and the one that nobody sets."""

    def wall(self) -> dt.datetime:
        """Return the time of day, UTC."""
        ...

    def running(self) -> dt.timedelta:
        """Return how long the machine has been running."""
        ...


class SystemClocks:
    """The machine's clocks."""

    def wall(self) -> dt.datetime:
        """Return the time of day, UTC."""
        return dt.datetime.now(dt.UTC)

    def running(self) -> dt.timedelta:
        """Return how long the machine has been running, sleep included."""
        return dt.timedelta(seconds=time.clock_gettime(_SINCE_BOOT))


class Grid:
    """A clock that shows the time of its call, floored to a multiple of `tick` since the epoch (UTC).

    `tick` may be changed.
    """

    def __init__(self, tick: dt.timedelta, wall: Clock | None = None) -> None:
        self.tick = tick
        self.wall = wall or SystemClocks().wall

    def __call__(self) -> dt.datetime:
        """Return the newest point of the grid."""
        return self.floor(self.wall())

    def floor(self, moment: dt.datetime) -> dt.datetime:
        """Return the newest point of the grid at `moment`."""
        return moment - (moment - _EPOCH) % self.tick

    @property
    def left(self) -> float:
        """How many seconds there are to the next point."""
        return (self.tick - (self.wall() - _EPOCH) % self.tick).total_seconds()


def fixed_clock(moment: dt.datetime) -> Clock:
    """Return a clock that stands still at `moment`: for trials, and for history that is emitted afterwards."""
    return lambda: moment


class _Reading(NamedTuple):
    wall: dt.datetime
    running: dt.timedelta

    def strays(self, earlier: _Reading) -> dt.timedelta:
        """Return by how much more the wall clock has gone on since `earlier` than time has passed."""
        return (self.wall - earlier.wall) - (self.running - earlier.running)


class ClockGuard:
    """Says at each tick whether the clock is to be trusted.

    It is not when it has jumped by more than TOLERANCE since it was last trusted, or stands before the newest entry of
    the ledger. It is again when it is back, or when the new time has stood for STANDING. A process that starts takes
    the clock as it is, unless the ledger knows better.
    """

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._trusted: _Reading | None = None
        self._strange: _Reading | None = None
        """Where the time that is not trusted began to stand."""
        self._newest = self._excused = _BEGINNING
        """The time of the ledger's newest entry, and of one that the clock may be behind."""
        self._last = _BEGINNING
        self.judged = clocks.wall()
        """The reading of the clock (UTC) that was judged last, for what is done on the strength of it."""

    def admit(self, newest: dt.datetime) -> None:
        """Take note of the ledger's newest entry. Raises ClockBehind where the clock is before it."""
        self._newest = newest
        if self._is_behind(self.judged):
            self._trusted = None  # which was wrong all along: to leave it is no jump
            raise ClockBehind(_BEHIND)

    def objection(self) -> str | None:
        """Return why the clock is not to be trusted now; None if it is."""
        now = _Reading(self._clocks.wall(), self._clocks.running())
        self.judged = now.wall
        objection = self._objection_to(now)
        if objection is None:
            self._trusted, self._strange = now, None
            return None
        if self._strange is None or abs(now.strays(self._strange)) > TOLERANCE:
            self._strange = now
        if now.running - self._strange.running < STANDING:
            return objection
        self._trusted, self._strange = now, None
        self._excused, self._last = self._newest, _BEGINNING
        return None

    def held(self, tick: dt.datetime) -> dt.datetime:
        """Return the tick to work at: `tick`, or the last one where a small correction set the clock back behind it."""
        self._last = max(tick, self._last)
        return self._last

    def _objection_to(self, now: _Reading) -> str | None:
        if self._is_behind(now.wall):
            return _BEHIND
        if self._trusted is None:
            return None
        strays = now.strays(self._trusted)
        if abs(strays) <= TOLERANCE:
            return None
        return _FORWARD if strays > dt.timedelta(0) else _BACK

    def _is_behind(self, wall: dt.datetime) -> bool:
        return self._newest > self._excused and wall + TOLERANCE < self._newest


_WAY_ON = (
    "Nothing is folded or released. Set the clock (`timedatectl`); the service goes on by itself, also when the new "
    "time has stood for an hour"
)
_BEHIND = f"the clock is behind the newest entry of the ledger. {_WAY_ON}"
_FORWARD = f"the clock went forward by more than the time that passed. {_WAY_ON}"
_BACK = f"the clock was set back. {_WAY_ON}"
