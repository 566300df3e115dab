"""A publisher that has a spool: a log that is away, slow or hostile never holds the emitter up."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from pathlib import Path

import pytest
from tests.unit.producers.distant_logs import (
    AWAY,
    CODEC,
    PEPPER,
    REGISTRY,
    SECRET,
    DistantLog,
    Publisher,
    emit,
    log,
    publisher,
    record,
    until,
)

from quietcount_producers import CaseEventPublisher, EventSpool, LogError, ProducersError
from quietcount_producers.spool import relay as relay_module
from quietcount_producers.spool.relay import Pauses, Relay
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS, Position

pytestmark = pytest.mark.quick

__all__ = ["log", "publisher"]  # fixtures, which tests ask for by name

# With the log away, slow and back


def test_a_publisher_opens_and_acknowledges_while_nobody_answers_and_sends_in_order_later(
    log: DistantLog, publisher: Publisher
) -> None:
    log.opening = AWAY
    emitter = publisher()
    keys = emit(emitter, *map(str, range(45)))
    emitter.flush(30)
    until(lambda: emitter.relay_error is not None)
    assert emitter.relay_error is AWAY
    assert log.records == []
    assert not emitter.spool_state().empty
    log.opening = None
    emitter.drain(30)
    assert log.cases == keys
    assert emitter.spool_state().empty
    until(lambda: emitter.relay_error is None)


def test_the_records_are_what_the_log_would_have_got_without_a_spool(log: DistantLog, publisher: Publisher) -> None:
    emitter = publisher()
    emit(emitter, "a")
    emitter.drain(30)
    (sent,) = log.records
    event = CODEC.decode(sent.value)
    assert (event.case_key, event.occurred_on, sent.headers) == (PEPPER.case_key("a"), dt.date(2023, 10, 1), ())
    assert sent.timestamp == dt.datetime(2023, 10, 1, tzinfo=dt.UTC).timestamp() * 1000


def test_a_log_that_stands_still_holds_no_emitter_back(log: DistantLog, publisher: Publisher) -> None:
    """Without a spool the queue of a hundred events would be full."""
    emitter = publisher()
    log.gate.clear()
    keys = emit(emitter, "first")
    assert log.entered.wait(30)
    keys += emit(emitter, *map(str, range(300)))
    assert log.records == []
    log.gate.set()
    emitter.drain(30)
    assert log.cases == keys


def test_a_log_that_goes_away_midway_is_asked_again_with_the_same_events(log: DistantLog, publisher: Publisher) -> None:
    emitter = publisher()
    keys = emit(emitter, "a")
    emitter.drain(30)
    log.appending = AWAY
    keys += emit(emitter, "b", "c")
    until(lambda: emitter.relay_error is AWAY)
    log.appending = None
    keys += emit(emitter, "d")
    emitter.drain(30)
    assert log.cases == keys
    assert log.opened == 1


def test_emitting_does_not_hurry_a_relay_that_waits_after_a_failure(log: DistantLog, tmp_path: Path) -> None:
    """Or every event of an outage would be one more attempt at a log that is in trouble."""
    log.appending = AWAY
    with EventSpool(tmp_path / "spool") as spool:
        spool.append(CASE_EVENTS, [record()])
        relay = Relay(tmp_path / "spool", log.open, pauses=Pauses(unavailable=(3600.0, 3600.0)))
        relay.start()
        until(lambda: relay.error is not None)
        for _ in range(50):
            spool.append(CASE_EVENTS, [record()])
            relay.wake()
        relay.stop(30)
    assert log.tried == 1


def test_the_pause_between_attempts_grows_to_its_most_and_is_longer_for_what_does_not_mend(
    log: DistantLog, tmp_path: Path
) -> None:
    relay = Relay(tmp_path / "spool", log.open, pauses=Pauses())
    for error, first, most in ((AWAY, 0.1, 5.0), (LogError("Wrong password."), 2.0, 60.0)):
        relay._failures = 0
        relay._failed(error)
        assert first / 2 <= relay._pause(relay_module._Outcome.FAILED) <= first
        for _ in range(5000):
            relay._failed(error)
        assert most / 2 <= relay._pause(relay_module._Outcome.FAILED) <= most


def test_drain_says_when_the_time_is_over_and_why(log: DistantLog, publisher: Publisher) -> None:
    log.opening = AWAY
    emitter = publisher()
    emit(emitter, "a")
    until(lambda: emitter.relay_error is not None)
    with pytest.raises(ProducersError, match=r"stay in the spool.*No broker answers"):
        emitter.drain(0.01)


def test_without_a_spool_drain_is_flush_and_nothing_waits(log: DistantLog) -> None:
    with CaseEventPublisher(log.open, pepper=PEPPER, registry=REGISTRY) as emitter:
        emitter.emit("HelpRequested", "a", "2023-10-03")
        emitter.drain(30)
        assert len(log.records) == 1
        assert emitter.spool_state().empty
        assert emitter.relay_error is None
    assert log.closed == 1


# What does not mend


def test_a_process_that_gets_no_thread_for_the_relay_has_its_events_in_the_spool_and_tries_again(
    log: DistantLog, publisher: Publisher
) -> None:
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if thread.name == "quietcount-relay":
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as full:
        full.setattr(threading.Thread, "start", started)
        emitter = publisher()
        keys = emit(emitter, "a")
        assert "thread" in str(emitter.relay_error)
    keys += emit(emitter, "b")
    emitter.drain(30)
    assert log.cases == keys
    until(lambda: emitter.relay_error is None)


def test_what_waiting_does_not_mend_is_told_once_keeps_the_events_and_is_tried_again(
    log: DistantLog, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    log.opening = LogError("The password is wrong (key 'kafka.password_file').")
    emitter = publisher()
    keys = emit(emitter, "a", "b")
    until(lambda: emitter.relay_error is log.opening)
    time.sleep(0.05)  # some tries more
    log.opening = None
    emitter.drain(30)
    assert log.cases == keys
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert "stay in the spool" in line.getMessage()
    assert "'kafka.password_file'" in line.getMessage()


def test_a_log_that_does_not_answer_is_no_line_in_any_log(
    log: DistantLog, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """Its time would be the time of an event."""
    caplog.set_level(0)
    log.appending = AWAY
    emitter = publisher()
    emit(emitter, "a")
    until(lambda: emitter.relay_error is AWAY)
    log.appending = None
    emitter.drain(30)
    assert caplog.records == []


def test_a_log_that_raises_anything_is_opened_anew_and_its_words_are_kept_back(
    log: DistantLog, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    log.appending = ValueError(SECRET)
    emitter = publisher()
    keys = emit(emitter, "a")
    until(lambda: emitter.relay_error is not None)
    assert isinstance(emitter.relay_error, QuietcountError)
    assert emitter.relay_error.what == "The log refused events: ValueError"
    assert SECRET not in str(emitter.relay_error)
    log.appending = None
    emitter.drain(30)
    assert log.cases == keys
    assert log.opened >= 2
    assert log.closed >= 1
    assert SECRET not in caplog.text


def test_a_log_that_is_wrong_is_told_before_the_first_event(log: DistantLog, publisher: Publisher) -> None:
    log.opening = LogError("There is no topic.")
    emitter = publisher()
    until(lambda: emitter.relay_error is log.opening)
    assert emitter.spool_state().empty


# Closing, and what the next one finds


def test_closing_sends_what_waits_and_leaves_no_byte_of_it(
    log: DistantLog, publisher: Publisher, tmp_path: Path
) -> None:
    emitter = publisher()
    futures = [emitter.emit("HelpRequested", str(number), "2023-10-03") for number in range(25)]
    emitter.close()
    assert all(future.done() for future in futures)
    assert len(log.records) == 25
    assert log.closed == 1
    kept = b"".join(file.read_bytes() for file in (tmp_path / "spool" / "store").iterdir())
    assert not any(key in kept for key in log.cases)


def test_what_was_sent_leaves_no_byte_while_the_publisher_lives(
    log: DistantLog, publisher: Publisher, tmp_path: Path
) -> None:
    emitter = publisher()
    log.gate.clear()
    (key, *_) = emit(emitter, *map(str, range(25)))
    files = tmp_path / "spool" / "store"

    def kept() -> bytes:
        return b"".join(file.read_bytes() for file in files.iterdir())

    assert key in kept()
    log.gate.set()
    emitter.drain(30)
    until(lambda: not any(key in kept() for key in log.cases))


@pytest.mark.parametrize("error", [AWAY, LogError("No.")])
def test_closing_leaves_what_the_log_does_not_take_to_the_next_publisher(
    log: DistantLog, publisher: Publisher, error: Exception
) -> None:
    log.opening = error
    with publisher() as first:
        keys = emit(first, "a", "b")
    log.opening = None
    second = publisher()
    keys += emit(second, "c")
    second.drain(30)
    assert log.cases == keys


def test_closing_does_not_wait_for_a_log_that_stands_still(log: DistantLog, publisher: Publisher) -> None:
    emitter = publisher()
    log.gate.clear()
    emit(emitter, "a")
    assert log.entered.wait(30)
    emitter.close(wait=0.01)
    assert log.records == []
    log.gate.set()
    until(lambda: log.closed == 1)  # the relay ends by itself, and gives its place back
    second = publisher()
    second.drain(30)
    assert log.cases == [PEPPER.case_key("a")]


def test_an_open_log_that_was_given_stays_open(log: DistantLog, publisher: Publisher) -> None:
    with publisher(log) as emitter:
        emit(emitter, "a")
        log.appending = ValueError()
        emit(emitter, "b")
        until(lambda: emitter.relay_error is not None)
        log.appending = None
        emitter.drain(30)
    assert len(log.records) == 2
    assert log.closed == 0


def test_an_event_the_spool_cannot_store_is_not_acknowledged(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitter = publisher()
    full = LogError("Cannot append to the log: no space is left.")

    def refuse(*_: object) -> list[Position]:
        raise full

    monkeypatch.setattr(EventSpool, "append", refuse)
    future = emitter.emit("HelpRequested", "a", "2023-10-03")
    with pytest.raises(LogError, match="no space"):
        future.result(30)
    with pytest.raises(LogError, match="no space"):
        emitter.flush(30)
