"""Ticks: on a grid of the clock, until stopped or idle."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from quietcount_consumers.service import Tick
from quietcount_consumers.ticks import Signals, StopSignal, fixed_clock, run
from quietcount_consumers.timekeeping import Grid

pytestmark = pytest.mark.quick

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
    monkeypatch.setattr("quietcount_consumers.timekeeping.dt.datetime", Clocked)
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
    now = Grid(dt.timedelta(seconds=int(tick)))()
    assert now == dt.datetime.fromisoformat(floor).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize("past, wait", [(0.0, 60.0), (0.5, 59.5), (59.0, 1.0), (59.999, 0.001)])
def test_it_waits_for_the_next_point_of_the_grid_however_long_the_tick_took(
    system: type[Clocked], monkeypatch: pytest.MonkeyPatch, past: float, wait: float
) -> None:
    monkeypatch.setattr(Clocked, "moment", NOON + dt.timedelta(seconds=past))
    stop, service = Waits(3), Trial()
    run(service, Grid(MINUTE), MINUTE, until_idle=False, stop=stop)
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


@pytest.fixture
def handlers() -> Iterator[Callable[[signal.Signals], object]]:
    """The handlers of the test's process, put back in the end; called, it returns the one that was there before."""
    before = {number: signal.getsignal(number) for number in Signals.numbers}
    yield before.__getitem__
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_stop_and_ends_a_wait_and_another_one_changes_nothing(
    number: signal.Signals, handlers: Callable[[signal.Signals], object]
) -> None:
    with StopSignal() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        stop.wait(3600)
    for another in StopSignal.numbers:
        os.kill(os.getpid(), another)  # on the way to the interpreter's end, which would be 143 and not 0
        assert signal.getsignal(another) is not handlers(another)


def test_without_a_signal_the_old_handlers_come_back(handlers: Callable[[signal.Signals], object]) -> None:
    with Signals() as signals:
        assert all(signal.getsignal(number) == signals._set for number in Signals.numbers)
    assert all(signal.getsignal(number) is handlers(number) for number in Signals.numbers)


@pytest.mark.usefixtures("handlers")
def test_a_wish_to_reload_is_heard_once_and_stops_nothing() -> None:
    with Signals() as signals:
        assert not signals.reload_asked()
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.reload_asked()
        assert not signals.reload_asked()
        assert not signals()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals()


@pytest.mark.usefixtures("handlers")
def test_a_signal_in_the_midst_of_anything_is_no_deadlock() -> None:
    """The handler takes no lock: it may interrupt the wait at any of its instructions."""
    with Signals() as signals:
        for _ in range(200_000):  # more than the pipe holds
            signals._set(signal.SIGTERM, None)
        signals.wait(3600)
        assert signals()
