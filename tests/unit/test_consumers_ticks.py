"""Ticks: on a grid of the clock, until stopped or idle."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from quietcount_consumers.log_events import GoingOn, LogEvent, Waiting
from quietcount_consumers.service import Tick
from quietcount_consumers.ticks import StopSignal, fixed_clock, keep_running, run, system_clock
from quietcount_schemas.errors import QuietcountError, Unavailable

MINUTE = dt.timedelta(minutes=1)
NOON = dt.datetime(2023, 5, 1, 12, 0, tzinfo=dt.UTC)


class Trial:
    """A service that needs some ticks to reach the end of its log, and has releases due for some."""

    def __init__(self, *, backlog: int = 0, due: int = 0) -> None:
        self.backlog = backlog
        self.left = due
        self.seen: list[dt.datetime] = []

    def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick:
        self.seen.append(now)
        caught_up = self.backlog <= 0
        self.backlog -= 1
        if caught_up and self.left:
            self.left -= 1
        return Tick(caught_up, [])

    def at_end(self) -> bool:
        return self.backlog < 0

    def due(self, now: dt.datetime) -> object:
        return [now] * self.left


class Waits(StopSignal):
    """Notes how long is waited, and stops after some waits."""

    def __init__(self, stop_after: int) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._stop_after = stop_after

    def __call__(self) -> bool:
        return super().__call__() or len(self.waited) >= self._stop_after

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)


class Clocked(dt.datetime):
    """The system's clock, standing where a test has put it."""

    moment = NOON

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
        assert tz is dt.UTC
        return cls.moment


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> type[Clocked]:
    monkeypatch.setattr("quietcount_consumers.ticks.dt.datetime", Clocked)
    return Clocked


@pytest.mark.parametrize(
    "moment, tick, floor",
    [
        ("2023-05-01T12:00:00", "60", "2023-05-01T12:00:00"),
        ("2023-05-01T12:00:59.999999", "60", "2023-05-01T12:00:00"),
        ("2023-05-01T12:34:56", "3600", "2023-05-01T12:00:00"),
        ("2023-05-01T12:34:56", "86400", "2023-05-01T00:00:00"),
    ],
)
def test_the_service_sees_the_clock_floored_to_its_ticks(
    system: type[Clocked], monkeypatch: pytest.MonkeyPatch, moment: str, tick: str, floor: str
) -> None:
    monkeypatch.setattr(Clocked, "moment", dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC))
    now = system_clock(dt.timedelta(seconds=int(tick)))()
    assert now == dt.datetime.fromisoformat(floor).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize("past, wait", [(0.0, 60.0), (0.5, 59.5), (59.0, 1.0), (59.999, 0.001)])
def test_it_waits_for_the_next_point_of_the_grid_however_long_the_tick_took(
    system: type[Clocked], monkeypatch: pytest.MonkeyPatch, past: float, wait: float
) -> None:
    monkeypatch.setattr(Clocked, "moment", NOON + dt.timedelta(seconds=past))
    stop, service = Waits(3), Trial()
    run(service, system_clock(MINUTE), MINUTE, until_idle=False, stop=stop)
    assert stop.waited == pytest.approx([wait] * 3)
    assert service.seen == [NOON] * 3


def test_a_clock_that_stands_still_does_not_spin() -> None:
    stop, service = Waits(2), Trial()
    run(service, fixed_clock(NOON), MINUTE, until_idle=False, stop=stop)
    assert service.seen == [NOON, NOON]
    assert all(0 < seconds <= 60 for seconds in stop.waited)


@pytest.mark.parametrize("backlog, due, expected", [(0, 0, 1), (3, 0, 4), (0, 2, 2), (2, 3, 5)])
def test_until_idle_ticks_without_waiting_until_nothing_is_left(backlog: int, due: int, expected: int) -> None:
    stop, service = Waits(1), Trial(backlog=backlog, due=due)
    run(service, fixed_clock(NOON), MINUTE, until_idle=True, stop=stop)
    assert len(service.seen) == expected
    assert stop.waited == []


def test_a_stop_before_the_first_tick_ends_at_once() -> None:
    service = Trial()
    run(service, fixed_clock(NOON), MINUTE, until_idle=False, stop=Waits(0))
    assert service.seen == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_stop_and_ends_a_wait_and_the_old_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        stop.wait(3600)
    assert signal.getsignal(number) is before


class Outage(Unavailable):
    """Brokers that do not answer."""


def openings(*behaviours: str) -> Callable[[dt.datetime], contextlib.AbstractContextManager[Trial]]:
    """Services one after the other: "away" cannot be opened, "lost" fails at its second tick, "well" goes on."""
    left = list(behaviours)

    class Failing(Trial):
        def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick:
            if self.seen:
                raise Outage("no answer")
            return super().tick(now, stopping)

    @contextlib.contextmanager
    def opening(_: dt.datetime) -> Iterator[Trial]:
        behaviour = left.pop(0)
        if behaviour == "away":
            raise Outage("no answer")
        yield Failing() if behaviour == "lost" else Trial()

    return opening


def test_an_outage_is_waited_for_at_the_ticks_and_told_once() -> None:
    said: list[LogEvent] = []
    stop = Waits(6)
    opening = openings("lost", "away", "away", "well")
    keep_running(opening, fixed_clock(NOON), dt.timedelta(seconds=1), stop=stop, say=said.append)
    assert len(stop.waited) == 6  # a tick, three ticks of the outage, two more
    assert said == [Waiting(tick=NOON, meaning="no answer"), GoingOn(tick=NOON)]


def test_an_outage_at_the_start_is_raised_and_so_is_every_other_error() -> None:
    with pytest.raises(Outage):
        keep_running(openings("away"), fixed_clock(NOON), dt.timedelta(seconds=1), stop=Waits(6))

    def broken(_: dt.datetime) -> contextlib.AbstractContextManager[Trial]:
        raise QuietcountError("something else")

    with pytest.raises(QuietcountError, match="something else"):
        keep_running(broken, fixed_clock(NOON), dt.timedelta(seconds=1), stop=Waits(6))
