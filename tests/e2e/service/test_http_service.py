"""`quietcount run` and what it serves: on one address, from before its state is opened, whatever its clients do."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.projects import Project, ended, simulated, true_cells
from tests.e2e.service.http_clients import dribbling
from tests.kafka.certificates import Authority

from quietcount_consumers.monitoring.pages import LATE
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.check

WITHIN = 60.0  # seconds after which what should have come is a failure
FLOOD = 6.0  # seconds, in which even a busy machine does the ticks that fold what was emitted
BEFORE_ANY_RELEASE = "2023-01-02"
_LISTENS = "0A"

Address = tuple[str, int]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@contextlib.contextmanager
def running(project: Project, **variables: str) -> Iterator[subprocess.Popen[str]]:
    environment = {f"QUIETCOUNT_{name}": value for name, value in variables.items()}
    process = project.start("run", "--as-of", BEFORE_ANY_RELEASE, environment=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def listening(pid: int) -> list[Address]:
    """Every address that a process listens on, over TCP; one that takes UDP is a failure."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            own.add(str(descriptor.readlink()))
    found = []
    for table, kind in (("tcp", 4), ("tcp6", 6), ("udp", 4), ("udp6", 6)):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            _, local, _, state, *rest = line.split()
            if f"socket:[{rest[5]}]" not in own:
                continue
            assert table.startswith("tcp"), "it takes UDP"
            if state == _LISTENS:
                host, port = local.split(":")
                words = [int(host[i : i + 8], 16).to_bytes(4, "little") for i in range(0, len(host), 8)]
                found.append((str(ipaddress.ip_address(b"".join(words))), int(port, 16)))
                assert ipaddress.ip_address(found[-1][0]).version == kind
    return found


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def address_of(process: subprocess.Popen[str]) -> Address:
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        assert process.poll() is None, "the service ended"
        for address in listening(process.pid):
            return address
        time.sleep(0.05)
    pytest.fail("nothing listens")


def get(
    address: Address,
    path: str,
    user: str | None = None,
    tls: ssl.SSLContext | None = None,
    within: float = WITHIN,
) -> tuple[int, str]:
    headers = {} if user is None else {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
    plain, over_tls = http.client.HTTPConnection, http.client.HTTPSConnection
    connection = plain(*address, timeout=within) if tls is None else over_tls(*address, timeout=within, context=tls)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def until_ready(address: Address, user: str | None = None, tls: ssl.SSLContext | None = None) -> None:
    until = time.monotonic() + WITHIN
    while (answer := get(address, "/readyz", user, tls))[0] != 200:
        assert answer[0] == 503
        assert time.monotonic() < until, answer


def test_it_listens_on_the_address_that_was_said_and_on_no_other(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with running(project, METRICS__LISTEN=f"127.0.0.1:{port}") as process:
        address = address_of(process)
        until_ready(address)
        assert get(address, "/healthz") == (200, "ok\n")
        [serving] = children(process.pid)
        # The same socket: the process that folds keeps it for the next one that serves.
        assert listening(process.pid) == listening(serving) == [("127.0.0.1", port)]
        assert "quietcount_ready 1.0" in get(address, "/metrics")[1].splitlines()


def test_another_socket_that_listens_would_be_found() -> None:
    """The mutant of the two around it: one more address."""
    before = listening(os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert sorted(listening(os.getpid())) == sorted([*before, other.getsockname()])


def test_off_listens_on_nothing(project: Project) -> None:
    with running(project, METRICS__LISTEN="off") as process:
        until = time.monotonic() + WITHIN
        while not project.public.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        assert listening(process.pid) == []
        assert children(process.pid) == []


def test_a_service_that_ends_when_idle_serves_nothing(project: Project) -> None:
    """It runs with a port that is taken, and never asks for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {"QUIETCOUNT_METRICS__LISTEN": f"127.0.0.1:{taken.getsockname()[1]}"}
        command = ("run", "--until-idle", "--as-of", BEFORE_ANY_RELEASE)
        project.quietcount(*command, environment=environment).done()


def test_what_cannot_be_served_is_one_clear_error_before_the_state_is_opened(project: Project) -> None:
    def refusal(**variables: str) -> str:
        environment = {f"QUIETCOUNT_METRICS__{name}": value for name, value in variables.items()}
        message = project.quietcount("run", environment=environment).refusal()
        assert not project.data.exists()
        return message

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"variable QUIETCOUNT_METRICS__LISTEN: another program listens on {address}" in refusal(LISTEN=address)
    assert "there is no file" in refusal(USERNAME="prometheus", PASSWORD_FILE="secrets/none")


PAGES = ("/healthz", "/readyz", "/metrics")
TWIN = Path(__file__).with_name("served_within.py")


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A time in which a process can do nothing at all."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + WITHIN
        while "T (stopped)" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii"):
            assert time.monotonic() < until
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(pid, signal.SIGCONT)


def answered_without_the_fold(process: subprocess.Popen[str]) -> bool:
    """Whether every page is answered while the process that folds is stopped."""
    address = address_of(process)
    until_ready(address)
    with stopped(process.pid):
        try:
            return [get(address, page, within=3.0)[0] for page in PAGES] == [200] * 3
        except TimeoutError:
            return False


def test_an_answer_needs_nothing_of_the_process_that_folds(project: Project) -> None:
    """So its time says nothing of what that process does: each page is answered while it does nothing at all."""
    with running(project) as process:
        assert answered_without_the_fold(process)
        assert answered_without_the_fold(process)


def test_answers_from_the_process_that_folds_are_found_out(project: Project) -> None:
    """The mutant: a server in a thread beside the fold."""
    command = [sys.executable, str(TWIN), "run", "--as-of", BEFORE_ANY_RELEASE, "--config", str(project.config)]
    process = project._start(command, {}, {"stderr": subprocess.DEVNULL})
    try:
        assert not answered_without_the_fold(process)
    finally:
        process.kill()
        process.communicate()


def test_a_service_that_is_stuck_shows_it_though_it_says_nothing(tmp_path: Path) -> None:
    """Its own clock has to go on for that: `--as-of` lets it stand."""
    project = Project(tmp_path / "project", catalogue(statistic("requests", "HelpRequested", since=None)))
    process = project.start("run", stderr=subprocess.DEVNULL)
    try:
        address = address_of(process)
        until_ready(address)
        with stopped(process.pid):
            until = time.monotonic() + WITHIN
            while get(address, "/readyz") != (503, "Ticks are late.\n"):
                assert time.monotonic() < until
            lines = get(address, "/metrics")[1].splitlines()
            assert "quietcount_ready 0.0" in lines
            [behind] = [line for line in lines if line.startswith("quietcount_ticks_behind ")]
            assert float(behind.split()[1]) > LATE
        until_ready(address)
    finally:
        process.kill()
        process.communicate()


def test_the_process_that_serves_ends_with_the_service_however_that_ends(project: Project) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with running(project) as process:
            until_ready(address_of(process))
            [serving] = children(process.pid)
            process.send_signal(number)
            process.wait(WITHIN)
            until = time.monotonic() + WITHIN
            while gone(serving) is False:
                assert time.monotonic() < until


def gone(pid: int) -> bool:
    try:
        return "Z (zombie)" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_ctrl_c_at_a_terminal_lets_the_service_end_in_order(project: Project) -> None:
    """A terminal sends the signal to every process of its group."""
    process = project.start("run", "--as-of", BEFORE_ANY_RELEASE, start_new_session=True)
    try:
        address = address_of(process)
        until_ready(address)
        os.killpg(process.pid, signal.SIGINT)
        finished = ended(process)
    finally:
        process.kill()
        process.communicate()
    assert finished.code == 0
    assert json.loads(finished.err.splitlines()[-1])["event"] == "stopped"
    assert "not serving" not in finished.err


def test_a_process_that_serves_and_dies_is_told_in_the_log_and_replaced(project: Project) -> None:
    process = project.start("run", "--as-of", BEFORE_ANY_RELEASE)
    try:
        address = address_of(process)
        until_ready(address)
        [serving] = children(process.pid)
        os.kill(serving, signal.SIGKILL)
        assert process.stderr is not None
        heard: list[dict[str, str]] = []
        while not heard or heard[-1]["event"] != "not serving":
            heard.append(json.loads(process.stderr.readline()))
        assert heard[-1]["meaning"] == "the process that serves metrics and health ended: signal 9"
        until_ready(address)
        assert children(process.pid) != [serving]
    finally:
        process.kill()
        process.communicate()


def test_a_service_ends_in_order_while_the_process_that_serves_is_stopped(project: Project) -> None:
    process = project.start("run", "--as-of", BEFORE_ANY_RELEASE)
    try:
        until_ready(address_of(process))
        [serving] = children(process.pid)
        with stopped(serving):
            project.emit(simulated(100))
            process.send_signal(signal.SIGTERM)
            finished = ended(process)
    finally:
        process.kill()
        process.communicate()
    assert finished.code == 0
    assert json.loads(finished.err.splitlines()[-1])["event"] == "stopped"
    assert gone(serving)


def test_a_hangup_brings_a_new_certificate_and_password(project: Project) -> None:
    secrets, authority = project.folder / "secrets", Authority(project.folder / "authority")

    def written(name: str, password: str) -> None:
        issued = authority.issue(name, "127.0.0.1")
        shutil.copy(issued.certificate_file, secrets / "metrics.pem")
        shutil.copy(issued.key_file, secrets / "metrics-key.pem")
        (secrets / "metrics-password").write_text(password, encoding="utf-8")
        for secret in ("metrics-key.pem", "metrics-password"):
            (secrets / secret).chmod(0o600)

    with project.config.open("a", encoding="utf-8") as file:
        file.write(
            '[metrics]\ncertificate_file = "secrets/metrics.pem"\nkey_file = "secrets/metrics-key.pem"\n'
            'username = "prometheus"\npassword_file = "secrets/metrics-password"\n'
        )
    trust = ssl.create_default_context(cafile=authority.file)
    written("first", "open sesame")
    with running(project) as process:
        address = address_of(process)
        until_ready(address, "prometheus:open sesame", trust)
        before = ssl.get_server_certificate(address, timeout=WITHIN)
        assert get(address, "/metrics", tls=trust)[0] == 401
        written("second", "another")
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + WITHIN
        status = 0
        while status != 200:
            assert time.monotonic() < until
            # The process that ends drops a connection that has asked for nothing yet.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                status = get(address, "/metrics", "prometheus:another", trust)[0]
        assert get(address, "/metrics", "prometheus:open sesame", trust)[0] == 401
        assert ssl.get_server_certificate(address, timeout=WITHIN) != before


def flood(address: Address, stop: threading.Event, answered: list[int]) -> None:
    """Scrape without a pause, on connections that are kept and on new ones in turn."""
    while not stop.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(*address, timeout=WITHIN)
            with contextlib.closing(connection):
                for _ in range(random.randint(1, 3)):
                    connection.request("GET", "/metrics")
                    answered.append(connection.getresponse().status)


def folded_to_the_end(project: Project) -> None:
    with project.log() as log:
        end = log.end_offsets(CASE_EVENTS)[0]
    with duckdb.connect(str(project.private / "state-0.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT next_offset FROM offsets").fetchall() == [(end,)]


def test_a_flood_of_scrapes_and_dribbles_keeps_nothing_from_being_folded(project: Project) -> None:
    lines = simulated(4000)
    project.emit(lines[:2000], "first.jsonl")
    answered: list[int] = []
    stop = threading.Event()
    with running(project) as process:
        address = address_of(process)
        clients = dribbling(address)
        threads = [threading.Thread(target=flood, args=(address, stop, answered)) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            project.emit(lines[2000:], "second.jsonl")
            time.sleep(FLOOD)
            until_ready(address)
            while "quietcount_caught_up 1.0" not in get(address, "/metrics")[1].splitlines():
                pass
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for client in clients:
                client.close()
        process.send_signal(signal.SIGTERM)
        assert ended(process).code == 0
    assert set(answered) == {200}
    folded_to_the_end(project)
    project.run_here()
    assert {cell: value for cell, value in project.released().items() if value} == true_cells(lines)
