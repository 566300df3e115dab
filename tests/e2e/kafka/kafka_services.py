"""What the tests of the service on a broker share: a project, its events, and what others do to its log."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient
from tests.e2e.kafka.kafka_projects import kafka_project, settings_of
from tests.e2e.projects import Project, simulated, true_cells
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.state.state import State
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.service import run_command
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.kafka.topics import create_topics
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS, Record

LINES = simulated(150)
TRUE = true_cells(LINES)
LATER = dt.datetime(2024, 1, 8, tzinfo=dt.UTC)
BEFORE = dt.datetime(2023, 1, 2, tzinfo=dt.UTC)  # nothing is due


@pytest.fixture
def project(tmp_path: Path, kafka: Kafka) -> Project:
    return kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix())


@pytest.fixture
def admin(kafka: Kafka) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    yield admin
    admin.close()


def nonzero(project: Project) -> dict[tuple[str, str, str], int]:
    return {cell: value for cell, value in project.released().items() if value}


def refused(project: Project, *arguments: str) -> str:
    command = ledger_command if arguments[0] == "ledger" else run_command
    result = CliRunner().invoke(command, [*arguments[1:], "--config", str(project.config)])
    assert isinstance(result.exception, QuietcountError), (result.output, result.exception)
    return str(result.exception)


def went_on(project: Project) -> None:
    result = CliRunner().invoke(ledger_command, ["new-log", "--yes", "--config", str(project.config)])
    assert result.exit_code == 0, (result.output, result.exception)


@contextlib.contextmanager
def states_of(project: Project) -> Iterator[list[State]]:
    """Open the state of each partition, in their order."""
    with contextlib.ExitStack() as stack:
        files = sorted(project.configuration.state_files.items())
        yield [stack.enter_context(State(path, partition)) for partition, path in files]


def topic_of(project: Project) -> str:
    return settings_of(project).topic(CASE_EVENTS)


def rewriting(project: Project, kafka: Kafka) -> tuple[list[Record], Project]:
    """Return the events in the log of `project`, and another project under the same pepper, to write them to."""
    with KafkaLog(settings_of(project)) as log:
        ends = log.end_offsets(CASE_EVENTS)
        records = log.poll(CASE_EVENTS, dict.fromkeys(ends, 0), ends, 100_000)
    other = kafka_project(project.folder.parent / "other", kafka.bootstrap, kafka.prefix())
    (other.folder / "secrets" / "pepper").write_bytes((project.folder / "secrets" / "pepper").read_bytes())
    return records, other


def recreate(project: Project, admin: KafkaAdminClient, partitions: int = 3) -> None:
    """Delete the topic of case events and make it again, with nothing in it."""
    admin.delete_topics([topic_of(project)])
    until = time.monotonic() + 20
    while topic_of(project) in admin.list_topics():
        assert time.monotonic() < until
        time.sleep(0.05)
    create_topics(settings_of(project), partitions=partitions)
