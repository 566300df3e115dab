"""What every log promises, whichever it is. A new log joins by adding its bench to `BENCHES`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from tests import forking
from tests.kafka.bench import KafkaBench

from quietcount_producers import EmbeddedLog, ProducersError
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import LogReader, LogWriter, NewRecord, Position, Record

pytestmark = pytest.mark.quick


class Log(LogReader, LogWriter, Protocol):
    def create_topic(self, name: str, partitions: int = 1) -> str: ...

    def delete_topic(self, name: str) -> object: ...


class Bench(Protocol):
    """How the suite gets at one kind of log."""

    def open(self) -> Log:
        """Open the log once more, as another process would."""
        ...

    def opening(self) -> str:
        """Python source of an expression that opens it in another process."""
        ...

    def unwritable(self) -> NewRecord:
        """A record that the log refuses."""
        ...


class EmbeddedBench:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        folder: Path = request.getfixturevalue("tmp_path")
        self.path = folder / "log.sqlite"

    def open(self) -> Log:
        return EmbeddedLog(self.path)

    def opening(self) -> str:
        path = f"__import__('pathlib').Path({str(self.path)!r})"
        return f"__import__('quietcount_producers').EmbeddedLog({path})"

    def unwritable(self) -> NewRecord:
        return NewRecord(b"k", None, 0)  # type: ignore[arg-type]  # a record without a value


BENCHES: dict[str, Callable[[pytest.FixtureRequest], Bench]] = {"embedded": EmbeddedBench, "kafka": KafkaBench}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest) -> Bench:
    return BENCHES[request.param](request)


@pytest.fixture
def log(bench: Bench) -> Iterator[Log]:
    log = bench.open()
    yield log
    log.close()


def record(key: bytes | None = b"key", value: bytes = b"value") -> NewRecord:
    return NewRecord(key, value, 1_680_307_200_000)


def read_all(log: Log, topic: str, limit: int = 7) -> list[Record]:
    """Read a topic to its end in many small polls, as a reader does."""
    ends = log.end_offsets(topic)
    at = log.beginning_offsets(topic)
    found: list[Record] = []
    while batch := log.poll(topic, at, ends, limit):
        assert len(batch) <= limit
        for each in batch:
            assert at[each.partition] <= each.offset < ends[each.partition]
            at[each.partition] = each.offset + 1
        found += batch
    return found


def child(bench: Bench, source: str) -> subprocess.Popen[str]:
    """Start another process that has the log open as `log`."""
    prelude = f"import sys\nfrom quietcount_schemas.log import NewRecord\nlog = {bench.opening()}\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return forking.Popen([sys.executable, "-c", prelude + source], stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.promise("log-contract")
def test_what_was_appended_is_read_back_whole(log: Log) -> None:
    log.create_topic("t")
    given = [
        NewRecord(None, b"", 0),
        NewRecord(b"", b"\0\xff" * 40, -5, (("reason", b"truncated"), ("empty", b""), ("reason", b"\0"))),
        NewRecord(b"k", b"v", 2**45),
    ]
    positions = log.append("t", given)
    assert positions == [Position("t", 0, each.offset) for each in read_all(log, "t")]
    assert [(r.key, r.value, r.timestamp, r.headers) for r in read_all(log, "t")] == [
        (r.key, r.value, r.timestamp, r.headers) for r in given
    ]


def test_a_key_keeps_its_partition_and_its_order(log: Log) -> None:
    log.create_topic("t", 4)
    chance = random.Random(20)
    given = [record(bytes([chance.randrange(25)]), str(n).encode()) for n in range(600)]
    for start in range(0, 600, 50):
        log.append("t", given[start : start + 50])
    read = read_all(log, "t")
    assert {r.partition for r in read} == {0, 1, 2, 3}
    for key in {r.key for r in given}:
        mine = [r for r in read if r.key == key]
        assert len({r.partition for r in mine}) == 1
        assert [r.value for r in mine] == [r.value for r in given if r.key == key]


def test_offsets_rise_and_the_end_is_the_next_one(log: Log) -> None:
    log.create_topic("t", 2)
    last = {0: -1, 1: -1}
    for n in range(50):
        (position,) = log.append("t", [record(str(n).encode())])
        assert position.offset > last[position.partition]
        last[position.partition] = position.offset
        assert log.end_offsets("t")[position.partition] == position.offset + 1


def test_positions_come_in_the_order_given(log: Log) -> None:
    log.create_topic("t", 3)
    given = [record(str(n).encode(), str(n).encode()) for n in range(100)]
    at = {(p.partition, p.offset): given[n].value for n, p in enumerate(log.append("t", given))}
    assert {(r.partition, r.offset): r.value for r in read_all(log, "t")} == at


def test_an_append_that_fails_stores_nothing(bench: Bench, log: Log) -> None:
    log.create_topic("t")
    log.append("t", [record(value=b"before")])
    ends = log.end_offsets("t")
    with pytest.raises(QuietcountError):
        log.append("t", [record(), record(), bench.unwritable()])
    assert log.end_offsets("t") == ends
    log.append("t", [record(value=b"after")])
    assert [r.value for r in read_all(log, "t")] == [b"before", b"after"]


def test_appending_nothing_changes_nothing(log: Log) -> None:
    log.create_topic("t")
    assert log.append("t", []) == []
    assert log.end_offsets("t") == {0: 0}


def test_poll_stays_before_the_ends(log: Log) -> None:
    log.create_topic("t")
    positions = log.append("t", [record(value=str(n).encode()) for n in range(10)])
    start, end = positions[2].offset, positions[6].offset
    assert [r.value for r in log.poll("t", {0: start}, {0: end}, 100)] == [b"2", b"3", b"4", b"5"]
    assert log.poll("t", {0: end}, {0: end}, 100) == []
    assert log.poll("t", {}, {0: end}, 100) == []


def test_a_long_partition_does_not_starve_another(log: Log) -> None:
    log.create_topic("t", 2)
    keys = {0: b"", 1: b""}
    for n in range(100):
        (position,) = log.append("t", [record(str(n).encode())])
        keys[position.partition] = str(n).encode()
    log.append("t", [record(keys[0])] * 500)
    ends = log.end_offsets("t")
    assert {r.partition for r in log.poll("t", {0: 0, 1: 0}, ends, 20)} == {0, 1}
    first = {log.poll("t", {0: 0, 1: 0}, ends, 1)[0].partition for _ in range(4)}
    assert first == {0, 1}


def test_purge_forgets_what_is_before_and_touches_nothing_after(log: Log) -> None:
    log.create_topic("t", 2)
    log.create_topic("other")
    log.append("other", [record(value=b"other")] * 5)
    log.append("t", [record(str(n).encode(), str(n).encode()) for n in range(200)])
    before = {p: end // 2 for p, end in log.end_offsets("t").items()}
    everything = sorted(read_all(log, "t"))
    ends = log.end_offsets("t")
    log.purge("t", before)
    assert sorted(read_all(log, "t")) == [r for r in everything if r.offset >= before[r.partition]]
    assert log.beginning_offsets("t") == before
    assert log.end_offsets("t") == ends
    assert len(read_all(log, "other")) == 5


def test_an_offset_is_never_given_twice(bench: Bench, log: Log) -> None:
    log.create_topic("t")
    log.append("t", [record()] * 20)
    log.purge("t", log.end_offsets("t"))
    assert log.beginning_offsets("t") == log.end_offsets("t")
    assert read_all(log, "t") == []
    again = bench.open()
    try:
        assert again.append("t", [record()])[0].offset >= 20
    finally:
        again.close()


def test_a_topic_that_was_made_again_has_another_id(log: Log) -> None:
    first = log.create_topic("t")
    assert log.topic_id("t") == first == log.create_topic("t")
    assert log.create_topic("u") != first
    log.delete_topic("t")
    with pytest.raises(QuietcountError):
        log.topic_id("t")
    assert log.create_topic("t") != first
    assert log.topic_id("t") != first


@pytest.mark.parametrize(
    "call",
    [
        lambda log: log.topic_id("absent"),
        lambda log: log.partitions("absent"),
        lambda log: log.beginning_offsets("absent"),
        lambda log: log.end_offsets("absent"),
        lambda log: log.poll("absent", {0: 0}, {0: 1}, 1),
        lambda log: log.append("absent", [record()]),
        lambda log: log.purge("absent", {0: 1}),
    ],
)
def test_an_unknown_topic_is_named(log: Log, call: Callable[[Log], object]) -> None:
    with pytest.raises(ProducersError, match="absent"):
        call(log)


def test_another_process_reads_what_was_appended(bench: Bench, log: Log) -> None:
    log.create_topic("t")
    log.append("t", [record(value=str(n).encode()) for n in range(30)])
    reader = child(bench, "print(len(log.poll('t', {0: 0}, log.end_offsets('t'), 1000)))")
    assert reader.communicate(timeout=60)[0].strip() == "30"
    assert reader.returncode == 0


_WRITER = """
me = sys.argv[1] if len(sys.argv) > 1 else {me!r}
for n in range({batches}):
    log.append("t", [NewRecord(b"k%d" % i, b"%s:%d" % (me.encode(), n * 10 + i), 0) for i in range(10)])
    print(n, flush=True)
log.close()
"""


def test_two_processes_append_at_once_and_nothing_is_lost_or_mixed(bench: Bench, log: Log) -> None:
    log.create_topic("t", 2)
    writers = [child(bench, _WRITER.format(me=me, batches=60)) for me in ("a", "b")]
    while any(writer.poll() is None for writer in writers):  # a reader all the while
        seen = read_all(log, "t", 500)
        assert len({(r.partition, r.offset) for r in seen}) == len(seen)
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    read = read_all(log, "t", 100)
    for me in (b"a", b"b"):
        mine = [r for r in read if r.value.startswith(me + b":")]
        assert sorted(int(r.value[2:]) for r in mine) == list(range(600))
        for partition in (0, 1):
            order = [int(r.value[2:]) for r in mine if r.partition == partition]
            assert order == sorted(order)


@pytest.mark.promise("nothing-lost")
def test_kill_9_of_a_writer_loses_no_acknowledged_record_and_leaves_no_half(bench: Bench, log: Log) -> None:
    log.create_topic("t")
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    for trial in range(6):
        me = f"w{trial}"
        writer = child(bench, _WRITER.format(me=me, batches=100_000))
        assert writer.stdout is not None
        writer.stdout.readline()  # it is in the middle of it
        time.sleep(chance.uniform(0.0, 0.08))
        writer.send_signal(signal.SIGKILL)
        acknowledged = [0, *(int(line) for line in writer.communicate(timeout=60)[0].split())]
        mine = [r for r in read_all(log, "t", 5000) if r.value.startswith(me.encode() + b":")]
        numbers = [int(r.value.split(b":")[1]) for r in mine]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) % 10 == 0, "an append is all or none"
        assert len(numbers) >= 10 * (max(acknowledged) + 1)
