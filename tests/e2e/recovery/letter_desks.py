"""A project on one of the logs, its dead letters, and records for it."""

from __future__ import annotations

import csv
import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.e2e.projects import Project
from tests.e2e.service.test_events import SPECIAL
from tests.kafka.fixtures import Kafka

from quietcount_consumers.commands.dead_letters import dead_letters_command
from quietcount_consumers.dead_letters import Letter, letters
from quietcount_consumers.kafka.topics import create_topics
from quietcount_consumers.wiring import open_log
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.log import CASE_EVENTS, NewRecord
from quietcount_schemas.registry import SchemaRegistry

AS_OF = "2024-01-08"
EARLY = "2023-01-02"  # nothing is due: states can be compared exactly


@dataclass(frozen=True)
class Desk:
    """A project on one of the logs."""

    project: Project
    broker_log: Path | None = None

    def append(self, records: Iterable[NewRecord]) -> None:
        with closing(open_log(self.project.configuration)) as log:
            log.append(CASE_EVENTS, list(records))

    def letters(self) -> list[Letter]:
        with closing(open_log(self.project.configuration)) as log:
            return list(letters(log))

    def command(self, *arguments: str) -> list[str]:
        """Run `quietcount dead-letters` in this process; return the last column of what it shows, without its head."""
        result = CliRunner().invoke(dead_letters_command, [*arguments, "--config", str(self.project.config)])
        assert result.exit_code == 0, (result.output, result.exception)
        return [row[-1] for row in csv.reader(result.stdout.splitlines())][1:]

    def case_events(self) -> int:
        """How many records were ever appended."""
        with closing(open_log(self.project.configuration)) as log:
            return sum(log.end_offsets(CASE_EVENTS).values())


@pytest.fixture(params=["embedded", "kafka"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Desk]:
    """Return a function that makes a project with a configuration on one of the logs, and its topics."""

    def made(configuration: str, name: str = "project", *, partitions: int = 1) -> Desk:
        if request.param == "embedded":
            desk = Desk(Project(tmp_path / name, configuration))
            desk.project.private.mkdir(parents=True, mode=0o700)
            desk.project.private.parent.chmod(0o700)
            return desk
        kafka: Kafka = request.getfixturevalue("kafka")
        prefix = kafka.prefix()
        settings = KafkaSettings(brokers=tuple(kafka.bootstrap.split(",")), topic_prefix=prefix)
        create_topics(settings, partitions=partitions)
        configuration = f'log = "kafka://{kafka.bootstrap}"\n{configuration}\n[kafka]\ntopic_prefix = "{prefix}"\n'
        project = Project(tmp_path / name, configuration)
        return Desk(project, kafka.cluster.broker.log if kafka.cluster else None)

    return made


def own_schema(project: Project) -> SchemaRegistry:
    (project.folder / "own").mkdir()
    (project.folder / "own" / "CheckedIn.avsc").write_text(json.dumps(SPECIAL), encoding="utf-8")
    return SchemaRegistry.load([project.folder / "own"])


def check_in(case: int, *, day: int = 3, event_id: int | None = None, **attributes: object) -> CaseEvent:
    return CaseEvent(
        "CheckedIn",
        case.to_bytes(16, "big"),
        uuid.UUID(int=case if event_id is None else event_id, version=4).bytes,
        0,
        dt.date(2023, 2, day),
        attributes,
    )


def record(codec: Codec, event: CaseEvent) -> NewRecord:
    return NewRecord(event.case_key, codec.encode(event), 0)


def counted(project: Project, table: str = "check_ins") -> dict[tuple[str, ...], int]:
    """Return the cells above zero; at epsilon 20 they are as they were counted."""
    found = project.released()
    return {cell: value for cell, value in found.items() if value and cell[0] == table}
