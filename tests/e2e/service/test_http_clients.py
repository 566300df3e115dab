"""The server of metrics and its clients over real sockets: slow ones, hostile ones, and those it is there for."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.e2e.service.http_clients import (
    DRIBBLING,
    WITHIN,
    Serve,
    connected,
    ended,
    established,
    get,
    peak_under,
    serve,
    settles,
    those_who_dribble,
)
from tests.serving_world import twin

from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring import places
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.check

__all__ = ["serve"]  # fixtures, which tests ask for by name


def test_the_three_pages_answer_and_no_other(serve: Serve) -> None:
    server = serve()
    assert get(server) == (200, "ok\n")
    status, reasons = get(server, "/readyz")
    assert status == 503
    assert "No tick was done yet." in reasons.splitlines()
    status, metrics = get(server, "/metrics")
    assert status == 200
    assert "quietcount_ready 0.0" in metrics.splitlines()
    assert get(server, "/")[0] == 404


def test_an_ipv6_address_is_served_too(serve: Serve) -> None:
    try:
        server = serve(address="::1")
    except ServiceError:
        pytest.skip("this machine has no IPv6")
    assert get(server) == (200, "ok\n")


def test_off_listens_nowhere(serve: Serve) -> None:
    server = serve(address=None, username="prometheus", password_file=Path("none"))
    assert server.address is None
    server.reload()


def test_those_who_dribble_take_no_more_than_their_places_and_shut_nobody_out(serve: Serve) -> None:
    assert settles(serve(), 3 * WITHIN)


def test_without_a_cap_there_is_no_bound_on_connections(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutant."""
    twin(monkeypatch, tmp_path, "places.CONNECTIONS = 10_000")
    assert not settles(serve(), 3 * places.PATIENCE_SECONDS)


STOCK = """
from uvicorn import Config
def stock(application, places, tls=None):
    return Config(application, http="h11", ws="none", lifespan="off", interface="asgi3", log_config=None,
        limit_concurrency=places_limit, timeout_keep_alive=75, h11_max_incomplete_event_size=16384)
places_limit = places.CONNECTIONS
server_process.configuration = stock
"""


def test_stock_limits_alone_let_clients_that_say_nothing_shut_everybody_out(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutant, and the reason for places: uvicorn's own limit refuses whoever comes last, while the others stay."""
    twin(monkeypatch, tmp_path, STOCK)
    server = serve()
    with those_who_dribble(server):
        until = time.monotonic() + WITHIN
        while established(server) < DRIBBLING:
            assert time.monotonic() < until
        assert {get(server)[0] for _ in range(20)} == {503}


BACKWARDS = """
import time
places._Place.__init__.__defaults__ = (0.3,)
times = iter(range(10**9, 0, -1))
time.time = lambda: next(times)
"""


def test_a_client_is_held_to_its_deadline_while_somebody_sets_the_clock_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    twin(monkeypatch, tmp_path, BACKWARDS)
    with connected(serve()) as client:
        client.sendall(b"GET /healthz HT")
        assert ended(client) == b""


BY_UVICORN = """
import asyncio
ours = server_process.configuration
def notified(application, places, tls=None):
    config = ours(application, places, tls)
    async def sweep():
        places.sweep()
    config.callback_notify, config.timeout_notify = sweep, 0
    return config
async def idle(*_):
    await asyncio.sleep(1000)
server_process.configuration, server_process._live = notified, idle
"""


def test_deadlines_by_the_clock_that_people_set_are_found_out(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutant: uvicorn looks at the clock, and calls nobody until that is where it was."""
    twin(monkeypatch, tmp_path, BACKWARDS + BY_UVICORN)
    with connected(serve()) as client:
        client.sendall(b"GET /healthz HT")
        client.settimeout(3.0)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_flood_of_new_connections_shuts_nobody_out(serve: Serve) -> None:
    """Who came just now gives way to none: one that asks at once is answered."""
    server = serve()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                connected(server).close()

    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(flood)
        try:
            assert [get(server, "/metrics")[0] for _ in range(50)] == [200] * 50
        finally:
            stop.set()


def test_garbage_is_refused_and_the_next_is_answered(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    server = serve()
    random.seed(4)
    pieces = [random.randbytes(random.randint(1, 3000)) + b"\r\n\r\n" for _ in range(30)]
    pieces += [
        b"GET / HTTP/1.1\r\n\r\n" * 3,
        b"\r\n\r\n",
        b"\x16\x03\x01" * 50 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    clients = []
    for piece in pieces:
        client = connected(server)
        client.sendall(piece)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        clients.append(client)
    for client in clients:
        ended(client)
        client.close()
    assert get(server) == (200, "ok\n")
    assert capfd.readouterr() == ("", ""), "whoever reaches the port could fill the log"


def test_a_header_without_end_is_refused(serve: Serve) -> None:
    server = serve()
    with connected(server) as client:
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            client.sendall(b"GET / HTTP/1.1\r\nx: ")
            client.settimeout(2)
            while sent < 64 << 20:
                sent += client.send(b"x" * 65_536)
        assert sent < 64 << 20
        with contextlib.suppress(ConnectionError):
            assert ended(client).startswith((b"HTTP/1.1 400 ", b""))
    assert get(server) == (200, "ok\n")


@pytest.mark.parametrize("header", [b"content-length: 1099511627776", b"transfer-encoding: chunked"])
def test_a_body_without_end_is_refused_and_not_read(serve: Serve, header: bytes) -> None:
    server = serve()
    with connected(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n\r\n")
        said = client.recv(1000)
        assert said.startswith(b"HTTP/1.1 413 ")
        sent = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            client.settimeout(2)
            while sent < 64 << 20:
                sent += client.send(b"5\r\nhello\r\n" * 1000)
        assert sent < 64 << 20
    assert get(server) == (200, "ok\n")


def test_one_who_never_reads_holds_up_nobody(serve: Serve) -> None:
    server = serve()
    with connected(server) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 500)
        assert get(server) == (200, "ok\n")


def test_a_reload_ends_connections_that_were_let_in_before(serve: Serve) -> None:
    server = serve()
    with connected(server) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        client.settimeout(WITHIN)
        said = b""
        while not said.endswith(b"ok\n"):
            said += client.recv(1000)
        server.reload()
        assert ended(client) == b""


def test_ending_waits_for_no_client(serve: Serve) -> None:
    board = Board(lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(seconds=60))
    with MonitoringServer(MonitoringSettings(port=0), board) as server:
        clients = [connected(server) for _ in range(10)]
        for client in clients[:5]:
            client.sendall(b"GET /healthz HT")
        assert get(server) == (200, "ok\n")
        child = server._child
    assert child is not None
    assert child.wait() == "exit code 0", "it had to be killed"
    for client in clients:
        assert ended(client) == b""
        client.close()


def test_without_descriptors_it_waits_and_goes_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    twin(monkeypatch, tmp_path, "places.CONNECTIONS, server_process.FILES = 8, 40")
    server = serve()
    peak, answered = peak_under(server, WITHIN)
    assert answered
    assert 0 < peak < 40
