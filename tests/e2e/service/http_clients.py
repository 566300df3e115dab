"""A server of metrics for a test, and its clients: those that mean well, and those that never finish a request."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import http.client
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kafka.certificates import Authority, Issued
from tests.serving_world import pid_of

from quietcount_consumers.monitoring.places import CONNECTIONS
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

__all__ = [
    "DRIBBLING",
    "ME",
    "WITHIN",
    "Serve",
    "authority",
    "connected",
    "dribble",
    "dribbling",
    "ended",
    "established",
    "get",
    "guard",
    "peak_under",
    "serve",
    "settles",
    "those_who_dribble",
    "where",
]

WITHIN = 30.0  # seconds after which what should have come is a failure


DRIBBLING = 200


ME = "prometheus:open sesame"


Serve = Callable[..., MonitoringServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> MonitoringServer:
            board = Board(lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(seconds=60))
            return stack.enter_context(MonitoringServer(MonitoringSettings(port=0, **settings), board))

        yield start


def where(server: MonitoringServer) -> tuple[str, int]:
    assert server.address is not None
    return server.address


def get(
    server: MonitoringServer,
    path: str = "/healthz",
    *,
    trust: Path | None = None,
    user: str | None = None,
    timeout: float = WITHIN,
) -> tuple[int, str]:
    """Ask as a client does that means well; `user` is "name:password"."""
    host, port = where(server)
    if trust is None:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    else:
        context = ssl.create_default_context(cafile=trust)
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    headers = {} if user is None else {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()}
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def ended(client: socket.socket) -> bytes:
    """Read until the server ends the connection; return what it said."""
    client.settimeout(WITHIN)
    said = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(65_536):
            said += data
    return said


def connected(server: MonitoringServer) -> socket.socket:
    return socket.create_connection(where(server), timeout=WITHIN)


def dribbling(address: tuple[str, int], count: int = DRIBBLING) -> list[socket.socket]:
    """Open connections that will never finish a request, without waiting for any."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(address)
        clients.append(client)
    return clients


def dribble(clients: list[socket.socket]) -> None:
    for client in clients:
        with contextlib.suppress(OSError):
            client.send(b"x")


_LISTENS = "0A"


def established(server: MonitoringServer) -> int:
    """Count the connections that the process that serves has, unfinished handshakes included."""
    host, port = where(server)
    local = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"
    lines = (line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines())
    known = {f"socket:[{words[9]}]" for words in lines if words[1] == local and words[3] != _LISTENS}
    # The table alone is read in pieces, and counts those that come and those that go meanwhile.
    count = 0
    for descriptor in Path(f"/proc/{pid_of(server)}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(descriptor.readlink()) in known
    return count


def peak_under(
    server: MonitoringServer, seconds: float, trust: Path | None = None, count: int = DRIBBLING
) -> tuple[int, bool]:
    """Let clients dribble for so long; return the most connections at once, and whether one who asks is answered."""
    clients = dribbling(where(server), count)
    try:
        until, peak, answered = time.monotonic() + seconds, 0, False
        while time.monotonic() < until and not answered:
            dribble(clients)
            peak = max(peak, established(server))
            with contextlib.suppress(OSError, http.client.HTTPException):
                answered = get(server, timeout=1.5, trust=trust) == (200, "ok\n")
        return max(peak, established(server)), answered
    finally:
        for client in clients:
            client.close()


@contextlib.contextmanager
def those_who_dribble(server: MonitoringServer) -> Iterator[None]:
    """Clients that dribble without a pause."""
    clients, stop = dribbling(where(server)), threading.Event()

    def dribbles() -> None:
        while not stop.wait(0.1):
            dribble(clients)

    thread = threading.Thread(target=dribbles)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for client in clients:
            client.close()


def settles(server: MonitoringServer, seconds: float) -> bool:
    """Let clients dribble; return whether no more than the places are left of them within `seconds`."""
    with those_who_dribble(server):
        until = time.monotonic() + WITHIN
        while established(server) < DRIBBLING // 2:
            assert time.monotonic() < until
        until = time.monotonic() + seconds
        while established(server) > CONNECTIONS + 1 and time.monotonic() < until:
            assert get(server) == (200, "ok\n")
        return established(server) <= CONNECTIONS + 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def guard(tmp_path: Path, authority: Authority) -> dict[str, Any]:
    """Certificate, key, user and password, as settings name them."""
    issued: Issued = authority.issue("first", "127.0.0.1")
    for name, source in (("certificate", issued.certificate_file), ("key", issued.key_file)):
        shutil.copy(source, tmp_path / name)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "password").write_text("open sesame\n", encoding="utf-8")
    (tmp_path / "password").chmod(0o600)
    return {
        "certificate_file": tmp_path / "certificate",
        "key_file": tmp_path / "key",
        "username": "prometheus",
        "password_file": tmp_path / "password",
    }
