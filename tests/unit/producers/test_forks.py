"""A fork: publishers, spools and logs that were made before it work on in parent and child, or say what to do."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.producers.children import forked, forked_unnoticed
from tests.unit.producers.distant_logs import PEPPER, REGISTRY, TODAY, DistantLog, record, until

from quietcount_producers import CaseEventPublisher, EmbeddedLog, EventSpool, LogError, LogUnavailable
from quietcount_producers.embedded.log_file import LogFile
from quietcount_schemas.log import CASE_EVENTS

# Python 3.12 and later warn of what is tried here: a fork beside other threads.
THREADED = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
pytestmark = [pytest.mark.quick, THREADED]

DAY = "2023-10-03"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.create_topic(CASE_EVENTS)
    return tmp_path / "log.sqlite"


@pytest.fixture
def publisher(path: Path) -> Iterator[CaseEventPublisher]:
    with CaseEventPublisher(lambda: EmbeddedLog(path), pepper=PEPPER, registry=REGISTRY, linger=0.01) as publisher:
        yield publisher


def cases(path: Path) -> list[bytes]:
    """The case keys in the log, each as often as it is there."""
    with EmbeddedLog(path, create=False) as log:
        return [each.key or b"" for each in log.poll(CASE_EVENTS, {0: 0}, log.end_offsets(CASE_EVENTS), 1_000_000)]


def keys(*names: str) -> list[bytes]:
    return sorted(map(PEPPER.case_key, names))


def emitted_and_closed(publisher: CaseEventPublisher, case: str) -> int:
    publisher.emit("HelpRequested", case, DAY)
    publisher.close()
    return 1


def emit(publisher: CaseEventPublisher, case: str) -> str:
    return type(publisher.emit("HelpRequested", case, DAY).result(20)).__name__


# The publisher


@pytest.mark.parametrize("used", [False, True], ids=["not used before", "used before"])
def test_parent_and_child_go_on_and_each_event_is_there_once(
    publisher: CaseEventPublisher, path: Path, used: bool
) -> None:
    if used:
        emit(publisher, "before")
    assert forked(lambda: emit(publisher, "child")) == "Position"
    assert forked(lambda: emitted_and_closed(publisher, "closed")) == "1"
    emit(publisher, "parent")
    assert sorted(cases(path)) == keys("child", "closed", "parent", *["before"] * used)


def test_a_child_that_emits_nothing_flushes_drains_and_closes_at_once_and_its_parent_stays_open(
    publisher: CaseEventPublisher, path: Path
) -> None:
    emit(publisher, "before")
    for act in (publisher.flush, publisher.drain, publisher.close):
        assert forked(act) == "None"
    emit(publisher, "after")
    assert len(cases(path)) == 2


def test_what_waits_at_a_fork_is_stored_by_the_parent_alone(path: Path) -> None:
    with CaseEventPublisher(lambda: EmbeddedLog(path), pepper=PEPPER, registry=REGISTRY, linger=3600) as publisher:
        future = publisher.emit("HelpRequested", "waits", DAY)
        assert forked(publisher.flush) == "None"
        said = forked(lambda: future.result(20))
        assert said.startswith("LogError: This event was emitted before a fork")
        assert future.result(20).offset == 0
    assert cases(path) == keys("waits")


def test_a_fork_amid_a_write_holds_no_child_up(tmp_path: Path) -> None:
    log = DistantLog()
    log.gate.clear()
    with CaseEventPublisher(log.open, pepper=PEPPER, registry=REGISTRY, today=lambda: TODAY) as publisher:
        future = publisher.emit("HelpRequested", "parent", DAY)
        assert log.entered.wait(30)

        def child() -> int:
            log.gate = threading.Event()  # a lock of the parent's thread
            log.gate.set()
            emit(publisher, "child")
            publisher.close()
            return len(log.records)

        assert forked(child) == "1"
        log.gate.set()
        future.result(30)
    assert len(log.records) == 1


def test_forks_amid_many_writes_lose_nothing_and_double_nothing(publisher: CaseEventPublisher, path: Path) -> None:
    ended = threading.Event()
    emitted: list[str] = []

    def steadily() -> None:
        while not ended.is_set():
            emitted.append(f"parent {len(emitted)}")
            publisher.emit("HelpRequested", emitted[-1], DAY)

    thread = threading.Thread(target=steadily)
    thread.start()
    try:
        for number in range(8):
            assert forked(lambda number=number: emit(publisher, f"child {number}")) == "Position"  # type: ignore[misc]
    finally:
        ended.set()
        thread.join()
    publisher.flush(30)
    assert sorted(cases(path)) == keys(*emitted, *(f"child {number}" for number in range(8)))


def test_an_open_log_that_was_handed_in_is_refused_in_the_child_and_an_embedded_one_is_opened_there_again(
    path: Path,
) -> None:
    log = DistantLog()
    with CaseEventPublisher(log, pepper=PEPPER, registry=REGISTRY, today=lambda: TODAY) as publisher:
        for act in (lambda: emit(publisher, "child"), lambda: forked(lambda: emit(publisher, "grandchild"))):
            assert "give it a function that opens the log" in forked(act)
        assert forked(publisher.close) == "None"
        emit(publisher, "parent")
    assert log.cases == keys("parent")
    with EmbeddedLog(path) as opened, CaseEventPublisher(opened, pepper=PEPPER, registry=REGISTRY) as publisher:
        assert forked(lambda: emit(publisher, "child")) == "Position"
        emit(publisher, "parent")
    assert sorted(cases(path)) == keys("child", "parent")


def test_a_log_that_cannot_be_opened_in_the_child_fails_the_event_there_and_is_tried_again(path: Path) -> None:
    log = DistantLog()
    with CaseEventPublisher(log.open, pepper=PEPPER, registry=REGISTRY, today=lambda: TODAY) as publisher:

        def child() -> list[str]:
            log.opening = LogError("The password is wrong", "Mend it")
            with pytest.raises(LogError, match="password"):
                emit(publisher, "child")
            log.opening = None
            return [emit(publisher, "child")]

        assert forked(child) == "['Position']"


def test_a_process_of_multiprocessing_stores_what_waits_at_its_end(path: Path) -> None:
    """It ends without `atexit`."""
    with CaseEventPublisher(lambda: EmbeddedLog(path), pepper=PEPPER, registry=REGISTRY, linger=3600) as publisher:

        def child() -> None:
            publisher.emit("HelpRequested", "child", DAY)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0
    assert cases(path) == keys("child")


def test_a_pool_that_kills_its_workers_loses_nothing(path: Path) -> None:
    with CaseEventPublisher(lambda: EmbeddedLog(path), pepper=PEPPER, registry=REGISTRY, linger=3600) as publisher:
        POOLED.append(publisher)
        try:
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(pooled, range(10)) == list(range(10))
            with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
                assert list(executor.map(pooled, range(10, 20))) == list(range(10, 20))
        finally:
            POOLED.clear()
    assert sorted(cases(path)) == keys(*map(str, range(20)))


POOLED: list[CaseEventPublisher] = []


def pooled(number: int) -> int:
    POOLED[0].emit("HelpRequested", str(number), DAY)
    return number


# The spool


def test_a_child_puts_its_events_into_the_spool_and_does_not_relay(tmp_path: Path, path: Path) -> None:
    with CaseEventPublisher(
        lambda: EmbeddedLog(path), pepper=PEPPER, registry=REGISTRY, spool=tmp_path / "spool"
    ) as publisher:
        emit(publisher, "before")
        assert forked(lambda: emitted_and_closed(publisher, "child")) == "1"
        emit(publisher, "after")
        publisher.drain(60)
    assert sorted(cases(path)) == keys("after", "before", "child")


def test_a_child_relays_when_its_parent_does_not(tmp_path: Path) -> None:
    log = DistantLog()
    log.opening = LogUnavailable("No broker answers", "Wait")
    with CaseEventPublisher(log.open, pepper=PEPPER, registry=REGISTRY, spool=tmp_path / "spool") as publisher:
        until(lambda: publisher.relay_error is not None)
        assert publisher._relay is not None
        publisher._relay.stop(30)  # as at its end

        def child() -> list[bytes]:
            log.opening = None
            emit(publisher, "child")
            publisher.drain(60)
            return log.cases

        assert forked(child) == str(keys("child"))


def test_a_spool_and_a_log_by_themselves_are_opened_again_in_the_child(tmp_path: Path, path: Path) -> None:
    with EventSpool(tmp_path / "spool") as spool, EmbeddedLog(path) as log:
        assert spool.hold()
        for each in (spool, log):
            each.append(CASE_EVENTS, [record(1)])
            assert forked(lambda each=each: len(each.append(CASE_EVENTS, [record(2)]))) == "1"  # type: ignore[misc]
            each.append(CASE_EVENTS, [record(3)])
        assert forked(lambda: spool.holding or spool.hold()) == "False"
        assert spool.holding
        assert [each.key for each in spool.waiting(10)] == [record(n).key for n in (1, 2, 3)]
        assert cases(path) == [record(n).key for n in (1, 2, 3)]


# What SQLite must not meet


def inherited(path: Path) -> bool:
    """Return whether a child finds the file open: the descriptors that lead to it."""
    with EmbeddedLog(path) as log:
        log.append(CASE_EVENTS, [record()])
        return str(path.resolve()) in forked(_open_files)


def _open_files() -> list[str]:
    """The paths of what this process has open; the descriptor that lists them is closed again."""
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return [os.readlink(link) for link in links if os.path.exists(link)]  # noqa: PTH110, PTH115


def test_no_child_gets_the_file_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not inherited(path)
    monkeypatch.setattr(LogFile, "_disconnect", lambda _: None)
    assert inherited(path)


def wal_beside_a_child(path: Path) -> bool:
    """Let a child go on with a log that its parent closes, and return whether the child's WAL is still there then."""
    log = EmbeddedLog(path)
    log.append(CASE_EVENTS, [record(1)])
    reached, gone = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        log.append(CASE_EVENTS, [record(2)])
        os.write(reached[1], b".")
        os.read(gone[0], 1)
        log.append(CASE_EVENTS, [record(3)])
        os._exit(0)
    try:
        os.read(reached[0], 1)
        log.close()
        return path.with_name(f"{path.name}-wal").exists()
    finally:
        os.write(gone[1], b".")
        os.waitpid(pid, 0)
        for end in (*reached, *gone):
            os.close(end)


def test_a_fork_waits_for_a_file_that_another_thread_is_just_opening(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite in the child would take the locks of a file that was open for its own (see `forks`)."""
    connect, opened = sqlite3.connect, threading.Event()

    def slowly(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("PRAGMA user_version").fetchone()
        opened.set()
        time.sleep(0.1)
        return connection

    def open_here() -> list[str]:
        return [str(link) for each in Path("/proc/self/fd").iterdir() if tmp_path in (link := each.resolve()).parents]

    monkeypatch.setattr(sqlite3, "connect", slowly)
    for file in (path, tmp_path / "new.sqlite"):  # the second one is made first
        opened.clear()
        with concurrent.futures.ThreadPoolExecutor(1) as other:
            log = other.submit(EmbeddedLog, file)
            assert opened.wait(30)
            assert forked(open_here) == "[]"
            log.result().close()


def test_a_parent_that_ends_leaves_the_wal_of_its_child(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant opens the file again in the child alone: the parent thinks itself the last, and deletes the WAL."""
    assert wal_beside_a_child(path)
    assert cases(path) == [record(n).key for n in (1, 2, 3)]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    kept: list[object] = []

    def opened_again(file: LogFile) -> None:
        file._lock.release()
        kept.append(file._connection)
        file._connection = None
        file._process = os.getpid()

    monkeypatch.setattr(LogFile, "before_fork", lambda file: file._lock.acquire())
    monkeypatch.setattr(LogFile, "after_fork_in_child", opened_again)
    assert not wal_beside_a_child(path)


def test_a_fork_that_python_is_not_told_of_is_refused_with_what_to_do(path: Path) -> None:
    with CaseEventPublisher(lambda: EmbeddedLog(path), pepper=PEPPER, registry=REGISTRY) as publisher:
        emit(publisher, "before")
        for act in (
            lambda: emit(publisher, "child"),
            lambda: EmbeddedLog(path),
            lambda: CaseEventPublisher(lambda: EmbeddedLog(path), pepper=PEPPER, registry=REGISTRY),
        ):
            said = forked_unnoticed(act)
            assert said.startswith("LogError")
            assert "lazy-apps" in said
        assert forked_unnoticed(publisher.close) == "None"
        emit(publisher, "after")
    assert forked_unnoticed(lambda: EmbeddedLog(path).append(CASE_EVENTS, [record()])) != "it hangs"
    assert len(cases(path)) == 3


def test_what_waits_at_such_a_fork_draws_no_event_of_the_child_into_the_parents_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a child, without a fork: a thread that runs while Python hears of none may hang the child for good."""
    log, parent = DistantLog(), os.getpid()
    publisher = CaseEventPublisher(log.open, pepper=PEPPER, registry=REGISTRY, today=lambda: TODAY, linger=3600)
    waits = publisher.emit("HelpRequested", "waits", DAY)
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with publisher:
        assert publisher.emit("HelpRequested", "child", DAY).result(20).offset == 0
    assert isinstance(waits.exception(0), LogError)
    assert log.cases == keys("child")
