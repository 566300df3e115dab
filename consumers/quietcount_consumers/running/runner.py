"""The lasting service: ticks, shows at the next point of the grid what a tick found out, and goes on after an outage.

A service that cannot work now (its brokers do not answer, its disk is full, its ledger is not the newest) is closed.
Each tick then tries to open it. Opening finishes what was cut short, so an outage, a crash and a reload all take the
same path. `conditions` says what follows from what, and `reloading` which configuration is used.
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

from quietcount_aggregates.errors import LedgerFenced
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ClockBehind
from quietcount_consumers.monitoring import disks
from quietcount_consumers.monitoring.log_events import (
    RELOAD_REFUSED,
    RELOADED,
    SERVING,
    STARTED,
    STOPPED,
    LogEvent,
)
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.monitoring.status import Board, Status
from quietcount_consumers.monitoring.supervision import Supervisor
from quietcount_consumers.running.conditions import (
    MENDABLE,
    ClockBelieved,
    ClockDoubted,
    Condition,
    Event,
    Failed,
    Opened,
    Opening,
    Worked,
    after,
    shown,
)
from quietcount_consumers.running.reloading import (
    Holding,
    Settled,
    Trying,
    check_reloadable,
    opened,
    refused,
    replaced,
    unreadable,
)
from quietcount_consumers.running.ticks import Signals
from quietcount_consumers.running.timekeeping import Clock, ClockGuard, Grid
from quietcount_consumers.service import Tick
from quietcount_consumers.wiring import watched_folders
from quietcount_schemas.errors import QuietcountError, Unavailable
from quietcount_schemas.serving.listening import written

__all__ = ["Admit", "Open", "Runner", "Served", "Server"]

_LONGEST_WAIT: Final = dt.timedelta(minutes=1)
"""A clock that is set back during a long tick is looked at after a minute, and not when the tick was to end."""

_SECOND: Final = dt.timedelta(seconds=1)
_VERSION: Final = metadata.version("quietcount-consumers")

Admit = Callable[[dt.datetime], None]
"""Takes the time of the ledger's newest entry before anything is written; raises ClockBehind if that lies ahead."""


class Served(Protocol):
    """What the runner runs: see Service."""

    def __enter__(self) -> Served: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick: ...

    def status(self, now: dt.datetime, tick: Tick) -> Status: ...

    def show(self) -> bool: ...


class Server(Protocol):
    """What serves the board, if anything does: see MonitoringServer."""

    address: tuple[str, int] | None

    def reload(self) -> None: ...


Open = Callable[[Configuration, dt.datetime, Admit], Served]
"""Opens the service with a configuration at a tick."""


class Runner:
    """The loop of `quietcount run`.

    The service sees `clock`; the runner waits by `grid`, on the real clock. The two differ with `--as-of`, which lets
    the clock stand; then `guard` is None. `reading` reads the configuration again. An error at the first opening is
    raised.
    """

    def __init__(
        self,
        configuration: Configuration,
        opening: Open,
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
        self._condition: Condition = Opening()
        self._holding: Holding = Settled(configuration)
        self._service: Served | None = None
        """The service while it is open."""
        self._newest: Served | None = None
        """The service that was opened last, open or not: what it published must still be shown."""

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; the batch or the release in hand is finished first."""
        self._greet()
        try:
            while not self._signals():
                self._tick()
                self._supervisor.status(self._condition.summary)
                self._supervisor.ready()
                self._rest()
                if not self._signals():
                    self._turn()
        finally:
            self._supervisor.stopping()
            self._close()
            # The last line is written at a whole second, after an error too. Logs leave the machine, and its exact time
            # would show how long the fold in hand took.
            self._pause(Grid(_SECOND, self._grid.wall).left)
        self._show()
        self._say(STOPPED.at(self._clock()))
        self._output.flush()

    def _greet(self) -> None:
        self._say(STARTED.at(self._clock(), version=_VERSION))
        if self._server is not None and self._server.address is not None:
            self._say(SERVING.at(self._clock(), address=written(*self._server.address)))
        self._output.flush()

    def _tick(self) -> None:
        if self._signals.reload_asked():
            self._reload(self._clock())
        now, objection = self._look_at_the_clock()
        if objection is not None:
            self._idle(now, ClockDoubted(objection))
            return
        self._follow(ClockBelieved(), now)
        try:
            service = self._service or self._open(now)
            status = service.status(now, service.tick(now, self._stopping))
        except ClockBehind as error:
            self._close()
            self._idle(now, ClockDoubted(str(error)))
        except MENDABLE as error:
            self._close()
            self._idle(now, Failed(error))
        else:
            self._board.post(replace(status, clock_trusted=True))
            self._follow(Worked(), now)

    def _rest(self) -> None:
        """Wait for the next point of the grid, however far that is by the clock; give signs of life meanwhile."""
        point = self._grid()
        breath = dt.timedelta(seconds=min(self._supervisor.breath, _LONGEST_WAIT.total_seconds()))
        pulse = Grid(min(self._grid.tick, breath), self._grid.wall)
        while self._grid() == point and not self._signals():
            self._signals.wait(min(self._grid.left, pulse.left))
            self._supervisor.alive()

    def _turn(self) -> None:
        """Let all that the tick found out be seen; this is a point of the grid."""
        self._show()
        self._board.turn()
        self._output.flush()

    def _show(self) -> None:
        """Put what was published in its place."""
        if self._newest is None:
            return
        try:
            if self._newest.show():
                self._board.unpublished(waits=True)
        except MENDABLE as error:
            self._close()  # so that the next tick publishes again
            self._board.unpublished()
            self._idle(self._clock(), Failed(error))

    def _look_at_the_clock(self) -> tuple[dt.datetime, str | None]:
        """Return the tick to work at, and what speaks against the clock."""
        if self._guard is None:
            return self._clock(), None
        objection = self._guard.objection()
        now = self._grid.floor(self._guard.judged)  # not read again: the clock may have jumped since
        return (now, objection) if objection is not None else (self._guard.held(now), None)

    def _follow(self, event: Event, now: dt.datetime) -> None:
        """Go to the condition that follows from `event`, and say so once."""
        self._condition, said = after(self._condition, event, now)
        if said is not None:
            self._say(said)

    def _idle(self, now: dt.datetime, event: Event) -> None:
        """Follow `event`, which keeps the service from its work at this tick; what is known of the ledger stays."""
        self._follow(event, now)
        configuration = self._holding.configuration
        status = replace(
            self._board.latest,
            tick=now,
            caught_up=False,
            interval=configuration.tick,
            disk_free=disks.free(watched_folders(configuration)),
        )
        self._board.post(shown(self._condition, status))

    def _open(self, now: dt.datetime) -> Served:
        """Open the service with the configuration in hand; if the ledger refuses a new one, with the proven one."""
        try:
            service = self._enter(now)
        except (*MENDABLE, LedgerFenced, ClockBehind):
            raise  # of the world, and not of the configuration
        except QuietcountError as error:
            self._hold(refused(self._holding, error))
            self._say(RELOAD_REFUSED.at(now, meaning=str(error)))
            return self._open(now)
        if isinstance(self._holding, Trying):
            self._say(RELOADED.at(now))
        self._hold(opened(self._holding))
        self._follow(Opened(), now)
        return service

    def _enter(self, now: dt.datetime) -> Served:
        self._newest = None  # this opening may build over its file, and then fail
        service = self._opening(self._holding.configuration, now, self._admit)
        self._service = self._newest = service.__enter__()
        return service

    def _admit(self, newest: dt.datetime) -> None:
        if self._guard is not None:
            self._guard.admit(newest)

    def _reload(self, now: dt.datetime) -> None:
        """Read the configuration again and close the service; this tick opens it with the new one."""
        self._supervisor.reloading()
        try:
            fresh = self._reading()
            check_reloadable(self._holding.configuration, fresh)
            if self._server is not None:
                self._server.reload()
        except QuietcountError as error:
            self._say(RELOAD_REFUSED.at(now, meaning=str(error)))
            self._hold(unreadable(self._holding))
            return
        self._close()
        self._hold(replaced(self._holding, fresh))

    def _hold(self, holding: Holding) -> None:
        self._holding = holding
        self._grid.tick = holding.configuration.tick
        self._output.use(holding.configuration.log_format)

    def _stopping(self) -> bool:
        """Return whether to stop; the service asks before each batch."""
        self._supervisor.working()
        return self._signals()

    def _close(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            with contextlib.suppress(Unavailable):
                service.__exit__(None, None, None)

    def _say(self, event: LogEvent) -> None:
        self._output.say(event)
