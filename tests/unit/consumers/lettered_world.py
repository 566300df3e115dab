"""A log and a state for tests of dead letters, batches of ten, and a writer that fails when it is to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from quietcount_aggregates.state.state import State
from quietcount_consumers import dead_letters
from quietcount_consumers.dead_letters import letters, relay
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.codec import RejectReason
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, NewRecord, Position

__all__ = [
    "TODAY",
    "FrailWriter",
    "Interrupted",
    "appended",
    "batches_of_ten",
    "held",
    "log",
    "many",
    "reject",
    "relayed",
    "state",
]

TODAY = dt.date(2024, 1, 8)


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
    with State(tmp_path / "state-0.duckdb") as state:
        yield state


def reject(state: State, *rejected: tuple[int, int, RejectReason, bytes]) -> None:
    with state.transaction() as connection:
        for partition, offset, reason, value in rejected:
            connection.execute("INSERT INTO dead_letters VALUES (?, ?, ?, ?)", [partition, offset, reason.value, value])


def relayed(state: State, log: EmbeddedLog, *rejected: tuple[int, int, RejectReason, bytes]) -> None:
    """Reject these and relay them, as a tick does."""
    reject(state, *rejected)
    relay(state, log, CASE_EVENTS)


def held(log: EmbeddedLog) -> list[tuple[int | None, int | None, bytes]]:
    return [(letter.partition, letter.offset, letter.value) for letter in letters(log)]


def many(count: int) -> list[tuple[int, int, RejectReason, bytes]]:
    return [(number % 3, number, RejectReason.TRUNCATED, b"value %d" % number) for number in range(count)]


def appended(log: EmbeddedLog) -> int:
    """Return how many dead letters the topic was given, copies included."""
    return sum(log.end_offsets(DEAD_LETTERS).values())
