"""The log events: everything that the service says, each with its name, level, fields, meaning and what to do.

The catalogue is closed. A field is text, a date or a moment on the tick's grid and never a number: what a tick had to
do, and how long it took, has nowhere to stand. The README's table "Log events" is this catalogue, a test holds them
together.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import ClassVar, Final

__all__ = [
    "CATALOGUE",
    "ClockJumped",
    "ClockTrusted",
    "DefectFound",
    "GoingOn",
    "Halted",
    "Level",
    "LinesLeftOut",
    "LogEvent",
    "ReloadRefused",
    "Reloaded",
    "Say",
    "Serving",
    "Started",
    "StatisticDeclared",
    "StatisticDeclaredLate",
    "StatisticReleased",
    "Stopped",
    "Waiting",
    "unheard",
]


class Level(StrEnum):
    """How much an event asks for: nothing, a look within days, a hand now."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """What every event has: its tick; and by its class a name, a level, what it means (the docstring), what to do."""

    name: ClassVar[str]
    level: ClassVar[Level]
    todo: ClassVar[str]
    """What a person does about it."""

    tick: dt.datetime
    """The point of the grid (UTC) at which the clock was looked at; never the moment of writing."""

    def own_fields(self) -> dict[str, str]:
        """Return what the event says besides its tick, as text."""
        return {each.name: str(getattr(self, each.name)) for each in fields(self) if each.name != "tick"}


Say = Callable[[LogEvent], None]
"""Takes an event, to be written at the next point of the grid: see LogOutput."""


def unheard(_event: LogEvent) -> None:
    """Say nothing: for those who open a service and want no log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(LogEvent):
    """The process began."""

    name = "started"
    level = Level.INFO
    todo = "nothing"
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving(LogEvent):
    """Metrics and health can be asked for at this address."""

    name = "serving"
    level = Level.INFO
    todo = "nothing"
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticDeclared(LogEvent):
    """A new statistic is in the ledger, and its epsilon is spent for good."""

    name = "statistic declared"
    level = Level.INFO
    todo = "nothing, if you meant it"
    statistic: str
    since: dt.date


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticDeclaredLate(LogEvent):
    """A new statistic begins with a period of which events may be forgotten already."""

    name = "statistic declared late"
    level = Level.WARNING
    todo = "tell analysts that its first period may be too low"
    statistic: str
    meaning: str = (
        "what came in before the last release is counted only as far as another statistic still needed it; the first "
        "period may be too low"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticReleased(LogEvent):
    """The periods of a statistic from `period_start` to `period_end` are released and published."""

    name = "released"
    level = Level.INFO
    todo = "nothing"
    statistic: str
    period_start: dt.date
    period_end: dt.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(LogEvent):
    """What the service needs did not answer, or its disk is full; `meaning` says what. It tries at each tick."""

    name = "waiting"
    level = Level.WARNING
    todo = "mend what `meaning` names; the service goes on by itself"
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Halted(LogEvent):
    """The ledger is not the one that was published from; nothing is folded or released."""

    name = "halted"
    level = Level.ERROR
    todo = "put the newest ledger back; the service goes on by itself"
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoingOn(LogEvent):
    """The service works again after `waiting` or `halted`."""

    name = "going on"
    level = Level.INFO
    todo = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped(LogEvent):
    """The clock is not to be trusted; `meaning` says why. Nothing is folded or released."""

    name = "clock jumped"
    level = Level.ERROR
    todo = "set the clock; the service goes on by itself, also when the new time has stood for an hour"
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockTrusted(LogEvent):
    """The clock is back, or the new time has stood for an hour."""

    name = "clock trusted again"
    level = Level.INFO
    todo = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded(LogEvent):
    """The configuration was read anew after SIGHUP and holds from this tick on."""

    name = "reloaded"
    level = Level.INFO
    todo = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadRefused(LogEvent):
    """The configuration that SIGHUP asked for cannot be used; the old one goes on, whole. `meaning` says why."""

    name = "reload refused"
    level = Level.ERROR
    todo = "mend the configuration, then reload again; what needs a restart is said so"
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DefectFound(LogEvent):
    """A thread, or the process that serves metrics, failed in a way that nobody foresaw; `meaning` says how."""

    name = "defect"
    level = Level.ERROR
    todo = "restart the service if it does not do all it should, and report the line"
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesLeftOut(LogEvent):
    """More was said within a tick than is kept; what came last is missing."""

    name = "lines left out"
    level = Level.WARNING
    todo = "nothing; the ledger and the metrics have it all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(LogEvent):
    """The process ends because it was asked to; nothing is half done."""

    name = "stopped"
    level = Level.INFO
    todo = "nothing, if you meant it"


CATALOGUE: Final[tuple[type[LogEvent], ...]] = (
    Started,
    Serving,
    StatisticDeclared,
    StatisticDeclaredLate,
    StatisticReleased,
    Waiting,
    Halted,
    GoingOn,
    ClockJumped,
    ClockTrusted,
    Reloaded,
    ReloadRefused,
    DefectFound,
    LinesLeftOut,
    Stopped,
)
"""Every event that there is."""
