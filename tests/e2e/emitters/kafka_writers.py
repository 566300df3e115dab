"""A writer on a topic of its own, and what another client reads there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from tests.kafka.fixtures import Kafka

from quietcount_producers.kafka.connection import client_options, reach
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_producers.kafka.writer import KafkaWriter
from quietcount_schemas.log import CASE_EVENTS, NewRecord

DAY = 1_680_307_200_000


def create(settings: KafkaSettings, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
    wanted = {
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": {"retention.ms": "-1", **(configs or {})},
    }
    with KafkaAdminClient(**client_options(settings, "test")) as admin:
        admin.create_topics({settings.topic(CASE_EVENTS): wanted}, wait_for_metadata=True)


def read(settings: KafkaSettings) -> list[Any]:
    """Every case event, in order within a partition."""
    consumer = KafkaConsumer(**client_options(settings, "test"), enable_auto_commit=False, auto_offset_reset="none")
    try:
        count = reach(settings, "test", [CASE_EVENTS])[CASE_EVENTS].partitions
        parts = [TopicPartition(settings.topic(CASE_EVENTS), number) for number in range(count)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        found: list[Any] = []
        while any(consumer.position(part) < ends[part] for part in parts):
            for records in consumer.poll(1000).values():
                found += records
        return found
    finally:
        consumer.close()


def numbered(count: int, keys: int = 7) -> list[NewRecord]:
    return [NewRecord(b"case %d" % (n % keys), b"%d" % n, DAY) for n in range(count)]


@pytest.fixture
def settings(kafka: Kafka) -> KafkaSettings:
    return KafkaSettings(brokers=tuple(kafka.bootstrap.split(",")), topic_prefix=kafka.prefix())


@pytest.fixture
def writer(settings: KafkaSettings) -> Iterator[KafkaWriter]:
    create(settings, partitions=3)
    with KafkaWriter(settings) as writer:
        yield writer
