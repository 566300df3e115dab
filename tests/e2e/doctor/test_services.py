"""The doctor beside a service: it tells of one that runs or waits, and disturbs none."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import socket
import time
from pathlib import Path

import pytest
from tests.e2e.doctor.doctor_projects import WARNING, WRONG, Healthy, found, healthy, project, tells, unverified, with_
from tests.e2e.projects import Project, ended
from tests.kafka.certificates import Authority

from quietcount_aggregates.state import state_file
from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board, beginning

pytestmark = pytest.mark.check

__all__ = ["healthy", "project", "unverified"]  # the fixtures


def test_a_service_that_runs_is_told_of_and_not_disturbed(project: Project, unverified: None) -> None:
    process = project.start("run", "--as-of", "2023-03-08")
    try:
        lock = project.private / "state-0.duckdb.lock"
        deadline = time.monotonic() + 60
        # Looked at from outside: whoever tried the lock would hold it in the moment in which the service wants it.
        while f":{lock.stat().st_ino} " not in Path("/proc/locks").read_text(encoding="ascii"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for _ in range(3):
            verdicts = examine(project.config, Healthy())
            assert found(verdicts) == []
            assert any(each.what == "a service is running, and holds it" for each in verdicts)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert "Error" not in ended(process).done().err
    finally:
        process.kill()
        process.communicate()
    assert found(examine(project.config, Healthy())) == []


@pytest.mark.parametrize("runs", [False, True])
def test_a_missing_published_file_is_to_be_waited_for_only_if_a_service_runs(
    project: Project, unverified: None, runs: bool
) -> None:
    project.public.unlink()
    with contextlib.ExitStack() as stack:
        if runs:
            stack.enter_context(state_file.locked(project.private / "state-0.duckdb"))
        (found_it,) = [each for each in examine(project.config, Healthy()) if each.code == "published file"]
    assert found_it.severity is WARNING
    assert found_it.remedy.startswith("Wait for the next tick" if runs else "Start the service")


@pytest.mark.parametrize(
    "given, says",
    [
        ("", "they need no certificate and no password"),
        ('username = "a", password_file = "password"', "password can be read"),
    ],
)
def test_of_the_metrics_only_what_is_configured_is_said_to_be_read(
    project: Project, unverified: None, monkeypatch: pytest.MonkeyPatch, given: str, says: str
) -> None:
    monkeypatch.delenv("QUIETCOUNT_METRICS__LISTEN")
    password = project.folder / "password"
    password.touch(0o600)
    password.write_text("a long password of the metrics", encoding="utf-8")
    with_(f"metrics = {{ {given} }}")(project)
    (said,) = [each.what for each in examine(project.config, Healthy()) if each.code == "metrics"]
    assert said == says


@pytest.mark.parametrize("tls", [False, True])
def test_a_service_that_waits_is_not_taken_for_another_program(
    project: Project, unverified: None, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.delenv("QUIETCOUNT_METRICS__LISTEN")
    keys = [f'listen = "127.0.0.1:{port}"']
    if tls:
        issued = Authority(project.folder / "authority").issue("service", "127.0.0.1")
        keys += [f'certificate_file = "{issued.certificate_file}"', f'key_file = "{issued.key_file}"']
    with_(f"metrics = {{ {', '.join(keys)} }}")(project)
    configuration = project.configuration
    board = Board(lambda: dt.datetime(2026, 6, 1, tzinfo=dt.UTC), configuration.tick, beginning(configuration))
    with MonitoringServer(configuration.metrics, board):
        verdicts = examine(project.config, Healthy())
    assert tells(verdicts, "metrics", WARNING, "it waits, or is halted")
    assert not tells(verdicts, "metrics", WRONG, "another program")
