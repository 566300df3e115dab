"""The log events: everything that the service says, as a table of kinds.

The catalogue is closed. A field is text or a date and never a number, so that no event can say how much a tick had to
do or how long it took. The table "Log events" of the documentation is this catalogue; a test compares them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "CATALOGUE",
    "CLOCK_JUMPED",
    "CLOCK_TRUSTED",
    "DEFECT",
    "GOING_ON",
    "HALTED",
    "LINES_LEFT_OUT",
    "NOT_SERVING",
    "PARTITION_MISSING",
    "POPULATION_DECLARED",
    "POPULATION_INCOMPLETE",
    "PUBLICATION_WAITS",
    "RELEASED",
    "RELOADED",
    "RELOAD_REFUSED",
    "SERVING",
    "STARTED",
    "STOPPED",
    "TABLE_OF_NOISE",
    "WAITING",
    "WITNESSED",
    "EventKind",
    "Level",
    "LogEvent",
    "Say",
    "unheard",
]


class Level(StrEnum):
    """How much an event asks for: nothing, a look within days, a hand now."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class EventKind:
    """A row of the catalogue: its name, its level, the names of its fields, what it means, what a person does."""

    name: str
    level: Level
    fields: tuple[str, ...]
    meaning: str
    todo: str

    def at(self, tick: dt.datetime, **fields: str | dt.date) -> LogEvent:
        """Return the event of this kind at `tick`; raises TypeError as LogEvent does."""
        return LogEvent(self, tick, fields)


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Something that the service says.

    Raises TypeError if the fields are not those of its kind, or if one of them is neither text nor a date.
    """

    kind: EventKind
    tick: dt.datetime
    """The point of the grid (UTC) at which the clock was looked at; never the moment of writing."""
    fields: Mapping[str, str | dt.date]

    def __post_init__(self) -> None:
        if set(self.fields) != set(self.kind.fields):
            raise TypeError(f"the fields of `{self.name}` are {self.kind.fields}, not {tuple(self.fields)}")
        for name, value in self.fields.items():
            if not isinstance(value, str | dt.date):
                raise TypeError(f"{name} of `{self.name}` is neither text nor a date, but {type(value).__name__}")

    @property
    def name(self) -> str:
        """The name of its kind."""
        return self.kind.name

    @property
    def level(self) -> Level:
        """The level of its kind."""
        return self.kind.level

    def own_fields(self) -> dict[str, str]:
        """Return what the event says besides its tick, as text, in the catalogue's order."""
        return {name: str(self.fields[name]) for name in self.kind.fields}


Say = Callable[[LogEvent], None]
"""Takes an event, to be written at the next point of the grid: see LogOutput."""


def unheard(_event: LogEvent) -> None:
    """Say nothing: for a caller that opens a service and wants no log."""


_INFO, _WARNING, _ERROR = Level

STARTED: Final = EventKind("started", _INFO, ("version",), "The process began.", "nothing")
SERVING: Final = EventKind(
    "serving", _INFO, ("address",), "The service answers requests for metrics and health at this address.", "nothing"
)
NOT_SERVING: Final = EventKind(
    "not serving",
    _WARNING,
    ("meaning",),
    "Nobody answers requests for metrics and health; `meaning` says why. The service folds and releases all the same. "
    "It tries again after pauses of a second to a minute, and says `serving` when that has held for ten seconds.",
    "mend what `meaning` names; if it names a signal or an exit code and no `serving` follows, report the line",
)
POPULATION_DECLARED: Final = EventKind(
    "population declared",
    _INFO,
    ("population", "since"),
    "A new population is in the ledger, and the epsilon of its tables is spent permanently.",
    "nothing, if you meant it",
)
POPULATION_INCOMPLETE: Final = EventKind(
    "population incomplete",
    _WARNING,
    ("population", "meaning"),
    "A new population begins before its declaration. Nothing of it is released before its past is in the log.",
    "emit its history, then run `quietcount declare --complete POPULATION`",
)
TABLE_OF_NOISE: Final = EventKind(
    "table of noise",
    _WARNING,
    ("table", "meaning"),
    "A new table has so many cells that most of them will be noise, unless more cases come than in most casework. "
    "`meaning` says how many it takes.",
    "nothing, if so many come; else use the margins of the table, and break the next one down by less",
)
RELEASED: Final = EventKind(
    "released",
    _INFO,
    ("statistic", "period_start", "period_end"),
    "The periods of a statistic from `period_start` to `period_end` are released, and published unless `publication "
    "waits` follows.",
    "nothing",
)
PARTITION_MISSING: Final = EventKind(
    "partition missing",
    _WARNING,
    ("partition",),
    "A release has waited for an hour for the worker of this partition of the log. It waits until the worker has "
    "counted.",
    "start that worker; if it runs, its own log says what it waits for",
)
PUBLICATION_WAITS: Final = EventKind(
    "publication waits",
    _WARNING,
    ("meaning",),
    "Too few witnesses have signed the newest head of the ledger; `meaning` says how many have. What was published "
    "before stays. The release is in the ledger, and nothing is lost.",
    "ask those who keep the witnesses; hand a request to those without an address (`quietcount ledger request`)",
)
WITNESSED: Final = EventKind(
    "witnessed", _INFO, (), "Enough witnesses have signed, and what waited for them is published.", "nothing"
)
WAITING: Final = EventKind(
    "waiting",
    _WARNING,
    ("meaning",),
    "Something that the service needs does not answer, or its disk is full; `meaning` says which. The service tries "
    "again at each tick.",
    "mend what `meaning` names; the service goes on by itself",
)
HALTED: Final = EventKind(
    "halted",
    _ERROR,
    ("meaning",),
    "The ledger is not the one that was published from. Nothing is folded or released.",
    "put the newest ledger back; the service goes on by itself",
)
GOING_ON: Final = EventKind("going on", _INFO, (), "The service works again after `waiting` or `halted`.", "nothing")
CLOCK_JUMPED: Final = EventKind(
    "clock jumped",
    _ERROR,
    ("meaning",),
    "The service does not trust the clock; `meaning` says why. Nothing is folded or released.",
    "set the clock; the service goes on by itself when it is right, or when the new time has stood for an hour. "
    "A command that does not stay up (`run --until-idle`, `release`, `declare`) has ended with 1: run it again",
)
CLOCK_TRUSTED: Final = EventKind(
    "clock trusted again", _INFO, (), "The clock is right again, or the new time has stood for an hour.", "nothing"
)
RELOADED: Final = EventKind(
    "reloaded",
    _INFO,
    (),
    "The service read its configuration again after SIGHUP and uses it from now on.",
    "nothing",
)
RELOAD_REFUSED: Final = EventKind(
    "reload refused",
    _ERROR,
    ("meaning",),
    "The new configuration cannot be used; `meaning` says why. The service keeps the old one, all of it.",
    "mend the configuration, then reload again; `meaning` says so if a key needs a restart",
)
DEFECT: Final = EventKind(
    "defect",
    _ERROR,
    ("meaning",),
    "A thread failed because of a mistake in quietcount; `meaning` is the kind of error and its place.",
    "restart the service if it does not do all it should, and report the line",
)
LINES_LEFT_OUT: Final = EventKind(
    "lines left out",
    _WARNING,
    (),
    "The service said more within a tick than it keeps; the last lines are missing.",
    "nothing; the ledger and the metrics have it all",
)
STOPPED: Final = EventKind(
    "stopped",
    _INFO,
    (),
    "The process ends because it was asked to; nothing is half done.",
    "nothing, if you meant it",
)

CATALOGUE: Final = (
    STARTED,
    SERVING,
    NOT_SERVING,
    POPULATION_DECLARED,
    POPULATION_INCOMPLETE,
    TABLE_OF_NOISE,
    RELEASED,
    PARTITION_MISSING,
    PUBLICATION_WAITS,
    WITNESSED,
    WAITING,
    HALTED,
    GOING_ON,
    CLOCK_JUMPED,
    CLOCK_TRUSTED,
    RELOADED,
    RELOAD_REFUSED,
    DEFECT,
    LINES_LEFT_OUT,
    STOPPED,
)
"""Every kind of event that there is."""
