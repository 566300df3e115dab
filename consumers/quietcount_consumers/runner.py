"""The lasting service: opens, ticks, shows what a tick found out at the next point of the grid, and mends what it can.

A service that cannot work now (its brokers do not answer, its disk is full, its ledger is not the newest) is closed,
and opened anew at each tick: opening finishes what was cut short, so an outage is no other case than a crash. Asking
for a new configuration is one neither.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from types import TracebackType
from typing import Final, Protocol

from quietcount_aggregates.errors import (
    LedgerBehind,
    LedgerBroken,
    LedgerFenced,
    LedgerUnavailable,
    LedgerUnwritable,
    PublicationUnwritable,
    StateUnwritable,
)
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ClockBehind, ConfigurationError, FolderUnwritable, ServiceError
from quietcount_consumers.monitoring import disks
from quietcount_consumers.monitoring.log_events import (
    ClockJumped,
    ClockTrusted,
    GoingOn,
    Halted,
    LogEvent,
    Reloaded,
    ReloadRefused,
    Serving,
    Started,
    Stopped,
    Waiting,
)
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.monitoring.status import Board, Status
from quietcount_consumers.monitoring.supervision import Supervisor
from quietcount_consumers.service import Tick
from quietcount_consumers.ticks import Signals
from quietcount_consumers.timekeeping import Clock, ClockGuard, Grid
from quietcount_producers.errors import LogUnavailable, LogUnwritable
from quietcount_schemas.errors import QuietcountError, Unavailable

__all__ = ["Admit", "Opening", "Runner", "Served", "Server", "check_reloadable"]

_MINUTE: Final = dt.timedelta(minutes=1)
_SECOND: Final = dt.timedelta(seconds=1)
_LEDGER: Final = (LedgerBroken, LedgerBehind)
_VERSION: Final = metadata.version("quietcount-consumers")

Admit = Callable[[dt.datetime], None]
"""Is handed the time of the ledger's newest entry before anything is written, and raises what speaks against it."""


class Served(Protocol):
    """What is run: see Service."""

    def __enter__(self) -> Served: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick: ...

    def status(self, now: dt.datetime, tick: Tick) -> Status: ...

    def show(self) -> None: ...


class Server(Protocol):
    """What serves the board, where anything does: see MonitoringServer."""

    address: tuple[str, int] | None

    @property
    def lives(self) -> bool: ...

    def reload(self) -> None: ...


Opening = Callable[[Configuration, dt.datetime, Admit], Served]


class Runner:
    """The loop of `quietcount run`.

    `clock` is what the service sees, and `grid` the real clock's points, which differ where `--as-of` lets the clock
    stand; `guard` is None there. `reading` reads the configuration anew. Errors at the first opening are raised: a
    wrong address would else be waited for for ever.
    """

    def __init__(
        self,
        configuration: Configuration,
        opening: Opening,
        *,
        clock: Clock,
        grid: Grid,
        board: Board,
        signals: Signals,
        output: LogOutput,
        reading: Callable[[], Configuration],
        guard: ClockGuard | None = None,
        supervisor: Supervisor | None = None,
        server: Server | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._configuration = configuration
        self._opening = opening
        self._clock = clock
        self._grid = grid
        self._board = board
        self._signals = signals
        self._output = output
        self._reading = reading
        self._guard = guard
        self._supervisor = supervisor or Supervisor({})
        self._server = server
        self._pause = pause
        self._service: Served | None = None
        self._newest: Served | None = None
        """The service that was opened last, open or not: what it published is to be shown all the same."""
        self._proven: Configuration | None = None
        """The configuration to go back to when the ledger refuses a new one; None when there is no new one."""
        self._refused = False
        """Whether the newest configuration was refused: files that both need may be amid a change."""
        self._opened = False
        self._ready_due = True
        """Whether what was asked for, starting or reloading, is to be told as done."""
        self._started = False
        """Whether the end of the start was told."""
        self._trouble: str | None = None
        self._strange_clock = False

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; the batch or the release in hand is finished before."""
        self._say(Started(tick=self._clock(), version=_VERSION))
        if self._server is not None and self._server.address is not None:
            host, port = self._server.address
            at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            self._say(Serving(tick=self._clock(), address=at))
        self._output.flush()
        try:
            while not self._signals():
                self._tick()
                if self._ready_due:
                    self._supervisor.ready()
                    self._ready_due = False
                self._rest()
                if not self._signals():
                    self._turn()
        finally:
            self._shut()
            # At a whole second, with an error too: the moment itself would tell how long there was to fold.
            self._pause(Grid(_SECOND, self._grid.wall).left)
            self._supervisor.stopping()
        self._show()
        self._say(Stopped(tick=self._clock()))
        self._output.flush()

    def _turn(self) -> None:
        """Let all that the tick found out be seen; this is a point of the grid."""
        self._show()
        self._board.turn()
        self._output.flush()

    def _show(self) -> None:
        if self._newest is None:
            return
        try:
            self._newest.show()
        except Unavailable as error:
            self._shut()  # to publish anew at the next tick
            self._board.unpublished()
            self._suffer(self._clock(), error)

    def _tick(self) -> None:
        if self._server is not None and not self._server.lives:
            raise ServiceError(
                "metrics.listen: metrics and health are not served any more: the process that serves them ended again "
                "and again (`defect` says how)",
                "Start the service again, and report that line",
            )
        if self._signals.reload_asked():
            self._reload(self._clock())
        if self._guard is None:
            now = self._clock()
        else:
            objection = self._guard.objection()
            now = self._grid.floor(self._guard.judged)  # not read again: the clock may have jumped since
            if objection is not None:
                self._distrust(now, objection)
                return
            now = self._guard.held(now)
        if self._strange_clock:
            self._strange_clock = False
            self._say(ClockTrusted(tick=now))
        try:
            service = self._service or self._open(now)
            self._post(replace(service.status(now, service.tick(now, self._stopping)), clock_trusted=True))
        except ClockBehind as error:
            self._shut()
            self._distrust(now, str(error))
        except (Unavailable, *_LEDGER) as error:
            self._shut()
            if not self._opened:
                raise
            self._suffer(now, error)
        else:
            self._opened = True
            if self._trouble is not None:
                self._say(GoingOn(tick=now))
            self._trouble = None
            self._supervisor.status("Works")

    def _open(self, now: dt.datetime) -> Served:
        """Open with the configuration that holds; where the ledger refuses a new one, with the one before.

        That one has worked: where it cannot be opened either, a file that it needs was changed, which is waited for.
        """
        try:
            service = self._entered(now)
        except (Unavailable, *_LEDGER, LedgerFenced, ClockBehind):
            raise  # of the world and not of the configuration
        except QuietcountError as error:
            if self._refused:
                raise Unavailable(str(error)) from error
            if self._proven is None:
                raise
            self._say(ReloadRefused(tick=now, meaning=str(error)))
            self._use(self._proven)
            self._proven, self._refused = None, True
            return self._open(now)
        if self._proven is not None:
            self._say(Reloaded(tick=now))
        self._proven = None
        self._opened = True
        return service

    def _entered(self, now: dt.datetime) -> Served:
        self._newest = None  # its file may be built over by this opening, which may fail amid that
        service = self._opening(self._configuration, now, self._admit)
        self._service = self._newest = service.__enter__()
        return service

    def _admit(self, newest: dt.datetime) -> None:
        if self._guard is not None:
            self._guard.admit(newest)

    def _suffer(self, now: dt.datetime, error: QuietcountError) -> None:
        """Post and say once why the service cannot work at this tick."""
        status = self._idle(now).closed(now)
        # What an earlier trouble found wrong may be right by now: this one kept the service from looking.
        status = replace(
            status,
            ledger_verified=status.ledger_verified or None,
            broker_reachable=status.broker_reachable or None,
        )
        if isinstance(error, _LEDGER):
            status = replace(status, ledger_verified=False)
            event: Halted | Waiting = Halted(tick=now, meaning=str(error))
            self._supervisor.status("Halted: the ledger is not the newest")
        else:
            if isinstance(error, LogUnavailable | LedgerUnavailable):
                status = replace(status, broker_reachable=False)
            event = Waiting(tick=now, meaning=str(error))
            self._supervisor.status("Waits for what does not answer, or for room on the disk")
        self._post(replace(status, clock_trusted=True))
        trouble = _trouble(error)
        if self._trouble != trouble:
            self._say(event)
            self._trouble = trouble

    def _idle(self, now: dt.datetime) -> Status:
        """Return the status of a tick that did nothing: what is known of the ledger stays."""
        return replace(
            self._board.latest,
            tick=now,
            caught_up=False,
            interval=self._configuration.tick,
            disk_free=disks.free(self._configuration),
        )

    def _distrust(self, now: dt.datetime, objection: str) -> None:
        """Post and say once that the clock is not to be trusted; an open service stays open, and does nothing."""
        self._post(replace(self._idle(now), clock_trusted=False))
        if not self._strange_clock:
            self._say(ClockJumped(tick=now, meaning=objection))
        self._strange_clock = True
        self._supervisor.status("Waits for the clock")

    def _reload(self, now: dt.datetime) -> None:
        """Read the configuration anew; the service is closed, to be opened with it by this tick."""
        self._supervisor.reloading()
        self._ready_due = True
        try:
            fresh = self._reading()
            check_reloadable(self._configuration, fresh)
            if self._server is not None:
                self._server.reload()
        except QuietcountError as error:
            self._say(ReloadRefused(tick=now, meaning=str(error)))
            self._refused = True
            return
        with contextlib.suppress(Unavailable):
            self._shut()
        self._proven = self._proven or self._configuration
        self._refused = False
        self._use(fresh)

    def _use(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._grid.tick = configuration.tick
        self._output.use(configuration.log_format)

    def _stopping(self) -> bool:
        """Return whether to stop; asked before each batch."""
        self._supervisor.working()
        return self._signals()

    def _rest(self) -> None:
        """Wait for the next point of the grid, however far it was from one tick to the next by the clock."""
        minute = Grid(min(self._grid.tick, _MINUTE), self._grid.wall)
        breath = min(minute.tick.total_seconds(), self._supervisor.breath)
        pulse = Grid(dt.timedelta(seconds=breath), self._grid.wall)
        point, told, beaten = self._grid(), minute(), pulse()
        while not self._signals():
            turned = self._grid() != point
            if pulse() != beaten or turned:
                beaten = pulse()
                self._supervisor.alive()
            # What was told lately waits for the tick's own grid; the start is over within a minute of the first tick.
            if turned or (minute() != told and not self._started):
                told = minute()
                self._started = self._supervisor.settle() or self._started
            if turned:
                return
            self._signals.wait(min(self._grid.left, minute.left, pulse.left))

    def _shut(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            with contextlib.suppress(Unavailable):
                service.__exit__(None, None, None)

    def _post(self, status: Status) -> None:
        self._board.post(status)

    def _say(self, event: LogEvent) -> None:
        self._output.say(event)


def _trouble(error: QuietcountError) -> str:
    """Return what tells one trouble from another: its words differ with who met it first, which is no news."""
    match error:
        case LedgerBroken() | LedgerBehind():
            return "ledger"
        case LogUnavailable() | LedgerUnavailable():
            return "brokers"
        case StateUnwritable() | LedgerUnwritable() | LogUnwritable() | PublicationUnwritable() | FolderUnwritable():
            return "disk"
        case _:
            return str(error)


def check_reloadable(old: Configuration, new: Configuration) -> None:
    """Raise ConfigurationError naming what differs and needs a restart."""
    pairs: dict[str, tuple[object, object]] = {
        "log": (old.log, new.log),
        "data_dir": (old.data_dir, new.data_dir),
        "service.secret_file": (old.service.secret_file, new.service.secret_file),
        "kafka.topic_prefix": (_prefix(old), _prefix(new)),
        "metrics": (old.metrics, new.metrics),
    }
    changed = [key for key, (was, wanted) in pairs.items() if was != wanted]
    if changed:
        raise ConfigurationError(
            f"{', '.join(changed)} cannot change while the service runs: put the old value back, or restart it. "
            "Nothing of the new configuration is used. What is in the files of certificate and password may change"
        )


def _prefix(configuration: Configuration) -> str | None:
    return None if configuration.kafka is None else configuration.kafka.topic_prefix
