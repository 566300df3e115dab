"""How the ledger on Kafka is read: whole, in its order, and only what was committed.

The twins at the end each lack one safeguard, and fail the check that it is there for.
"""

from __future__ import annotations

import datetime as dt
import secrets
import shutil
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from kafka.structs import TopicPartition
from tests.contract.kafka_ledgers import (
    FAILED,
    Opened,
    admin,
    bare,
    filled,
    producer_of,
    raw,
    settings,
    settings_of,
    written,
)
from tests.kafka.fixtures import Clusters, Kafka

from quietcount_aggregates.errors import LedgerBehind, LedgerBroken, LedgerUnavailable
from quietcount_aggregates.ledger.entries import Entry, Head, StateLost
from quietcount_aggregates.ledger.entries import Opened as OpenedEntry
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_consumers.kafka import fence as kafka_fence
from quietcount_consumers.kafka import ledger as kafka_ledger
from quietcount_consumers.kafka.fence import TRANSACTIONAL_ID
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES

pytestmark = pytest.mark.quick

KEYS = [kafka_fence.key_of(index) for index in range(3)]

__all__ = ["admin", "bare", "settings"]  # fixtures, which tests ask for by name


def test_a_ledger_whose_beginning_was_deleted_is_broken(admin: Any, settings: KafkaSettings) -> None:
    with closing(filled(settings)) as ledger:
        admin.delete_records({TopicPartition(settings.topic(RELEASES), 0): 1})
        for each in (ledger, KafkaLedger(settings)):
            with closing(each), pytest.raises(LedgerBroken, match="its first entries were deleted"):
                each.read()


def test_a_record_that_is_no_entry_is_named_by_its_offset(settings: KafkaSettings) -> None:
    with closing(filled(settings)) as ledger:
        with closing(producer_of(settings)) as stranger:
            stranger.send(settings.topic(RELEASES), key=b"key", value=None, partition=0).get(10)
        with pytest.raises(LedgerBroken, match="offset 3: holds a record that is not an entry"):
            ledger.read()


def test_an_entry_tells_the_broker_nothing_but_itself(settings: KafkaSettings) -> None:
    with closing(filled(settings)):
        assert [(r.value, r.key, r.headers, r.timestamp) for r in raw(settings)] == [
            (b"one", bytes(8), [], 0),
            (b"two", bytes(7) + b"\1", [], 0),
        ]


class NoText(str):
    """The name of a header that is not UTF-8, which the broker takes and the client cannot read."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


def test_a_header_that_is_no_text_does_not_keep_a_ledger_from_being_read(settings: KafkaSettings) -> None:
    with closing(filled(settings)) as ledger:
        with closing(producer_of(settings)) as stranger:
            stranger.send(settings.topic(RELEASES), b"three", key=KEYS[2], headers=[(NoText(), b"")], partition=0).get(
                10
            )
        assert ledger.read() == [b"one", b"two", b"three"]


def check_the_open_transaction_of_a_dead_releaser_is_never_read(open_ledger: Opened, settings: KafkaSettings) -> None:
    with closing(producer_of(settings, settings.topic(TRANSACTIONAL_ID))) as dead:
        dead.init_transactions()
        dead.begin_transaction()
        dead.send(settings.topic(RELEASES), b"half of an append", key=kafka_fence.key_of(0), partition=0).get(10)
        with closing(open_ledger(settings)) as ledger:
            epoch = ledger.fence()
            assert ledger.read() == []
            ledger.append([b"one"], epoch=epoch, expected=0)
            assert ledger.read() == [b"one"]


def test_the_open_transaction_of_a_dead_releaser_is_never_read(settings: KafkaSettings) -> None:
    check_the_open_transaction_of_a_dead_releaser_is_never_read(KafkaLedger, settings)


class Reader(KafkaLedger):
    """A ledger whose time passes only while it has read `come` records and asks for more: half its patience a time."""

    def __init__(self, settings: KafkaSettings, come: int) -> None:
        self.now = 0.0
        self._come = come
        super().__init__(settings, clock=lambda: self.now)

    def _polled(self) -> list[Any]:
        records = super()._polled()
        if not records and self._consumer.position(self._partition) >= self._come:
            self.now += kafka_ledger.OPEN_TRANSACTION_SECONDS / 2
        return records


def test_a_reader_waits_for_an_open_transaction_and_takes_none_for_the_end(settings: KafkaSettings) -> None:
    filled(settings).close()
    with closing(Reader(settings, 2)) as ledger, closing(producer_of(settings, secrets.token_hex(8))) as stranger:
        stranger.init_transactions()
        stranger.begin_transaction()
        stranger.send(settings.topic(RELEASES), b"three", key=KEYS[2], partition=0).get(10)
        with pytest.raises(LedgerUnavailable, match="a transaction is open in it"):
            ledger.read()
        stranger.commit_transaction()
        assert ledger.read() == [b"one", b"two", b"three"]


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


def check_a_ledger_is_read_for_as_long_as_it_comes(
    open_ledger: Opened, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry takes nearly as long as an open transaction is waited for; the clock stands still otherwise."""
    given = [b"%d" % number for number in range(5)]
    filled(settings, given).close()
    original = kafka_ledger._reading
    monkeypatch.setattr(kafka_ledger, "_reading", lambda *given: original(*given) | {"max_poll_records": 1})
    now = 0.0
    with closing(open_ledger(settings)) as ledger:
        polled = ledger._polled

        def slow() -> list[Any]:
            nonlocal now
            records = polled()
            now += len(records) * 0.9 * kafka_ledger.OPEN_TRANSACTION_SECONDS
            return records

        monkeypatch.setattr(ledger, "_polled", slow)
        monkeypatch.setattr(ledger, "_clock", lambda: now)
        assert ledger.read() == given


def test_a_ledger_is_read_for_as_long_as_it_comes(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    check_a_ledger_is_read_for_as_long_as_it_comes(KafkaLedger, settings, monkeypatch)


def test_entries_that_do_not_come_are_not_called_a_transaction(settings: KafkaSettings) -> None:
    filled(settings).close()

    class Deaf(Reader):
        def _polled(self) -> list[Any]:
            self.now += kafka_ledger.OPEN_TRANSACTION_SECONDS / 2
            return []

    missing = pytest.raises(LedgerUnavailable, match=r"from offset 0 on does not come.*`quietcount topics check`")
    with closing(Deaf(settings, 0)) as ledger, missing:
        ledger.read()


def check_a_record_without_a_key_is_refused(open_ledger: Opened, settings: KafkaSettings) -> None:
    """Quietcount's own all have one: compacting would take the others away."""
    written(settings, [b"one", b"two"], [KEYS[0], None])
    with (
        closing(open_ledger(settings)) as ledger,
        pytest.raises(LedgerBroken, match="offset 1: holds a record that is"),
    ):
        ledger.read()


def test_a_record_without_a_key_is_refused(settings: KafkaSettings) -> None:
    check_a_record_without_a_key_is_refused(KafkaLedger, settings)


ENTRIES = [b"one", b"two", b"three"]


def check_an_entry_is_read_in_its_place_only(open_ledger: Opened, settings: KafkaSettings, missing: int) -> None:
    written(settings, *(each[:missing] + each[missing + 1 :] for each in (ENTRIES, KEYS)))
    with closing(open_ledger(settings)) as ledger, pytest.raises(LedgerBroken) as told:
        ledger.read()
    assert f"offset {missing}: does not hold entry {missing}" in str(told.value)
    assert "quietcount topics check" in str(told.value)


@pytest.mark.parametrize("missing", [0, 1])
def test_an_entry_is_read_in_its_place_only(settings: KafkaSettings, missing: int) -> None:
    check_an_entry_is_read_in_its_place_only(KafkaLedger, settings, missing)


def test_an_entry_that_stands_there_twice_is_noticed(settings: KafkaSettings) -> None:
    written(settings, [b"one", b"one"], [KEYS[0], KEYS[0]])
    with closing(KafkaLedger(settings)) as ledger, pytest.raises(LedgerBroken, match="does not hold entry 1"):
        ledger.read()


@pytest.mark.parametrize("missing", range(4))
def test_a_chain_that_lacks_an_entry_is_broken_even_if_its_keys_fit(
    bare: KafkaSettings, kafka: Kafka, missing: int
) -> None:
    whole = settings_of(kafka.bootstrap, kafka.prefix())
    create_topics(whole)
    now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    with closing(KafkaLedger(whole)) as log:
        ledger = Ledger(log)
        ledger.fence()
        ledger.append(
            [OpenedEntry(bytes(32), Decimal(1), 1), *(StateLost(number) for number in (1, 2, 3))],
            now,
            LogPoint("log", {0: 0}),
        )
        entries = log.read()
    create_topics(bare)
    written(bare, entries[:missing] + entries[missing + 1 :], KEYS)
    with closing(KafkaLedger(bare)) as log:
        ledger = Ledger(log)
        if missing == 3:  # the newest: a shorter chain is whole, and what was published from the longer one tells
            ledger.refresh()
            with pytest.raises(LedgerBehind):
                ledger.check_not_behind(Head(4, Entry.read(entries[3], 3).digest), "the public file")
        else:
            with pytest.raises(LedgerBroken, match=f"ledger entry {missing} does not follow"):
                ledger.refresh()


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


# The twins, each without one safeguard


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


class Unlooking(KafkaLedger):
    """A twin that does not look at keys."""

    def _keep(self, index: int, record: Any) -> None:
        super()._keep(index, record._replace(key=kafka_fence.key_of(index)))


def test_a_twin_that_does_not_look_at_keys_is_found(settings: KafkaSettings) -> None:
    with pytest.raises(FAILED):
        check_an_entry_is_read_in_its_place_only(Unlooking, settings, 1)


def test_a_twin_that_takes_records_without_keys_is_found(settings: KafkaSettings) -> None:
    with pytest.raises(FAILED):
        check_a_record_without_a_key_is_refused(Unlooking, settings)
