"""Ticks until nothing is left to do, and the signals."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from quietcount_consumers.running.ticks import Signals, StopSignal, run_until_idle
from quietcount_consumers.running.timekeeping import fixed_clock
from quietcount_consumers.service import Tick

pytestmark = pytest.mark.quick

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


class Stopped(StopSignal):
    """Is set after so many questions."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0

    def wait(self, seconds: float) -> None:
        pytest.fail(f"it waits for {seconds} s")


@pytest.mark.parametrize("backlog, due, expected", [(0, 0, 1), (3, 0, 4), (0, 2, 2), (2, 3, 5)])
def test_until_idle_ticks_without_waiting_until_nothing_is_left(backlog: int, due: int, expected: int) -> None:
    service, flushed = Trial(backlog=backlog, due=due), list[int]()
    run_until_idle(service, fixed_clock(NOON), Stopped(99), flush=lambda: flushed.append(len(service.seen)))
    assert service.seen == [NOON] * expected
    assert flushed == list(range(1, expected + 1)), "what a tick said is written after it"


@pytest.mark.parametrize("questions, ticks", [(0, 0), (2, 2)])
def test_a_stop_ends_it_before_the_next_tick(questions: int, ticks: int) -> None:
    service = Trial(backlog=9)
    run_until_idle(service, fixed_clock(NOON), Stopped(questions))
    assert len(service.seen) == ticks


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
