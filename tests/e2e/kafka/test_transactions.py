"""What others write into the log in transactions: counted when it is committed, waited for while it is open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer, TopicPartition
from tests.e2e.kafka.kafka_projects import settings_of
from tests.e2e.kafka.kafka_services import LATER, LINES, TRUE, nonzero, project, rewriting, states_of, topic_of
from tests.e2e.projects import Project
from tests.kafka.fixtures import Kafka

from quietcount_consumers.kafka import log as kafka_log
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.opening import open_service
from quietcount_producers.errors import LogUnavailable
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.check

__all__ = ["project"]  # fixtures, which tests ask for by name


@contextlib.contextmanager
def transaction(project: Project, kafka: Kafka) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=f"{settings_of(project).topic_prefix}foreign"
    )
    producer.init_transactions()
    producer.begin_transaction()
    try:
        yield producer
    finally:
        producer.close()


def test_a_release_waits_for_a_transaction_that_is_open_and_loses_nothing(
    project: Project, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged behind an open transaction cannot be read yet: a period must not close over it."""
    with transaction(project, kafka) as foreign:
        for partition in range(3):
            foreign.send(topic_of(project), value=b"foreign", key=b"foreign", partition=partition)
        foreign.flush()
        project.emit(LINES)
        with open_service(project.configuration, LATER) as service, monkeypatch.context() as hasty:
            hasty.setattr(kafka_log, "ANSWER_SECONDS", 0.5)  # for records that cannot come
            with pytest.raises(LogUnavailable, match="transaction"):
                service.tick(LATER)
        assert project.released() == {}
        foreign.abort_transaction()
    project.run_here()
    assert nonzero(project) == TRUE
    with states_of(project) as states:
        assert [state.rows("SELECT * FROM dead_letters") for state in states] == [[], [], []]
    with KafkaLog(settings_of(project)) as log:
        dead = log.end_offsets("case-events.dead-letter")
    assert not any(dead.values())  # an aborted record is no rejected one


def test_a_twin_that_closes_over_an_open_transaction_is_found_out(
    project: Project, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faulty twin takes the last stable offset for the end, as a read_committed consumer gives it."""

    def stable(self: KafkaLog, topic: str) -> dict[int, int]:
        consumer = self._reader()
        partitions = [TopicPartition(self.settings.topic(topic), p) for p in self.partitions(topic)]
        return {tp.partition: end for tp, end in consumer.end_offsets(partitions).items()}

    with transaction(project, kafka) as foreign:
        for partition in range(3):
            foreign.send(topic_of(project), value=b"foreign", key=b"foreign", partition=partition)
        foreign.flush()
        project.emit(LINES)
        with monkeypatch.context() as patch:
            patch.setattr(KafkaLog, "end_offsets", stable)
            with open_service(project.configuration, LATER) as service:
                service.tick(LATER)
        foreign.abort_transaction()
    project.run_here()
    assert nonzero(project) != TRUE


def test_only_what_was_committed_of_transactions_is_counted(project: Project, kafka: Kafka) -> None:
    """The same events, written by a client with transactions: one half committed, the other aborted."""
    project.emit(LINES)
    records, other = rewriting(project, kafka)
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=f"{settings_of(other).topic_prefix}foreign"
    )
    producer.init_transactions()
    for commit in (False, True, False):
        producer.begin_transaction()
        for record in records if commit else records[::2]:
            # An aborted record that were folded would be rejected for its key.
            key = record.key if commit else b"not the case key"
            producer.send(
                topic_of(other), value=record.value, key=key, partition=record.partition, timestamp_ms=record.timestamp
            )
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    producer.close()
    other.run_here()
    assert nonzero(other) == TRUE
    with KafkaLog(settings_of(other)) as log:
        assert not any(log.end_offsets("case-events.dead-letter").values())
        assert log.beginning_offsets(CASE_EVENTS) == log.end_offsets(CASE_EVENTS)
