"""The brokers that other tests stand on do what their controls say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Kafka


@contextmanager
def closing(client):
    try:
        yield client
    finally:
        client.close()


def make_topic(bootstrap: str, name: str, replicas: int = 1) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": replicas}})


def send(bootstrap: str, topic: str, value: bytes) -> int:
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        return producer.send(topic, value).get(30).offset


def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    place = TopicPartition(topic, 0)
    with closing(
        KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="none")
    ) as consumer:
        consumer.assign([place])
        consumer.seek(place, 0)
        found = []
        while len(found) < count:
            for records in consumer.poll(500).values():
                found += [record.value for record in records]
        return found


def test_a_record_comes_back(kafka: Kafka) -> None:
    topic = kafka.prefix() + "t"
    make_topic(kafka.bootstrap, topic)
    send(kafka.bootstrap, topic, b"x")
    assert read(kafka.bootstrap, topic, 1) == [b"x"]


def test_a_broker_that_is_killed_and_started_again_keeps_what_it_acknowledged(
    kafka_cluster: Callable[..., Cluster],
) -> None:
    cluster = kafka_cluster()
    make_topic(cluster.bootstrap, "t")
    send(cluster.bootstrap, "t", b"before")
    cluster.broker.kill()
    cluster.restart()
    send(cluster.bootstrap, "t", b"after")
    assert read(cluster.bootstrap, "t", 2) == [b"before", b"after"]
