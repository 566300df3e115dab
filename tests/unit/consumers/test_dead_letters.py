"""Dead letters: none is lost and each is listed once, whatever is interrupted."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.aggregates_world import ForgetfulLog
from tests.unit.consumers.lettered_world import (
    TODAY,
    FrailWriter,
    Interrupted,
    appended,
    batches_of_ten,
    held,
    log,
    many,
    reject,
    relayed,
    state,
)

from quietcount_aggregates.state.state import State
from quietcount_consumers import dead_letters
from quietcount_consumers.dead_letters import LARGEST, NO_DATE, RETENTION, letters, purge, purge_again, relay
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.codec import RejectReason
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, LogWriter, NewRecord, Position

pytestmark = pytest.mark.quick

__all__ = ["batches_of_ten", "log", "state"]  # fixtures, which tests ask for by name


def places(rejected: Sequence[tuple[int, int, RejectReason, bytes]]) -> list[tuple[int, int, bytes]]:
    return sorted((partition, offset, value) for partition, offset, _, value in rejected)


@pytest.mark.promise("dead-letters")
def test_a_rejection_is_relayed_with_its_reason_and_place_and_nothing_more(state: State, log: EmbeddedLog) -> None:
    relayed(state, log, (2, 7, RejectReason.TRAILING_BYTES, b"bytes"))
    (record,) = log.poll(DEAD_LETTERS, {0: 0}, log.end_offsets(DEAD_LETTERS), 10)
    assert (record.key, record.value, record.timestamp) == (None, b"bytes", NO_DATE)
    assert record.headers == (
        ("reason", b"trailing_bytes"),
        ("topic", b"case-events"),
        ("partition", b"2"),
        ("offset", b"7"),
    )
    assert state.rows("FROM dead_letters") == []


Relay = Callable[[State, LogWriter, str], None]


def interrupt_and_repeat(state: State, log: EmbeddedLog, batches: int, *, stores: bool, by: Relay = relay) -> None:
    """The check that the twins have to fail: relay 25 letters, end it amid the batch after `batches`, and repeat it."""
    rejected = many(25)
    reject(state, *rejected)
    with pytest.raises(Interrupted):
        by(state, FrailWriter(log, batches, stores=stores), CASE_EVENTS)
    by(state, log, CASE_EVENTS)
    assert sorted(held(log)) == places(rejected)
    assert state.rows("FROM dead_letters") == []


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_relay_that_is_interrupted_anywhere_loses_no_letter_and_each_is_listed_once(
    state: State, log: EmbeddedLog, batches: int, stores: bool
) -> None:
    interrupt_and_repeat(state, log, batches, stores=stores)
    # Only the batch in hand is appended twice: what was appended before it is forgotten in the state.
    assert appended(log) == 25 + (stores and len(many(25)[batches * 10 :][:10]))


def test_a_twin_that_forgets_before_it_appends_fails_the_same_check(state: State, log: EmbeddedLog) -> None:
    def forgetful(state: State, writer: LogWriter, topic: str) -> None:
        class Forgetting(FrailWriter):
            def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
                with state.transaction() as connection:
                    connection.execute("DELETE FROM dead_letters")
                return writer.append(topic, records)

        relay(state, Forgetting(log, 0, stores=True), topic)

    with pytest.raises(AssertionError):
        interrupt_and_repeat(state, log, 0, stores=False, by=forgetful)


def test_a_twin_that_lists_every_copy_fails_the_same_check(
    state: State, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_identity", lambda _: uuid.uuid4().bytes)
    with pytest.raises(AssertionError):
        interrupt_and_repeat(state, log, 0, stores=True)


def test_a_relay_that_cannot_forget_appends_again_and_loses_nothing(state: State, log: EmbeddedLog) -> None:
    """As when the state's disk is full, or the process is killed between the append and the transaction's end."""
    rejected = many(5)
    reject(state, *rejected)

    def refuse(_: State) -> None:
        raise Interrupted

    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(State, "transaction", refuse)
            with pytest.raises(Interrupted):
                relay(state, log, CASE_EVENTS)
    relay(state, log, CASE_EVENTS)
    assert sorted(held(log)) == places(rejected)
    assert appended(log) == 15
    assert state.rows("FROM dead_letters") == []


def test_a_record_that_was_folded_again_before_it_was_relayed_is_one_letter(state: State, log: EmbeddedLog) -> None:
    relayed(state, log, (0, 1, RejectReason.UNKNOWN_FINGERPRINT, b"x"), (0, 1, RejectReason.TRUNCATED, b"x"))
    relayed(state, log, (0, 1, RejectReason.TRUNCATED, b"x"))
    assert held(log) == [(0, 1, b"x")]


def check_two_topics(state: State, log: EmbeddedLog) -> None:
    relayed(state, log, (0, 1, RejectReason.TRUNCATED, b"of the old topic"))
    relayed(state, log, (0, 1, RejectReason.TRUNCATED, b"of the new topic"))
    assert held(log) == [(0, 1, b"of the old topic"), (0, 1, b"of the new topic")]


def test_another_record_at_the_same_place_of_a_topic_made_anew_is_another_letter(
    state: State, log: EmbeddedLog
) -> None:
    check_two_topics(state, log)


def test_records_of_an_old_and_a_new_topic_at_one_place_that_wait_together_are_two_letters(
    state: State, log: EmbeddedLog
) -> None:
    relayed(
        state, log, (0, 1, RejectReason.TRUNCATED, b"of the old topic"), (0, 1, RejectReason.TRUNCATED, b"of the new")
    )
    assert sorted(held(log)) == [(0, 1, b"of the new"), (0, 1, b"of the old topic")]


def test_a_twin_that_knows_letters_by_their_place_alone_hides_one_of_them(
    state: State, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_identity", lambda letter: b"%d %d" % (letter.partition, letter.offset))
    with pytest.raises(AssertionError):
        check_two_topics(state, log)
    assert len(held(log)) == 1


def test_what_is_appended_at_once_is_bounded(state: State, log: EmbeddedLog) -> None:
    sizes: list[int] = []

    class Watched(FrailWriter):
        def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
            sizes.append(sum(len(record.value) for record in records))
            return super().append(topic, records)

    large = [(0, number, RejectReason.TOO_LARGE, bytes([number]) * LARGEST) for number in range(20)]
    small = [(1, number, RejectReason.TOO_LARGE, b"s" * 30_000) for number in range(25)]
    reject(state, *large, *small)
    relay(state, Watched(log, 100, stores=True), CASE_EVENTS)
    assert [(partition, len(value)) for partition, _, value in held(log)] == [(0, LARGEST)] * 20 + [(1, 30_000)] * 25
    assert max(sizes) <= dead_letters._BATCH_BYTES  # and so is what is in memory at once
    assert sum(sizes) == 20 * LARGEST + 25 * 30_000


@pytest.mark.parametrize("restart", ["folded again", "state lost"])
def test_what_was_relayed_before_the_log_was_folded_again_is_listed_once(
    log: EmbeddedLog, tmp_path: Path, restart: str
) -> None:
    rejected = many(30)
    log.append(CASE_EVENTS, [NewRecord(b"k", b"v", 0)] * 40)
    with State(tmp_path / "first.duckdb") as state:
        relayed(state, log, *rejected)
        relayed(state, log, (0, 50, RejectReason.TRUNCATED, b"later"))
    with State(tmp_path / ("first.duckdb" if restart == "folded again" else "other.duckdb")) as state:
        for part in (rejected[:7], rejected[7:]):  # not all of it in one tick
            relayed(state, log, *part)
    assert sorted(held(log)) == sorted([*places(rejected), (0, 50, b"later")])


def test_a_relay_that_is_repeated_on_a_topic_made_anew_brings_all_that_the_old_one_did_not_keep(
    state: State, log: EmbeddedLog, tmp_path: Path
) -> None:
    rejected = [(0, number, RejectReason.TRUNCATED, b"value %d" % number) for number in range(25)]
    reject(state, *rejected)
    with pytest.raises(Interrupted):
        relay(state, FrailWriter(log, 1, stores=True), CASE_EVENTS)
    with contextlib.closing(EmbeddedLog(tmp_path / "other.sqlite")) as other:
        for topic in (CASE_EVENTS, DEAD_LETTERS):
            other.create_topic(topic)
        with pytest.raises(Interrupted):
            relay(state, FrailWriter(other, 1, stores=True), CASE_EVENTS)
        relay(state, other, CASE_EVENTS)
        # The first batch was in the old topic, and forgotten; the second was interrupted there before it was forgotten.
        assert held(log) == places(rejected)[:20]
        assert held(other) == places(rejected)[10:]


def test_a_purge_of_letters_that_the_log_has_forgotten_is_repeated(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ForgetfulLog()
    log.append(DEAD_LETTERS, [NewRecord(None, b"old", 0)] * 5)
    purge(state, log, TODAY)
    log.append(DEAD_LETTERS, [NewRecord(None, b"young", 0)] * 2)
    purge_again(state, log)
    assert len(log.records[0]) == 7
    purge(state, log, TODAY + RETENTION)
    assert len(log.records[0]) == 2
    for _ in range(2):
        log.forget()
        assert len(log.records[0]) == 7
        purge_again(state, log)
        assert len(log.records[0]) == 2
    monkeypatch.setattr(ForgetfulLog, "topic_id", lambda *_: "made anew")
    log.forget()
    purge_again(state, log)
    assert len(log.records[0]) == 7


def test_letters_of_a_topic_made_anew_are_not_purged_by_where_the_old_one_ended(
    state: State, log: EmbeddedLog, tmp_path: Path
) -> None:
    relayed(state, log, *many(20))
    purge(state, log, TODAY)
    other = EmbeddedLog(tmp_path / "other.sqlite")
    other.create_topic(DEAD_LETTERS)
    reject(state, *many(3))
    relay(state, other, CASE_EVENTS)
    purge(state, other, TODAY + RETENTION)
    assert len(held(other)) == 3
    purge(state, other, TODAY + RETENTION + RETENTION)
    assert held(other) == []
    other.close()


def test_headers_that_the_service_did_not_write_are_not_repeated(log: EmbeddedLog) -> None:
    forged = (("reason", b"\x1b[31mred"), ("topic", b"other"), ("partition", b"-1"), ("offset", b"9" * 40))
    log.append(DEAD_LETTERS, [NewRecord(None, b"x", 0, forged), NewRecord(None, b"y", 0)])
    assert [letter[:4] for letter in letters(log)] == [(None, None, None, None)] * 2


def test_a_purge_takes_every_copy_of_a_letter(state: State, log: EmbeddedLog) -> None:
    for _ in range(2):
        relayed(state, log, *many(3))
    purge(state, log, TODAY)
    purge(state, log, TODAY + RETENTION)
    assert log.poll(DEAD_LETTERS, {0: 0}, log.end_offsets(DEAD_LETTERS), 10) == []
