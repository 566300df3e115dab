"""The spool, and a publisher that has one: a log that is away, slow or hostile is nothing to who emits."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import logging
import os
import secrets
import sqlite3
import stat
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from quietcount_producers import CaseEventPublisher, EmbeddedLog, EventSpool, LogError, Pepper, ProducersError
from quietcount_producers.errors import LogUnavailable
from quietcount_producers.spool import event_spool as spool_module
from quietcount_producers.spool import relay as relay_module
from quietcount_producers.spool.relay import Pauses, Relay, relay_batch, relay_rest
from quietcount_schemas.codec import Codec
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS, NewRecord, Position
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

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


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "Pauses", lambda: QUICK)


Publisher = Callable[..., CaseEventPublisher]


@pytest.fixture
def publisher(log: DistantLog, tmp_path: Path) -> Iterator[Publisher]:
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


# Several on one spool


def test_two_publishers_share_a_spool_one_relays_and_the_other_takes_over(
    log: DistantLog, publisher: Publisher
) -> None:
    first = publisher()
    keys = emit(first, "a")
    first.drain(30)
    other = DistantLog()
    second = publisher(other.open)
    keys += emit(second, "b")
    second.drain(30)
    assert log.cases == keys
    assert other.opened == 0
    first.close()
    late = emit(second, "c")
    second.drain(30)
    assert log.cases == keys
    assert other.cases == late


def sent_by_two(folder: Path, log: DistantLog) -> int:
    """Let two relays find the same event before either has sent it; return how often it was sent."""
    with EventSpool(folder) as one, EventSpool(folder) as two:
        one.append(CASE_EVENTS, [record()])
        holding = [spool for spool in (one, two) if spool.hold()]
        for spool in holding:
            relay_batch(spool, log)
    return len(log.records)


def test_two_relays_at_once_send_an_event_once_and_without_the_lock_twice(
    log: DistantLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sent_by_two(tmp_path / "true", log) == 1
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    mutant = DistantLog()
    assert sent_by_two(tmp_path / "mutant", mutant) == 2


def taken_over_beside_a_forked_child(folder: Path) -> bool:
    """Fork while one relays, end that one, and return whether another takes its place while the child lives."""
    with EventSpool(folder) as first:
        assert first.hold()
        forked, done = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.write(forked[1], b".")
            os.read(done[0], 1)
            os._exit(0)
        try:
            assert os.read(forked[0], 1) == b"."
            with EventSpool(folder) as second:
                assert not second.hold()  # what the child closed is still the parent's
                first.close()
                return second.hold()
        finally:
            os.write(done[1], b".")
            os.waitpid(child, 0)
            for end in (*forked, *done):
                os.close(end)


def test_a_process_that_was_forked_off_does_not_keep_the_relays_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken_over_beside_a_forked_child(tmp_path / "true")
    unknown: weakref.WeakSet[object] = weakref.WeakSet()
    monkeypatch.setattr(spool_module, "_locks", unknown)  # what the child is to let go of, it does not know
    monkeypatch.setattr(unknown, "add", lambda _: None)
    assert not taken_over_beside_a_forked_child(tmp_path / "mutant")


# The spool by itself


def test_the_files_are_their_owners_alone_and_the_outer_folder_tells_no_time(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet" / "there"
    with EventSpool(folder) as spool:
        before = folder.stat().st_mtime_ns
        spool.hold()
        spool.append(CASE_EVENTS, [record()])
        for path in (folder, spool.store):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        files = list(spool.store.iterdir())
        assert len(files) >= 2
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert folder.stat().st_mtime_ns == before


def test_an_open_folder_is_closed_to_others_unless_it_holds_their_files(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    own.chmod(0o755)  # whatever the umask is
    EventSpool(own).close()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    own.chmod(0o755)
    EventSpool(own).close()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    own.chmod(0o755)
    (own / "store").chmod(0o750)
    EventSpool(own, create=False).close()  # also by the commands that look after it
    assert [stat.S_IMODE(each.stat().st_mode) for each in (own, own / "store")] == [0o700, 0o700]
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "others").touch()
    with pytest.raises(LogError, match=r"emitter\.spool.*chmod 700"):
        EventSpool(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    shared.chmod(0o700)
    EventSpool(shared).close()


def test_a_spool_that_is_a_file_or_that_nobody_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match=r"is a file.*emitter\.spool"):
        EventSpool(tmp_path / "file")
    with pytest.raises(LogError, match="Cannot make the spool's folder"):
        EventSpool(tmp_path / "file" / "below")
    with pytest.raises(LogError, match="There is no spool"):
        EventSpool(tmp_path / "nothing", create=False)
    assert not EventSpool.exists(tmp_path / "nothing")
    for below in (".", "below", "below/that"):
        with pytest.raises(LogError, match=r"is a file, or below one.*emitter\.spool"):
            EventSpool.exists(tmp_path / "file" / below)
    (tmp_path / "damaged" / "store").mkdir(parents=True, mode=0o700)
    (tmp_path / "damaged" / "store" / "events.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(LogError, match="damaged"):
        EventSpool(tmp_path / "damaged")


COUNTED = 130


def small_numbers(folder: Path) -> set[int]:
    """Emit and send COUNTED events one by one, and return the small numbers in the drained file.

    Counted are the numbers of its tables, the relay's mark, and its header's of what was written; at random one of them
    is below 2**10 with a chance of 1 in a million.
    """
    log = DistantLog()
    with EventSpool(folder) as spool:
        for _ in range(COUNTED):
            spool.append(CASE_EVENTS, [record()])
            assert relay_rest(spool, log.open)
    assert len(log.records) == COUNTED
    file = folder / "store" / "events.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        numbers = [end for (end,) in connection.execute("SELECT next FROM ends")]
        for offset, mark in connection.execute('SELECT "offset", value FROM records'):
            numbers += [offset, *struct.unpack(">qi", mark)]
    # File change counter, pages, free pages, schema cookie: https://www.sqlite.org/fileformat.html#the_database_header
    numbers += struct.unpack(">4I", file.read_bytes()[24:32] + file.read_bytes()[36:44])
    return {number for number in numbers if number < 1 << 10}


def test_a_drained_spool_holds_no_count_of_what_went_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(small_numbers(tmp_path / "true")) < COUNTED // 10
    monkeypatch.setattr(secrets, "randbelow", lambda _: 0)  # the mutant counts from zero
    told = small_numbers(tmp_path / "mutant")
    assert COUNTED in told
    assert any(abs(number - 6 * COUNTED) < 6 for number in told)  # the schema's cookie, by each purge


def test_a_spool_that_counts_from_a_random_number_is_empty_until_something_is_stored(
    log: DistantLog, tmp_path: Path
) -> None:
    with EventSpool(tmp_path / "spool") as spool:
        assert spool.state().empty
        assert spool.relayed() == spool.end() > 0  # at random it is 0 with a chance of 1 in 10**12
        assert spool.hold()
        assert spool.waiting(10) == []
        spool.append(CASE_EVENTS, [record(number) for number in range(3)])
        with EventSpool(tmp_path / "spool") as other:
            assert not other.state().empty
            assert other.relayed() == spool.end() - 3
        assert relay_rest(spool, log.open)
        assert spool.relayed() == spool.end()
    assert log.cases == [bytes([number]) * 16 for number in range(3)]


def test_the_state_tells_the_first_day_of_an_outage_and_forgets_it_when_all_is_sent(
    log: DistantLog, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    with EventSpool(folder) as spool:
        assert spool.state() == spool_module.SpoolState(empty=True)
        assert relay_rest(spool, log.open)
        assert log.opened == 0
        spool.append(CASE_EVENTS, [record(number % 256) for number in range(1500)])
        assert spool.state() == spool_module.SpoolState(empty=False)
        log.opening = AWAY
        for day in (TODAY, TODAY + dt.timedelta(days=1)):
            with pytest.raises(LogUnavailable):
                relay_rest(spool, log.open, lambda day=day: day)  # type: ignore[misc]
        with EventSpool(folder) as other:
            assert other.state() == spool_module.SpoolState(empty=False, waiting_since=TODAY)
        assert relay_batch(spool, log)
        assert spool.state().waiting_since == TODAY  # some of it waits still
        log.opening = None
        assert relay_rest(spool, log.open)
        assert spool.state() == spool_module.SpoolState(empty=True)
        spool.append(CASE_EVENTS, [record()])
        assert spool.state() == spool_module.SpoolState(empty=False)


def test_a_position_the_disk_does_not_take_is_stored_later_and_sending_goes_on(
    log: DistantLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EventSpool(tmp_path / "spool") as spool:
        spool.append(CASE_EVENTS, [record(number) for number in range(20)])
        assert spool.hold()

        def refuse(*_: object) -> list[Position]:
            raise LogError("no space is left")

        before = spool.relayed()
        with monkeypatch.context() as patch:
            patch.setattr(spool._log, "append", refuse)
            assert relay_batch(spool, log, 10)
            spool.tidy()
            assert str(spool.fault) == "no space is left"
            assert relay_batch(spool, log, 10)
            assert not relay_batch(spool, log, 10)
        assert spool.relayed() == before
        assert not spool.state().empty
        spool.tidy()
        assert spool.fault is None
        assert spool.state().empty
    assert log.cases == [bytes([number]) * 16 for number in range(20)]


def test_what_was_sent_is_purged_also_when_another_has_the_file_open(log: DistantLog, tmp_path: Path) -> None:
    with EventSpool(tmp_path / "spool") as spool, EventSpool(tmp_path / "spool") as other:
        spool.append(CASE_EVENTS, [record(number) for number in range(200)])
        assert relay_rest(spool, log.open)
        other.state()
        assert SECRET.encode() not in b"".join(file.read_bytes() for file in spool.store.iterdir())


def test_a_purge_that_a_kill_cut_short_is_finished_by_the_next_relay(
    log: DistantLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    with EventSpool(folder) as bystander:  # keeps the WAL from being emptied when the first one closes
        with EventSpool(folder) as first:
            first.append(CASE_EVENTS, [record()])
            monkeypatch.setattr(EmbeddedLog, "scrub", lambda _: False)
            assert relay_rest(first, log.open)
            monkeypatch.undo()
        assert SECRET.encode() in b"".join(file.read_bytes() for file in bystander.store.iterdir())
        with EventSpool(folder) as second:
            assert relay_rest(second, log.open)
        assert SECRET.encode() not in b"".join(file.read_bytes() for file in bystander.store.iterdir())


def test_a_long_backlog_is_purged_seldom(log: DistantLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge copies what waits; one after each batch would copy a long backlog again and again."""
    monkeypatch.setattr(spool_module, "_PURGE_LEAST", 10)
    purges: list[int] = []
    purge = EmbeddedLog.purge

    def counted(log: EmbeddedLog, topic: str, *arguments: object) -> bool:
        if topic == CASE_EVENTS:
            purges.append(log.end_offsets(topic)[0] - log.beginning_offsets(topic)[0])
        return purge(log, topic, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(EmbeddedLog, "purge", counted)
    with EventSpool(tmp_path / "spool") as spool:
        spool.append(CASE_EVENTS, [record() for _ in range(640)])
        assert spool.hold()
        while relay_batch(spool, log, 10):
            spool.tidy()
    assert purges == [640, 320, 160, 80, 40, 20, 10]
