"""What systemd is told: on a real datagram socket, at which moments, and never with data."""

from __future__ import annotations

import datetime as dt
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.running_world import NOON, MovedClocks, Trial, World

from quietcount_consumers.monitoring.supervision import Supervisor
from quietcount_consumers.runner import Runner
from quietcount_consumers.service import Tick
from quietcount_producers.errors import LogUnavailable

pytestmark = pytest.mark.quick

HOUR = dt.timedelta(hours=1)


class Ear:
    """A socket as systemd has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ear]:
    ear = Ear(str(tmp_path / "notify") if request.param == "path" else f"@quietcount-{os.getpid()}-{id(request)}")
    yield ear
    ear.close()


def test_what_is_started_reloaded_and_stopped_is_told(ear: Ear) -> None:
    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor:
        supervisor.status("Works")
        supervisor.ready()
        assert ear.heard() == []  # until a point of the grid
        supervisor.settle()
        supervisor.settle()
        supervisor.status("Works")
        supervisor.settle()
        supervisor.reloading()
        supervisor.stopping()
    told = ear.heard()
    assert told[0] == "STATUS=Works\nREADY=1"
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=[0-9]+", told[1])
    assert told[2:] == ["STOPPING=1"]


def test_nothing_is_told_where_nobody_asked_and_a_supervisor_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        with Supervisor(environment) as supervisor:
            supervisor.ready()
            supervisor.settle()
            supervisor.alive()
            assert supervisor.breath == float("inf")


def test_who_set_no_watchdog_hears_no_sign_of_life(ear: Ear) -> None:
    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor:
        supervisor.alive()
    assert ear.heard() == []


def test_a_socket_that_is_full_holds_nothing_up(ear: Ear) -> None:
    with Supervisor({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "1"}, passing=iter(range(10**6)).__next__) as told:
        for _ in range(5000):
            told.alive()
        told.ready()
        told.status("Works")
        assert not told.settle()
        assert set(ear.heard()) == {"WATCHDOG=1"}
        told.status("Waits")
        assert told.settle()
        assert ear.heard() == ["STATUS=Waits\nREADY=1"]  # what had no room comes at the next point, and only the newest
        assert told.settle()
        assert ear.heard() == []


@pytest.mark.parametrize(
    "environment, breath",
    [
        ({"WATCHDOG_USEC": "20000000"}, 5.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, float("inf")),
        ({"WATCHDOG_USEC": "soon"}, float("inf")),
        ({"WATCHDOG_USEC": "0"}, float("inf")),
        ({"WATCHDOG_USEC": "-1"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_the_watchdog_is_heeded_if_it_asks_this_process(environment: dict[str, str], breath: float) -> None:
    with Supervisor(environment) as supervisor:
        assert supervisor.breath == breath


class Watched:
    """A world whose supervisor's time is the moved clock's, and which keeps when each sign of life was given."""

    def __init__(
        self,
        ear: Ear,
        *scripts: Trial,
        tick: dt.timedelta,
        waits: int,
        clocks: MovedClocks | None = None,
        usec: str = "300000000",
    ) -> None:
        self.signs: list[float] = []
        clocks = clocks or MovedClocks()
        began = clocks.ran

        def passing() -> float:
            return (clocks.ran - began).total_seconds()

        supervisor = Supervisor({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": usec}, passing=passing)
        said = supervisor._send

        def send(text: str) -> bool:
            if text == "WATCHDOG=1":
                self.signs.append(passing())
            return said(text)

        supervisor._send = send  # type: ignore[method-assign]
        with supervisor:
            World(*scripts, tick=tick, waits=waits, clocks=clocks, supervisor=supervisor).run()


def silence(signs: list[float], end: float) -> float:
    """Return for how long at most nothing was heard."""
    return max(after - before for before, after in zip([0.0, *signs], [*signs, end], strict=True))


def test_a_service_that_waits_for_a_day_gives_a_sign_of_life_twice_in_the_watchdogs_time(ear: Ear) -> None:
    watched = Watched(ear, Trial(), tick=dt.timedelta(days=1), waits=2000)
    assert len(watched.signs) > 100
    assert silence(watched.signs, watched.signs[-1]) <= 150


@pytest.mark.parametrize("stuck", [False, True])
def test_a_fold_gives_signs_of_life_with_each_batch_and_one_that_is_stuck_gives_none(ear: Ear, stuck: bool) -> None:
    clocks = MovedClocks()

    class Long(Trial):
        def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick:
            for _ in range(100):
                clocks.go_on(dt.timedelta(seconds=10))
                if not stuck:
                    stopping()
            return super().tick(now, stopping)

    signs = Watched(ear, Long(), tick=dt.timedelta(minutes=1), waits=1, clocks=clocks).signs
    assert (silence(signs, 1000) > 300) is stuck


@pytest.mark.parametrize("usec", ["300000000", "120000000", "20000000", "2000000"])
def test_a_sign_of_life_comes_at_points_of_a_grid_and_never_when_a_fold_ends(ear: Ear, usec: str) -> None:
    """systemctl show -p WatchdogTimestamp is there for everybody."""
    seconds = int(usec) / 1_000_000
    for works in ([0.3] * 8, [0.3, 0.3, 17.123, 0.3, 17.345, 18.1, 0.1], [0.3, 4.2, 0.7, 2.9, 0.4, 1.1]):
        clocks = MovedClocks()

        class Working(Trial):
            def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick:
                stopping()
                clocks.go_on(dt.timedelta(seconds=works[len(self.seen) % len(works)]))  # noqa: B023
                if seconds > 60:
                    stopping()
                return super().tick(now, stopping)

        signs = Watched(ear, Working(), tick=dt.timedelta(minutes=1), waits=200, clocks=clocks, usec=usec).signs
        assert len(signs) > 4
        assert {sign % min(60, seconds / 4) for sign in signs} == {0}
        assert seconds <= 60 or silence(signs, signs[-1]) <= seconds / 2


def test_a_sign_of_life_at_the_end_of_a_fold_is_found(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faulty twin of the promise above."""
    rest = Runner._rest

    def at_once(self: Runner) -> None:
        self._supervisor.alive()
        rest(self)

    monkeypatch.setattr(Runner, "_rest", at_once)
    with pytest.raises(AssertionError):
        test_a_sign_of_life_comes_at_points_of_a_grid_and_never_when_a_fold_ends(ear, "120000000")


@pytest.mark.parametrize("work", [0.5, 200.0])
def test_with_a_long_tick_the_start_is_over_within_a_minute_and_the_rest_is_told_at_the_ticks_own_points(
    ear: Ear, work: float
) -> None:
    clocks = MovedClocks()
    heard: list[tuple[str, float]] = []

    class Slow(Trial):
        def tick(self, now: dt.datetime, stopping: Callable[[], bool]) -> Tick:
            clocks.go_on(dt.timedelta(seconds=work))
            return super().tick(now, stopping)

    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor:
        send = supervisor._send

        def noted(text: str) -> bool:
            heard.append((text, (clocks.moment - NOON).total_seconds()))
            return send(text)

        supervisor._send = noted  # type: ignore[method-assign]
        World(Slow({2: LogUnavailable("away")}), tick=HOUR, waits=190, clocks=clocks, supervisor=supervisor).run()
    assert heard[:3] == [
        ("STATUS=Works\nREADY=1", 60 + work // 60 * 60),
        ("STATUS=Waits for what does not answer, or for room on the disk", 7200),
        ("STATUS=Works", 10800),
    ]


def test_the_end_is_told_after_the_pause_to_a_whole_second(ear: Ear) -> None:
    """Before it, it would tell how long a fold went on after the signal."""
    heard: list[list[str]] = []
    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor:
        world = World(waits=2, supervisor=supervisor)
        world.runner._pause = lambda _: heard.append(ear.heard())
        world.run()
    assert [each for before in heard for each in before] == ["STATUS=Works\nREADY=1"]
    assert ear.heard() == ["STOPPING=1"]


def test_what_the_service_does_is_told_at_points_of_the_grid_and_without_a_number(ear: Ear) -> None:
    trial = Trial({2: LogUnavailable("partition 3 of 12 does not answer")})
    Watched(ear, trial, tick=dt.timedelta(minutes=1), waits=4)
    told = [each for each in ear.heard() if each != "WATCHDOG=1"]
    assert told == [
        "STATUS=Works\nREADY=1",
        "STATUS=Waits for what does not answer, or for room on the disk",
        "STATUS=Works",
        "STOPPING=1",
    ]
