"""A log that a test can take away or slow down, and publishers that reach it through a spool."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from quietcount_producers import CaseEventPublisher, Pepper
from quietcount_producers.errors import LogUnavailable
from quietcount_producers.spool import relay as relay_module
from quietcount_producers.spool.relay import Pauses
from quietcount_schemas.codec import Codec
from quietcount_schemas.log import CASE_EVENTS, NewRecord, Position
from quietcount_schemas.registry import SchemaRegistry

REGISTRY = SchemaRegistry.load()
CODEC = Codec(REGISTRY)
PEPPER = Pepper(bytes(range(32)))
TODAY = dt.date(2023, 10, 4)
SECRET = "Nobody-may-read-this"
QUICK = Pauses(unavailable=(0.001, 0.01), refused=(0.001, 0.01), idle=0.01, elsewhere=0.01, purge=0.0)


class DistantLog:
    """A log that can be away, slow, or of a mind of its own; and the function that opens it."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self.opening: Exception | None = None
        self.appending: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.opened = 0
        self.tried = 0
        self.closed = 0

    def open(self) -> DistantLog:
        if self.opening is not None:
            raise self.opening
        self.opened += 1
        return self

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        self.entered.set()
        self.tried += 1
        assert self.gate.wait(60)
        assert topic == CASE_EVENTS
        if self.appending is not None:
            raise self.appending
        self.records += records
        return [Position(topic, 0, 0)] * len(records)

    def close(self) -> None:
        self.closed += 1

    @property
    def cases(self) -> list[bytes]:
        return [record.key or b"" for record in self.records]


@pytest.fixture
def log() -> DistantLog:
    return DistantLog()


Publisher = Callable[..., CaseEventPublisher]


@pytest.fixture
def publisher(log: DistantLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """A function that makes publishers with a spool, whose relays pause for milliseconds."""
    monkeypatch.setattr(relay_module, "Pauses", lambda: QUICK)
    made: list[CaseEventPublisher] = []

    def make(opener: object = None) -> CaseEventPublisher:
        made.append(
            CaseEventPublisher(
                log.open if opener is None else opener,  # type: ignore[arg-type]
                pepper=PEPPER,
                registry=REGISTRY,
                today=lambda: TODAY,
                spool=tmp_path / "spool",
                batch=10,
                linger=0.001,
            )
        )
        return made[-1]

    yield make
    log.gate.set()
    for each in made:
        each.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for what has to come, for half a minute at most."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def emit(publisher: CaseEventPublisher, *cases: str) -> list[bytes]:
    """Emit an event of each case, wait until it is acknowledged, and return their case keys."""
    for future in [publisher.emit("HelpRequested", case, "2023-10-03") for case in cases]:
        future.result(30)
    return [PEPPER.case_key(case) for case in cases]


def record(case: int = 0) -> NewRecord:
    return NewRecord(bytes([case]) * 16, SECRET.encode(), 0)


AWAY = LogUnavailable("No broker answers.")
