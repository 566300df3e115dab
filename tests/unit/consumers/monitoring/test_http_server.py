"""The process that serves metrics: what it is made of, what it can be asked, and that it ends with the service."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.running_world import NOON
from tests.serving_world import DUMPABLE, WITHIN, get, gone, pid_of, twin, until

from quietcount_consumers.monitoring.server import MODULE, MonitoringServer
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.quick

FORBIDDEN = {"duckdb", "kafka", "numpy", "opendp", "prometheus_client", "pydantic", "rich"}


@pytest.fixture
def board() -> Board:
    return Board(lambda: NOON, dt.timedelta(minutes=1))


@pytest.fixture
def server(board: Board) -> MonitoringServer:
    return MonitoringServer(MonitoringSettings(port=0), board)


def test_a_server_that_serves_and_one_that_is_to_serve_nothing_live(server: MonitoringServer, board: Board) -> None:
    with server:
        assert get(server) == (200, "ok\n")
    off = MonitoringServer(MonitoringSettings(address=None), board)
    with off:
        assert off.address is None
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
    with_both = {"quietcount_consumers.access", "quietcount_consumers.core_dumps", "quietcount_schemas.lazy_names"}
    assert ours == {MODULE, *with_both, *beside}


def opened(process: Path) -> list[str]:
    """Return what a process has open; what it closes while we look is left out."""
    names = []
    for each in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(each.readlink()))
    assert names
    return names


def test_it_gets_no_secret_from_the_environment_and_has_nothing_open_of_the_service(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUIETCOUNT_KAFKA__PASSWORD", "5ec2e7")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.chdir(tmp_path)
    twin(monkeypatch, tmp_path, DUMPABLE)  # else root alone might look
    with (tmp_path / "state-0.duckdb").open("w") as state:
        os.set_inheritable(state.fileno(), True)
        with server:
            assert get(server)[0] == 200
            there = Path(f"/proc/{pid_of(server)}")
            assert b"5ec2e7" not in (there / "environ").read_bytes()
            assert b"NOTIFY" not in (there / "environ").read_bytes()
            assert not [name for name in opened(there) if str(tmp_path) in name]
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


REPORTING = """
import ctypes, json, pathlib, resource
serve = server_process._serve
def reporting(*arguments):
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    pathlib.Path({report!r}).write_text(json.dumps([dumpable, resource.getrlimit(resource.RLIMIT_CORE)]))
    return serve(*arguments)
server_process._serve = reporting
"""


def core_dumps_of(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, folder: Path, difference: str = ""
) -> list[Any]:
    """Return whether the process that serves may be dumped, and how large a dump may be, when it reads its first word.

    It says so itself: the one thing in which a process that must not be dumped differs is for root alone to see.
    """
    report = folder / "report"
    twin(monkeypatch, folder, REPORTING.format(report=str(report)) + difference)
    with server:
        assert get(server)[0] == 200
        found = json.loads(report.read_text(encoding="ascii"))
        assert isinstance(found, list)
        return found


def test_the_process_that_serves_leaves_no_core_dump_and_lets_nobody_into_its_memory(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It holds the key and what the password is compared with, and its start has undone what its parent had said."""
    assert core_dumps_of(server, monkeypatch, tmp_path) == [0, [0, 0]]


def test_a_process_that_may_be_dumped_is_found_out(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutant, though its parent is not dumpable."""
    assert core_dumps_of(server, monkeypatch, tmp_path, DUMPABLE)[0] == 1


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
