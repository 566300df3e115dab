"""Who may append to the ledger on Kafka: the newest holder of its fence alone, after what it has read.

The twins at the end each lack one safeguard, and fail the check that it is there for.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from kafka import KafkaAdminClient
from tests.contract.kafka_ledgers import FAILED, Opened, admin, bare, filled, producer_of, settings, settings_of
from tests.kafka.fixtures import Clusters, Kafka

from quietcount_aggregates.errors import LedgerFenced, LedgerUnavailable
from quietcount_consumers.kafka import fence as kafka_fence
from quietcount_consumers.kafka.fence import TRANSACTIONAL_ID, Fence
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES, SETTLEMENTS

pytestmark = pytest.mark.check

__all__ = ["admin", "bare", "settings"]  # fixtures, which tests ask for by name


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


def check_places_are_there_if_and_only_if_their_entries_are(open_ledger: Opened, settings: KafkaSettings) -> None:
    """The process ends before the commit of the second append."""
    with closing(open_ledger(settings)) as ledger:
        epoch = ledger.fence()
        ledger.append([b"one", b"two"], [b"a"], epoch=epoch, expected=0)
        assert ledger._fence is not None

        def end() -> None:
            raise KeyboardInterrupt

        ledger._fence.commit = end  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            ledger.append([b"three"], [b"b", b"c"], epoch=epoch, expected=2)
    with closing(KafkaLedger(settings)) as anew:
        epoch = anew.fence()
        assert (anew.read(), anew.read_places()) == ([b"one", b"two"], [b"a"])
        anew.append([b"four"], [b"d"], epoch=epoch, expected=2)
        assert (anew.read(2), anew.read_places(1)) == ([b"four"], [b"d"])


def test_places_are_there_if_and_only_if_their_entries_are(settings: KafkaSettings) -> None:
    check_places_are_there_if_and_only_if_their_entries_are(KafkaLedger, settings)


def test_the_checks_pass_without_a_fault(settings: KafkaSettings, kafka: Kafka) -> None:
    check_an_older_holder_is_refused(KafkaLedger, settings)
    check_what_was_not_expected_is_refused(KafkaLedger, settings)


def check_a_writer_that_goes_round_the_fence_never_shares_a_place(open_ledger: Opened, settings: KafkaSettings) -> None:
    """The stranger's record comes in after the ledger was read, and before the append."""
    with closing(open_ledger(settings)) as ledger, closing(producer_of(settings)) as stranger:
        epoch = ledger.fence()
        assert ledger._fence is not None
        begin = ledger._fence._producer.begin_transaction

        def begin_late() -> None:
            stranger.send(settings.topic(RELEASES), b"stranger", key=kafka_fence.key_of(0), partition=0).get(10)
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


def check_who_stood_still_is_not_told_of_another(
    open_ledger: Opened,
    settings: KafkaSettings,
    monkeypatch: pytest.MonkeyPatch,
    admin: Any,
    act: str,
) -> None:
    """The process is stopped within an append until the broker has ended the transaction; nobody else is there."""
    name = settings.topic(TRANSACTIONAL_ID)
    with monkeypatch.context() as hasty, closing(open_ledger(settings)) as ledger:
        hasty.setattr(kafka_fence, "TRANSACTION_SECONDS", 1.0)
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
        with pytest.raises(LedgerUnavailable, match=r"stood still for longer than the 1 s.*or another took over"):
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


# The twins, each without one safeguard


def test_a_twin_with_an_id_of_its_own_is_found(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Fence.__init__

    def own(self: Fence, given: KafkaSettings, limit: int, broker: str) -> None:
        monkeypatch.setattr(kafka_fence, "TRANSACTIONAL_ID", secrets.token_hex(8))
        original(self, given, limit, broker)

    monkeypatch.setattr(Fence, "__init__", own)
    with pytest.raises(FAILED):
        check_an_older_holder_is_refused(KafkaLedger, settings)


@pytest.mark.parametrize("act", ["send", "commit_transaction"])
def test_a_twin_that_does_not_look_at_the_clock_is_found(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch, admin: Any, act: str
) -> None:
    monkeypatch.setattr(Fence, "_overdue", lambda _: False)
    with pytest.raises(LedgerFenced):
        check_who_stood_still_is_not_told_of_another(KafkaLedger, settings, monkeypatch, admin, act)


class Apart(KafkaLedger):
    """Writes places in no transaction, before those of the entries."""

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        with closing(producer_of(self._settings)) as writer:
            for number, place in enumerate(places, start=len(self.read_places())):
                key = kafka_fence.key_of(number)
                writer.send(self._settings.topic(SETTLEMENTS), place, key=key, partition=0).get(10)
        super().append(entries, epoch=epoch, expected=expected)


def test_a_twin_that_writes_places_in_no_transaction_is_found(settings: KafkaSettings) -> None:
    with pytest.raises(FAILED):
        check_places_are_there_if_and_only_if_their_entries_are(Apart, settings)


class Unexpecting(KafkaLedger):
    """Appends to whatever is there."""

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        del expected
        super().append(entries, places, epoch=epoch, expected=len(self.read()))


def test_a_twin_that_appends_to_whatever_is_there_is_found(settings: KafkaSettings) -> None:
    with pytest.raises(FAILED):
        check_what_was_not_expected_is_refused(Unexpecting, settings)


def test_a_twin_that_does_not_look_where_its_entries_lie_is_found(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Fence.send

    def anywhere(self: Fence, entries: Sequence[bytes], offset: int, first: int, places: Any = None) -> None:
        original(self, entries, offset + 1, first, places)

    monkeypatch.setattr(Fence, "send", anywhere)
    with pytest.raises(FAILED):
        check_a_writer_that_goes_round_the_fence_never_shares_a_place(KafkaLedger, settings)
