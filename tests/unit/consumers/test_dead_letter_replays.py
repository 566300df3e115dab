"""Dead letters are replayed if they are good now, each once, and none under a key that is not its own."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

import pytest
from tests.aggregates_world import case_key
from tests.strategies import envelope, registry_of
from tests.unit.consumers.lettered_world import (
    FrailWriter,
    Interrupted,
    appended,
    batches_of_ten,
    held,
    log,
    relayed,
    state,
)

from quietcount_aggregates.state.state import State
from quietcount_consumers import dead_letters
from quietcount_consumers.dead_letters import letters, replay
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.codec import CaseEvent, Codec, RejectReason
from quietcount_schemas.log import CASE_EVENTS, NewRecord, Position
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

__all__ = ["batches_of_ten", "log", "state"]  # fixtures, which tests ask for by name

DAY_MS = 86_400_000


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
    relayed(
        state,
        log,
        (0, 1, RejectReason.UNKNOWN_FINGERPRINT, event(1)),
        (0, 2, RejectReason.KEY_MISMATCH, event(2)),
        (0, 3, RejectReason.TRUNCATED, event(3)[:-1]),
        (0, 4, RejectReason.UNKNOWN_FINGERPRINT, event(4)),
    )
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
        relayed(state, log, (0, 1, reason, event(1)))
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
    relayed(state, log, *((0, number, UNKNOWN, event(number % 28)) for number in range(25)))
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
        relayed(state, log, (0, 1, UNKNOWN, event(1)), (0, 2, UNKNOWN, event(2)))
    assert appended(log) == 4
    assert outcomes(log, BOTH) == [(1, None), (2, None)]
    assert [value for _, value, _ in case_events(log)] == [event(1), event(2)]


@pytest.mark.parametrize("stores", [False, True])
def test_a_replay_that_is_interrupted_may_be_repeated(state: State, log: EmbeddedLog, stores: bool) -> None:
    """Nothing marks what was replayed: what is appended twice counts once, which tests/e2e shows."""
    relayed(state, log, *((0, number, UNKNOWN, event(number % 28)) for number in range(25)))
    with pytest.raises(Interrupted):
        list(replay(log, FrailWriter(log, 1, stores=stores), Codec(BOTH), midnight))
    list(replay(log, log, Codec(BOTH), midnight))
    assert {value for _, value, _ in case_events(log)} == {event(number) for number in range(25)}
    assert len(held(log)) == 25
