"""The conditions of a lasting service, and how one follows from another.

    Opening ──Opened──▶ Working ──Failed──▶ Waiting or Halted ──Worked──▶ Working
    any of them ──ClockDoubted──▶ Distrusting ──ClockBelieved──▶ the condition before

An outage, a crash and a reload all take the same path: the service is closed, and the next tick opens it again. `after`
is the only place that says which condition follows, and what the service says when it changes.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, NamedTuple

from quietcount_aggregates.errors import (
    LedgerBehind,
    LedgerBroken,
    LedgerUnavailable,
    LedgerUnwritable,
    PublicationUnwritable,
    StateUnwritable,
)
from quietcount_consumers.errors import FolderUnwritable
from quietcount_consumers.monitoring.log_events import (
    CLOCK_JUMPED,
    CLOCK_TRUSTED,
    GOING_ON,
    HALTED,
    WAITING,
    LogEvent,
)
from quietcount_consumers.monitoring.status import Status
from quietcount_producers.errors import LogUnavailable, LogUnwritable
from quietcount_schemas.errors import QuietcountError, Unavailable

__all__ = [
    "MENDABLE",
    "ClockBelieved",
    "ClockDoubted",
    "Condition",
    "Distrusting",
    "Event",
    "Failed",
    "Halted",
    "Opened",
    "Opening",
    "Step",
    "Trouble",
    "Waiting",
    "Worked",
    "Working",
    "after",
    "shown",
]

MENDABLE = (Unavailable, LedgerBroken, LedgerBehind)
"""The errors that a running service waits out: it goes on by itself when they are mended."""


class Trouble(StrEnum):
    """The troubles that have many words. The same trouble in other words is no news."""

    BROKERS = "brokers"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Opening:
    """The service was never open. What goes wrong now ends it: it would wait for a wrong address without end."""

    summary: ClassVar[str] = "Opens"


@dataclass(frozen=True, slots=True)
class Working:
    """The service is open, and the last tick did its work."""

    summary: ClassVar[str] = "Works"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that the service needs does not answer, or its disk is full."""

    summary: ClassVar[str] = "Waits for what does not answer, or for room on the disk"
    trouble: str
    """A Trouble, or what is wrong."""


@dataclass(frozen=True, slots=True)
class Halted:
    """The ledger is not the one that was published from."""

    summary: ClassVar[str] = "Halted: the ledger is not the newest"


@dataclass(frozen=True, slots=True)
class Distrusting:
    """The clock is not to be trusted. The service does nothing, and an open one stays open."""

    summary: ClassVar[str] = "Waits for the clock"
    before: Opening | Working | Waiting | Halted
    """The condition that applies again when the clock is right."""


Condition = Opening | Working | Waiting | Halted | Distrusting


@dataclass(frozen=True, slots=True)
class Opened:
    """The service was opened."""


@dataclass(frozen=True, slots=True)
class Worked:
    """A tick did its work."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The service could not be opened, or could not work, because of one of the MENDABLE errors; it is closed."""

    error: QuietcountError


@dataclass(frozen=True, slots=True)
class ClockDoubted:
    """The clock is not to be trusted."""

    objection: str


@dataclass(frozen=True, slots=True)
class ClockBelieved:
    """Nothing speaks against the clock."""


Event = Opened | Worked | Failed | ClockDoubted | ClockBelieved


class Step(NamedTuple):
    """What follows from an event: the condition, and what the service says, if anything."""

    condition: Condition
    said: LogEvent | None = None


def after(condition: Condition, event: Event, now: dt.datetime) -> Step:
    """Return what follows in `condition` from `event` at the tick `now`.

    Raises the error of a Failed if the service is Opening.
    """
    match condition, event:
        case Distrusting(before), ClockBelieved():
            return Step(before, CLOCK_TRUSTED.at(now))
        case Distrusting(before), Failed():  # what was built before the clock jumped could not be put in its place
            worse, said = _failed(before, event.error, now)
            return Step(Distrusting(worse), said)
        case Distrusting(), _:
            return Step(condition)
        case _, ClockDoubted(objection):
            return Step(Distrusting(condition), CLOCK_JUMPED.at(now, meaning=objection))
        case _, Failed(error):
            return Step(*_failed(condition, error, now))
        case Opening(), Opened():
            return Step(Working())
        case Waiting() | Halted(), Worked():
            return Step(Working(), GOING_ON.at(now))
        case _:
            return Step(condition)


def _failed(
    condition: Opening | Working | Waiting | Halted, error: QuietcountError, now: dt.datetime
) -> tuple[Waiting | Halted, LogEvent | None]:
    if isinstance(condition, Opening):
        raise error
    if isinstance(error, LedgerBroken | LedgerBehind):
        return Halted(), None if condition == Halted() else HALTED.at(now, meaning=str(error))
    waiting = Waiting(_trouble(error))
    return waiting, None if condition == waiting else WAITING.at(now, meaning=str(error))


def _trouble(error: QuietcountError) -> str:
    """Return what distinguishes one trouble from another."""
    match error:
        case LogUnavailable() | LedgerUnavailable():
            return Trouble.BROKERS
        case StateUnwritable() | LedgerUnwritable() | LogUnwritable() | PublicationUnwritable() | FolderUnwritable():
            return Trouble.DISK
        case _:
            return error.what


def shown(condition: Condition, status: Status) -> Status:
    """Return `status`, of a tick at which the service did nothing, with what `condition` says of it.

    What an earlier trouble found wrong may be right by now; this one prevents the service from looking.
    """
    ledger, brokers = status.ledger_verified or None, status.broker_reachable or None
    closed = replace(status, state_open=False, ledger_verified=ledger, broker_reachable=brokers, clock_trusted=True)
    match condition:
        case Distrusting(before):
            return replace(shown(before, status), clock_trusted=False)
        case Halted():
            return replace(closed, ledger_verified=False)
        case Waiting(Trouble.BROKERS):
            return replace(closed, broker_reachable=False)
        case Waiting():
            return closed
        case Opening() | Working():
            return replace(status, clock_trusted=True)
