"""What systemd is told: on a real datagram socket, at which moments, and never with data."""

from __future__ import annotations

import datetime as dt
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.running_world import MovedClocks, Trial, World

from quietcount_consumers.service import Tick
from quietcount_consumers.supervision import Supervisor
from quietcount_producers.errors import LogUnavailable


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


@pytest.mark.parametrize(
    "environment, breath",
    [
        ({"WATCHDOG_USEC": "20000000"}, 5.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, float("inf")),
        ({"WATCHDOG_USEC": "soon"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_the_watchdog_is_heeded_if_it_asks_this_process(environment: dict[str, str], breath: float) -> None:
    with Supervisor(environment) as supervisor:
        assert supervisor.breath == breath


class Watched:
    """A world whose supervisor's time is the moved clock's, and which keeps when each sign of life was given."""

    def __init__(
        self, ear: Ear, *scripts: Trial, tick: dt.timedelta, waits: int, clocks: MovedClocks | None = None
    ) -> None:
        self.signs: list[float] = []
        clocks = clocks or MovedClocks()
        began = clocks.ran

        def passing() -> float:
            return (clocks.ran - began).total_seconds()

        supervisor = Supervisor({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "300000000"}, passing=passing)
        said = supervisor._send

        def send(text: str) -> None:
            if text == "WATCHDOG=1":
                self.signs.append(passing())
            said(text)

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
    assert (silence(signs, signs[-1]) > 300) is stuck


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
