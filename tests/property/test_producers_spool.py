"""Whatever fails or is killed between an emitter and its log, nothing acknowledged is lost and no case reordered."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietcount_producers import EventSpool, LogError
from quietcount_producers.errors import LogUnavailable
from quietcount_producers.partitioner import partition_for
from quietcount_producers.spool.relay import relay_batch
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord, Position

pytestmark = pytest.mark.quick

PARTITIONS = 3
BATCH = 4  # small, so that a backlog takes several
MARK = b"what a case did"

Relay = Callable[[EventSpool, LogWriter, int], bool]


class Killed(BaseException):
    """What a test raises where a process would end."""


class Emit(NamedTuple):
    cases: list[int]


class Send(NamedTuple):
    """One turn of the relay: the log takes all of it, none, all without saying so, or what goes to some partitions."""

    fault: str | None = None
    partitions: frozenset[int] = frozenset()


class Kill(NamedTuple):
    """The process ends `when`: in the midst of a turn, or of a purge, or just so."""

    when: str


class Tidy(NamedTuple):
    pass


Step = Emit | Send | Kill | Tidy


class PartialLog:
    """A log of three partitions that fails as it is told."""

    def __init__(self) -> None:
        self.stored: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        self.next = Send()

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        assert topic == CASE_EVENTS
        step, self.next = self.next, Send()
        if step.fault == "refused":
            raise LogError("You may not write here.")
        if step.fault == "nothing":
            raise LogUnavailable("Nobody answers.")
        positions = []
        for record in records:
            partition = partition_for(record.key, PARTITIONS)
            if step.fault == "part" and partition not in step.partitions:
                continue
            positions.append(Position(topic, partition, len(self.stored[partition])))
            self.stored[partition].append(record.value)
        if step.fault is not None:
            raise LogUnavailable("Nobody says what became of it.")
        return positions

    def close(self) -> None:
        pass


def value(case: int, number: int) -> bytes:
    return b"%s %d %d" % (MARK, case, number)


def played(
    steps: Sequence[Step], folder: Path, relay: Relay = relay_batch, spool_class: type[EventSpool] = EventSpool
) -> tuple[list[bytes], PartialLog]:
    """Play `steps`, then let everything be well; return what was acknowledged, in order, and the log."""
    log = PartialLog()
    numbers = itertools.count()
    acknowledged: list[bytes] = []
    spool = spool_class(folder)
    for step in [*steps, Kill("idle")]:
        assert spool.hold()
        if isinstance(step, Emit):
            records = [NewRecord(bytes([case]) * 16, value(case, next(numbers)), 0) for case in step.cases]
            spool.append(CASE_EVENTS, records)
            acknowledged += [record.value for record in records]
        elif isinstance(step, Tidy):
            spool.tidy()
        elif isinstance(step, Send):
            log.next = step
            with contextlib.suppress(LogError):
                relay(spool, log, BATCH)
            log.next = Send()
        else:
            killed(spool, log, step, relay)
            spool = spool_class(folder)
    assert spool.hold()
    while relay(spool, log, BATCH):
        pass
    spool.tidy()
    assert spool.fault is None
    assert spool.state().empty
    assert MARK not in b"".join(file.read_bytes() for file in spool.store.iterdir())
    spool.close()
    return acknowledged, log


def killed(spool: EventSpool, log: PartialLog, step: Kill, relay: Relay) -> None:
    def die(*_: object) -> None:
        raise Killed

    try:
        if step.when == "sent, not noted":
            spool.forward = die  # type: ignore[method-assign,assignment]
            relay(spool, log, BATCH)
        elif step.when == "purged, not scrubbed":
            spool._log.scrub = die  # type: ignore[method-assign,assignment]
            spool.tidy()
    except Killed:
        pass
    spool.close()


def check(acknowledged: list[bytes], log: PartialLog) -> None:
    """Each acknowledged event is in the log, and the first occurrences of a case's events are in order."""
    stored = [list(dict.fromkeys(partition)) for partition in log.stored]
    assert sorted(itertools.chain(*stored)) == sorted(acknowledged)
    for case in {each.split()[-2] for each in acknowledged}:
        wanted = [each for each in acknowledged if each.split()[-2] == case]
        assert [each for each in itertools.chain(*stored) if each.split()[-2] == case] == wanted


CASES = st.lists(st.integers(0, 5), min_size=1, max_size=9)
SENDS = st.builds(Send, st.sampled_from([None, None, "nothing", "unsaid", "refused"])) | st.builds(
    Send, st.just("part"), st.frozensets(st.integers(0, PARTITIONS - 1), max_size=PARTITIONS - 1)
)
KILLS = st.builds(Kill, st.sampled_from(["sent, not noted", "purged, not scrubbed", "idle"]))
STEPS = st.lists(st.builds(Emit, CASES) | SENDS | KILLS | st.builds(Tidy), max_size=20)


@pytest.mark.promise("spool")
@settings(max_examples=80)
@given(STEPS)
def test_after_any_failures_and_kills_each_acknowledged_event_is_in_the_log_in_order_within_its_case(
    steps: list[Step],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(*played(steps, Path(folder) / "spool"))


def noted_before_it_is_sent(spool: EventSpool, log: LogWriter, limit: int) -> bool:
    waiting = spool.waiting(limit)
    if waiting:
        spool.forward(waiting[-1].offset + 1)
        log.append(CASE_EVENTS, [NewRecord(each.key, each.value, each.timestamp) for each in waiting])
    return bool(waiting)


def goes_on_behind_what_failed(spool: EventSpool, log: LogWriter, limit: int) -> bool:
    """Set aside what failed, send what is behind it, then that."""
    try:
        return relay_batch(spool, log, limit)
    except LogError:
        first = spool.waiting(limit)
        behind = spool.waiting(2 * limit)[limit:]
        for batch in (behind, first):
            if batch:
                log.append(CASE_EVENTS, [NewRecord(each.key, each.value, each.timestamp) for each in batch])
        spool.forward((behind or first)[-1].offset + 1)
        return True


class PurgesWhatWaits(EventSpool):
    def tidy(self) -> None:
        self._log.purge(CASE_EVENTS, self._log.end_offsets(CASE_EVENTS))
        super().tidy()


MANY = Emit([0, 1, 2, 3, 4, 5, 0, 1, 2])


@pytest.mark.parametrize(
    "steps, relay, spool_class",
    [
        ([MANY, Send("nothing")], noted_before_it_is_sent, EventSpool),
        ([MANY, Send("part", frozenset({1}))], noted_before_it_is_sent, EventSpool),
        ([MANY, Send("nothing")], goes_on_behind_what_failed, EventSpool),
        ([MANY, Tidy()], relay_batch, PurgesWhatWaits),
        ([MANY, Send(), Tidy()], relay_batch, PurgesWhatWaits),
    ],
)
def test_a_relay_that_notes_first_or_skips_or_purges_what_waits_is_caught(
    tmp_path: Path, steps: list[Step], relay: Relay, spool_class: type[EventSpool]
) -> None:
    check(*played(steps, tmp_path / "true"))
    with pytest.raises(AssertionError):
        check(*played(steps, tmp_path / "mutant", relay, spool_class))


def test_without_failures_each_event_is_sent_once_also_over_restarts(tmp_path: Path) -> None:
    steps: list[Step] = [MANY, Send(), Kill("idle"), Send(), Emit([3]), Tidy(), Kill("idle"), Send(), Send()]
    acknowledged, log = played(steps, tmp_path / "spool")
    assert sorted(itertools.chain(*log.stored)) == sorted(acknowledged)


class RemembersNothing(EventSpool):
    def _store_mark(self, day: int) -> None:
        self._unstored = False


def test_a_relay_that_forgets_its_position_is_caught(tmp_path: Path) -> None:
    def again(spool_class: type[EventSpool]) -> int:
        acknowledged, log = played(
            [MANY, Send(), Kill("idle")], tmp_path / spool_class.__name__, relay_batch, spool_class
        )
        return len(list(itertools.chain(*log.stored))) - len(acknowledged)

    assert again(EventSpool) == 0
    assert again(RemembersNothing) > 0
