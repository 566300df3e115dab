"""The client library of Kafka: its errors never show what they carry, and a version that hides a switch is refused."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from typing import Any

import pytest
from kafka import errors as kafka_errors
from tests.unit.producers.kafka.stand_in_brokers import settings_of

from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka import internals
from quietcount_producers.kafka import writer as kafka_writer
from quietcount_producers.kafka.connection import client_options, explained
from quietcount_producers.kafka.internals import store_whole
from quietcount_producers.kafka.writer import MOST_BYTES, KafkaWriter, _rounds, _size
from quietcount_producers.partitioner import partition_for
from quietcount_schemas.log import CASE_EVENTS, NewRecord, Position

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "error, kind, told",
    [
        (kafka_errors.TopicAuthorizationFailedError("x"), LogError, "a client without a name may not"),
        (kafka_errors.ClusterAuthorizationFailedError("x"), LogError, r"may not \(ClusterAuthorizationFailedError\)"),
        (kafka_errors.UnknownTopicOrPartitionError("x"), LogError, "quietcount topics create"),
        (kafka_errors.MessageSizeTooLargeError("x"), LogError, r"max\.message\.bytes"),
        (kafka_errors.InvalidTimestampError("x"), LogError, r"message\.timestamp\.type"),
        (
            kafka_errors.NotEnoughReplicasError("x"),
            LogUnavailable,
            r"min\.insync\.replicas.*let those that lag catch up",
        ),
        (kafka_errors.KafkaConnectionError("x"), LogUnavailable, "the connection was lost"),
        (kafka_errors.KafkaTimeoutError("x"), LogUnavailable, r"no answer in time \(KafkaTimeoutError\)"),
        (kafka_errors.KafkaStorageError("x"), LogUnavailable, "KafkaStorageError"),
        (kafka_errors.UnknownBrokerIdError("x"), LogUnavailable, "UnknownBrokerIdError"),
        (kafka_errors.BrokerNotAvailableError("x"), LogUnavailable, "BrokerNotAvailableError"),
        (kafka_errors.OutOfOrderSequenceNumberError("x"), LogError, "OutOfOrderSequenceNumberError"),
        (ConnectionResetError("x"), LogUnavailable, "ConnectionResetError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_the_library_is_told_by_what_to_do_and_never_by_its_text(
    error: Exception, kind: type[LogError], told: str
) -> None:
    error.args = ("telltale",)
    found = explained(error, settings_of("broker:9092", topic_prefix="p."), "append to", CASE_EVENTS)
    assert type(found) is kind
    assert "telltale" not in str(found)
    with pytest.raises(kind, match=told):
        raise found
    assert "p.case-events" in str(found)


def test_the_library_s_loggers_say_nothing_unless_somebody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = [logging.getLogger(name) for name in ("kafka", "kafka.protocol.parser")]
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logging.NOTSET)
    client_options(settings_of("broker:9092"), "test")
    assert [logger.level for logger in loggers] == [logging.CRITICAL, logging.CRITICAL]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    client_options(settings_of("broker:9092"), "test")
    assert [logger.level for logger in loggers] == [logging.DEBUG, logging.DEBUG]
    for logger in loggers:
        logger.setLevel(logging.NOTSET)  # drops what it remembers of levels; monkeypatch puts back the number


def test_what_is_sent_together_fits_and_keeps_its_order() -> None:
    records = [NewRecord(b"%d" % (n % 5), bytes(n * 997 % 60_000), 0) for n in range(200)]
    rounds = _rounds(records, 3)
    assert sorted(number for each in rounds for numbers in each.values() for number in numbers) == list(range(200))
    for each in rounds:
        for partition in range(3):
            assert sum(_size(records[number]) for number in each.get(partition, [])) <= MOST_BYTES
    for partition in range(3):
        order = [number for each in rounds for number in each.get(partition, [])]
        assert order == [n for n in range(200) if partition_for(records[n].key, 3) == partition]


class Tool:
    """A part of the library as it is."""

    def _can_split(self) -> None: ...

    def force_close(self) -> None: ...

    def join(self, _seconds: float) -> None: ...

    def _unregister_cleanup(self) -> None: ...

    def _tp_lock(self, _place: object) -> None: ...

    def add(self, _batch: object) -> None: ...


@pytest.mark.parametrize(
    "lacking", ["_can_split", "force_close", "join", "_unregister_cleanup", "_sender", "_tp_lock", "_batches", "add"]
)
def test_a_library_that_hides_what_must_be_switched_off_is_refused(lacking: str) -> None:
    """To replace what goes by another name would raise nothing, and half of an append could be stored."""
    producer: Any = type("Producer", (), {name: each for name, each in vars(Tool).items() if name != lacking})()
    producer._accumulator = producer._incomplete = producer
    if lacking != "_sender":
        producer._sender = producer
    if lacking != "_batches":
        producer._batches = {}
    with pytest.raises(
        LogError, match=rf"cannot use kafka-python .*{'_can_split' if lacking == '_sender' else lacking}"
    ):
        store_whole(producer)


@pytest.mark.parametrize("changed", ["ProducerBatch", "MemoryRecordsBuilder"])
def test_a_library_that_makes_batches_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    producer: Any = Tool()
    producer._sender = producer._accumulator = producer._incomplete = producer
    producer._batches = {}
    store_whole(producer)
    monkeypatch.setattr(internals, changed, object)
    with pytest.raises(LogError, match=f"cannot use kafka-python .*{changed}"):
        store_whole(producer)


def test_a_library_that_hides_that_it_creates_topics_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "_AUTO_CREATE", "create_topics_by_another_name")
    with pytest.raises(LogError, match=r"cannot use kafka-python .* create_topics_by_another_name"):
        internals.network_client(bootstrap_servers="127.0.0.1:9")


def test_a_fork_amid_an_append_hangs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_writer, "reach", lambda *_, **__: {})
    writer = KafkaWriter(settings_of("broker:9092"))
    amid, over = threading.Event(), threading.Event()

    def append(*_: object) -> list[Position]:
        amid.set()
        over.wait(60)
        return []

    monkeypatch.setattr(writer, "_append", append)
    record = NewRecord(b"k", b"v", 0)
    thread = threading.Thread(target=writer.append, args=(CASE_EVENTS, [record]))
    thread.start()
    amid.wait(60)

    def child() -> None:
        writer.close()
        try:
            writer.append(CASE_EVENTS, [record])
        except LogError as error:
            os._exit(42 if "before a fork" in str(error) else 1)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    process.kill()
    process.join()
    over.set()
    thread.join()
    assert process.exitcode == 42
