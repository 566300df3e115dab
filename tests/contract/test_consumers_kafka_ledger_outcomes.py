"""What became of an append to the ledger on Kafka, where answers and acknowledgements do not come.

The twins at the end each lack one safeguard, and fail the check that it is there for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError
from tests.contract.kafka_ledgers import FAILED, Opened, bare, filled, raw, settings, settings_of
from tests.kafka.fixtures import Clusters

from quietcount_aggregates.errors import LedgerUnavailable
from quietcount_consumers.kafka import fence as kafka_fence
from quietcount_consumers.kafka import ledger as kafka_ledger
from quietcount_consumers.kafka.fence import Fence
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES

pytestmark = pytest.mark.check

__all__ = ["bare", "settings"]  # fixtures, which tests ask for by name


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
            with pytest.raises(LedgerUnavailable, match="opened again and read"):
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
    cluster = kafka_cluster()
    settings = settings_of(cluster.bootstrap, cluster.prefix())
    create_topics(settings)
    with closing(filled(settings)) as ledger, monkeypatch.context() as hasty:  # while no answer can come
        for name, seconds in (("DELIVERY_SECONDS", 2.0), ("COMMIT_SECONDS", 2.0), ("REQUEST_SECONDS", 1.0)):
            hasty.setattr(kafka_fence, name, seconds)
        epoch = ledger.fence()
        hasty.setattr(kafka_ledger, "ANSWER_SECONDS", 1.5)
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


# The twins, each without one safeguard


class Insisting(KafkaLedger):
    """Tries again where it does not know whether the first time was in vain."""

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        try:
            super().append(entries, places, epoch=epoch, expected=expected)
        except LedgerUnavailable:
            self._unknown = False
            super().append(entries, places, epoch=self.fence(), expected=len(self.read()))


def test_a_twin_that_tries_again_after_an_unknown_outcome_is_found(settings: KafkaSettings) -> None:
    with pytest.raises(FAILED):
        check_an_unknown_outcome_is_read_and_never_tried_again(Insisting, settings, committed=True)
    assert [record.value for record in raw(settings)] == [b"one", b"one"]


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
