"""The service on a real broker: what it counts, what its commands do, and what it waits for."""

from __future__ import annotations

import datetime as dt
import io
import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from tests.e2e.kafka.kafka_projects import kafka_configuration, kafka_project
from tests.e2e.kafka.kafka_services import (
    LATER,
    LINES,
    TRUE,
    nonzero,
    project,
    refused,
    rewriting,
    topic_of,
)
from tests.e2e.projects import Project
from tests.kafka.fixtures import Clusters, Kafka
from tests.running_world import Hands, MovedClocks

from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.opening import open_service
from quietcount_consumers.running.runner import Admit, Runner
from quietcount_consumers.running.timekeeping import Grid, fixed_clock
from quietcount_consumers.service import Service

pytestmark = pytest.mark.check

__all__ = ["project"]  # fixtures, which tests ask for by name


@pytest.mark.quick
@pytest.mark.promise("kafka")
def test_what_was_emitted_is_released_once_and_no_log_or_ledger_lies_in_the_data_folder(project: Project) -> None:
    project.emit(LINES)
    project.run_here()
    assert nonzero(project) == TRUE
    project.emit(LINES)  # again: counts once
    project.run_here("2024-03-08")
    assert nonzero(project) == TRUE
    assert project.ledger_values() == project.released()
    assert sorted(path.name for path in project.private.iterdir()) == [
        f"state-{partition}.{rest}"
        for partition in range(3)
        for rest in ("duckdb", "duckdb.lock", "limits.court_cases.lifetime.1", "limits.requests.lifetime.1")
    ]


def test_the_commands_of_the_ledger_work_on_a_ledger_on_kafka(project: Project) -> None:
    project.emit(LINES)
    assert "requests,2023-01-01,2023-01-31" in project.quietcount("release", "--as-of", "2023-03-08").done().out
    assert "holds exactly what the ledger says" in project.quietcount("ledger", "verify").done().out
    assert "released" in project.quietcount("ledger", "show").done().out
    due = project.quietcount("release", "--dry-run", "--as-of", "2023-04-08").done().out
    assert "2023-03-01" in due
    assert "2023-02-01" not in due
    project.quietcount("ledger", "retire", "court_cases", "--yes").done()
    assert "retired" in project.quietcount("ledger", "show").done().out


def test_a_lost_state_is_recorded_in_a_ledger_on_kafka(project: Project) -> None:
    project.emit(LINES)
    project.run_here("2023-06-08")
    released = project.released()
    for path in project.configuration.state_files.values():
        path.unlink()
    assert "quietcount ledger record-loss" in refused(project, "run", "--until-idle", "--as-of", "2024-01-08")
    result = CliRunner().invoke(ledger_command, ["record-loss", "--yes", "--config", str(project.config)])
    assert result.exit_code == 0, result.output
    project.run_here()
    assert released.items() <= project.released().items()


def test_no_new_secret_is_made_where_the_ledger_on_kafka_has_entries(project: Project) -> None:
    project.run_here("2023-03-08")
    secret = project.configuration.service.secret_file
    secret.unlink()
    for path in project.configuration.state_files.values():
        path.unlink()
    assert str(secret) in refused(project, "run", "--until-idle", "--as-of", "2023-03-08")
    assert not secret.exists()


def test_a_missing_topic_is_named_with_the_command_that_makes_it(tmp_path: Path, kafka: Kafka) -> None:
    project = kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix(), topics=False)
    message = refused(project, "run", "--until-idle", "--as-of", "2023-03-08")
    assert topic_of(project) in message
    assert "quietcount topics create" in message
    assert not project.public.exists()


def test_events_that_another_client_compressed_are_counted(project: Project, kafka: Kafka) -> None:
    """The service itself unpacks gzip alone; the topic has the broker unpack what comes in otherwise."""
    project.emit(LINES)
    records, other = rewriting(project, kafka)
    codecs = ("gzip", "snappy", "lz4", "zstd")
    producers = [
        Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": codec, "linger.ms": 100})
        for codec in codecs
    ]
    keys = sorted({record.key or b"" for record in records})
    for record in records:
        # A case stays with one client, whose order is that of the first log.
        producer = producers[keys.index(record.key or b"") % len(producers)]
        producer.produce(
            topic_of(other), key=record.key, value=record.value, partition=record.partition, timestamp=record.timestamp
        )
    for producer in producers:
        assert producer.flush(30) == 0
    other.run_here()
    assert nonzero(other) == TRUE


@pytest.mark.soak
def test_a_service_waits_for_brokers_that_are_away_opens_anew_and_goes_on(
    tmp_path: Path, kafka_cluster: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, with the outage between two ticks; the process itself is tried below."""
    cluster = kafka_cluster()
    project = kafka_project(tmp_path / "project", cluster.bootstrap, cluster.prefix())
    project.emit(LINES)
    clocks = MovedClocks(LATER)
    written = io.StringIO()
    signals = Hands(clocks, 20, {1: cluster.stop, 2: cluster.start})
    grid = Grid(dt.timedelta(seconds=1), clocks.wall)
    log = LogOutput(written)

    def opening(configuration: Configuration, now: dt.datetime, _admit: Admit) -> Service:
        return open_service(configuration, LATER, say=log.say)

    Runner(
        project.configuration,
        opening,
        clock=fixed_clock(LATER),
        grid=grid,
        board=Board(grid, grid.tick),
        signals=signals,
        output=log,
        reading=lambda: project.configuration,
        pause=lambda _: None,
    ).run()
    assert nonzero(project) == TRUE
    said = [json.loads(line)["event"] for line in written.getvalue().splitlines()]
    assert [each for each in said if each in ("waiting", "going on")] == ["waiting", "going on"]


class Said:
    """What a process says on stderr, as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._coming: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: Iterable[str]) -> None:
        for line in stream:
            self._coming.put(line)
        self._coming.put("")

    def until(self, word: str) -> None:
        """Wait for a line with `word` in it; fail when the process ends first, or two minutes are over."""
        deadline = time.monotonic() + 120
        while True:
            try:
                line = self._coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = ""
            if not line:
                self._coming.put("")  # for `rest`
                pytest.fail(f"{word!r} was not said, but: {''.join(self.lines)}")
            self.lines.append(line)
            if word in line:
                return

    def rest(self) -> list[str]:
        """Return all lines; the process has ended."""
        self._reader.join()
        while line := self._coming.get_nowait():
            self.lines.append(line)
        return self.lines


@pytest.mark.soak
def test_a_service_that_runs_waits_for_brokers_that_are_away_and_goes_on(
    tmp_path: Path, kafka_cluster: Clusters
) -> None:
    cluster = kafka_cluster()
    project = kafka_project(tmp_path / "project", cluster.bootstrap, cluster.prefix())
    project.emit(LINES)
    with project.start("run", "--as-of", "2024-01-08") as process:
        said = Said(process)
        try:
            said.until('"period_end": "2023-12-31"')
            assert nonzero(project) == TRUE
            cluster.stop()
            said.until('"event": "waiting"')
            cluster.start()
            said.until('"event": "going on"')
            # Gone again, for good: the signal ends it all the same.
            cluster.kill()
            said.until('"event": "waiting"')
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
            lines = said.rest()
    assert sum('"event": "waiting"' in line for line in lines) == 2
    assert "Traceback" not in "".join(lines)


@pytest.mark.parametrize("command", ["run", "release"])
def test_brokers_that_do_not_answer_at_the_start_end_it_within_seconds(tmp_path: Path, command: str) -> None:
    project = Project(tmp_path / "project", kafka_configuration("127.0.0.1:1", "t."))
    message = project.quietcount(command).refusal()
    assert "127.0.0.1:1" in message
    assert not project.public.exists()
