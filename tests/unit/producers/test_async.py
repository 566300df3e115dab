"""A publisher in an event loop, and one whose queue is full: who waits, for how long, and what is emitted then."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.unit.producers.distant_logs import PEPPER, REGISTRY, TODAY, DistantLog, until

from quietcount_producers import CaseEventPublisher, EventRefused, LogError, Position, PublisherClosed, PublisherFull
from quietcount_schemas.log import CASE_EVENTS, NewRecord

pytestmark = pytest.mark.quick

DAY = "2023-10-03"


@pytest.fixture
def log() -> DistantLog:
    return DistantLog()


@pytest.fixture
def publisher(log: DistantLog) -> Iterator[CaseEventPublisher]:
    """One that takes eleven events while the log stands still: one that is with the log, and ten that wait."""
    with CaseEventPublisher(
        log.open, pepper=PEPPER, registry=REGISTRY, today=lambda: TODAY, batch=1, linger=3600
    ) as publisher:
        yield publisher
        log.gate.set()


def filled(publisher: CaseEventPublisher, log: DistantLog) -> None:
    log.gate.clear()
    publisher.emit("HelpRequested", "first", DAY)
    assert log.entered.wait(30)
    for number in range(10):
        publisher.emit("HelpRequested", str(number), DAY)


def keys(*names: str) -> list[bytes]:
    return [PEPPER.case_key(name) for name in names]


def test_an_awaited_event_is_stored_and_refused_as_one_that_is_emitted(log: DistantLog) -> None:
    async def emitted() -> Position:
        async with CaseEventPublisher(
            log.open, pepper=PEPPER, registry=REGISTRY, today=lambda: TODAY, linger=3600
        ) as publisher:
            with pytest.raises(EventRefused, match="help_kind"):
                await publisher.emit_async("HelpRequested", "a", DAY, help_kind="nothing")
            return await publisher.emit_async("HelpRequested", "a", DAY, help_kind="DESERTION")

    assert asyncio.run(emitted()) == Position(CASE_EVENTS, 0, 0)
    assert log.cases == keys("a")
    assert log.closed == 1


def test_an_awaited_event_fails_as_its_future_does(publisher: CaseEventPublisher, log: DistantLog) -> None:
    log.appending = LogError("The disk is full", "Free space")
    with pytest.raises(LogError, match="disk is full"):
        asyncio.run(publisher.emit_async("HelpRequested", "a", DAY))
    with pytest.raises(LogError, match="disk is full"):
        publisher.flush()
    publisher.close()
    with pytest.raises(PublisherClosed):
        asyncio.run(publisher.emit_async("HelpRequested", "a", DAY))


def test_the_event_loop_goes_on_while_the_log_stands_still(publisher: CaseEventPublisher, log: DistantLog) -> None:
    filled(publisher, log)

    async def main() -> None:
        tasks = [asyncio.create_task(publisher.emit_async("HelpRequested", f"awaited {n}", DAY)) for n in range(3)]
        for _ in range(20):  # turns of the loop, which would stand still with it
            await asyncio.sleep(0.001)
        assert not any(task.done() for task in tasks)
        log.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert sorted(log.cases[11:]) == sorted(keys(*(f"awaited {n}" for n in range(3))))


def test_cancelled_before_there_was_room_nothing_is_emitted_and_afterwards_it_is_stored_once(
    publisher: CaseEventPublisher, log: DistantLog
) -> None:
    async def cancelled(case: str) -> None:
        task = asyncio.create_task(publisher.emit_async("HelpRequested", case, DAY))
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    log.gate.clear()
    asyncio.run(cancelled("on its way"))
    for number in range(10):
        publisher.emit("HelpRequested", str(number), DAY)
    asyncio.run(cancelled("without room"))
    log.gate.set()
    publisher.flush(30)
    assert log.cases == keys("on its way", *map(str, range(10)))


def test_a_full_queue_holds_an_emitter_no_longer_than_it_allows(publisher: CaseEventPublisher, log: DistantLog) -> None:
    filled(publisher, log)
    with pytest.raises(PublisherFull, match="was not taken"):
        publisher.emit("HelpRequested", "late", DAY, timeout=0)
    with pytest.raises(PublisherFull):
        publisher.emit("HelpRequested", "late", DAY, timeout=0.02)
    with pytest.raises(PublisherFull):
        asyncio.run(publisher.emit_async("HelpRequested", "late", DAY, timeout=0.02))
    log.gate.set()
    publisher.flush(30)
    assert publisher.emit("HelpRequested", "last", DAY, timeout=0).result(30)
    assert log.cases == keys("first", *map(str, range(10)), "last")


def test_closing_ends_the_wait_for_room(publisher: CaseEventPublisher, log: DistantLog) -> None:
    filled(publisher, log)
    raised: list[BaseException] = []

    def emit() -> None:
        try:
            publisher.emit("HelpRequested", "late", DAY)
        except PublisherClosed as error:
            raised.append(error)

    thread = threading.Thread(target=emit)
    thread.start()
    closing = threading.Thread(target=publisher.close)
    time.sleep(0.02)
    closing.start()
    thread.join(30)
    log.gate.set()
    closing.join(30)
    assert len(raised) == 1
    assert PEPPER.case_key("late") not in log.cases


class FailsOnce(DistantLog):
    """A log whose first write fails."""

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        if self.tried:
            self.appending = None
        return super().append(topic, records)


def test_what_waits_for_room_behind_a_failed_write_fails_with_it() -> None:
    """Stored alone, a correction would overtake its event."""
    log = FailsOnce()
    log.appending = LogError("The disk is full", "Free space")
    futures: list[concurrent.futures.Future[Position]] = []
    with CaseEventPublisher(log.open, pepper=PEPPER, registry=REGISTRY, batch=1, linger=0) as publisher:
        filled(publisher, log)
        thread = threading.Thread(target=lambda: futures.append(publisher.emit("HelpRequested", "behind", DAY)))
        thread.start()
        until(lambda: bool(publisher._queue._room._waiters))  # type: ignore[attr-defined]
        log.gate.set()
        thread.join(30)
        assert isinstance(futures[0].exception(30), LogError)
        with pytest.raises(LogError, match="disk is full"):
            publisher.flush(30)
        publisher.emit("HelpRequested", "later", DAY).result(30)
    assert log.cases == keys("later")


# The future


@pytest.mark.parametrize(
    "wait",
    [
        lambda future: future.result(30),
        lambda future: future.exception(30),
        lambda future: concurrent.futures.wait([future], 30),
        lambda future: list(concurrent.futures.as_completed([future], 30)),
    ],
    ids=["result", "exception", "wait", "as_completed"],
)
def test_a_future_is_one_of_the_standard_library_s(
    publisher: CaseEventPublisher, log: DistantLog, wait: Callable[[object], object]
) -> None:
    log.gate.clear()
    future = publisher.emit("HelpRequested", "a", DAY)
    assert isinstance(future, concurrent.futures.Future)
    assert (future.done(), future.running(), future.cancel()) == (False, True, False)
    with pytest.raises(TimeoutError):
        future.result(0.001)
    called: list[object] = []
    future.add_done_callback(called.append)
    threading.Timer(0.02, log.gate.set).start()
    wait(future)
    assert future.done()
    publisher.flush(30)
    until(lambda: called == [future])


def test_threads_that_wait_for_other_events_are_not_woken_for_nothing(
    publisher: CaseEventPublisher, log: DistantLog
) -> None:
    """A wake-up that is meant for another future is not the end of a timeout."""
    log.gate.clear()
    futures = [publisher.emit("HelpRequested", str(number), DAY) for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        results = [threads.submit(future.result, 30) for future in futures]
        time.sleep(0.02)
        log.gate.set()
        assert all(result.result(30) for result in results)


def test_whoever_waits_for_an_event_does_not_wait_for_company(log: DistantLog, tmp_path: Path) -> None:
    with CaseEventPublisher(log.open, pepper=PEPPER, registry=REGISTRY, today=lambda: TODAY, linger=3600) as publisher:
        waits: list[Callable[[], object]] = [
            lambda: publisher.emit("HelpRequested", "a", DAY).result(30),
            lambda: publisher.emit("HelpRequested", "a", DAY).exception(30),
            lambda: asyncio.run(_within(publisher.emit_async("HelpRequested", "a", DAY))),
        ]
        for wait in waits:
            wait()
    assert len(log.records) == 3


async def _within(awaited: Awaitable[object]) -> object:
    return await asyncio.wait_for(awaited, 30)


def test_a_callback_emits_again_also_if_the_queue_is_full(publisher: CaseEventPublisher, log: DistantLog) -> None:
    """It runs in the thread that makes room, which would wait for itself."""
    again: list[concurrent.futures.Future[Position]] = []
    log.gate.clear()
    first = publisher.emit("HelpRequested", "first", DAY)
    first.add_done_callback(lambda _: again.append(publisher.emit("HelpRequested", "again", DAY, timeout=20)))
    assert log.entered.wait(30)
    for number in range(10):
        publisher.emit("HelpRequested", str(number), DAY)
    log.gate.set()
    publisher.flush(30)
    again[0].result(30)
    assert log.cases == keys("first", *map(str, range(10)), "again")


def test_an_event_that_failed_because_it_waited_for_room_is_told_at_the_end_unless_somebody_asked(
    publisher: CaseEventPublisher, log: DistantLog
) -> None:
    log.gate.clear()
    others = [publisher.emit("HelpRequested", "first", DAY)]
    assert log.entered.wait(30)
    others += [publisher.emit("HelpRequested", str(number), DAY) for number in range(10)]
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        waited = other.submit(publisher.emit, "HelpRequested", "waits", DAY)
        until(lambda: bool(publisher._queue._room._waiters))  # type: ignore[attr-defined]
        log.appending = LogError("The disk is full", "Free space")
        log.gate.set()
        assert all(each.exception(30) for each in others)
        future = waited.result(30)
    assert publisher._queue.unheard() is not None
    assert future.exception(30) is not None
    assert publisher._queue.unheard() is None
    with pytest.raises(LogError):
        publisher.flush()


def test_a_task_that_waits_long_for_room_asks_seldom(
    publisher: CaseEventPublisher, log: DistantLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of requests that wait would hold up the loop by asking."""
    filled(publisher, log)
    sleep = asyncio.sleep
    pauses: list[float] = []

    async def briefly(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            log.gate.set()
        await sleep(0.001)

    monkeypatch.setattr(asyncio, "sleep", briefly)
    asyncio.run(publisher.emit_async("HelpRequested", "waits", DAY))
    assert pauses[0] <= 0.01
    assert min(pauses[10:]) > 0.2
    assert max(pauses) <= 0.5
