"""A client that is not ours and leaves to its library what it has to set: the operator sees what it got wrong."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from tests.e2e.kafka.kafka_projects import kafka_project, settings_of
from tests.e2e.projects import Project
from tests.kafka.fixtures import Kafka

from quietcount_consumers.opening import open_service
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.rejection import ClientFault, RejectReason

pytestmark = pytest.mark.check

NOON = dt.datetime(2023, 10, 20, 12, tzinfo=dt.UTC)
OCTOBER = ("requests", "2023-10-01", "help_kind=DESERTION")
REQUESTS = 60
"""Of three partitions each gets some: that none lies in its own happens in one of 10^10 runs."""
SECONDS = 30  # for a broker that answers at once when it is well
OURS = {"event": "HelpRequested", "case": "case 42", "occurred_on": "2023-10-17", "help_kind": "DESERTION"}


@pytest.fixture
def project(tmp_path: Path, kafka: Kafka) -> Project:
    return kafka_project(tmp_path / "project", kafka.bootstrap, kafka.prefix())


Seen = tuple[frozenset[ClientFault], frozenset[RejectReason]]


def seen(project: Project) -> tuple[Seen, Seen]:
    """Return the faults and rejects that a tick at noon shows, and those that one of the day after shows."""
    with open_service(project.configuration, NOON) as service:
        today = service.status(NOON, service.tick(NOON))
        later = NOON + dt.timedelta(days=1)
        after = service.status(later, service.tick(later))
        return (today.faults_seen, today.rejects_seen), (after.faults_seen, after.rejects_seen)


def send(project: Project, day: dt.date, headers: dict[str, str | bytes | None], **settings: Any) -> None:
    """Send requests for help as librdkafka does when nobody tells it otherwise."""
    found = settings_of(project)
    producer = Producer({"bootstrap.servers": found.servers, "acks": "all", **settings})
    codec = Codec(project.configuration.registry())
    for _ in range(REQUESTS):
        key = uuid.uuid4().bytes
        event = CaseEvent("HelpRequested", key, uuid.uuid4().bytes, 0, day, {"help_kind": "DESERTION"})
        producer.produce(found.topic(CASE_EVENTS), key=key, value=codec.encode(event), headers=headers)
    assert producer.flush(SECONDS) == 0


def test_a_client_that_leaves_all_to_its_library_is_seen_on_the_day_after(project: Project) -> None:
    project.emit([OURS])
    send(project, dt.date(2023, 10, 17), {"traceparent": b"00-trace-span-01"})
    today, later = seen(project)
    assert today == (frozenset(), frozenset())
    faults, rejects = later
    assert faults == {ClientFault.TIMESTAMP, ClientFault.DATE_TOO_EXACT, ClientFault.HEADERS}
    assert rejects == {RejectReason.WRONG_PARTITION}
    counted = project.open_cells()[OCTOBER]
    assert 1 < counted < REQUESTS + 1
    project.quietcount("dead-letters", "replay").done()
    project.run_here("2023-10-22")
    assert project.open_cells()[OCTOBER] == REQUESTS + 1, "a replay puts each into the partition of its key"


def test_a_client_that_only_forgets_the_timestamp_has_one_fault(project: Project) -> None:
    send(project, dt.date(2023, 10, 1), {}, partitioner="murmur2_random")
    assert seen(project)[1] == (frozenset({ClientFault.TIMESTAMP}), frozenset())


def test_our_emitter_has_none(project: Project) -> None:
    project.emit([OURS | {"case": f"case {number}"} for number in range(20)])
    assert seen(project)[1] == (frozenset(), frozenset())
