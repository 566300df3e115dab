"""Dead letters: none is lost and each is listed once whatever is interrupted; only good ones are replayed."""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.aggregates_world import ForgetfulLog, case_key
from tests.strategies import envelope, registry_of

from quietcount_aggregates.state import State
from quietcount_consumers import dead_letters
from quietcount_consumers.dead_letters import LARGEST, NO_DATE, RETENTION, letters, purge, purge_again, relay, replay
from quietcount_producers.embedded_log import EmbeddedLog
from quietcount_schemas.codec import CaseEvent, Codec, RejectReason
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, LogWriter, NewRecord, Position
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

TODAY = dt.date(2024, 1, 8)
DAY_MS = 86_400_000


class Interrupted(Exception):
    """What ends a relay in a test."""


class FrailWriter:
    """A writer that stores so many batches, and after them ends the relay, before or after one more is stored."""

    def __init__(self, log: EmbeddedLog, batches: int, *, stores: bool) -> None:
        self._log = log
        self._left = batches
        self._stores = stores

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        self._left -= 1
        if self._left < 0 and not self._stores:
            raise Interrupted
        positions = self._log.append(topic, records)
        if self._left < 0:
            raise Interrupted
        return positions

    def close(self) -> None:
        """The log is not its own."""


@pytest.fixture(autouse=True)
def batches_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_BATCH", 10)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "log.sqlite")
    for topic in (CASE_EVENTS, DEAD_LETTERS):
        log.create_topic(topic)
    yield log
    log.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "state.duckdb") as state:
        yield state


def reject(state: State, *rejected: tuple[int, int, RejectReason, bytes]) -> None:
    with state.transaction() as connection:
        for partition, offset, reason, value in rejected:
            connection.execute("INSERT INTO dead_letters VALUES (?, ?, ?, ?)", [partition, offset, reason.value, value])


def held(log: EmbeddedLog) -> list[tuple[int | None, int | None, bytes]]:
    return [(letter.partition, letter.offset, letter.value) for letter in letters(log)]


def many(count: int) -> list[tuple[int, int, RejectReason, bytes]]:
    return [(number % 3, number, RejectReason.TRUNCATED, b"value %d" % number) for number in range(count)]


def places(rejected: Sequence[tuple[int, int, RejectReason, bytes]]) -> list[tuple[int, int, bytes]]:
    return sorted((partition, offset, value) for partition, offset, _, value in rejected)


@pytest.mark.promise("dead-letters")
def test_a_rejection_is_relayed_with_its_reason_and_place_and_nothing_more(state: State, log: EmbeddedLog) -> None:
    reject(state, (2, 7, RejectReason.TRAILING_BYTES, b"bytes"))
    relay(state, log, CASE_EVENTS)
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


def appended(log: EmbeddedLog) -> int:
    """Return how many dead letters the topic was given, copies included."""
    return sum(log.end_offsets(DEAD_LETTERS).values())


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
    reject(state, (0, 1, RejectReason.UNKNOWN_FINGERPRINT, b"x"), (0, 1, RejectReason.TRUNCATED, b"x"))
    relay(state, log, CASE_EVENTS)
    reject(state, (0, 1, RejectReason.TRUNCATED, b"x"))
    relay(state, log, CASE_EVENTS)
    assert held(log) == [(0, 1, b"x")]


def test_another_record_at_the_same_place_of_a_topic_made_anew_is_another_letter(
    state: State, log: EmbeddedLog
) -> None:
    reject(state, (0, 1, RejectReason.TRUNCATED, b"of the old topic"))
    relay(state, log, CASE_EVENTS)
    reject(state, (0, 1, RejectReason.TRUNCATED, b"of the new topic"))
    relay(state, log, CASE_EVENTS)
    assert held(log) == [(0, 1, b"of the old topic"), (0, 1, b"of the new topic")]


def test_records_of_an_old_and_a_new_topic_at_one_place_that_wait_together_are_two_letters(
    state: State, log: EmbeddedLog
) -> None:
    reject(state, (0, 1, RejectReason.TRUNCATED, b"of the old topic"), (0, 1, RejectReason.TRUNCATED, b"of the new"))
    relay(state, log, CASE_EVENTS)
    assert sorted(held(log)) == [(0, 1, b"of the new"), (0, 1, b"of the old topic")]


def test_a_twin_that_knows_letters_by_their_place_alone_hides_one_of_them(
    state: State, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_identity", lambda letter: b"%d %d" % (letter.partition, letter.offset))
    reject(state, (0, 1, RejectReason.TRUNCATED, b"of the old topic"))
    relay(state, log, CASE_EVENTS)
    reject(state, (0, 1, RejectReason.TRUNCATED, b"of the new topic"))
    relay(state, log, CASE_EVENTS)
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
        reject(state, *rejected)
        relay(state, log, CASE_EVENTS)
        reject(state, (0, 50, RejectReason.TRUNCATED, b"later"))
        relay(state, log, CASE_EVENTS)
    with State(tmp_path / ("first.duckdb" if restart == "folded again" else "other.duckdb")) as state:
        for part in (rejected[:7], rejected[7:]):  # not all of it in one tick
            reject(state, *part)
            relay(state, log, CASE_EVENTS)
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
    log = ForgetfulLog(exact_purge=False)
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
    reject(state, *many(20))
    relay(state, log, CASE_EVENTS)
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


# Replaying


def registry(*names: str) -> SchemaRegistry:
    """Return a registry with event types of those names, which have no field of their own."""
    return registry_of(
        *(
            {
                "type": "record",
                "name": name,
                "namespace": "trial",
                "doc": "A trial.",
                "quietcount.role": "event",
                "fields": envelope(),
            }
            for name in names
        )
    )


BOTH = registry("Visit", "Call")
KNOWN = registry("Visit")


def event(number: int, name: str = "Call") -> bytes:
    identity = uuid.UUID(int=number + 1, version=4).bytes
    return Codec(BOTH).encode(CaseEvent(name, case_key(number), identity, 0, dt.date(2023, 10, number + 1), {}))


def midnight(_event: str, day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * DAY_MS


def outcomes(
    log: EmbeddedLog, known: SchemaRegistry, **options: object
) -> list[tuple[int | None, RejectReason | None]]:
    writer = None if options.pop("dry", False) else log
    return [
        (letter.offset, rejected)
        for letter, rejected in replay(log, writer, Codec(known), midnight, **options)  # type: ignore[arg-type]
    ]


def case_events(log: EmbeddedLog) -> list[tuple[bytes | None, bytes, int]]:
    records = log.poll(CASE_EVENTS, {0: 0}, log.end_offsets(CASE_EVENTS), 10_000)
    return [(record.key, record.value, record.timestamp) for record in records]


@pytest.fixture
def lettered(state: State, log: EmbeddedLog) -> EmbeddedLog:
    """A log with two events of a type that was unknown, one of a wrong key, and one that is no event at all."""
    reject(
        state,
        (0, 1, RejectReason.UNKNOWN_FINGERPRINT, event(1)),
        (0, 2, RejectReason.KEY_MISMATCH, event(2)),
        (0, 3, RejectReason.TRUNCATED, event(3)[:-1]),
        (0, 4, RejectReason.UNKNOWN_FINGERPRINT, event(4)),
    )
    relay(state, log, CASE_EVENTS)
    return log


UNKNOWN, MISMATCH, TRUNCATED = RejectReason.UNKNOWN_FINGERPRINT, RejectReason.KEY_MISMATCH, RejectReason.TRUNCATED


def test_nothing_is_replayed_while_nothing_more_is_known(lettered: EmbeddedLog) -> None:
    assert sorted(outcomes(lettered, KNOWN)) == [(1, UNKNOWN), (2, MISMATCH), (3, UNKNOWN), (4, UNKNOWN)]
    assert case_events(lettered) == []


def test_what_is_good_now_is_replayed_as_it_was_under_its_case_key_and_the_rest_is_told(lettered: EmbeddedLog) -> None:
    assert sorted(outcomes(lettered, BOTH), key=str) == [(1, None), (2, MISMATCH), (3, TRUNCATED), (4, None)]
    assert case_events(lettered) == [
        (case_key(number), event(number), midnight("", dt.date(2023, 10, number + 1))) for number in (1, 4)
    ]


def test_a_dry_run_says_the_same_and_appends_nothing(lettered: EmbeddedLog) -> None:
    assert sorted(outcomes(lettered, BOTH, dry=True), key=str) == [(1, None), (2, MISMATCH), (3, TRUNCATED), (4, None)]
    assert case_events(lettered) == []


def test_what_was_rejected_for_its_key_is_replayed_only_when_somebody_says_so(lettered: EmbeddedLog) -> None:
    assert outcomes(lettered, BOTH, only=MISMATCH) == [(2, None)]
    assert [key for key, _, _ in case_events(lettered)] == [case_key(2)]


def check_a_wrong_key_is_left_alone(state: State, log: EmbeddedLog, reasons: Sequence[RejectReason]) -> None:
    """Reject one record for each of `reasons`, as folding it again does under other schemas."""
    for reason in reasons:
        reject(state, (0, 1, reason, event(1)))
        relay(state, log, CASE_EVENTS)
    assert [letter.reason for letter in letters(log)] == [MISMATCH]
    assert outcomes(log, BOTH) == [(1, MISMATCH)]
    assert outcomes(log, BOTH, only=UNKNOWN) == []
    assert case_events(log) == []
    assert outcomes(log, BOTH, only=MISMATCH) == [(1, None)]


@pytest.mark.parametrize("reasons", [(UNKNOWN, MISMATCH), (MISMATCH, UNKNOWN), (UNKNOWN, MISMATCH, UNKNOWN)])
def test_a_record_that_was_ever_rejected_for_its_key_is_left_alone_whatever_its_other_copies_say(
    state: State, log: EmbeddedLog, reasons: Sequence[RejectReason]
) -> None:
    check_a_wrong_key_is_left_alone(state, log, reasons)


def test_a_twin_that_believes_the_first_copy_replays_a_wrong_key(
    state: State, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_mismatched", lambda _: set())
    with pytest.raises(AssertionError):
        check_a_wrong_key_is_left_alone(state, log, (UNKNOWN, MISMATCH))


def test_a_reason_leaves_out_the_others(lettered: EmbeddedLog) -> None:
    assert sorted(outcomes(lettered, BOTH, only=UNKNOWN), key=str) == [(1, None), (4, None)]
    assert outcomes(lettered, BOTH, only=TRUNCATED) == [(3, TRUNCATED)]


def test_a_replay_of_many_is_appended_in_batches_that_a_topic_takes(state: State, log: EmbeddedLog) -> None:
    reject(state, *((0, number, UNKNOWN, event(number % 28)) for number in range(25)))
    relay(state, log, CASE_EVENTS)
    sizes: list[int] = []

    class Watched(FrailWriter):
        def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
            assert topic == CASE_EVENTS
            sizes.append(len(records))
            return super().append(topic, records)

    done = list(replay(log, Watched(log, 100, stores=True), Codec(BOTH), midnight))
    assert sizes == [10, 10, 5]
    assert {rejected for _, rejected in done} == {None}


def test_a_letter_that_was_appended_twice_is_replayed_once(state: State, log: EmbeddedLog) -> None:
    for _ in range(2):
        reject(state, (0, 1, UNKNOWN, event(1)), (0, 2, UNKNOWN, event(2)))
        relay(state, log, CASE_EVENTS)
    assert appended(log) == 4
    assert outcomes(log, BOTH) == [(1, None), (2, None)]
    assert [value for _, value, _ in case_events(log)] == [event(1), event(2)]


def test_a_purge_takes_every_copy_of_a_letter(state: State, log: EmbeddedLog) -> None:
    for _ in range(2):
        reject(state, *many(3))
        relay(state, log, CASE_EVENTS)
    purge(state, log, TODAY)
    purge(state, log, TODAY + RETENTION)
    assert log.poll(DEAD_LETTERS, {0: 0}, log.end_offsets(DEAD_LETTERS), 10) == []


@pytest.mark.parametrize("stores", [False, True])
def test_a_replay_that_is_interrupted_may_be_repeated(state: State, log: EmbeddedLog, stores: bool) -> None:
    """Nothing marks what was replayed: what is appended twice counts once, which tests/e2e shows."""
    reject(state, *((0, number, UNKNOWN, event(number % 28)) for number in range(25)))
    relay(state, log, CASE_EVENTS)
    with pytest.raises(Interrupted):
        list(replay(log, FrailWriter(log, 1, stores=stores), Codec(BOTH), midnight))
    list(replay(log, log, Codec(BOTH), midnight))
    assert {value for _, value, _ in case_events(log)} == {event(number) for number in range(25)}
    assert len(held(log)) == 25
