"""Ledgers on a broker: their topics and settings, clients of somebody else, and what lies in the topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition
from tests.kafka.fixtures import Kafka

from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES

Opened = Callable[[KafkaSettings], KafkaLedger]


def settings_of(bootstrap: str, prefix: str) -> KafkaSettings:
    return KafkaSettings(brokers=tuple(bootstrap.split(",")), topic_prefix=prefix)


@pytest.fixture
def bare(kafka: Kafka) -> KafkaSettings:
    """Settings behind which there is no topic yet."""
    return settings_of(kafka.bootstrap, kafka.prefix())


@pytest.fixture
def settings(bare: KafkaSettings) -> KafkaSettings:
    create_topics(bare)
    return bare


@pytest.fixture
def admin(kafka: Kafka) -> Iterator[Any]:
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap.split(",")) as admin:
        yield admin


def producer_of(settings: KafkaSettings, transactional_id: str | None = None) -> Any:
    """A client of somebody else."""
    return KafkaProducer(
        bootstrap_servers=list(settings.brokers), transactional_id=transactional_id, transaction_timeout_ms=60_000
    )


def raw(settings: KafkaSettings) -> list[Any]:
    """Return every record of the topic, those of aborted and open transactions too."""
    partition = TopicPartition(settings.topic(RELEASES), 0)
    with closing(KafkaConsumer(bootstrap_servers=list(settings.brokers), group_id=None)) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        end = consumer.end_offsets([partition])[partition]
        found: list[Any] = []
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=100).values():
                found += records
        return found


def filled(settings: KafkaSettings, entries: Sequence[bytes] = (b"one", b"two")) -> KafkaLedger:
    ledger = KafkaLedger(settings)
    ledger.append(entries, epoch=ledger.fence(), expected=0)
    return ledger


def written(settings: KafkaSettings, entries: Sequence[bytes], keys: Sequence[bytes | None]) -> None:
    """Write entries by hand, as an older version did, or as they lie after something has gone."""
    with closing(producer_of(settings)) as writer:
        for key, entry in zip(keys, entries, strict=True):
            writer.send(settings.topic(RELEASES), entry, key=key, partition=0).get(10)


FAILED = (AssertionError, pytest.fail.Exception)
