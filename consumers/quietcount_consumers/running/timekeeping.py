"""Timekeeping: the points of the clock at which anything happens, and whether the clock can be trusted.

A wrong clock closes periods permanently. So the service compares it with a second clock, which nobody sets
(CLOCK_BOOTTIME: seconds since the machine was started, sleep included). If the two disagree by more than TOLERANCE,
nothing is folded or released.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from quietcount_consumers.errors import ClockBehind

__all__ = [
    "STANDING",
    "TOLERANCE",
    "Clock",
    "ClockGuard",
    "Clocks",
    "Grid",
    "SystemClocks",
    "check_not_before",
    "fixed_clock",
]

TOLERANCE: Final = dt.timedelta(minutes=5)
"""How far the clock may be corrected at once: further than a time service corrects a clock that it keeps."""

STANDING: Final = dt.timedelta(hours=1)
"""How long a new time has to stand until it is trusted: by then somebody would have corrected a wrong one."""

Clock = Callable[[], dt.datetime]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BEGINNING = dt.datetime.min.replace(tzinfo=dt.UTC)
# Only Linux has this clock. Elsewhere it is one that stands while the machine sleeps, and waking up counts as a jump.
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
    """A clock that shows the present time, floored to a multiple of `tick` since the epoch (UTC).

    A caller may change `tick`.
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
    """Return a clock that stands still at `moment`: for trials, and for history that is emitted later."""
    return lambda: moment


def check_not_before(newest: dt.datetime, wall: dt.datetime) -> None:
    """Raise ClockBehind if the clock's `wall` is before the ledger's `newest` entry: for what does not wait.

    Nothing would be due by such a clock. A command that ended as if all were well would go unnoticed in a crontab.
    """
    if wall + TOLERANCE < newest:
        raise ClockBehind(
            f"{_BEHIND}, which is of {newest:%Y-%m-%dT%H:%M:%SZ}. Nothing was declared, folded or released",
            "Set the clock (`timedatectl`), then run this again. If the clock is right, --as-of or a wrong clock made "
            "that entry: wait until its time is past, or let `quietcount run` stay up, which goes on after an hour",
        )


class _Reading(NamedTuple):
    wall: dt.datetime
    running: dt.timedelta

    def strays(self, earlier: _Reading) -> dt.timedelta:
        """Return by how much the wall clock has gone on further since `earlier` than time has passed."""
        return (self.wall - earlier.wall) - (self.running - earlier.running)


class ClockGuard:
    """Says at each tick whether the clock can be trusted.

    It cannot if it has jumped by more than TOLERANCE since it was last trusted, or if it stands before the newest entry
    of the ledger. It can again if it is back, or if the new time has stood for STANDING. A process that starts takes
    the clock as it is, unless the ledger knows better.
    """

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._trusted: _Reading | None = None
        self._strange: _Reading | None = None
        """When the time that is not trusted began to stand."""
        self._newest = self._excused = _BEGINNING
        """The time of the ledger's newest entry, and of one that the clock may be behind."""
        self._last = _BEGINNING
        self.judged = clocks.wall()
        """The reading of the clock (UTC) that was judged last; a tick works with this one."""

    def admit(self, newest: dt.datetime) -> None:
        """Take note of the ledger's newest entry. Raises ClockBehind if the clock is before it."""
        self._newest = newest
        if self._is_behind(self.judged):
            self._trusted = None  # it was wrong all along: leaving it is no jump
            raise ClockBehind(_BEHIND, _WAY_ON)

    def objection(self) -> str | None:
        """Return why the clock cannot be trusted now, and what to do about it; None if it can."""
        now = _Reading(self._clocks.wall(), self._clocks.running())
        self.judged = now.wall
        objection = self._objection_to(now)
        if objection is None:
            self._trusted, self._strange = now, None
            return None
        if self._strange is None or abs(now.strays(self._strange)) > TOLERANCE:
            self._strange = now
        if now.running - self._strange.running < STANDING:
            return f"{objection}. {_WAY_ON}"
        self._trusted, self._strange = now, None
        self._excused, self._last = self._newest, _BEGINNING
        return None

    def held(self, tick: dt.datetime) -> dt.datetime:
        """Return the tick to work at: `tick`, or the last one if a small correction set the clock back behind it."""
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
    "Nothing is folded or released. Set the clock (`timedatectl`). The service goes on by itself when the clock is "
    "right, or when the new time has stood for an hour"
)
_BEHIND = "the clock is behind the newest entry of the ledger"
_FORWARD = "the clock went forward by more than the time that passed"
_BACK = "the clock was set back"
