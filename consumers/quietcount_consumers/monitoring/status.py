"""The status: what an operator may know of the service, and when it changes.

A status is made once a tick, from the tick's own reading of the clock. It holds no count, lag, size or duration that
follows from events. What a tick found out is shown from the next point of the tick's grid on: the moment at which a
tick is done would show how much there was to fold.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from quietcount_aggregates.populations import Table
from quietcount_consumers.configuration import Configuration
from quietcount_schemas.events.periods import Period
from quietcount_schemas.rejection import ClientFault, RejectReason

__all__ = [
    "CELLS_SHOWN",
    "NEVER",
    "Board",
    "BudgetStatus",
    "CellStatus",
    "StatisticStatus",
    "Status",
    "View",
    "beginning",
    "shown_cells",
]

NEVER = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The time of what has not happened yet; a gauge shows 0 for it."""

CELLS_SHOWN = 200
"""Of a table of more cells than this no cell is shown: each is three series in Prometheus, for years."""


@dataclass(frozen=True, slots=True)
class CellStatus:
    """A released cell as analysts see it: `cell` is its symbols as text, the rest are persons or events."""

    cell: str
    estimate: int
    lower: int
    upper: int


@dataclass(frozen=True, slots=True)
class StatisticStatus:
    """What the ledger says of one table of a population; before it was read, what the configuration says.

    `cells` are the keys of the cells as text, none if there are more than CELLS_SHOWN; `released` holds those
    of the newest released period in the same order, and nothing before the first release.
    """

    name: str
    period: Period
    cells: tuple[str, ...] = ()
    epsilon: Decimal | None = None
    """What its declaration spent; None before it is known."""
    retired: bool = False
    first_open: dt.date | None = None
    """The first day of the earliest period that is to be released; None for a table that releases nothing more."""
    period_start: dt.date | None = None
    """The first day of the newest released period; None before the first release."""
    period_end: dt.date | None = None
    """The last day of it."""
    released: tuple[CellStatus, ...] = ()

    def due(self, now: dt.datetime, grace: dt.timedelta) -> int:
        """Return how many periods that are not released had ended `grace` or more before `now`."""
        due, start = 0, self.first_open
        while start is not None:
            start = self.period.next(start)
            if dt.datetime.combine(start, dt.time(), dt.UTC) + grace > now:
                break
            due += 1
        return due


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The budget in units of epsilon, None for what the ledger has yet to tell; see Budget in quietcount_aggregates."""

    limit: Decimal
    bound: Decimal | None = None
    left: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What one tick found out. Times lie on the tick's grid, NEVER for what has not happened."""

    interval: dt.timedelta = dt.timedelta(seconds=60)
    """From one point of the tick's grid to the next."""
    grace: dt.timedelta = dt.timedelta(0)
    """How long after its end a period is due."""
    configuration: str = ""
    """The hash of the configuration that the tick was done with."""
    tick: dt.datetime = NEVER
    """The newest tick that was done, even if it failed."""
    caught_up: bool = False
    state_open: bool = False
    broker_reachable: bool | None = None
    """None until the service has opened, or while another fault prevents it from looking."""
    clock_trusted: bool = True
    ledger_verified: bool | None = None
    """None until the ledger has been read, or while another fault prevents it."""
    ledger_entries: int = 0
    state_losses: int = 0
    fold: dt.datetime = NEVER
    """The newest tick that folded to the end of the log."""
    release: dt.datetime = NEVER
    """The tick of the newest release in the ledger."""
    publication: dt.datetime = NEVER
    """The newest tick at which the public file was built from the ledger."""
    publication_waits: bool = False
    """Whether what is in the ledger is not published yet because too few witnesses have signed its head."""
    purge: dt.datetime = NEVER
    """The newest tick after which nothing was left to purge, or had been left for less than a day."""
    rejects_seen: frozenset[RejectReason] = frozenset()
    """The reasons for which records were rejected on the day before the tick's (UTC)."""
    faults_seen: frozenset[ClientFault] = frozenset()
    """What clients got wrong, on that day, about records that count."""
    budget: BudgetStatus = field(default_factory=lambda: BudgetStatus(Decimal(0)))
    statistics: tuple[StatisticStatus, ...] = ()
    missing: tuple[tuple[int, bool], ...] = ()
    """By partition, whether a settlement has waited for its worker for an hour or more; empty without workers."""
    disk_free: tuple[tuple[str, float], ...] = ()
    """By folder ("data", "secrets"), the share of its disk that is free, rounded down to a coarse step."""

    def due(self, statistic: StatisticStatus) -> int:
        """Return how many periods of `statistic` were due at the tick and are not released."""
        return statistic.due(self.tick, self.grace)

    def overdue(self, statistic: StatisticStatus) -> int:
        """Return how many of them had been due at the tick before already."""
        return statistic.due(self.tick - self.interval, self.grace) if self.tick > NEVER else 0


def beginning(configuration: Configuration) -> Status:
    """Return the status before the first tick, from the configuration: every label value is there from the start.

    Raises a QuietcountError for populations or schemas that cannot be used.
    """
    populations = configuration.populations(configuration.registry())
    tables = [table for population in populations for table in population.tables]
    return Status(
        interval=configuration.tick,
        grace=configuration.grace,
        configuration=configuration.digest,
        budget=BudgetStatus(configuration.lifetime_epsilon),
        statistics=tuple(
            StatisticStatus(name=each.name, period=each.period, cells=shown_cells(each))
            for each in sorted(tables, key=lambda each: each.name)
        ),
    )


def shown_cells(table: Table) -> tuple[str, ...]:
    """Return the keys of the cells of `table`; none if there are more than CELLS_SHOWN, or if it does not count."""
    return tuple(table.domain) if table.cells <= CELLS_SHOWN and table.sum is None else ()


class View(NamedTuple):
    """What may be seen of a service at one moment."""

    status: Status
    started: dt.datetime
    """When the process was started, on the grid."""
    age: dt.timedelta
    """How long ago the newest tick shown was, in whole ticks; since the start if none is shown yet."""


class Board:
    """Where the service's thread posts a status and others read it; what is shown changes at points of the grid alone.

    `clock` returns the time floored to the grid of `tick`; `first` (see `beginning`) is shown until the first turn.
    Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], dt.datetime], tick: dt.timedelta, first: Status | None = None) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._posted = self._shown = Status(interval=tick) if first is None else first
        self._watcher: Callable[[], None] | None = None
        self.started = clock()
        """When the process was started, on the grid."""

    def watch(self, watcher: Callable[[], None] | None) -> None:
        """Call `watcher` after each turn; None for nobody."""
        self._watcher = watcher

    def now(self) -> dt.datetime:
        """Return the newest point of the grid."""
        return self._clock()

    def post(self, status: Status) -> None:
        """Keep what a tick found out, to be shown from the next turn on.

        A service that was opened again knows nothing of earlier successes: these are kept, but for those that lie ahead
        of the tick, of a clock that had gone wrong.
        """
        with self._lock:
            before = self._posted

            def newest(time: dt.datetime, earlier: dt.datetime) -> dt.datetime:
                return max(time, earlier) if earlier <= status.tick else time

            self._posted = replace(
                status,
                fold=newest(status.fold, before.fold),
                publication=newest(status.publication, before.publication),
                purge=newest(status.purge, before.purge),
            )

    def unpublished(self, *, waits: bool = False) -> None:
        """Take back that what was posted last is published: it could not be put in its place, or it `waits`."""
        with self._lock:
            self._posted = replace(self._posted, publication=self._shown.publication, publication_waits=waits)

    def turn(self) -> None:
        """Show what was posted last; to be called at a point of the grid."""
        with self._lock:
            self._shown = self._posted
        if self._watcher is not None:
            self._watcher()

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

    def view(self) -> View:
        """Return what may be seen now, and how old it is."""
        shown = self.shown
        return View(shown, self.started, max(dt.timedelta(0), self._clock() - max(self.started, shown.tick)))
