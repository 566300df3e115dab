"""The spool: several publishers that share one, and what its files hold."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import secrets
import sqlite3
import stat
import struct
from pathlib import Path

import pytest
from tests.unit.producers.distant_logs import AWAY, SECRET, TODAY, DistantLog, Publisher, emit, log, publisher, record

from quietcount_producers import EmbeddedLog, EventSpool, LogError
from quietcount_producers.errors import LogUnavailable
from quietcount_producers.spool import event_spool as spool_module
from quietcount_producers.spool.relay import relay_batch, relay_rest
from quietcount_schemas.log import CASE_EVENTS, Position

pytestmark = pytest.mark.quick

__all__ = ["log", "publisher"]  # fixtures, which tests ask for by name

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
    monkeypatch.setattr(spool_module._Lock, "after_fork_in_child", lambda _: None)  # the child keeps it
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
