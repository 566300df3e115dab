"""What systemd hears: on a real datagram socket, at which moments, and never with data."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.running_world import NOON, MovedClocks, Trial, World

from quietcount_consumers.monitoring.supervision import Supervisor
from quietcount_consumers.running.runner import Runner
from quietcount_consumers.service import Tick
from quietcount_producers.errors import LogUnavailable

pytestmark = pytest.mark.quick

HOUR = dt.timedelta(hours=1)
WAITS = "STATUS=Waits for what does not answer, or for room on the disk"


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


def test_what_is_started_reloaded_and_stopped_is_said_at_once(ear: Ear) -> None:
    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor:
        supervisor.status("Works")
        assert ear.heard() == ["STATUS=Works"]
        supervisor.ready()
        assert ear.heard() == ["READY=1"]
        supervisor.status("Works")
        supervisor.ready()
        assert ear.heard() == []  # no news
        supervisor.reloading()
        (reloading,) = ear.heard()
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=[0-9]+", reloading)
        supervisor.ready()
        assert ear.heard() == ["READY=1"]
        supervisor.stopping()
        assert ear.heard() == ["STOPPING=1"]


def test_without_a_listener_nothing_is_said_and_one_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        with Supervisor(environment) as supervisor:
            supervisor.ready()
            for number in range(100):
                supervisor.status(f"Works {number}")
            supervisor.alive()
            assert supervisor.breath == float("inf")
            assert len(supervisor._owed) <= 20


def test_without_a_watchdog_there_is_no_sign_of_life(ear: Ear) -> None:
    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor:
        supervisor.alive()
    assert ear.heard() == []


def test_a_socket_that_is_full_holds_nothing_up_and_hears_the_rest_with_the_next_sign_of_life(ear: Ear) -> None:
    with Supervisor({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "1"}, passing=iter(range(10**6)).__next__) as told:
        for _ in range(5000):
            told.alive()
        told.status("Works")
        told.ready()
        assert set(ear.heard()) == {"WATCHDOG=1"}
        told.alive()
        assert ear.heard() == ["STATUS=Works", "READY=1", "WATCHDOG=1"]
        told.alive()
        assert ear.heard() == ["WATCHDOG=1"]


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
@pytest.mark.parametrize("tick", [dt.timedelta(minutes=1), HOUR])
def test_systemd_hears_at_once_that_the_first_tick_is_done_and_what_the_service_waits_for(
    ear: Ear, tick: dt.timedelta, work: float
) -> None:
    heard = when_heard(ear, tick, work)
    began = dict(reversed(heard))
    assert list(dict.fromkeys(text for text, _ in heard)) == ["STATUS=Works", "READY=1", WAITS, "STOPPING=1"]
    assert began["READY=1"] == work
    assert began[WAITS] % tick.total_seconds() == work % tick.total_seconds()
    assert [text for text, _ in heard].count("READY=1") == 1


def when_heard(ear: Ear, tick: dt.timedelta, work: float) -> list[tuple[str, float]]:
    """Return what is said of a service whose ticks take `work` seconds, and after how many seconds."""
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
        World(Slow({2: LogUnavailable("away")}), tick=tick, waits=190, clocks=clocks, supervisor=supervisor).run()
    return heard


def test_a_word_that_waits_for_the_grid_is_found(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faulty twin: `systemctl start` would return up to a minute after the service is ready."""
    monkeypatch.setattr(Supervisor, "_say", lambda self, text: self._owed.append(text))
    with pytest.raises(AssertionError):
        test_systemd_hears_at_once_that_the_first_tick_is_done_and_what_the_service_waits_for(
            ear, dt.timedelta(minutes=1), 0.5
        )


def test_a_stop_is_said_before_the_service_closes(ear: Ear) -> None:
    heard: list[list[str]] = []

    class Slow(Trial):
        def __exit__(self, *_: object) -> None:
            heard.append(ear.heard())

    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor:
        World(Slow(), waits=2, supervisor=supervisor).run()
    assert heard == [["STATUS=Works", "READY=1", "STOPPING=1"]]


def test_what_systemd_hears_of_an_outage_and_a_reload_has_no_number_in_it(ear: Ear) -> None:
    trial = Trial({2: LogUnavailable("partition 3 of 12 does not answer")})
    clocks = MovedClocks()
    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor:
        world = World(
            trial, waits=5, clocks=clocks, at={3: lambda: world.hands.ask(signal.SIGHUP)}, supervisor=supervisor
        )
        world.run()
    assert [re.sub(r"(?<=USEC=)\d+", "now", each) for each in ear.heard()] == [
        "STATUS=Works",
        "READY=1",
        WAITS,
        "STATUS=Works",
        "RELOADING=1\nMONOTONIC_USEC=now",
        "READY=1",
        "STOPPING=1",
    ]


def test_a_service_whose_first_opening_fails_never_says_that_it_is_ready(ear: Ear) -> None:
    with Supervisor({"NOTIFY_SOCKET": ear.address}) as supervisor, pytest.raises(LogUnavailable):
        World(LogUnavailable("away"), supervisor=supervisor).run()
    assert ear.heard() == ["STOPPING=1"]
