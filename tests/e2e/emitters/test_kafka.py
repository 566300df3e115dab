"""An append to Kafka: where records land, what a broker refuses, and what becomes of it in an outage or a fork."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from tests.e2e.emitters.kafka_writers import DAY, create, numbered, read, settings, writer
from tests.e2e.kafka.kafka_projects import impatient
from tests.e2e.projects import EXACT, Project, simulated
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Clusters, Kafka

from quietcount_consumers.kafka import clients as log_clients
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_producers import CaseEventPublisher
from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka.connection import client_options, reach
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_producers.kafka.writer import MOST_BYTES, KafkaWriter
from quietcount_producers.partitioner import partition_for
from quietcount_producers.simulation import encoded
from quietcount_schemas import Codec, SchemaRegistry
from quietcount_schemas.log import CASE_EVENTS, NewRecord

pytestmark = pytest.mark.check

__all__ = ["settings", "writer"]  # fixtures, which tests ask for by name


def test_records_come_back_as_given_where_their_positions_say(writer: KafkaWriter, settings: KafkaSettings) -> None:
    given = [*numbered(50), NewRecord(None, b"", DAY, (("reason", b"x"), ("empty", b"")))]
    positions = writer.append(CASE_EVENTS, given)
    found = {(each.partition, each.offset): each for each in read(settings)}
    assert len(found) == len(given)
    for record, position in zip(given, positions, strict=True):
        each = found[position.partition, position.offset]
        assert position.topic == CASE_EVENTS
        assert position.partition == partition_for(record.key, 3)
        assert (each.key, each.value, each.timestamp, tuple(each.headers)) == (*tuple(record)[:3], record.headers)


def test_an_append_larger_than_a_batch_keeps_its_order(writer: KafkaWriter, settings: KafkaSettings) -> None:
    given = [NewRecord(b"k", b"%08d" % n + bytes(10_000), DAY) for n in range(300)]
    assert sum(len(each.value) for each in given) > 2 * MOST_BYTES
    positions = writer.append(CASE_EVENTS, given)
    assert [each.offset for each in positions] == sorted(each.offset for each in positions)
    assert [each.value for each in read(settings)] == [each.value for each in given]


@pytest.mark.parametrize(
    "bad",
    [
        NewRecord(b"k", None, DAY),  # type: ignore[arg-type]
        NewRecord("k", b"v", DAY),  # type: ignore[arg-type]
        NewRecord(b"k", bytes(MOST_BYTES), DAY),
        NewRecord(b"k", b"", DAY, (("h", bytes(MOST_BYTES)),)),
        NewRecord(b"k", b"", DAY, (("h", "v"),)),  # type: ignore[arg-type]
        NewRecord(b"k", b"", DAY, ((b"h", b"v"),)),  # type: ignore[arg-type]
        NewRecord(b"k", b"", None),  # type: ignore[arg-type]  # the library would write the present
        NewRecord(b"k", b"", 1 << 63),
    ],
)
def test_a_record_that_cannot_be_sent_is_refused_before_anything_is_sent(
    writer: KafkaWriter, settings: KafkaSettings, bad: NewRecord
) -> None:
    with pytest.raises(LogError):
        writer.append(CASE_EVENTS, [*numbered(5), bad])
    assert read(settings) == []


def test_a_batch_that_the_topic_finds_too_large_is_refused_whole(settings: KafkaSettings) -> None:
    create(settings, configs={"max.message.bytes": "2000"})
    with KafkaWriter(settings) as writer:
        with pytest.raises(LogError, match=r"larger than its max\.message\.bytes.*topics check"):
            writer.append(CASE_EVENTS, numbered(1000))
        assert read(settings) == []
        writer.append(CASE_EVENTS, numbered(5))
    assert len(read(settings)) == 5


def test_a_min_isr_above_the_number_of_replicas_is_taken_for_that_number(settings: KafkaSettings) -> None:
    """What `topics check` says of newer brokers; older ones refuse."""
    create(settings, configs={"min.insync.replicas": "2"})
    with KafkaWriter(settings) as writer:
        writer.append(CASE_EVENTS, numbered(5))
    assert len(read(settings)) == 5


def test_the_library_would_cut_such_a_batch_in_two(settings: KafkaSettings) -> None:
    """What is switched off is there: this turns red when the part that is replaced goes by another name."""
    create(settings, configs={"max.message.bytes": "2000"})
    with KafkaWriter(settings) as writer:
        writer.append(CASE_EVENTS, numbered(1))
        del writer._producer._sender._can_split
        writer.append(CASE_EVENTS, numbered(60))
    assert len(read(settings)) == 61


def test_threads_share_a_writer(writer: KafkaWriter, settings: KafkaSettings) -> None:
    def work(number: int) -> None:
        for turn in range(10):
            writer.append(CASE_EVENTS, [NewRecord(b"%d" % number, b"%d" % turn, DAY)] * 3)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(settings)
    for number in range(8):
        assert [int(each.value) for each in found if each.key == b"%d" % number] == [
            t for t in range(10) for _ in "123"
        ]


def test_after_a_fork_a_writer_refuses_and_leaves_its_parent_s_alone(
    writer: KafkaWriter, settings: KafkaSettings
) -> None:
    writer.append(CASE_EVENTS, numbered(1))

    def child() -> None:
        try:
            writer.append(CASE_EVENTS, numbered(1))
        except LogError as error:
            writer.close()
            os._exit(42 if "before a fork" in str(error) else 1)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 42
    writer.append(CASE_EVENTS, numbered(1))
    assert len(read(settings)) == 2


def test_the_service_s_writer_has_the_service_s_name_and_asks_for_what_it_writes_alone(settings: KafkaSettings) -> None:
    """The brokers would count it among the emitters otherwise; and a service may not write to every topic."""
    create(settings)
    with KafkaLog(settings) as log:
        log.append(CASE_EVENTS, numbered(1))
        writer = log._writer
        assert isinstance(writer, KafkaWriter)
        assert (writer._client_id, set(writer._partitions)) == (log_clients.CLIENT, {CASE_EVENTS})


def test_a_broker_that_keeps_silent_keeps_no_append_from_the_next(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library asks any of them, and has no time for another then: half of all appends would end in vain."""
    create(settings)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        brokers = (f"127.0.0.1:{silent.getsockname()[1]}", *settings.brokers)
        impatient(monkeypatch, brokers[0])
        with KafkaWriter(dataclasses.replace(settings, brokers=brokers)) as writer:
            writer.append(CASE_EVENTS, numbered(1))
            assert writer._producer.config["bootstrap_servers"] == list(settings.brokers)


def test_a_closed_writer_refuses(writer: KafkaWriter) -> None:
    writer.close()
    writer.close()
    with pytest.raises(LogError, match="closed"):
        writer.append(CASE_EVENTS, numbered(1))


def test_added_partitions_stop_a_running_emitter(writer: KafkaWriter, settings: KafkaSettings) -> None:
    """A case's key would lead to another partition, and a correction could be read before what it corrects."""
    writer.append(CASE_EVENTS, numbered(5))
    with KafkaAdminClient(**client_options(settings, "test")) as admin:
        admin.create_partitions({settings.topic(CASE_EVENTS): 4})
    seen = reach(settings, "test", [CASE_EVENTS])[CASE_EVENTS].partitions
    while seen != 4:
        time.sleep(0.05)
        seen = reach(settings, "test", [CASE_EVENTS])[CASE_EVENTS].partitions
    writer._discard()  # as after an error, or when the client's picture of the cluster is a minute old
    for _ in range(2):
        with pytest.raises(LogError, match=r"has 4 partition\(s\) now, not 3"):
            writer.append(CASE_EVENTS, numbered(5))
    with KafkaWriter(settings) as anew:
        anew.append(CASE_EVENTS, numbered(5))


def test_a_missing_topic_is_an_error_and_is_not_made(settings: KafkaSettings, kafka: Kafka) -> None:
    with pytest.raises(LogError, match=r"There is no topic .*case-events.*quietcount topics create") as caught:
        KafkaWriter(settings)
    assert not isinstance(caught.value, LogUnavailable)
    with KafkaWriter(settings, topics=()) as writer, pytest.raises(LogError, match="There is no topic"):
        writer.append(CASE_EVENTS, numbered(1))
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        assert settings.topic(CASE_EVENTS) not in admin.list_topics()


@pytest.fixture(scope="module")
def generous(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker that makes every topic that somebody asks for."""
    cluster = Cluster(tmp_path_factory.mktemp("generous"), properties={"auto.create.topics.enable": "true"})
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def test_no_topic_is_made_by_asking_for_it_where_the_broker_would(generous: Cluster) -> None:
    """Also not when a topic is deleted under a writer, whose client goes on asking for it."""
    settings = KafkaSettings(brokers=(generous.bootstrap,), topic_prefix=generous.prefix())
    create(settings)
    with KafkaAdminClient(bootstrap_servers=generous.bootstrap) as admin, KafkaWriter(settings) as writer:
        writer.append(CASE_EVENTS, numbered(1))
        admin.delete_topics([settings.topic(CASE_EVENTS)])
        for _ in range(3):
            writer._producer._metadata.request_update()
            time.sleep(0.2)
        with pytest.raises(LogError, match="There is no topic"):
            writer.append(CASE_EVENTS, numbered(1))
        assert settings.topic(CASE_EVENTS) not in admin.list_topics()


def test_an_append_waits_for_a_broker_that_comes_back(kafka_cluster: Clusters, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was acknowledged before a SIGKILL is there, and an append that was waiting then is stored once."""
    monkeypatch.setattr("quietcount_producers.kafka.writer.APPEND_SECONDS", 120.0)  # a busy machine starts it slowly
    cluster = kafka_cluster()
    settings = KafkaSettings(brokers=(cluster.bootstrap,), topic_prefix=cluster.prefix())
    create(settings, partitions=2)
    with KafkaWriter(settings) as writer:
        writer.append(CASE_EVENTS, numbered(10))
        cluster.broker.kill()
        outcome: list[object] = []
        waiting = threading.Thread(target=lambda: outcome.append(writer.append(CASE_EVENTS, numbered(10))))
        waiting.start()
        cluster.restart()
        waiting.join()
        assert len(outcome) == 1
        cluster.broker.stop()
        cluster.restart()
        writer.append(CASE_EVENTS, numbered(10))
        assert Counter(each.value for each in read(settings)) == {b"%d" % n: 3 for n in range(10)}


@pytest.mark.soak
def test_a_broker_that_stays_away_is_told_and_what_was_given_up_never_comes(
    kafka_cluster: Clusters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And nobody's log tells when that was: an outage would have the first event in it dated."""
    caplog.set_level(logging.INFO)
    cluster = kafka_cluster()
    settings = KafkaSettings(brokers=(cluster.bootstrap,), topic_prefix=cluster.prefix())
    create(settings)
    with KafkaWriter(settings) as writer:
        writer.append(CASE_EVENTS, numbered(1))
        monkeypatch.setattr("quietcount_producers.kafka.writer.APPEND_SECONDS", 2.0)
        cluster.broker.kill()
        with pytest.raises(LogUnavailable, match=r"key 'log': broker .* cannot be used: connection refused"):
            writer.append(CASE_EVENTS, numbered(10))
        with pytest.raises(LogUnavailable, match="connection refused"):
            KafkaWriter(settings)
        cluster.restart()
        monkeypatch.undo()
        assert [each.offset for each in writer.append(CASE_EVENTS, [NewRecord(b"k", b"next", DAY)])] == [1]
    assert [each.value for each in read(settings)] == [b"0", b"next"]
    assert caplog.records == []


@pytest.fixture
def project(settings: KafkaSettings, tmp_path: Path) -> Project:
    """A project whose log is on the broker, with its topics made."""
    create(settings, partitions=3)
    text = f'log = "kafka://{settings.brokers[0]}"\n{EXACT}\n[kafka]\ntopic_prefix = "{settings.topic_prefix}"\n'
    return Project(tmp_path / "project", text)


def test_a_file_is_emitted_to_kafka_whole_and_again_as_the_same_events(
    project: Project, settings: KafkaSettings
) -> None:
    lines = simulated(2500)  # more than goes into one append
    (project.folder / "cases.jsonl").write_bytes(b"".join(map(encoded, lines)))
    first = project.quietcount("emit", "cases.jsonl").done()
    assert "every line is in the log" in first.err
    codec = Codec(SchemaRegistry.load())
    stored = read(settings)
    found = [codec.decode(each.value) for each in stored]
    assert len(found) == len(lines)
    assert [each.key for each in stored] == [event.case_key for event in found]
    assert {each.timestamp % 86_400_000 for each in stored} == {0}
    project.quietcount("emit", "cases.jsonl").done()
    again = [codec.decode(each.value) for each in read(settings)]
    assert len(again) == 2 * len(lines)
    assert {each.event_id for each in again} == {each.event_id for each in found}
    assert not project.data.exists()  # an emitter of Kafka may be unable to write there


def test_a_publisher_of_the_configuration_publishes_to_kafka(project: Project, settings: KafkaSettings) -> None:
    with CaseEventPublisher.from_config(project.config) as publisher:
        futures = [publisher.emit("HelpRequested", f"case {n}", "2023-10-03") for n in range(20)]
    found = {(each.partition, each.offset) for each in read(settings)}
    assert {(future.result().partition, future.result().offset) for future in futures} == found


def test_nothing_of_a_record_reaches_a_program_s_own_log(settings: KafkaSettings, tmp_path: Path) -> None:
    """The library's debug log shows records whole; a program that logs everything of its own must not have it."""
    create(settings)
    source = f"""
import logging
logging.basicConfig(filename={str(tmp_path / "log")!r}, level=logging.DEBUG)
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_producers.kafka.writer import KafkaWriter
from quietcount_producers.simulation import encoded
from quietcount_schemas import Codec, SchemaRegistry
from quietcount_schemas.log import CASE_EVENTS, NewRecord
with KafkaWriter(KafkaSettings(brokers=({settings.brokers[0]!r},), topic_prefix={settings.topic_prefix!r})) as writer:
    writer.append(CASE_EVENTS, [NewRecord(b"telltale key", b"telltale value", {DAY})])
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(read(settings)) == 1
    assert "telltale" not in (tmp_path / "log").read_text()
