from __future__ import annotations

import datetime as dt
import inspect
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from quietcount_producers import (
    CaseEventPublisher,
    EmbeddedLog,
    EventRefused,
    LogError,
    Pepper,
    ProducersError,
    PublisherClosed,
)
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.periods import Period
from quietcount_schemas.lint.rules import RESERVED_NAMES
from quietcount_schemas.log import CASE_EVENTS, NewRecord, Position
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
CODEC = Codec(REGISTRY)
PEPPER = Pepper(bytes(range(32)))
TODAY = dt.date(2023, 10, 4)


class MemoryLog:
    """A LogWriter that keeps what it is given, and can be made to stand still or to fail."""

    def __init__(self) -> None:
        self.batches: list[list[NewRecord]] = []
        self.fails = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False

    @property
    def events(self) -> list[CaseEvent]:
        return [CODEC.decode(record.value) for batch in self.batches for record in batch]

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        self.entered.set()
        assert self.gate.wait(30)
        assert topic == CASE_EVENTS
        if self.fails:
            self.fails -= 1
            raise LogError("The disk is full.")
        start = sum(len(batch) for batch in self.batches)
        self.batches.append(list(records))
        return [Position(topic, 0, start + n) for n in range(len(records))]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def publisher(log: MemoryLog) -> Iterator[CaseEventPublisher]:
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, today=lambda: TODAY) as publisher:
        yield publisher


def test_an_event_is_stored_under_its_case_key_with_defaults_for_what_was_left_out(
    log: MemoryLog, publisher: CaseEventPublisher
) -> None:
    identity = uuid.uuid4()
    future = publisher.emit(
        "HelpRequested", "Иван", "2023-10-03", event_id=identity, revision=2, service_category="MOBILISED"
    )
    assert future.result(timeout=30) == Position(CASE_EVENTS, 0, 0)
    (event,) = log.events
    assert (event.event, event.case_key, event.event_id, event.revision) == (
        "HelpRequested",
        PEPPER.case_key("Иван"),
        identity.bytes,
        2,
    )
    assert event.attributes["service_category"] == "MOBILISED"
    assert event.attributes["region"] == "UNKNOWN"
    (record,) = log.batches[0]
    assert record.key == event.case_key
    assert record.headers == ()
    assert "Иван".encode() not in record.value


@pytest.mark.parametrize("period", list(Period))
def test_the_day_is_coarsened_in_the_payload_and_in_the_timestamp(log: MemoryLog, period: Period) -> None:
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, precision=period, today=lambda: TODAY) as publisher:
        publisher.emit("HelpRequested", "a", dt.date(2023, 9, 28))
    coarse = period.coarsen(dt.date(2023, 9, 28))
    assert log.events[0].occurred_on == coarse
    midnight = dt.datetime.combine(coarse, dt.time(), dt.UTC)
    assert log.batches[0][0].timestamp == midnight.timestamp() * 1000


def test_precision_by_event_type_falls_back_to_the_month(log: MemoryLog) -> None:
    by_type = {"HelpRequested": Period.DAY}
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, precision=by_type, today=lambda: TODAY) as publisher:
        publisher.emit("HelpRequested", "a", "2023-09-28")
        publisher.emit("CourtCaseFiled", "a", "2023-09-28")
    assert [event.occurred_on.day for event in log.events] == [28, 1]


def test_the_first_week_of_1970_stays_on_the_wire(log: MemoryLog) -> None:
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, precision=Period.WEEK) as publisher:
        publisher.emit("HelpRequested", "a", "1970-01-02")
    assert log.events[0].occurred_on == dt.date(1970, 1, 1)


SECRET = "Nobody-may-read-this"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"event": "HelpRequestd"}, r'did you mean "HelpRequested"'),
        ({"event": SECRET}, r"event: is not a known event type"),
        ({"case": " "}, r"case: is empty"),
        ({"case": 7}, r"case: must be text"),
        ({"occurred_on": SECRET}, r"occurred_on: must be a date"),
        ({"occurred_on": "2023-02-30"}, r"occurred_on: is not a day"),
        ({"occurred_on": "20230101"}, r"occurred_on: must be a date"),
        ({"occurred_on": "1969-12-31"}, r"occurred_on: must be a date from 1970-01-01 to 2099-12-31"),
        ({"occurred_on": "2023-10-06"}, r"occurred_on: lies in the future"),
        ({"occurred_on": dt.datetime(2023, 1, 1, tzinfo=dt.UTC)}, r"occurred_on: .* without a time of day"),
        ({"service_category": "MOBILISD"}, r'service_category: must be one of .*CONTRACT.*; did you mean "MOBILISED"'),
        ({"service_category": SECRET}, r"service_category: must be one of MOBILISED"),
        ({"service_category": 3}, r"service_category: must be one of"),
        ({"service_category": None}, r"service_category: may not be null: .*; leave it out to take the default"),
        ({"servicecategory": "MOBILISED"}, r'servicecategory: is not a field of HelpRequested; did you mean "service_'),
        ({"event_id": SECRET}, r"event_id: is not a UUID"),
        ({"event_id": "00000000-0000-1000-8000-000000000000"}, r"event_id: .*version 1, which shows when it was made"),
        ({"event_id": "018bcfe5-6800-7000-8000-000000000000"}, r"event_id: .*version 7, which shows when it was made"),
        ({"event_id": "00000000-0000-0000-0000-000000000000"}, r"event_id: is not a random UUID"),
        ({"event_id": str(uuid.uuid5(uuid.NAMESPACE_DNS, "a"))}, r"event_id: is not a random UUID"),
        ({"revision": 1}, r"event_id: is missing"),
        ({"revision": -1}, r"revision: must be a whole number from 0 to 65535"),
        ({"revision": 65536, "event_id": uuid.uuid4()}, r"revision: must be a whole number from 0 to 65535"),
        ({"revision": True}, r"revision: must be a whole number"),
    ],
)
def test_a_mistake_is_refused_where_it_is_made_and_no_value_is_shown(
    log: MemoryLog, publisher: CaseEventPublisher, arguments: dict[str, object], message: str
) -> None:
    facts: dict[str, object] = {"event": "HelpRequested", "case": "a", "occurred_on": "2023-10-03", **arguments}
    with pytest.raises(EventRefused, match=message) as caught:
        publisher.emit(**facts)  # type: ignore[arg-type]  # mistakes that a type checker would find, too
    assert SECRET not in str(caught.value)
    publisher.flush(30)
    assert log.batches == []


def test_tomorrow_in_utc_is_today_somewhere(publisher: CaseEventPublisher) -> None:
    publisher.emit("HelpRequested", "a", TODAY + dt.timedelta(days=1)).result(30)


def test_a_lone_event_does_not_wait_for_a_full_batch(publisher: CaseEventPublisher) -> None:
    publisher.emit("HelpRequested", "a", TODAY).result(timeout=30)


def test_flush_does_not_wait_for_the_linger(log: MemoryLog) -> None:
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, linger=3600) as publisher:
        for number in range(5):
            publisher.emit("HelpRequested", str(number), "2023-01-01")
        publisher.flush(30)
        assert len(log.events) == 5


def test_events_go_in_batches_and_in_order(log: MemoryLog) -> None:
    log.gate.clear()
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, batch=10, linger=0.2) as publisher:
        futures = [publisher.emit("HelpRequested", str(number), "2023-01-01") for number in range(45)]
        log.gate.set()
        publisher.flush(30)
        assert [future.result().offset for future in futures] == list(range(45))
    assert max(len(batch) for batch in log.batches) <= 10
    assert [event.case_key for event in log.events] == [PEPPER.case_key(str(number)) for number in range(45)]


def test_threads_emit_at_once(log: MemoryLog, publisher: CaseEventPublisher) -> None:
    def emit(who: int) -> None:
        for number in range(50):
            publisher.emit("HelpRequested", f"{who}-{number}", "2023-01-01")

    threads = [threading.Thread(target=emit, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publisher.flush(30)
    assert len({event.event_id for event in log.events}) == 200


def test_a_full_queue_holds_the_emitter_back(log: MemoryLog) -> None:
    log.gate.clear()
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, batch=1, linger=0) as publisher:
        emitted = []

        def emit() -> None:
            for number in range(40):
                publisher.emit("HelpRequested", str(number), "2023-01-01")
                emitted.append(number)

        thread = threading.Thread(target=emit)
        thread.start()
        assert log.entered.wait(30)
        while len(emitted) < 11:  # one with the log, ten in the queue
            time.sleep(0.001)
        time.sleep(0.05)
        assert len(emitted) <= 12
        log.gate.set()
        thread.join()
    assert len(log.events) == 40


def test_a_failed_write_fails_its_events_and_those_behind_it_and_flush(log: MemoryLog) -> None:
    log.fails = 1
    log.gate.clear()
    publisher = CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, batch=2, linger=0)
    futures = [publisher.emit("HelpRequested", str(number), "2023-01-01") for number in range(6)]
    log.gate.set()
    for future in futures:
        with pytest.raises(LogError, match="disk is full"):
            future.result(30)
    with pytest.raises(LogError, match="disk is full"):
        publisher.flush(30)
    assert log.batches == []
    later = publisher.emit("HelpRequested", "later", "2023-01-01")
    assert later.result(30).offset == 0
    publisher.close()


def test_flush_says_when_the_time_is_over(log: MemoryLog) -> None:
    log.gate.clear()
    publisher = CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY)
    future = publisher.emit("HelpRequested", "a", "2023-01-01")
    with pytest.raises(ProducersError, match="still on their way"):
        publisher.flush(0.01)
    log.gate.set()
    future.result(30)
    publisher.close()


def test_a_closed_publisher_takes_nothing_and_leaves_a_log_it_was_given_open(log: MemoryLog) -> None:
    publisher = CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, linger=3600)
    publisher.emit("HelpRequested", "a", "2023-01-01")
    publisher.close()
    publisher.close()
    assert len(log.events) == 1
    assert not log.closed
    with pytest.raises(PublisherClosed):
        publisher.emit("HelpRequested", "a", "2023-01-01")


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_log_that_raises_anything_does_not_end_the_writer(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def broken(topic: str, records: Sequence[NewRecord]) -> list[Position]:
        raise kind(SECRET)

    publisher = CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY)
    with monkeypatch.context() as patch:
        patch.setattr(log, "append", broken)
        future = publisher.emit("HelpRequested", "a", "2023-01-01")
        with pytest.raises(ProducersError, match=kind.__name__) as caught:
            future.result(30)
        assert SECRET not in str(caught.value)
        with pytest.raises(ProducersError):
            publisher.flush(30)
    publisher.emit("HelpRequested", "a", "2023-01-01").result(30)
    publisher.close()


def test_a_callback_that_ends_its_thread_does_not_end_the_writer(log: MemoryLog) -> None:
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, linger=0.2) as publisher:
        publisher.emit("HelpRequested", "a", "2023-01-01").add_done_callback(lambda _: sys.exit(1))
        publisher.flush(30)
        publisher.emit("HelpRequested", "b", "2023-01-01").result(30)


def test_no_field_can_be_called_like_an_argument_of_emit() -> None:
    """A field of that name could never be given: the argument would take its value."""
    arguments = {name for name in inspect.signature(CaseEventPublisher.emit).parameters if name != "attributes"}
    assert arguments <= RESERVED_NAMES


def test_without_a_precision_dates_are_told_to_the_month(log: MemoryLog, publisher: CaseEventPublisher) -> None:
    """Whoever hands in the parts and forgets the precision must not publish days."""
    publisher.emit("HelpRequested", "a", "2023-05-17").result(30)
    assert [event.occurred_on for event in log.events] == [dt.date(2023, 5, 1)]


def test_from_config_opens_the_log_that_the_configuration_names(tmp_path: Path) -> None:
    config = tmp_path / "quietcount.toml"
    config.write_text(
        '[emitter]\npepper_file = "pepper"\n[[population]]\nevents = ["HelpRequested"]\nperiod = "year"\n'
    )
    Pepper.generate(tmp_path / "pepper")
    with CaseEventPublisher.from_config(config) as publisher:
        publisher.emit("HelpRequested", "a", "2023-05-05").result(30)
    with EmbeddedLog(tmp_path / "data" / "private" / "store" / "log.sqlite", create=False) as log:
        (record,) = log.poll(CASE_EVENTS, {0: 0}, log.end_offsets(CASE_EVENTS), 10)
    assert CODEC.decode(record.value).occurred_on == dt.date(2023, 1, 1)
