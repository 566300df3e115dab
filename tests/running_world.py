"""Clocks that tests move, services that do what a test says, and the runner among them."""

from __future__ import annotations

import datetime as dt
import io
import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConfigurationError
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.monitoring.metrics import pages
from quietcount_consumers.monitoring.pages import running
from quietcount_consumers.monitoring.status import Board, Status
from quietcount_consumers.monitoring.supervision import Supervisor
from quietcount_consumers.running.runner import Admit, Open, Runner, Server
from quietcount_consumers.running.ticks import Signals
from quietcount_consumers.running.timekeeping import Clock, ClockGuard, Grid, fixed_clock
from quietcount_consumers.service import Tick
from quietcount_producers.errors import LogUnavailable
from quietcount_schemas.configuration import checked

__all__ = [
    "AWAY",
    "DAY",
    "HOUR",
    "MINUTE",
    "NOON",
    "Certificates",
    "Hands",
    "MovedClocks",
    "Trial",
    "World",
    "changed",
    "configuration_of",
    "lasting",
    "minutes",
    "readiness",
    "reloading",
]

MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
NOON = dt.datetime(2023, 5, 1, 12, 0, tzinfo=dt.UTC)
AWAY = LogUnavailable("no broker answers")


def minutes(*numbers: int) -> list[dt.datetime]:
    return [NOON + number * MINUTE for number in numbers]


class MovedClocks:
    """Both clocks, moved by hand: time passes on both, the wall clock alone jumps."""

    def __init__(self, moment: dt.datetime = NOON) -> None:
        self.moment = moment
        self.ran = dt.timedelta(days=3)

    def wall(self) -> dt.datetime:
        return self.moment

    def running(self) -> dt.timedelta:
        return self.ran

    def go_on(self, passed: dt.timedelta) -> None:
        self.moment += passed
        self.ran += passed

    def jump(self, by: dt.timedelta) -> None:
        self.moment += by


class Hands(Signals):
    """Signals that come, and clocks that move, by what a test says of each wait; after the last one it stops."""

    def __init__(self, clocks: MovedClocks, waits: int, at: Mapping[int, Callable[[], None]] | None = None) -> None:
        super().__init__()
        self._clocks = clocks
        self._at = at or {}
        self._waits = waits
        self.waited: list[float] = []

    def __call__(self) -> bool:
        return super().__call__() or len(self.waited) >= self._waits

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self._clocks.go_on(dt.timedelta(seconds=seconds))
        self._at.get(len(self.waited), lambda: None)()

    def ask(self, number: int) -> None:
        self._set(number, None)


class Trial:
    """A service that notes its ticks; `failing` gives, by the number of its tick, what that tick raises."""

    def __init__(self, failing: Mapping[int, Exception] | None = None) -> None:
        self.seen: list[dt.datetime] = []
        self.closed = False
        self._failing = failing or {}

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.closed = True

    def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick:
        self.seen.append(now)
        if len(self.seen) in self._failing:
            raise self._failing[len(self.seen)]
        return Tick(True, [])

    def show(self) -> bool:
        """Nothing was published, and nothing waits."""
        return False

    def status(self, now: dt.datetime, tick: Tick) -> Status:
        return Status(
            tick=now,
            caught_up=tick.caught_up,
            state_open=True,
            broker_reachable=True,
            ledger_verified=True,
            ledger_entries=7,
        )


def configuration_of(**keys: object) -> Configuration:
    """A configuration whose file would have these keys."""
    return Configuration.of(checked(Path("quietcount.toml"), {"lifetime_epsilon": 1, **keys}, {}))


class World:
    """A runner on moved clocks.

    `scripts` are what each opening gives: a service, or what it raises; the last one repeats. With `standing`, the
    service's clock stands there, as with `--as-of`.
    """

    def __init__(
        self,
        *scripts: Trial | Exception,
        waits: int = 3,
        at: Mapping[int, Callable[[], None]] | None = None,
        tick: dt.timedelta = MINUTE,
        clocks: MovedClocks | None = None,
        newest: dt.datetime | None = None,
        reading: Callable[[], Configuration] | None = None,
        server: Server | None = None,
        supervisor: Supervisor | None = None,
        standing: dt.datetime | None = None,
    ) -> None:
        self.clocks = clocks or MovedClocks()
        self.hands = Hands(self.clocks, waits, at)
        self.written = io.StringIO()
        self.output = LogOutput(self.written)
        self.configuration = configuration_of(tick=f"{tick.total_seconds():.0f}s")
        self.opened: list[Configuration] = []
        self.paused: list[float] = []
        self._scripts = list(scripts) or [Trial()]
        self._newest = newest
        grid = Grid(tick, self.clocks.wall)
        self.board = Board(grid, tick)
        self.runner = Runner(
            self.configuration,
            self._open,
            clock=grid if standing is None else fixed_clock(standing),
            grid=grid,
            board=self.board,
            signals=self.hands,
            output=self.output,
            reading=reading or (lambda: self.configuration),
            guard=ClockGuard(self.clocks) if standing is None else None,
            supervisor=supervisor,
            server=server,
            pause=self.paused.append,
        )

    def _open(self, configuration: Configuration, now: dt.datetime, admit: Admit) -> Trial:
        self.opened.append(configuration)
        if self._newest is not None:
            admit(self._newest)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        if isinstance(script, Exception):
            raise script
        return script

    def run(self) -> World:
        self.runner.run()
        return self

    @property
    def said(self) -> list[dict[str, str]]:
        """The events that were written."""
        return [json.loads(line) for line in self.written.getvalue().splitlines()]

    @property
    def events(self) -> list[str]:
        return [each["event"] for each in self.said]


class Certificates:
    """A server whose certificate and password are read anew."""

    address: tuple[str, int] | None = ("::1", 9464)

    def __init__(self, refusing: bool = False) -> None:
        self.reloads = 0
        self._refusing = refusing

    def reload(self) -> None:
        if self._refusing:
            raise ConfigurationError("metrics.key_file: holds no private key")
        self.reloads += 1


def changed(**values: object) -> Callable[[], Configuration]:
    return lambda: configuration_of(**{"tick": "1m", **values})


def reloading(world: World) -> None:
    world.hands.ask(signal.SIGHUP)


def readiness(board: Board) -> list[str]:
    """Return why /readyz says that the service of `board` is not ready."""
    return pages(board.view(), None).not_ready(running())


def lasting(configuration: Configuration, opening: Open, clock: Clock, signals: Signals, log: LogOutput) -> Runner:
    """Return the runner of `quietcount run` in a process of a test's own, which serves nothing."""
    return Runner(
        configuration,
        opening,
        clock=clock,
        grid=Grid(configuration.tick),
        board=Board(clock, configuration.tick),
        signals=signals,
        output=log,
        reading=lambda: configuration,
    )
