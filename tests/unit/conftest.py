"""A unit test asks no broker and no network: this module refuses both."""

from __future__ import annotations

import _socket
import ipaddress
import socket
from typing import Any

import pytest

BROKERS = {"apache_kafka", "kafka", "kafka_cluster", "kafka_secure", "kafka_three", "schema_registry"}


def _local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a socket of the file system
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.split("%", maxsplit=1)[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def nothing_outside_of_this_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that asks for a broker, connects beyond this machine, or looks a name up (`.invalid` has none)."""
    if asked := BROKERS & set(request.fixturenames):
        pytest.fail(f"a unit test asks for {', '.join(sorted(asked))}: it belongs in tests/contract or tests/e2e")
    look_up = socket.getaddrinfo

    def connect(self: socket.socket, address: Any) -> None:
        assert _local(address), f"a unit test connects to {address}"
        _socket.socket.connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        assert _local(address), f"a unit test connects to {address}"
        return _socket.socket.connect_ex(self, address)

    def guarded(host: Any, *given: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        if name.rstrip(".").endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        assert _local((name,)), f"a unit test looks up {name}"
        return look_up(host, *given, **named)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded)
