"""The process that serves metrics, as tests ask it, find it and put a twin in its place."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quietcount_consumers.monitoring import server as http_server
from quietcount_consumers.monitoring.server import MonitoringServer

__all__ = ["DUMPABLE", "WITHIN", "get", "gone", "pid_of", "twin", "until"]

WITHIN = 60.0
"""Seconds after which what should have come is a failure."""

TWIN = """
from quietcount_consumers.monitoring import places, server_process
{difference}
server_process.main()
"""
DUMPABLE = "server_process.forbid_core_dumps = lambda: None"
"""What leaves a process open to others of its user, so that a test need not be root's to look into it."""


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


def twin(monkeypatch: pytest.MonkeyPatch, folder: Path, difference: str) -> None:
    """Let a twin serve in the place of the process that serves."""
    (folder / "twin.py").write_text(TWIN.format(difference=difference), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), *filter(None, sys.path))))
    monkeypatch.setattr(http_server, "MODULE", "twin")
