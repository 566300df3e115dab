"""How the contract suite, and others that want a log with fresh topics, get at the log on Kafka."""

from __future__ import annotations

import time

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError
from tests.kafka.fixtures import Kafka

from quietcount_consumers.kafka.log import KafkaLog
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import NewRecord

_SETTLING_SECONDS = 30  # until every broker tells of a topic that was made or deleted
_ANY_TIME = str(2**63 - 1)


class LogWithTopics(KafkaLog):
    """The log on Kafka, with the making and deleting of topics that tests need and the service never does."""

    def create_topic(self, name: str, partitions: int = 1) -> str:
        """Make the topic, unless it is there, and return its id."""
        wanted = {
            "num_partitions": partitions,
            "replication_factor": 1,
            "configs": {
                # A record's time is the date of an event: far ahead of the broker's clock, or so old that a broker
                # that deletes by age would delete it at once.
                "message.timestamp.after.max.ms": _ANY_TIME,
                "message.timestamp.before.max.ms": _ANY_TIME,
                "retention.ms": "-1",
            },
        }
        with KafkaAdminClient(bootstrap_servers=list(self.settings.brokers)) as admin:
            try:
                admin.create_topics({self.settings.topic(name): wanted})
            except TopicAlreadyExistsError:
                return self.topic_id(name)
        deadline = time.monotonic() + _SETTLING_SECONDS
        while True:
            try:
                if set(self.end_offsets(name)) == set(range(partitions)):
                    return self.topic_id(name)
            except (KafkaError, QuietcountError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def delete_topic(self, name: str) -> None:
        """Delete the topic, and wait until nothing is told of it any more."""
        with KafkaAdminClient(bootstrap_servers=list(self.settings.brokers)) as admin:
            admin.delete_topics([self.settings.topic(name)])
            deadline = time.monotonic() + _SETTLING_SECONDS
            while self.settings.topic(name) in admin.list_topics():
                assert time.monotonic() < deadline, "the topic is still there"
                time.sleep(0.05)


def opened(servers: str, prefix: str) -> LogWithTopics:
    """The log on the brokers `servers` ("host:port,..."), with every topic's name behind `prefix`."""
    return LogWithTopics(KafkaSettings(brokers=tuple(servers.split(",")), topic_prefix=prefix))


class KafkaBench:
    """The bench of the contract suite for Kafka: topics of one test, on the broker that all share."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        kafka: Kafka = request.getfixturevalue("kafka")
        self.servers = kafka.bootstrap
        self.prefix = kafka.prefix()

    def open(self) -> LogWithTopics:
        return opened(self.servers, self.prefix)

    def opening(self) -> str:
        return f"__import__('tests.kafka.bench', fromlist=['opened']).opened({self.servers!r}, {self.prefix!r})"

    def unwritable(self) -> NewRecord:
        return NewRecord(b"k", None, 0)  # type: ignore[arg-type]  # a record without a value
