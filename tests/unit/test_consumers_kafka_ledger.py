"""The ledger on Kafka: what its topic must be, what others do to it, and answers that do not come.

The twins at the end each lack one safeguard, and fail the check that it is there for.
"""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource
from kafka.errors import KafkaTimeoutError
from kafka.structs import TopicPartition
from tests.e2e.kafka_projects import kafka_project
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Clusters, Kafka
from tests.kafka.secured import SecuredCluster

from quietcount_aggregates.entries import Entry, Head, StateLost
from quietcount_aggregates.entries import Opened as OpenedEntry
from quietcount_aggregates.errors import LedgerBehind, LedgerBroken, LedgerError, LedgerFenced, LedgerUnavailable
from quietcount_aggregates.ledger import Ledger
from quietcount_consumers import kafka_fence, kafka_ledger
from quietcount_consumers.kafka_fence import TRANSACTIONAL_ID, Fence
from quietcount_consumers.kafka_ledger import KafkaLedger
from quietcount_consumers.topics import create_topics
from quietcount_producers.kafka_settings import KafkaSettings
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


# What the topic must be


def test_a_topic_that_is_not_there_is_named_with_the_command_that_makes_it(bare: KafkaSettings) -> None:
    with pytest.raises(LedgerError, match=rf"{bare.topic(RELEASES)}.*`quietcount topics create`"):
        KafkaLedger(bare)


def made(admin: Any, settings: KafkaSettings, configs: dict[str, str], partitions: int = 1) -> None:
    wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    admin.create_topics({settings.topic(RELEASES): wanted})
    admin.wait_for_topics([settings.topic(RELEASES)])


@pytest.mark.parametrize(
    "key, value",
    [
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000"),
    ],
)
def test_nothing_is_released_into_a_topic_that_would_lose_entries(
    admin: Any, bare: KafkaSettings, key: str, value: str
) -> None:
    made(admin, bare, {"retention.ms": "-1", **{key: value}})
    with closing(KafkaLedger(bare)) as ledger:
        assert ledger.read() == []  # who only reads need not mend it
        with pytest.raises(LedgerBroken, match=rf"its setting {key} would delete entries.*`quietcount topics check`"):
            ledger.fence()


def test_a_topic_of_several_partitions_is_no_ledger(admin: Any, bare: KafkaSettings) -> None:
    made(admin, bare, {}, 2)
    with pytest.raises(LedgerBroken, match="more than one partition"):
        KafkaLedger(bare)


def test_a_ledger_whose_beginning_was_deleted_is_broken(admin: Any, settings: KafkaSettings) -> None:
    with closing(filled(settings)) as ledger:
        admin.delete_records({TopicPartition(settings.topic(RELEASES), 0): 1})
        for each in (ledger, KafkaLedger(settings)):
            with closing(each), pytest.raises(LedgerBroken, match="its first entries were deleted"):
                each.read()


def test_a_topic_made_anew_under_an_open_ledger_is_noticed(admin: Any, settings: KafkaSettings) -> None:
    with closing(filled(settings)) as ledger:
        admin.delete_topics([settings.topic(RELEASES)])
        with pytest.raises(LedgerError, match=r"no topic|created again"):
            ledger.read()
        create_topics(settings)
        with closing(filled(settings, [b"one", b"two", b"three"])), pytest.raises(LedgerBroken, match="created again"):
            ledger.read(1)


def test_a_record_that_is_no_entry_is_named_by_its_offset(settings: KafkaSettings) -> None:
    with closing(filled(settings)) as ledger:
        with closing(producer_of(settings)) as stranger:
            stranger.send(settings.topic(RELEASES), key=b"key", value=None, partition=0).get(10)
        with pytest.raises(LedgerBroken, match="offset 3: holds a record that is no entry"):
            ledger.read()


def test_an_entry_tells_the_broker_nothing_but_itself(settings: KafkaSettings) -> None:
    with closing(filled(settings)):
        assert [(r.value, r.key, r.headers, r.timestamp) for r in raw(settings)] == [
            (b"one", bytes(8), [], 0),
            (b"two", bytes(7) + b"\1", [], 0),
        ]


def test_an_entry_that_the_topic_does_not_take_is_refused_before_anything_is_sent(
    admin: Any, bare: KafkaSettings
) -> None:
    made(admin, bare, {"retention.ms": "-1", "max.message.bytes": "10000"})
    with closing(KafkaLedger(bare)) as ledger:
        epoch = ledger.fence()
        with pytest.raises(LedgerError, match=r"entry 1 of the ledger is larger than max\.message\.bytes"):
            ledger.append([b"small", bytes(9_900)], epoch=epoch, expected=0)
        assert raw(bare) == []
        ledger.append([b"small", bytes(9_800)], epoch=epoch, expected=0)
        assert ledger.read() == [b"small", bytes(9_800)]


# What others do to it


def check_the_open_transaction_of_a_dead_releaser_is_never_read(open_ledger: Opened, settings: KafkaSettings) -> None:
    with closing(producer_of(settings, settings.topic(TRANSACTIONAL_ID))) as dead:
        dead.init_transactions()
        dead.begin_transaction()
        dead.send(settings.topic(RELEASES), b"half of an append", partition=0).get(10)
        with closing(open_ledger(settings)) as ledger:
            epoch = ledger.fence()
            assert ledger.read() == []
            ledger.append([b"one"], epoch=epoch, expected=0)
            assert ledger.read() == [b"one"]


def test_the_open_transaction_of_a_dead_releaser_is_never_read(settings: KafkaSettings) -> None:
    check_the_open_transaction_of_a_dead_releaser_is_never_read(KafkaLedger, settings)


def test_a_reader_waits_for_an_open_transaction_and_takes_none_for_the_end(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_ledger, "OPEN_TRANSACTION_SECONDS", 0.3)
    with closing(filled(settings)) as ledger, closing(producer_of(settings, secrets.token_hex(8))) as stranger:
        stranger.init_transactions()
        stranger.begin_transaction()
        stranger.send(settings.topic(RELEASES), b"three", partition=0).get(10)
        with pytest.raises(LedgerUnavailable, match="a transaction is open in it"):
            ledger.read()
        stranger.commit_transaction()
        assert ledger.read() == [b"one", b"two", b"three"]


def check_a_ledger_is_read_for_as_long_as_it_comes(
    open_ledger: Opened, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry takes nearly as long as an open transaction is waited for; the clock stands still otherwise."""
    given = [b"%d" % number for number in range(5)]
    filled(settings, given).close()
    original = kafka_ledger._reading
    monkeypatch.setattr(kafka_ledger, "_reading", lambda *given: original(*given) | {"max_poll_records": 1})
    with closing(open_ledger(settings)) as ledger:
        now = 0.0
        polled = ledger._polled

        def slow() -> list[Any]:
            nonlocal now
            records = polled()
            now += len(records) * 0.9 * kafka_ledger.OPEN_TRANSACTION_SECONDS
            return records

        monkeypatch.setattr(ledger, "_polled", slow)
        monkeypatch.setattr(kafka_ledger, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
        assert ledger.read() == given


def test_a_ledger_is_read_for_as_long_as_it_comes(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    check_a_ledger_is_read_for_as_long_as_it_comes(KafkaLedger, settings, monkeypatch)


def test_entries_that_do_not_come_are_not_called_a_transaction(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_ledger, "OPEN_TRANSACTION_SECONDS", 0.3)
    with closing(filled(settings)) as ledger:
        monkeypatch.setattr(ledger, "_polled", list)
        with pytest.raises(LedgerUnavailable, match=r"from offset 0 on does not come.*`quietcount topics check`"):
            ledger.read()


def check_a_writer_that_goes_round_the_fence_never_shares_a_place(open_ledger: Opened, settings: KafkaSettings) -> None:
    """The stranger's record comes in after the ledger was read, and before the append."""
    with closing(open_ledger(settings)) as ledger, closing(producer_of(settings)) as stranger:
        epoch = ledger.fence()
        assert ledger._fence is not None
        begin = ledger._fence._producer.begin_transaction

        def begin_late() -> None:
            stranger.send(settings.topic(RELEASES), b"stranger", partition=0).get(10)
            begin()

        ledger._fence._producer.begin_transaction = begin_late
        with pytest.raises(LedgerFenced):
            ledger.append([b"one", b"two"], epoch=epoch, expected=0)
        assert ledger.read() == [b"stranger"]


def test_a_writer_that_goes_round_the_fence_never_shares_a_place(settings: KafkaSettings) -> None:
    check_a_writer_that_goes_round_the_fence_never_shares_a_place(KafkaLedger, settings)


def test_who_is_fenced_between_two_entries_appends_neither_and_takes_nothing_back(settings: KafkaSettings) -> None:
    """The client answers some errors by initialising its id again, which would shut out the rightful holder."""
    with closing(KafkaLedger(settings)) as older, closing(KafkaLedger(settings)) as newer:
        epoch = older.fence()
        assert older._fence is not None
        producer = older._fence._producer
        send = producer.send
        newer_epoch: list[int] = []

        def send_and_be_fenced(*arguments: Any, **keywords: Any) -> Any:
            if newer_epoch:
                return send(*arguments, **keywords)
            future = send(*arguments, **keywords)
            future.get(10)  # the partition is in the transaction from now on
            newer_epoch.append(newer.fence())
            return future

        producer.send = send_and_be_fenced
        with pytest.raises(LedgerFenced):
            older.append([b"one", b"two"], epoch=epoch, expected=0)
        newer.append([b"three"], epoch=newer_epoch[0], expected=0)
        assert newer.read() == older.read() == [b"three"]


def written(settings: KafkaSettings, entries: Sequence[bytes], keys: Sequence[bytes | None]) -> None:
    """Write entries by hand, as an older version did, or as they lie after something has gone."""
    with closing(producer_of(settings)) as writer:
        for key, entry in zip(keys, entries, strict=True):
            writer.send(settings.topic(RELEASES), entry, key=key, partition=0).get(10)


def test_entries_of_a_time_without_keys_are_read_with_those_that_have_one(settings: KafkaSettings) -> None:
    written(settings, [b"one", b"two"], [None, None])
    with closing(KafkaLedger(settings)) as ledger:
        assert ledger.read() == [b"one", b"two"]
        ledger.append([b"three"], epoch=ledger.fence(), expected=2)
        assert ledger.read(1) == [b"two", b"three"]
    assert [record.key for record in raw(settings)] == [None, None, bytes(7) + b"\2"]


ENTRIES = [b"one", b"two", b"three"]
KEYS = [kafka_fence.key_of(index) for index in range(3)]


def check_an_entry_is_read_in_its_place_only(open_ledger: Opened, settings: KafkaSettings, missing: int) -> None:
    written(settings, *(each[:missing] + each[missing + 1 :] for each in (ENTRIES, KEYS)))
    with closing(open_ledger(settings)) as ledger, pytest.raises(LedgerBroken) as told:
        ledger.read()
    assert f"offset {missing}: does not hold entry {missing}" in str(told.value)
    assert "`quietcount topics check`" in str(told.value)


@pytest.mark.parametrize("missing", [0, 1])
def test_an_entry_is_read_in_its_place_only(settings: KafkaSettings, missing: int) -> None:
    check_an_entry_is_read_in_its_place_only(KafkaLedger, settings, missing)


def test_an_entry_that_stands_there_twice_is_noticed(settings: KafkaSettings) -> None:
    written(settings, [b"one", b"one"], [KEYS[0], KEYS[0]])
    with closing(KafkaLedger(settings)) as ledger, pytest.raises(LedgerBroken, match="does not hold entry 1"):
        ledger.read()


@pytest.mark.parametrize("missing", range(4))
def test_a_chain_that_lacks_an_entry_is_broken_even_without_keys(
    bare: KafkaSettings, kafka: Kafka, missing: int
) -> None:
    whole = settings_of(kafka.bootstrap, kafka.prefix())
    create_topics(whole)
    now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    with closing(KafkaLedger(whole)) as log:
        ledger = Ledger(log)
        ledger.fence()
        ledger.append([OpenedEntry(bytes(16), Decimal(1)), *(StateLost(number) for number in (1, 2, 3))], now)
        entries = log.read()
    create_topics(bare)
    written(bare, entries[:missing] + entries[missing + 1 :], [None] * 3)
    with closing(KafkaLedger(bare)) as log:
        ledger = Ledger(log)
        if missing == 3:  # the newest: a shorter chain is whole, and what was published from the longer one tells
            ledger.refresh()
            with pytest.raises(LedgerBehind):
                ledger.check_not_behind(Head(4, Entry.read(entries[3]).digest), "the public file")
        else:
            with pytest.raises(LedgerBroken, match=f"ledger entry {missing} does not follow"):
                ledger.refresh()


@pytest.fixture(scope="module")
def cleaning(apache_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker that compacts at once what it may, for all these tests."""
    clusters = Clusters(tmp_path_factory.mktemp("cleaning"))
    try:
        yield clusters(properties={"log.cleaner.backoff.ms": "100"})
    finally:
        clusters.close()


compacting = pytest.mark.xdist_group("kafka_compacting")  # they share that broker


def compacted(cluster: Cluster, settings: KafkaSettings) -> None:
    """Have the topic compacted, as somebody did who set the wrong policy, and set it right again."""
    name = settings.topic(RELEASES)
    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap.split(",")) as admin:

        def set_to(**configs: str) -> None:
            values = {key.replace("_", "."): value for key, value in configs.items()}
            admin.alter_configs([ConfigResource("TOPIC", name, values)])

        # Only closed segments are compacted. A record of a later time closes the one before.
        set_to(segment_ms="1")
        with closing(producer_of(settings, secrets.token_hex(8))) as stranger:
            stranger.init_transactions()
            for _ in range(2):
                stranger.begin_transaction()
                stranger.send(name, b"aborted", key=b"aborted", partition=0).get(10)
                stranger.abort_transaction()
        set_to(cleanup_policy="compact", min_cleanable_dirty_ratio="0.0")
        deadline = time.monotonic() + 60
        while sum(record.key == b"aborted" for record in raw(settings)) > 1:
            assert time.monotonic() < deadline, "the broker does not compact"
            time.sleep(0.1)
        set_to(cleanup_policy="delete", segment_ms="604800000")


@pytest.fixture
def cleaned(cleaning: Cluster) -> KafkaSettings:
    settings = settings_of(cleaning.bootstrap, cleaning.prefix())
    create_topics(settings)
    return settings


def check_compacting_takes_no_entry_away(open_ledger: Opened, settings: KafkaSettings, cluster: Cluster) -> None:
    with closing(open_ledger(settings)) as ledger:
        epoch = ledger.fence()
        ledger.append([b"one", b"two"], epoch=epoch, expected=0)
        ledger.append([b"two"], epoch=epoch, expected=2)
        compacted(cluster, settings)
        assert ledger.read() == [b"one", b"two", b"two"]
    with closing(open_ledger(settings)) as anew:
        assert anew.read() == [b"one", b"two", b"two"]
        anew.append([b"four"], epoch=anew.fence(), expected=3)
        assert anew.read(2) == [b"two", b"four"]


@compacting
def test_compacting_takes_no_entry_away(cleaned: KafkaSettings, cleaning: Cluster) -> None:
    check_compacting_takes_no_entry_away(KafkaLedger, cleaned, cleaning)


def check_entries_that_compacting_took_away_are_missed(
    open_ledger: Opened, settings: KafkaSettings, cluster: Cluster, *, later: bool
) -> None:
    """They had no keys, so the broker took all of them; what an older version wrote since then has none either."""
    written(settings, [b"one", b"two"], [None, None])
    compacted(cluster, settings)
    if later:
        written(settings, [b"three"], [None])
    for _ in range(2):
        with closing(open_ledger(settings)) as ledger:
            with pytest.raises(LedgerBroken, match=r"entries are missing before offset \d+.*`quietcount topics check`"):
                ledger.read()
            with pytest.raises(LedgerBroken, match="entries are missing"):
                ledger.append([b"one"], epoch=ledger.fence(), expected=0)


@compacting
@pytest.mark.parametrize("later", [True, False])
def test_entries_that_compacting_took_away_are_missed(cleaned: KafkaSettings, cleaning: Cluster, later: bool) -> None:
    check_entries_that_compacting_took_away_are_missed(KafkaLedger, cleaned, cleaning, later=later)


@pytest.mark.soak
@compacting
def test_commands_say_of_a_compacted_ledger_that_entries_are_missing(
    cleaned: KafkaSettings, cleaning: Cluster, tmp_path: Path
) -> None:
    written(cleaned, [b"one", b"two"], [None, None])
    compacted(cleaning, cleaned)
    project = kafka_project(tmp_path / "project", cleaning.bootstrap, cleaned.topic_prefix, topics=False)
    for arguments in (["ledger", "show"], ["ledger", "verify"], ["ledger", "retire", "requests"], ["release"]):
        told = project.quietcount(*arguments).refusal()
        assert "entries are missing" in told, (arguments, told)
        assert "`quietcount topics check`" in told, (arguments, told)


def test_what_compacting_leaves_of_a_mark_is_passed_over_and_is_a_hole() -> None:
    records = object.__new__(kafka_ledger._Covering)
    records.coverage = kafka_ledger._Coverage()
    mark = SimpleNamespace(
        is_control_batch=True, records_count=0, base_offset=0, last_offset_delta=0, last_offset=0, next_offset=1
    )
    assert records._passed_over(mark)
    assert records.coverage.hole == 1


def test_a_ledger_of_nothing_but_an_aborted_append_is_empty(settings: KafkaSettings) -> None:
    with closing(producer_of(settings, secrets.token_hex(8))) as stranger:
        stranger.init_transactions()
        stranger.begin_transaction()
        stranger.send(settings.topic(RELEASES), b"aborted", partition=0).get(10)
        stranger.abort_transaction()
    with closing(KafkaLedger(settings)) as ledger:
        assert ledger.read() == []
        ledger.append([b"one"], epoch=ledger.fence(), expected=0)
        assert ledger.read() == [b"one"]


class NoText(str):
    """The name of a header that is not UTF-8, which the broker takes and the client cannot read."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


def test_a_header_that_is_no_text_does_not_keep_a_ledger_from_being_read(settings: KafkaSettings) -> None:
    with closing(filled(settings)) as ledger:
        with closing(producer_of(settings)) as stranger:
            stranger.send(settings.topic(RELEASES), b"three", headers=[(NoText(), b"")], partition=0).get(10)
        assert ledger.read() == [b"one", b"two", b"three"]


# Answers that do not come


def losing(commit: Callable[[], None], *, committed: bool) -> Callable[[], None]:
    """A commit whose answer is lost on the way, or that never reached the broker."""

    def lost() -> None:
        if committed:
            commit()
        raise KafkaTimeoutError("no answer")

    return lost


def check_an_unknown_outcome_is_read_and_never_tried_again(
    open_ledger: Opened, settings: KafkaSettings, *, committed: bool
) -> None:
    with closing(open_ledger(settings)) as ledger:
        epoch = ledger.fence()
        assert ledger._fence is not None
        producer = ledger._fence._producer
        producer.commit_transaction = losing(producer.commit_transaction, committed=committed)
        with pytest.raises(LedgerUnavailable, match="did not say whether the entries were appended"):
            ledger.append([b"one"], epoch=epoch, expected=0)
        for attempt in (lambda: ledger.append([b"other"], epoch=epoch, expected=0), ledger.fence):
            with pytest.raises(LedgerUnavailable, match="opened anew and read"):
                attempt()
    with closing(open_ledger(settings)) as anew:
        epoch = anew.fence()
        there = anew.read()
        assert there == ([b"one"] if committed else [])
        anew.append([b"next"], epoch=epoch, expected=len(there))
        assert anew.read() == [*there, b"next"]


@pytest.mark.parametrize("committed", [True, False])
def test_an_unknown_outcome_is_read_and_never_tried_again(settings: KafkaSettings, committed: bool) -> None:
    check_an_unknown_outcome_is_read_and_never_tried_again(KafkaLedger, settings, committed=committed)


def test_a_commit_that_is_never_answered_is_not_waited_for_for_ever(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_fence, "COMMIT_SECONDS", 0.2)
    with closing(KafkaLedger(settings)) as ledger:
        epoch = ledger.fence()
        assert ledger._fence is not None
        fence = ledger._fence
        answered = threading.Event()
        fence._producer.commit_transaction = lambda: answered.wait(30)
        with pytest.raises(LedgerUnavailable, match="did not say"):
            ledger.append([b"one"], epoch=epoch, expected=0)
        answered.set()


def check_who_stood_still_is_not_told_of_another(
    open_ledger: Opened,
    settings: KafkaSettings,
    monkeypatch: pytest.MonkeyPatch,
    admin: Any,
    act: str,
) -> None:
    """The process is stopped within an append until the broker has ended the transaction; nobody else is there."""
    monkeypatch.setattr(kafka_fence, "TRANSACTION_SECONDS", 1.0)
    name = settings.topic(TRANSACTIONAL_ID)
    with closing(open_ledger(settings)) as ledger:
        epoch = ledger.fence()
        assert ledger._fence is not None
        producer = ledger._fence._producer
        call = getattr(producer, act)
        calls = 0

        def stopped(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if act == "commit_transaction" or calls == 2:
                deadline = time.monotonic() + 60
                while admin.describe_transactions([name])[name].state != "CompleteAbort":
                    assert time.monotonic() < deadline, "the broker leaves the transaction open"
                    time.sleep(0.1)
            future = call(*arguments, **keywords)
            if act == "send" and calls == 1:
                future.get(10)  # the transaction is open on the broker from now on
            return future

        monkeypatch.setattr(producer, act, stopped)
        with pytest.raises(LedgerUnavailable, match=r"stood still for longer than the 1 s.*or another has taken over"):
            ledger.append([b"one", b"two"], epoch=epoch, expected=0)
    with closing(open_ledger(settings)) as anew:
        epoch = anew.fence()
        assert anew.read() == []
        anew.append([b"one"], epoch=epoch, expected=0)


@pytest.mark.parametrize("act", ["send", "commit_transaction"])
def test_who_stood_still_is_not_told_of_another(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch, admin: Any, act: str
) -> None:
    check_who_stood_still_is_not_told_of_another(KafkaLedger, settings, monkeypatch, admin, act)


class Unacknowledged:
    """What the client gives for a record whose batch expires."""

    def get(self, timeout: float) -> Any:
        raise KafkaTimeoutError("Expiring 1 record")


def check_a_batch_that_expires_takes_the_whole_append_with_it(open_ledger: Opened, settings: KafkaSettings) -> None:
    """The client itself would commit the rest: an expired batch does not end its transaction."""
    with closing(open_ledger(settings)) as ledger:
        epoch = ledger.fence()
        assert ledger._fence is not None
        send = ledger._fence._producer.send

        def send_one(*arguments: Any, value: bytes, **keywords: Any) -> Any:
            return Unacknowledged() if value == b"two" else send(*arguments, value=value, **keywords)

        ledger._fence._producer.send = send_one
        with pytest.raises(LedgerUnavailable, match="nothing was appended"):
            ledger.append([b"one", b"two", b"three"], epoch=epoch, expected=0)
        assert ledger.read() == []
        # What failed for a reason that passes may be tried again, under a fence taken anew.
        ledger.append([b"one"], epoch=ledger.fence(), expected=0)


def test_a_batch_that_expires_takes_the_whole_append_with_it(settings: KafkaSettings) -> None:
    check_a_batch_that_expires_takes_the_whole_append_with_it(KafkaLedger, settings)


def test_a_releaser_that_the_broker_forgot_is_unavailable_and_not_fenced(kafka_cluster: Clusters) -> None:
    """A broker forgets a transactional id that was idle for a week; who releases monthly is idle for a month."""
    cluster = kafka_cluster(
        properties={
            "transactional.id.expiration.ms": "1000",
            "transaction.remove.expired.transaction.cleanup.interval.ms": "200",
        }
    )
    settings = settings_of(cluster.bootstrap, cluster.prefix())
    create_topics(settings)
    with closing(filled(settings)) as ledger:
        epoch = ledger.fence()
        with KafkaAdminClient(bootstrap_servers=cluster.bootstrap.split(",")) as admin:
            deadline = time.monotonic() + 60
            while any(admin.list_transactions().values()):
                assert time.monotonic() < deadline, "the broker still knows the id"
                time.sleep(0.2)
        with pytest.raises(LedgerUnavailable, match="no longer knows this releaser; nothing was appended"):
            ledger.append([b"three"], epoch=epoch, expected=2)
        ledger.append([b"three"], epoch=ledger.fence(), expected=2)
        assert ledger.read() == [b"one", b"two", b"three"]


@pytest.mark.parametrize("when", ["before", "while"])
def test_an_append_that_too_few_copies_would_take_says_so_and_leaves_nothing(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Sent all the same, it would leave a transaction that the broker cannot end, and that every reader waits for."""
    with closing(filled(settings)) as ledger:
        epoch = ledger.fence()
        before = len(raw(settings))
        described = ledger._described

        def out_of_step() -> dict[str, Any]:
            topic = described()
            return topic | {"partitions": [each | {"isr_nodes": []} for each in topic["partitions"]]}

        def send(*_: object) -> None:
            monkeypatch.setattr(ledger, "_described", out_of_step)
            raise LedgerUnavailable("no answer in time")

        monkeypatch.setattr(kafka_ledger, "ANSWER_SECONDS", 0.1)
        if when == "before":
            monkeypatch.setattr(ledger, "_described", out_of_step)
        else:
            monkeypatch.setattr(Fence, "send", send)
        with pytest.raises(LedgerUnavailable, match=rf"{settings.topic(RELEASES)}.*min\.insync\.replicas"):
            ledger.append([b"three"], epoch=epoch, expected=2)
        assert len(raw(settings)) == before
        if when == "before":
            with pytest.raises(LedgerUnavailable, match=r"min\.insync\.replicas"):
                ledger.fence()


@pytest.mark.soak
def test_a_broker_that_goes_away_and_comes_back_loses_and_doubles_nothing(
    kafka_cluster: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("DELIVERY_SECONDS", 2.0), ("COMMIT_SECONDS", 2.0), ("REQUEST_SECONDS", 1.0)):
        monkeypatch.setattr(kafka_fence, name, seconds)
    monkeypatch.setattr(kafka_ledger, "ANSWER_SECONDS", 1.5)
    cluster = kafka_cluster()
    settings = settings_of(cluster.bootstrap, cluster.prefix())
    create_topics(settings)
    with closing(filled(settings)) as ledger:
        epoch = ledger.fence()
        cluster.broker.kill()
        with pytest.raises(LedgerUnavailable):
            ledger.append([b"three"], epoch=epoch, expected=2)
        with pytest.raises(LedgerUnavailable):
            KafkaLedger(settings)
        cluster.restart()
    with closing(KafkaLedger(settings)) as ledger:
        epoch = ledger.fence()
        assert ledger.read() == [b"one", b"two"]
        assert ledger._fence is not None
        commit = ledger._fence._producer.commit_transaction

        def killing() -> None:
            threading.Timer(0.003, cluster.broker.kill).start()
            commit()

        ledger._fence._producer.commit_transaction = killing
        try:
            ledger.append([b"three"], epoch=epoch, expected=2)
            known = True
        except LedgerUnavailable:
            known = False
    cluster.broker.kill()  # if it still lives: the append may have been the faster one
    cluster.restart()
    with closing(KafkaLedger(settings)) as ledger:
        epoch = ledger.fence()
        entries = ledger.read()
        assert entries[:2] == [b"one", b"two"]
        assert entries[2:] in ([[b"three"]] if known else [[b"three"], []])
        ledger.append([b"last"], epoch=epoch, expected=len(entries))
        assert ledger.read() == [*entries, b"last"]


@pytest.mark.soak
def test_a_broker_restored_from_an_older_copy_is_noticed(kafka_cluster: Clusters) -> None:
    """It has the topic with its id, and with fewer entries."""
    cluster = kafka_cluster()
    settings = settings_of(cluster.bootstrap, cluster.prefix())
    create_topics(settings)
    with closing(filled(settings)) as ledger:
        assert ledger.read() == [b"one", b"two"]
        data = cluster.broker.folder / "data"
        cluster.broker.stop()
        shutil.copytree(data, data.with_name("copy"))
        cluster.restart()
        ledger.append([b"lost"], epoch=ledger.fence(), expected=2)
        assert ledger.read(2) == [b"lost"]
        cluster.broker.stop()
        shutil.rmtree(data)
        data.with_name("copy").rename(data)
        cluster.restart()
        with pytest.raises(LedgerBehind, match="Put the newest ledger back"):
            ledger.read(2)


def test_a_right_that_is_missing_is_named(kafka_secure: SecuredCluster) -> None:
    from kafka.admin import ACLOperation, ResourceType

    given = kafka_secure.settings("SCRAM", "service")
    settings = KafkaSettings(
        brokers=tuple(kafka_secure.addresses("SCRAM").split(",")),
        topic_prefix=given["topic_prefix"],
        username=given["username"],
        password_file=Path(given["password_file"]),
    )
    prefix = settings.topic_prefix
    create_topics(settings_of(kafka_secure.addresses("PLAINTEXT"), prefix))
    with pytest.raises(LedgerError, match="may not"):
        KafkaLedger(settings)
    topic = settings.topic(RELEASES)
    kafka_secure.allow("service", ResourceType.TOPIC, topic, ACLOperation.READ, ACLOperation.DESCRIBE)
    with closing(KafkaLedger(settings)) as ledger:
        assert ledger.read() == []
        with pytest.raises(LedgerError, match="Grant it DESCRIBE_CONFIGS"):
            ledger.fence()
        kafka_secure.allow("service", ResourceType.TOPIC, topic, ACLOperation.WRITE, ACLOperation.DESCRIBE_CONFIGS)
        with pytest.raises(LedgerError, match=rf"transactional id {prefix}quietcount\.releases.*WRITE and DESCRIBE"):
            ledger.fence()
        kafka_secure.allow(
            "service",
            ResourceType.TRANSACTIONAL_ID,
            settings.topic(TRANSACTIONAL_ID),
            ACLOperation.WRITE,
            ACLOperation.DESCRIBE,
        )
        ledger.append([b"one"], epoch=ledger.fence(), expected=0)
        assert ledger.read() == [b"one"]


# The twins, each without one safeguard

FAILED = (AssertionError, pytest.fail.Exception)


def check_an_older_holder_is_refused(open_ledger: Opened, settings: KafkaSettings) -> None:
    with closing(open_ledger(settings)) as older, closing(open_ledger(settings)) as newer:
        epoch = older.fence()
        newer.fence()
        with pytest.raises(LedgerFenced):
            older.append([b"one"], epoch=epoch, expected=0)


def check_what_was_not_expected_is_refused(open_ledger: Opened, settings: KafkaSettings) -> None:
    with closing(open_ledger(settings)) as ledger:
        ledger.append([b"one"], epoch=ledger.fence(), expected=0)
        with pytest.raises(LedgerFenced):
            ledger.append([b"one"], epoch=ledger.fence(), expected=0)


def test_the_checks_pass_without_a_fault(settings: KafkaSettings, kafka: Kafka) -> None:
    check_an_older_holder_is_refused(KafkaLedger, settings)
    check_what_was_not_expected_is_refused(KafkaLedger, settings)


def test_a_twin_with_an_id_of_its_own_is_found(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Fence.__init__

    def own(self: Fence, given: KafkaSettings, limit: int, broker: str) -> None:
        monkeypatch.setattr(kafka_fence, "TRANSACTIONAL_ID", secrets.token_hex(8))
        original(self, given, limit, broker)

    monkeypatch.setattr(Fence, "__init__", own)
    with pytest.raises(FAILED):
        check_an_older_holder_is_refused(KafkaLedger, settings)


def test_a_twin_that_reads_what_is_not_committed_is_found(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = kafka_ledger._reading
    monkeypatch.setattr(
        kafka_ledger, "_reading", lambda *given: original(*given) | {"isolation_level": "read_uncommitted"}
    )
    with pytest.raises(FAILED):
        check_the_open_transaction_of_a_dead_releaser_is_never_read(KafkaLedger, settings)


def test_a_twin_that_sees_no_progress_is_found(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(KafkaLedger):
        """Gives the whole the time of one entry."""

        spent = 0

        def _polled(self) -> list[Any]:
            records = super()._polled()
            self.spent += len(records)
            if self.spent > 1:
                raise self._stuck(self._end)
            return records

    with pytest.raises(LedgerUnavailable):
        check_a_ledger_is_read_for_as_long_as_it_comes(Impatient, settings, monkeypatch)


def test_a_twin_that_does_not_look_at_keys_is_found(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Keyless(KafkaLedger):
        def _keep(self, index: int, record: Any) -> None:
            super()._keep(index, record._replace(key=None))

    with pytest.raises(FAILED):
        check_an_entry_is_read_in_its_place_only(Keyless, settings, 1)


@compacting
def test_a_twin_whose_entries_have_no_keys_is_found(
    cleaned: KafkaSettings, cleaning: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_fence, "key_of", lambda _: None)
    monkeypatch.setattr(KafkaLedger, "_keep", lambda self, _, record: self._offsets.append(record.offset))
    with pytest.raises((*FAILED, LedgerBroken)):
        check_compacting_takes_no_entry_away(KafkaLedger, cleaned, cleaning)


@compacting
@pytest.mark.parametrize("later", [True, False])
def test_a_twin_that_takes_holes_for_nothing_is_found(
    cleaned: KafkaSettings, cleaning: Cluster, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    monkeypatch.setattr(kafka_ledger._Coverage, "see", lambda *_: None)
    with pytest.raises(FAILED):
        check_entries_that_compacting_took_away_are_missed(KafkaLedger, cleaned, cleaning, later=later)


@pytest.mark.parametrize("act", ["send", "commit_transaction"])
def test_a_twin_that_does_not_look_at_the_clock_is_found(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch, admin: Any, act: str
) -> None:
    monkeypatch.setattr(Fence, "_overdue", lambda _: False)
    with pytest.raises(LedgerFenced):
        check_who_stood_still_is_not_told_of_another(KafkaLedger, settings, monkeypatch, admin, act)


class Unexpecting(KafkaLedger):
    """Appends to whatever is there."""

    def append(self, entries: Sequence[bytes], *, epoch: int, expected: int) -> None:
        del expected
        super().append(entries, epoch=epoch, expected=len(self.read()))


def test_a_twin_that_appends_to_whatever_is_there_is_found(settings: KafkaSettings) -> None:
    with pytest.raises(FAILED):
        check_what_was_not_expected_is_refused(Unexpecting, settings)


class Insisting(KafkaLedger):
    """Tries again where it does not know whether the first time was in vain."""

    def append(self, entries: Sequence[bytes], *, epoch: int, expected: int) -> None:
        try:
            super().append(entries, epoch=epoch, expected=expected)
        except LedgerUnavailable:
            self._unknown = False
            super().append(entries, epoch=self.fence(), expected=len(self.read()))


def test_a_twin_that_tries_again_after_an_unknown_outcome_is_found(settings: KafkaSettings) -> None:
    with pytest.raises(FAILED):
        check_an_unknown_outcome_is_read_and_never_tried_again(Insisting, settings, committed=True)
    assert [record.value for record in raw(settings)] == [b"one", b"one"]


def test_a_twin_that_does_not_look_where_its_entries_lie_is_found(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Fence.send

    def anywhere(self: Fence, entries: Sequence[bytes], offset: int, first: int) -> None:
        original(self, entries, offset + 1, first)

    monkeypatch.setattr(Fence, "send", anywhere)
    with pytest.raises(FAILED):
        check_a_writer_that_goes_round_the_fence_never_shares_a_place(KafkaLedger, settings)


def test_a_twin_that_commits_what_is_not_acknowledged_is_found(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(self: Fence, entries: Sequence[bytes], offset: int, first: int) -> None:
        self._producer.begin_transaction()
        for entry in entries:
            self._producer.send(self._topic, value=entry, partition=0, timestamp_ms=0)

    monkeypatch.setattr(Fence, "send", blind)
    with pytest.raises(FAILED):
        check_a_batch_that_expires_takes_the_whole_append_with_it(KafkaLedger, settings)
