"""The status: what an operator may know of the service, and when it changes.

A status is made once a tick, of the tick's own reading of the clock, and holds no count, lag, size or duration that
follows from events. What a tick found out is shown from the next point of the tick's grid on: the moment at which a
tick is done tells how much there was to fold, so nothing that can be seen changes at that moment.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from quietcount_schemas.rejection import RejectReason

__all__ = ["NEVER", "Board", "BudgetStatus", "CellStatus", "StatisticStatus", "Status"]

NEVER = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The time of what has not happened yet; a gauge shows 0 for it."""


@dataclass(frozen=True, slots=True)
class CellStatus:
    """A released cell as analysts see it: `cell` is the dimensions as JSON text, the rest are persons or events."""

    cell: str
    estimate: int
    lower: int
    upper: int


@dataclass(frozen=True, slots=True)
class StatisticStatus:
    """What the ledger says of one declared statistic, and which of its periods are due.

    `due` periods have ended and their grace has passed; `overdue` ones had been due at an earlier tick already.
    """

    name: str
    epsilon: Decimal
    retired: bool
    cells: tuple[str, ...]
    due: int = 0
    overdue: int = 0
    period_start: dt.date | None = None
    """The first day of the newest released period; None before the first release."""
    period_end: dt.date | None = None
    """The last day of it."""
    released: tuple[CellStatus, ...] = ()
    """The cells of the newest released period, in the order of `cells`."""


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The budget in units of epsilon; see quietcount_aggregates.ledger.Budget."""

    limit: Decimal = Decimal(0)
    bound: Decimal = Decimal(0)
    left: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Status:
    """What one tick found out. Times lie on the tick's grid, NEVER for what has not happened."""

    tick: dt.datetime = NEVER
    """The newest tick that was done, in whatever way it ended."""
    caught_up: bool = False
    state_open: bool = False
    broker_reachable: bool = False
    clock_trusted: bool = True
    ledger_verified: bool = False
    ledger_entries: int = 0
    state_losses: int = 0
    fold: dt.datetime = NEVER
    """The newest tick that folded to the end of the log."""
    release: dt.datetime = NEVER
    """The tick of the newest release in the ledger."""
    publication: dt.datetime = NEVER
    """The newest tick after which the public file held the whole ledger."""
    purge: dt.datetime = NEVER
    """The newest tick after which nothing was left to purge."""
    rejects_seen: frozenset[RejectReason] = frozenset()
    """The reasons for which records were rejected on the day before the tick's (UTC)."""
    budget: BudgetStatus = field(default_factory=BudgetStatus)
    statistics: tuple[StatisticStatus, ...] = ()
    disk_free: tuple[tuple[str, float], ...] = ()
    """By folder ("data", "secrets"), the share of its disk that is free, rounded down to a coarse step."""

    def closed(self, tick: dt.datetime) -> Status:
        """Return this status after a tick at which the service could not work; what is known of the ledger stays."""
        return replace(self, tick=tick, caught_up=False, state_open=False)


class Board:
    """Where the service's thread posts a status and others read it; what is shown changes at points of the grid alone.

    `clock` returns the time floored to the grid of `tick`. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], dt.datetime], tick: dt.timedelta) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._posted = self._shown = Status()
        self.tick = tick
        self.started = clock()
        """When the process was started, on the grid."""

    def post(self, status: Status) -> None:
        """Keep what a tick found out, to be shown from the next turn on."""
        with self._lock:
            self._posted = status

    def turn(self) -> None:
        """Show what was posted last; to be called at a point of the grid."""
        with self._lock:
            self._shown = self._posted

    @property
    def latest(self) -> Status:
        """What was posted last, shown or not."""
        with self._lock:
            return self._posted

    @property
    def shown(self) -> Status:
        """What may be seen now."""
        with self._lock:
            return self._shown

    @property
    def age(self) -> dt.timedelta:
        """How long ago the newest tick shown was, in whole ticks; since the start where none is shown yet."""
        return max(dt.timedelta(0), self._clock() - max(self.started, self.shown.tick))

    @property
    def ticks_behind(self) -> int:
        """How many points of the grid passed without a tick that was done by the next one."""
        return max(0, self.age // self.tick - 1)
