"""The thread that serves metrics: it is not waited for where it cannot begin, and its end is not overlooked."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.running_world import NOON

from quietcount_consumers.defects import hearing_threads
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring import server as http_server
from quietcount_consumers.monitoring.log_events import DEFECT, LogEvent
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

pytestmark = pytest.mark.quick


@pytest.fixture
def server() -> MonitoringServer:
    return MonitoringServer(
        MonitoringSettings(address="127.0.0.1", port=0), Board(lambda: NOON, dt.timedelta(minutes=1))
    )


@pytest.fixture
def heard() -> Iterator[list[LogEvent]]:
    heard: list[LogEvent] = []
    with hearing_threads(heard.append, lambda: NOON):
        yield heard


def no_descriptor(*_: object) -> object:
    raise OSError(errno.EMFILE, "Too many open files")


def test_a_server_that_serves_and_one_that_is_to_serve_nothing_live(server: MonitoringServer) -> None:
    with server:
        assert server.lives
    off = MonitoringServer(MonitoringSettings(address=None), Board(lambda: NOON, dt.timedelta(minutes=1)))
    with off:
        assert off.lives


@pytest.mark.parametrize("place", ["loop", "protocol"])
def test_a_thread_that_cannot_begin_is_an_error_and_not_waited_for(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, heard: list[LogEvent], place: str
) -> None:
    if place == "loop":
        monkeypatch.setattr(asyncio, "SelectorEventLoop", no_descriptor)
    else:
        monkeypatch.setattr(http_server, "protocol_configuration", no_descriptor)
    with pytest.raises(ServiceError, match="metrics cannot be served"):
        server.__enter__()
    assert not any(thread.name == "quietcount-http" for thread in threading.enumerate())
    assert server.address is None
    assert heard == []


def test_a_server_that_stops_to_take_connections_is_told_and_found(
    server: MonitoringServer, monkeypatch: pytest.MonkeyPatch, heard: list[LogEvent]
) -> None:
    def broken(client: socket.socket, _since: float) -> object:
        client.close()
        raise RuntimeError("text that nobody may read")

    monkeypatch.setattr(http_server, "_Place", broken)
    with server:
        thread, address = server._thread, server.address
        assert thread is not None
        assert address is not None
        with contextlib.suppress(OSError):
            asyncio.run(_knock(address))
        thread.join(60)
        assert not server.lives
    [defect] = heard
    assert defect.kind is DEFECT
    assert defect.own_fields()["meaning"].startswith("RuntimeError at ")
    assert "quietcount_consumers/http_server.py" in defect.own_fields()["meaning"]
    assert "nobody" not in defect.own_fields()["meaning"]


async def _knock(address: tuple[str, int]) -> None:
    _, writer = await asyncio.open_connection(*address)
    writer.close()
    await writer.wait_closed()
