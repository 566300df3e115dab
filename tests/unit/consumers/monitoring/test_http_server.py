"""The process that serves metrics: what it is made of, that it is watched, and that it ends with the service."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.running_world import NOON

from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring import server as http_server
from quietcount_consumers.monitoring.log_events import DEFECT, LogEvent
from quietcount_consumers.monitoring.server import MODULE, STARTS, MonitoringServer
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.quick

WITHIN = 60.0  # seconds after which what should have come is a failure
FORBIDDEN = {"duckdb", "kafka", "numpy", "opendp", "prometheus_client", "pydantic", "rich"}


@pytest.fixture
def board() -> Board:
    return Board(lambda: NOON, dt.timedelta(minutes=1))


@pytest.fixture
def heard() -> list[LogEvent]:
    return []


@pytest.fixture
def server(board: Board, heard: list[LogEvent]) -> MonitoringServer:
    return MonitoringServer(MonitoringSettings(address="127.0.0.1", port=0), board, say=heard.append)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "RESTART_SECONDS", 0.0)


def get(server: MonitoringServer, path: str = "/healthz") -> tuple[int, str]:
    assert server.address is not None
    connection = http.client.HTTPConnection(*server.address, timeout=WITHIN)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def pid_of(server: MonitoringServer) -> int:
    assert server._child is not None
    return server._child.pid


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return "Z (zombie)" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_server_that_serves_and_one_that_is_to_serve_nothing_live(server: MonitoringServer, board: Board) -> None:
    with server:
        assert server.lives
        assert get(server) == (200, "ok\n")
    off = MonitoringServer(MonitoringSettings(address=None), board)
    with off:
        assert off.lives
        assert off._child is None
        board.turn()


def test_the_process_that_serves_loads_neither_the_database_nor_what_else_it_does_not_need() -> None:
    """It would be of another size, and start later; and what is not loaded can hold no count."""
    program = f"import sys, {MODULE}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    packages = {"quietcount_consumers", "quietcount_consumers.monitoring", "quietcount_schemas"}
    ours = {name for name in loaded.split() if name.startswith("quietcount_")} - packages
    assert not FORBIDDEN & {name.partition(".")[0] for name in loaded.split()}
    beside = (f"quietcount_consumers.monitoring.{name}" for name in ("application", "pages", "places"))
    assert ours == {MODULE, "quietcount_consumers.access", "quietcount_schemas.lazy_names", *beside}


def test_it_gets_no_secret_from_the_environment_and_has_nothing_open_of_the_service(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUIETCOUNT_KAFKA__PASSWORD", "5ec2e7")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "state.duckdb").open("w") as state, server:
        os.set_inheritable(state.fileno(), True)
        assert get(server)[0] == 200
        there = Path(f"/proc/{pid_of(server)}")
        assert b"5ec2e7" not in (there / "environ").read_bytes()
        assert b"NOTIFY" not in (there / "environ").read_bytes()
        assert str(tmp_path) not in " ".join(str(each.readlink()) for each in (there / "fd").iterdir())
        assert str((there / "cwd").readlink()) == "/"


def test_what_a_turn_shows_is_served_to_whoever_asks_after_it(server: MonitoringServer, board: Board) -> None:
    with server:
        for number in range(1, 51):
            assert get(server, "/readyz")[0] == 503
            board.post(replace(board.latest, tick=NOON, ledger_entries=number))
            before = get(server, "/metrics")[1]
            assert f"quietcount_ledger_entries {float(number)}" not in before.splitlines()
            board.turn()
            assert f"quietcount_ledger_entries {float(number)}" in get(server, "/metrics")[1].splitlines()


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
            assert server.lives
        assert server.address == address
    assert [event.fields["meaning"] for event in heard if event.kind is DEFECT] == [
        "the process that serves metrics and health ended: signal 9",
        "the process that serves metrics and health ended: signal 11",
    ]


@pytest.mark.parametrize("module", ["quietcount_consumers.monitoring.no_such_module", "this"])
def test_a_process_that_never_has_a_good_start_is_given_up(
    server: MonitoringServer,
    monkeypatch: pytest.MonkeyPatch,
    heard: list[LogEvent],
    hurried: None,
    module: str,
) -> None:
    monkeypatch.setattr(http_server, "MODULE", module)
    with server:
        until(lambda: not server.lives)
    assert len(heard) == STARTS


def test_a_process_that_hangs_and_takes_no_pages_is_replaced(
    server: MonitoringServer, board: Board, monkeypatch: pytest.MonkeyPatch, hurried: None
) -> None:
    monkeypatch.setattr(http_server, "HAND_OVER_SECONDS", 0.2)
    with server:
        assert get(server)[0] == 200
        before = pid_of(server)
        os.kill(before, signal.SIGSTOP)
        for _ in range(1000):  # until what lies between the processes is full
            board.turn()
            if pid_of(server) != before or gone(before):
                break
        until(lambda: pid_of(server) != before)
        monkeypatch.setattr(http_server, "HAND_OVER_SECONDS", WITHIN)
        assert get(server)[0] == 200


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


def test_signals_that_a_terminal_or_systemd_sends_to_all_do_not_end_it(server: MonitoringServer) -> None:
    """At once, too, before it has done anything about them."""
    with server:
        for _ in range(3):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(pid_of(server), number)
            assert get(server)[0] == 200
        assert os.getsid(pid_of(server)) != os.getsid(0)
        pid = pid_of(server)
    assert gone(pid)


PARENT = """
import datetime as dt, sys
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings
board = Board(lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(minutes=1))
with MonitoringServer(MonitoringSettings(port=0), board) as server:
    print(server.address[1], server._child.pid, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def parent() -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A process with a server of its own, the port of that, and the process that serves."""
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port, pid = map(int, process.stdout.readline().split())
        yield process, port, pid
    finally:
        process.kill()
        process.communicate()


@pytest.mark.promise("answer-times")
def test_an_answer_needs_nothing_of_the_process_that_folds() -> None:
    """Each page is answered while that process is stopped, and can do nothing at all."""
    with parent() as (process, port, _):
        process.send_signal(signal.SIGSTOP)
        until(lambda: "T (stopped)" in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii"))
        for path, status in (("/healthz", 200), ("/readyz", 503), ("/metrics", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)
            with contextlib.closing(connection):
                connection.request("GET", path)
                assert connection.getresponse().status == status


def test_a_service_that_is_started_again_at_once_has_its_address_again() -> None:
    with parent() as (process, port, _):
        process.kill()
        process.wait(WITHIN)
        again = MonitoringServer(MonitoringSettings(port=port), Board(lambda: NOON, dt.timedelta(minutes=1)))
        with again:
            assert get(again) == (200, "ok\n")


@pytest.mark.parametrize("started", [False, True])
def test_it_ends_when_the_service_is_killed(started: bool) -> None:
    with parent() as (process, port, pid):
        if started:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)) as connection:
                connection.request("GET", "/healthz")
                assert connection.getresponse().status == 200
        process.kill()
        process.wait(WITHIN)
        until(lambda: gone(pid))
        with socket.socket() as other:  # the address is free again
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
