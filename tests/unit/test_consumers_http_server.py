"""The process that serves metrics: what it is made of, that it is watched, and that it ends with the service."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.kafka.certificates import Authority
from tests.running_world import NOON, Trial, World

from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring import server as http_server
from quietcount_consumers.monitoring.log_events import NOT_SERVING, SERVING, LogEvent
from quietcount_consumers.monitoring.pages import Pages, PagesFile
from quietcount_consumers.monitoring.server import MODULE, MonitoringServer
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
        assert get(server) == (200, "ok\n")
    off = MonitoringServer(MonitoringSettings(address=None), board)
    with off:
        assert off.address is None
        assert off._child is None
        board.turn()


TWIN = """
from quietcount_consumers.monitoring import server_process
{difference}
server_process.main()
"""
DUMPABLE = "server_process.forbid_core_dumps = lambda: None"


def twin(monkeypatch: pytest.MonkeyPatch, folder: Path, difference: str) -> None:
    """Let a twin serve in the place of the process that serves."""
    (folder / "twin.py").write_text(TWIN.format(difference=difference), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), *filter(None, sys.path))))
    monkeypatch.setattr(http_server, "MODULE", "twin")


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


def test_it_gets_no_secret_from_the_environment_and_has_nothing_open_of_the_service(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUIETCOUNT_KAFKA__PASSWORD", "5ec2e7")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.chdir(tmp_path)
    twin(monkeypatch, tmp_path, DUMPABLE)  # else root alone might look
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


class Pauses(threading.Event):
    """The event that ends a server; what would wait for it goes on at once, and its seconds are kept."""

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
    server._ending = pauses = Pauses()
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
