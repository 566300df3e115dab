"""The log on Kafka, beyond what every log promises: memory, purging, what tells a log from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from tests.contract.kafka_logs import log
from tests.e2e.kafka.kafka_projects import groups_answer
from tests.kafka.bench import LogWithTopics, opened
from tests.kafka.fixtures import Clusters, Kafka

from quietcount_consumers.kafka import clients as log_clients
from quietcount_consumers.kafka import log as kafka_log
from quietcount_consumers.kafka.clients import MAX_PARTITION_FETCH
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import Mark, NewRecord

pytestmark = pytest.mark.quick

__all__ = ["log"]  # fixtures, which tests ask for by name


def test_what_is_in_hand_does_not_grow_with_the_backlog(log: LogWithTopics) -> None:
    log.create_topic("t", 3)
    for start in range(0, 30_000, 3_000):
        log.append("t", [NewRecord(n.to_bytes(16, "big"), bytes(100), 0) for n in range(start, start + 3_000)])
    ends = log.end_offsets("t")
    at = dict.fromkeys(ends, 0)
    held = []
    while batch := log.poll("t", at, ends, 50):
        for record in batch:
            at[record.partition] = record.offset + 1
        held.append(sum(len(r.key or b"") + len(r.value) for b in log._buffers.values() for r in b.records[b.start :]))
    assert at == ends
    # An answer holds at most so many bytes of a partition, and another is asked for when less than a turn is left.
    assert max(held) <= 3 * (MAX_PARTITION_FETCH + 50 * 116)


def test_purging_goes_neither_back_nor_beyond_the_end(log: LogWithTopics) -> None:
    log.create_topic("t", 2)
    log.append("t", [NewRecord(n.to_bytes(4, "big"), b"v", 0) for n in range(100)])
    ends = log.end_offsets("t")
    assert log.purge("t", {0: 7, 1: 10})
    assert log.beginning_offsets("t") == {0: 7, 1: 10}
    assert log.purge("t", {0: 5, 7: 9})  # backwards, and a partition that is not there
    assert log.beginning_offsets("t") == {0: 7, 1: 10}
    assert log.purge("t", {0: ends[0] + 1000})
    assert log.beginning_offsets("t") == {0: ends[0], 1: 10}
    assert log.end_offsets("t") == ends


def test_a_position_that_is_gone_is_refused_and_not_passed_over(log: LogWithTopics) -> None:
    log.create_topic("t")
    log.append("t", [NewRecord(b"k", b"v", 0)] * 20)
    log.purge("t", {0: 10})
    with pytest.raises(LogError, match="took records out of it") as caught:
        log.poll("t", {0: 5}, {0: 20}, 9)
    assert not isinstance(caught.value, LogUnavailable)


def test_records_that_must_come_and_do_not_are_an_error_and_not_an_empty_answer(
    log: LogWithTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.create_topic("t")
    log.append("t", [NewRecord(b"k", b"v", 0)] * 3)
    monkeypatch.setattr(kafka_log, "ANSWER_SECONDS", 0.5)
    with pytest.raises(LogUnavailable, match="did not come in time"):
        log.poll("t", {0: 0}, {0: 4}, 9)


def test_records_of_any_size_are_in_memory_a_few_at_a_time_and_all_come(
    log: LogWithTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, held = 2**20, 0
    monkeypatch.setattr(log_clients, "MAX_FETCH", most)
    monkeypatch.setattr(kafka_log, "MAX_POLL", most)
    log.create_topic("t", 2)
    for n in range(12):
        log.append("t", [NewRecord(b"%d" % n, bytes([n]) * 700_000, 0)])
    at, ends = log.beginning_offsets("t"), log.end_offsets("t")
    found = []
    while batch := log.poll("t", at, ends, 20_000):
        left = sum(len(r.value) for buffer in log._buffers.values() for r in buffer.records[buffer.start :])
        held = max(held, left + sum(len(record.value) for record in batch))
        for record in batch:
            found.append(record.value[0])
            at[record.partition] = record.offset + 1
    assert sorted(found) == list(range(12))
    # What came before enough was there, and one more answer, of which each partition's part may be a record too much.
    assert held <= 2 * most + 2 * 700_000
    monkeypatch.setattr(kafka_log, "MAX_POLL", 2**40)  # the twin that counts records alone
    assert len(log.poll("t", log.beginning_offsets("t"), ends, 20_000)) == 12


def read_on(log: LogWithTopics, at: dict[int, int], ends: dict[int, int], until: dict[int, int]) -> None:
    """Read what comes before `ends` from `at`, which goes along, until it is `until`."""
    while at != until:
        for record in log.poll("t", at, ends, 1000):
            at[record.partition] = record.offset + 1


def test_an_open_transaction_holds_up_its_own_partition_and_no_other(
    log: LogWithTopics, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.create_topic("t", 2)
    log.append("t", [NewRecord(n.to_bytes(4, "big"), b"v", 0) for n in range(50)])
    before = log.end_offsets("t")
    name = log.settings.topic("t")
    with KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{name}-foreign") as foreign:
        foreign.init_transactions()
        foreign.begin_transaction()
        foreign.send(name, value=b"open", partition=1).get(30)
        log.append("t", [NewRecord(n.to_bytes(4, "big"), b"v", 0) for n in range(50)])
        at, ends = log.beginning_offsets("t"), log.end_offsets("t")
        read_on(log, at, ends, {0: ends[0], 1: before[1]})
        with monkeypatch.context() as hasty:
            hasty.setattr(kafka_log, "ANSWER_SECONDS", 0.5)  # for records that cannot come
            with pytest.raises(LogUnavailable, match="transaction of another client is still open"):
                log.poll("t", at, ends, 1000)
        foreign.abort_transaction()
    read_on(log, at, ends, ends)


def test_a_partition_that_the_brokers_do_not_know_is_an_error_and_not_an_empty_answer(log: LogWithTopics) -> None:
    log.create_topic("t")
    with pytest.raises(LogUnavailable, match="partition 3"):
        log.poll("t", {0: 0, 3: 0}, {0: 0, 3: 1}, 9)


def test_brokers_that_give_topics_no_identity_are_refused(log: LogWithTopics, monkeypatch: pytest.MonkeyPatch) -> None:
    described = KafkaAdminClient.describe_topics

    def older(self: KafkaAdminClient, *arguments: Any) -> Any:
        return [{**each, "topic_id": None} for each in described(self, *arguments)]

    log.create_topic("t")
    monkeypatch.setattr(KafkaAdminClient, "describe_topics", older)
    with pytest.raises(LogError, match="too old"):
        log.topic_id("t")


RENAMED = [
    (Fetcher, "PartitionRecords"),
    (Fetcher.PartitionRecords, "_unpack_records"),
    (Fetcher.PartitionRecords, "_is_batch_aborted"),
    (KafkaAdminClient, "_async_alter_group_offsets"),
]


@pytest.mark.parametrize("owner, name", RENAMED, ids=[name for _, name in RENAMED])
def test_a_version_of_the_library_without_what_is_used_of_it_is_refused(
    log: LogWithTopics, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    log.create_topic("t")
    log.append("t", [NewRecord(b"k", b"v", 0)])
    with monkeypatch.context() as patch:
        patch.delattr(next(each for each in owner.__mro__ if name in vars(each)), name)
        with pytest.raises(LogError, match=f"kafka-python .*{name}"), KafkaLog(log.settings) as other:
            other.poll("t", {0: 0}, {0: 1}, 9)


def test_a_version_of_the_library_that_calls_it_otherwise_or_uses_its_own_is_refused(
    log: LogWithTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(self: KafkaAdminClient, group: str) -> None:
        """Takes no offsets any more."""

    log.create_topic("t")
    log.append("t", [NewRecord(b"k", b"v", 0)])
    own = Fetcher.PartitionRecords
    with monkeypatch.context() as patch:
        patch.setattr(KafkaAdminClient, "_async_alter_group_offsets", told)
        with pytest.raises(LogError, match="_async_alter_group_offsets"):
            KafkaLog(log.settings)
    ours = property(lambda _: own, lambda *_: None)  # takes what is set, and goes on without it
    with monkeypatch.context() as patch:
        patch.setattr(Fetcher, "PartitionRecords", ours)
        with pytest.raises(LogError, match="PartitionRecords"):
            log.poll("t", {0: 0}, {0: 1}, 9)


def test_marks_are_of_what_was_handed_out_and_hold_after_a_purge(log: LogWithTopics) -> None:
    log.create_topic("t", 2)
    log.append("t", [NewRecord(n.to_bytes(4, "big"), b"v", 0) for n in range(100)])
    ends = log.end_offsets("t")
    assert log.marks("t") == {}
    first = log.poll("t", {0: 0, 1: 0}, ends, 10)
    last = {record.partition: record.offset + 1 for record in first}
    assert {p: mark.offset for p, mark in log.marks("t").items()} == last
    assert log.diverged("t", log.marks("t")) == []
    log.purge("t", last)
    assert log.diverged("t", log.marks("t")) == []
    epoch = log.marks("t")[0].epoch
    assert log.diverged("t", {0: Mark(ends[0] + 1, epoch)}) == [0]  # it ends before
    assert log.diverged("t", {1: Mark(1, epoch + 1)}) == [1]  # no leader had that epoch
    assert log.diverged("t", {5: Mark(1, epoch)}) == [5]  # no such partition
    assert log.diverged("t", {}) == []


@pytest.mark.check
def test_no_topic_comes_into_being_by_being_asked_for(kafka_cluster: Clusters) -> None:
    """Also where the brokers would make it, with settings of their own."""
    cluster = kafka_cluster(properties={"auto.create.topics.enable": "true"})
    prefix = cluster.prefix()
    with KafkaLog(KafkaSettings(brokers=(cluster.bootstrap,), topic_prefix=prefix)) as log:
        for ask in (
            lambda: log.topic_id("absent"),
            lambda: log.end_offsets("absent"),
            lambda: log.poll("absent", {0: 0}, {0: 1}, 1),
            lambda: log.append("absent", [NewRecord(b"k", b"v", 0)]),
            lambda: log.purge("absent", {0: 1}),
        ):
            with pytest.raises(LogError, match="quietcount topics create"):
                ask()
        log.report("absent", {0: 1})
    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap) as admin:
        assert not [topic for topic in admin.list_topics() if topic.startswith(prefix)]


@pytest.mark.soak
def test_a_log_that_a_power_cut_took_the_end_of_is_told_from_the_one_that_was_read(kafka_cluster: Clusters) -> None:
    """The broker loses what was not on its disk yet, goes on, and gives the same offsets to other records."""
    cluster = kafka_cluster()
    prefix = cluster.prefix()
    with opened(cluster.bootstrap, prefix) as log:
        log.create_topic("t")
        for n in range(20):
            log.append("t", [NewRecord(b"k", b"first %d" % n, 0)])
        ends = log.end_offsets("t")
        assert len(log.poll("t", {0: 0}, ends, 100)) == 20
        marks = log.marks("t")
    cluster.kill()
    cluster.restart()
    with opened(cluster.bootstrap, prefix) as log:
        assert log.diverged("t", marks) == []  # a new leader that has everything
    cluster.kill()
    (segment,) = Path(cluster.broker.folder, "data", f"{prefix}t-0").glob("*.log")
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size // 2)
    cluster.restart()
    with opened(cluster.bootstrap, prefix) as log:
        assert log.end_offsets("t")[0] < ends[0]
        assert log.diverged("t", marks) == [0]
        log.append("t", [NewRecord(b"k", b"second", 0)] * 40)
        assert log.end_offsets("t")[0] > ends[0]
        assert log.diverged("t", marks) == [0]
        positions = log.beginning_offsets("t")
        log.poll("t", positions, log.end_offsets("t"), 100)
        assert log.diverged("t", log.marks("t")) == []


def test_the_groups_offsets_are_told_without_waiting_and_closing_waits_for_them(
    log: LogWithTopics, kafka: Kafka
) -> None:
    log.create_topic("t")
    log.append("t", [NewRecord(b"k", b"v", 0)] * 3)
    group = log.settings.topic("quietcount")
    groups_answer(kafka.bootstrap, group)
    log.report("t", {0: 3})
    log.close()
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        told = admin.list_group_offsets([group])[group]
    assert {tp: at.offset for tp, at in told.items()} == {TopicPartition(log.settings.topic("t"), 0): 3}


def test_the_groups_offsets_are_told_to_who_coordinates_the_group_now(log: LogWithTopics, kafka: Kafka) -> None:
    log.create_topic("t")
    group = log.settings.topic("quietcount")
    groups_answer(kafka.bootstrap, group)
    cluster = log._admin._manager.cluster
    log._admin.list_group_offsets([group])
    assert len(cluster._coordinators) == 1
    cluster._coordinators.update(dict.fromkeys(cluster._coordinators, 99))  # as after it has moved
    log.report("t", {0: 0})
    log.close()
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        assert {tp.partition for tp in admin.list_group_offsets([group])[group]} == {0}
