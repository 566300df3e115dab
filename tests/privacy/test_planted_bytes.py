"""After a settlement no byte of what was settled is left in anything that emitter and service wrote, on either log.

Identifiers, case keys and event ids are planted with the emitter's own publisher, through a spool. Every file is then
searched for them, in each guise in which a program could write them: the data folder with write-ahead logs and free
pages, the spool, and on Kafka the broker's own folder. The folder for temporary files is watched: nothing of events is
ever made there. A random needle of 8 bytes is in 64 MiB by chance once in 1e11 searches; there are some 20,000 needles.
"""

from __future__ import annotations

import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.catalogues import catalogue, statistic
from tests.e2e.kafka.kafka_projects import kafka_configuration, settings_of
from tests.e2e.projects import Project
from tests.kafka.fixtures import Clusters
from tests.privacy.planted_bytes import WatchedFolder, found, guises

from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers import CaseEventPublisher
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.log import CASE_EVENTS, NewRecord

pytestmark = pytest.mark.quick

CONFIGURATION = catalogue(statistic("requests", "HelpRequested", by="help_kind"), grace="1d") + (
    '\n[emitter]\nspool = "spool"\n'
)
EVENTS = 200
OPEN, DUE, LATER = "2023-01-20", "2023-02-03", "2023-03-15"


@dataclass(frozen=True)
class Planted:
    """What was emitted of January, and what no emitter of ours sent."""

    names: list[str]
    ids: list[bytes]
    rejected: list[bytes]
    """Keys of records that are no events."""


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedFolder]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    watched = WatchedFolder(folder)
    yield watched
    watched.close()


def planted(project: Project, events: int = EVENTS) -> Planted:
    """Emit a January; then 20 records that are no events."""
    chance = random.Random(7)
    names = [chance.randbytes(8).hex() for _ in range(events)]
    ids = [uuid.UUID(bytes=chance.randbytes(16), version=4) for _ in range(events)]
    with CaseEventPublisher.from_config(project.config) as publisher:
        for name, identity in zip(names, ids, strict=True):
            publisher.emit("HelpRequested", name, "2023-01-10", event_id=identity, help_kind="DESERTION")
    return Planted(names, [each.bytes for each in ids], [chance.randbytes(16) for _ in range(20)])


def keys_of(project: Project, planted: Planted) -> list[bytes]:
    pepper = Pepper.load(project.folder / "secrets" / "pepper")
    return [pepper.case_key(name) for name in planted.names]


def needles(project: Project, planted: Planted) -> list[bytes]:
    """Return every guise of every identifier, case key, event id, and mark of an event."""
    keys = keys_of(project, planted)
    values = [*map(str.encode, planted.names), *keys, *planted.ids, *marks_of(project, planted)]
    return [guise for value in values for guise in guises(value)]


def marks_of(project: Project, planted: Planted) -> list[bytes]:
    """Return the marks by which the state knows the events, big-endian."""
    secret = ConsumerSecret.load(project.folder / "secrets" / "service")
    columns = [
        np.frombuffer(b"".join(each), np.uint8).reshape(-1, 16) for each in (keys_of(project, planted), planted.ids)
    ]
    return [int(high).to_bytes(8, "big") + int(low).to_bytes(8, "big") for high, low in secret.event_marks(*columns)]


def lived(project: Project) -> Planted:
    """Let January come in and be folded, and hold that the search finds it everywhere where it has to be."""
    project.run_here("2023-01-01")
    sown = planted(project)
    with project.log() as log:
        log.append(CASE_EVENTS, [NewRecord(key, b"no event of ours: " + key, 0) for key in sown.rejected])
    project.run_here(OPEN)
    there = found(project.folder, needles(project, sown))
    assert there["log.sqlite"] >= 2 * EVENTS, "the keys and the ids"
    assert there["state-0.duckdb"] >= EVENTS // 2, "the marks"
    return sown


@pytest.mark.promise("forgetting", "pseudonyms")
def test_no_byte_of_a_settled_month_is_left_in_any_file(tmp_path: Path, watched: WatchedFolder) -> None:
    project = Project(tmp_path / "project", CONFIGURATION)
    sown = lived(project)
    assert found(project.folder / "spool", needles(project, sown)) == {}, "the log has it, so the spool has not"
    assert found(project.folder, [guise for name in sown.names for guise in guises(name.encode())]) == {}
    project.run_here(DUE)
    assert found(project.folder, needles(project, sown)) == {}
    assert found(project.folder, sown.rejected) != {}, "dead letters wait for a month"
    project.run_here(LATER)
    assert found(project.folder, [guise for key in sown.rejected for guise in guises(key)]) == {}
    # The published file without a row is built once a process, and knows no event.
    assert [name for name in watched.made if not name.startswith("quietcount-template-")] == []


def test_the_search_finds_each_guise_in_a_file(tmp_path: Path) -> None:
    value = random.Random(3).randbytes(16)
    for number, guise in enumerate(guises(value)):
        (tmp_path / "file").write_bytes(b"\0" * (13 + number) + guise + b"behind")
        assert found(tmp_path, guises(value)) == {"file": 1}, number


def test_the_watched_folder_notices_what_is_deleted_at_once(watched: WatchedFolder) -> None:
    with tempfile.TemporaryFile(), tempfile.NamedTemporaryFile(prefix="named") as file:
        name = Path(file.name).name
    assert name in watched.made


def _deleted(self: EmbeddedLog, topic: str, before: dict[int, int]) -> bool:
    """Purge by DELETE alone, as SQLite does by itself; what secure_delete leaves is tried in test_embedded_log."""
    with self._transaction("purge") as cursor:
        cursor.execute("PRAGMA secure_delete = OFF")
        number, _ = self._topic(cursor, topic)
        for partition, offset in before.items():
            cursor.execute(
                'DELETE FROM records WHERE topic = ? AND partition = ? AND "offset" < ?', (number, partition, offset)
            )
    return True


@pytest.mark.check
def test_a_purge_that_deletes_rows_and_writes_nothing_anew_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "project", CONFIGURATION)
    sown = lived(project)
    monkeypatch.setattr(EmbeddedLog, "purge", _deleted)
    project.run_here(DUE)
    assert found(project.folder, needles(project, sown)) != {}


@pytest.mark.check
@pytest.mark.promise("forgetting")
def test_no_byte_of_a_settled_month_is_left_in_the_folder_of_a_broker(tmp_path: Path, kafka_cluster: Clusters) -> None:
    """Once the events of a later date have closed the segment that they lay in, as the page of the topics says."""
    cluster = kafka_cluster(
        properties={"log.segment.delete.delay.ms": "500", "log.retention.check.interval.ms": "1000"}
    )
    project = Project(tmp_path / "project", kafka_configuration(cluster.bootstrap, cluster.prefix(), CONFIGURATION))
    create_topics(settings_of(project), partitions=1)
    project.run_here("2023-01-01")
    sown = planted(project)
    project.run_here(OPEN)
    disk = cluster.broker.folder / "data"
    wanted = needles(project, sown)
    assert sum(found(disk, wanted).values()) >= 2 * EVENTS
    assert set(found(project.folder, wanted)) <= {"state-0.duckdb", "state-0.duckdb.wal"}, (
        "of the rest only the broker knows"
    )
    with CaseEventPublisher.from_config(project.config) as publisher:
        publisher.emit("HelpRequested", "somebody else", "2023-02-02", help_kind="DESERTION")
    project.run_here(DUE)
    assert found(project.folder, wanted) == {}
    until = time.monotonic() + 60
    while found(disk, wanted) and time.monotonic() < until:
        time.sleep(0.5)
    assert found(disk, wanted) == {}
