"""The process that serves metrics is watched: it holds nothing up, and if it ends or hangs another takes its place."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import os
import signal
import ssl
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests import serving_world
from tests.kafka.certificates import Authority
from tests.running_world import NOON, Trial, World
from tests.serving_world import WITHIN, get, pid_of, until

from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring import server as http_server
from quietcount_consumers.monitoring.log_events import NOT_SERVING, SERVING, LogEvent
from quietcount_consumers.monitoring.pages import Pages, PagesFile
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.quick


@pytest.fixture
def board() -> Board:
    return Board(lambda: NOON, dt.timedelta(minutes=1))


@pytest.fixture
def heard() -> list[LogEvent]:
    return []


@pytest.fixture
def server(board: Board, heard: list[LogEvent]) -> MonitoringServer:
    return MonitoringServer(MonitoringSettings(port=0), board, say=heard.append)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "RESTART_SECONDS", 0.0)


def test_what_is_posted_before_a_process_is_replaced_is_served_by_the_next_one(
    server: MonitoringServer, board: Board, hurried: None
) -> None:
    with server:
        board.post(replace(board.latest, ledger_entries=7))
        board.turn()
        before = pid_of(server)
        os.kill(before, signal.SIGKILL)
        until(lambda: pid_of(server) != before)
        assert "quietcount_ledger_entries 7.0" in get(server, "/metrics")[1].splitlines()
        server.reload()
        assert "quietcount_ledger_entries 7.0" in get(server, "/metrics")[1].splitlines()


def ended(end: str) -> str:
    return f"the process that serves metrics and health ended: {end}"


def test_a_process_that_ends_by_itself_is_told_and_another_takes_its_place(
    server: MonitoringServer, heard: list[LogEvent], hurried: None
) -> None:
    with server:
        address = server.address
        for number in (signal.SIGKILL, signal.SIGSEGV):
            before = pid_of(server)
            assert get(server)[0] == 200
            os.kill(before, number)
            until(lambda before=before: pid_of(server) != before)  # type: ignore[misc]
            assert get(server)[0] == 200
        assert server.address == address
    assert [event.fields["meaning"] for event in heard if event.kind is NOT_SERVING] == [
        ended("signal 9"),
        ended("signal 11"),
    ]


def test_a_service_that_starts_no_other_process_is_found_out(
    server: MonitoringServer, heard: list[LogEvent], hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant."""
    monkeypatch.setattr(MonitoringServer, "_replace", lambda _self, _child: time.sleep(0.01))
    monkeypatch.setattr(serving_world, "WITHIN", 2.0)
    with pytest.raises(AssertionError):
        test_a_process_that_ends_by_itself_is_told_and_another_takes_its_place(server, heard, hurried)


def test_it_is_said_when_a_process_serves_again(
    server: MonitoringServer, heard: list[LogEvent], hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "SETTLED_SECONDS", 0.0)
    with server:
        assert get(server)[0] == 200
        os.kill(pid_of(server), signal.SIGKILL)
        until(lambda: [event.kind for event in heard] == [NOT_SERVING, SERVING])
        assert get(server)[0] == 200
        assert server.address is not None
        assert heard[-1].fields["address"] == f"127.0.0.1:{server.address[1]}"


def check_a_reload_during_a_pause(server: MonitoringServer, heard: list[LogEvent]) -> None:
    """The process that a reload starts is watched at once, however long the pause after the last one's end."""
    with server:
        os.kill(pid_of(server), signal.SIGKILL)
        until(lambda: [event.kind for event in heard] == [NOT_SERVING])
        server.reload()
        assert get(server)[0] == 200
        os.kill(pid_of(server), signal.SIGSEGV)
        until(lambda: heard[-1].fields["meaning"] == ended("signal 11"))


def test_a_process_that_a_reload_starts_during_a_pause_is_watched_at_once(
    server: MonitoringServer, heard: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "RESTART_SECONDS", 3600.0)
    monkeypatch.setattr(http_server, "LONGEST_PAUSE", 3600.0)
    check_a_reload_during_a_pause(server, heard)


def test_a_keeper_that_sleeps_through_a_reload_is_found_out(
    server: MonitoringServer, heard: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant."""
    monkeypatch.setattr(http_server, "RESTART_SECONDS", 8.0)
    monkeypatch.setattr(server._woken, "set", lambda: None)
    monkeypatch.setattr(serving_world, "WITHIN", 2.0)
    with pytest.raises(AssertionError):
        check_a_reload_during_a_pause(server, heard)


class Pauses(threading.Event):
    """The event that wakes a keeper; what would wait for it goes on at once, and its seconds are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds.append(timeout)
        return super().wait(0)


@pytest.mark.parametrize("module", ["quietcount_consumers.monitoring.no_such_module", "this"])
def test_a_process_that_never_has_a_good_start_is_tried_again_with_growing_pauses_and_told_once(
    server: MonitoringServer, board: Board, monkeypatch: pytest.MonkeyPatch, heard: list[LogEvent], module: str
) -> None:
    monkeypatch.setattr(http_server, "MODULE", module)
    monkeypatch.setattr(http_server, "LONGEST_PAUSE", 5.0)
    server._woken = pauses = Pauses()
    with server:
        until(lambda: len(pauses.seconds) > 5)
        board.turn()  # the service goes on
    assert pauses.seconds[:6] == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert [event.kind for event in heard] == [NOT_SERVING]


def test_a_key_that_cannot_be_read_at_a_restart_is_named_once_and_served_with_again_when_it_is_back(
    board: Board, heard: list[LogEvent], hurried: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "LONGEST_PAUSE", 0.01)
    authority = Authority(tmp_path)
    issued = authority.issue("server", "127.0.0.1")
    away = tmp_path / "away"
    settings = MonitoringSettings(port=0, certificate_file=issued.certificate_file, key_file=issued.key_file)
    with MonitoringServer(settings, board, say=heard.append) as server:
        before = pid_of(server)
        issued.key_file.rename(away)
        os.kill(before, signal.SIGKILL)
        until(lambda: len(heard) == 2)
        board.turn()  # the service goes on
        time.sleep(0.1)
        away.rename(issued.key_file)
        until(lambda: pid_of(server) != before)
        monkeypatch.setattr(http_server, "SETTLED_SECONDS", 0.0)
        context = ssl.create_default_context(cafile=authority.file)
        assert server.address is not None
        connection = http.client.HTTPSConnection(*server.address, timeout=WITHIN, context=context)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
    assert [event.kind for event in heard] == [NOT_SERVING, NOT_SERVING]
    first, second = (str(event.fields["meaning"]) for event in heard)
    assert first == ended("signal 9")
    assert "key 'metrics.key_file'" in second
    assert f"there is no file {issued.key_file}" in second


def still_turning(server: MonitoringServer, board: Board, turns: int, seconds: float) -> bool:
    """Stop the process that serves, and turn the board; return whether that is not done within so many seconds."""

    def turning() -> None:
        for number in range(1, turns + 1):
            board.post(replace(board.latest, tick=NOON, ledger_entries=number))
            board.turn()

    assert get(server)[0] == 200
    os.kill(pid_of(server), signal.SIGSTOP)
    thread = threading.Thread(target=turning)
    thread.start()
    thread.join(seconds)
    turns_on = thread.is_alive()
    os.kill(pid_of(server), signal.SIGCONT)
    thread.join()
    return turns_on


def test_a_process_that_is_stopped_holds_no_turn_up_and_serves_the_newest_pages_when_it_goes_on(
    server: MonitoringServer, board: Board, heard: list[LogEvent]
) -> None:
    with server:
        assert not still_turning(server, board, 100, WITHIN)
        assert "quietcount_ledger_entries 100.0" in get(server, "/metrics")[1].splitlines()
    assert heard == []


def test_pages_that_are_sent_to_the_process_that_serves_would_hold_a_turn_up(
    server: MonitoringServer, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: a socket takes what it has room for, and then the fold waits for its reader."""

    def sent(_self: PagesFile, pages: Pages) -> None:
        assert server._child is not None
        server._child._socket.sendall(pages.text.encode())

    with server:
        monkeypatch.setattr(PagesFile, "write", sent)
        assert still_turning(server, board, 100, 1.0)


def test_a_service_ticks_and_ends_while_the_process_that_serves_is_stopped() -> None:
    trial = Trial()
    world = World(trial, waits=200)
    with MonitoringServer(MonitoringSettings(port=0), world.board) as server:
        assert get(server)[0] == 200
        os.kill(pid_of(server), signal.SIGSTOP)
        world.run()
        assert len(trial.seen) == 200
        assert world.events[-1] == "stopped"
        os.kill(pid_of(server), signal.SIGCONT)


def test_a_process_that_hangs_and_takes_no_pages_is_replaced(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, hurried: None, heard: list[LogEvent]
) -> None:
    monkeypatch.setattr(http_server, "SILENCE_SECONDS", 3.0)
    with server:
        assert get(server)[0] == 200
        before = pid_of(server)
        monkeypatch.setattr(http_server, "SILENCE_SECONDS", WITHIN)  # of the next one
        os.kill(before, signal.SIGSTOP)
        until(lambda: pid_of(server) != before)
        assert get(server)[0] == 200
    assert [event.fields["meaning"] for event in heard] == [ended("signal 9")]


def test_a_service_that_waits_for_the_end_alone_is_found_out(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, hurried: None, heard: list[LogEvent]
) -> None:
    """The mutant: no sign of life is missed."""

    def ended_alone(child: http_server._Child, _seconds: float) -> bool:
        child._process.wait()
        return False

    monkeypatch.setattr(http_server._Child, "outlives", ended_alone)
    monkeypatch.setattr(serving_world, "WITHIN", 5.0)
    with pytest.raises(AssertionError):
        test_a_process_that_hangs_and_takes_no_pages_is_replaced(server, monkeypatch, hurried, heard)


def test_a_process_that_cannot_be_started_is_an_error_and_not_waited_for(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, heard: list[LogEvent]
) -> None:
    def refused(*_: object, **__: object) -> object:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(ServiceError) as caught:
        server.__enter__()
    assert "metrics cannot be served" in caught.value.what
    assert "ulimit" in caught.value.remedy
    assert not any(thread.name == "quietcount-http" for thread in threading.enumerate())
    assert server.address is None
    assert heard == []
