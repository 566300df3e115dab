"""What every ledger's log promises, whichever it is. A new one joins by adding its bench to `BENCHES`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from tests import forking
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.errors import LedgerError, LedgerFenced
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_consumers.kafka.ledger import KafkaLedger
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import LedgerLog

pytestmark = pytest.mark.quick


class Bench(Protocol):
    """How the suite gets at one kind of ledger."""

    def open(self, *, create: bool = True) -> LedgerLog:
        """Open the ledger once more, as another process would."""
        ...

    def opening(self) -> str:
        """Python source of an expression that opens it in another process."""
        ...

    def nothing(self) -> LedgerLog:
        """Open, for reading only, a ledger that is not there."""
        ...


class EmbeddedBench:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.folder: Path = request.getfixturevalue("tmp_path")

    def open(self, *, create: bool = True) -> LedgerLog:
        return EmbeddedLedger(self.folder / "ledger.sqlite", create=create)

    def opening(self) -> str:
        path = str(self.folder / "ledger.sqlite")
        module = "__import__('quietcount_consumers.embedded_ledger', fromlist=['EmbeddedLedger'])"
        return f"{module}.EmbeddedLedger(__import__('pathlib').Path({path!r}))"

    def nothing(self) -> LedgerLog:
        return EmbeddedLedger(self.folder / "nothing.sqlite", create=False)


class KafkaBench:
    def __init__(self, request: pytest.FixtureRequest) -> None:
        kafka: Kafka = request.getfixturevalue("kafka")
        self.kafka = kafka
        self.settings = KafkaSettings(brokers=tuple(kafka.bootstrap.split(",")), topic_prefix=kafka.prefix())
        create_topics(self.settings)

    def open(self, *, create: bool = True) -> LedgerLog:
        del create  # it makes no topic in any case
        return KafkaLedger(self.settings)

    def opening(self) -> str:
        settings = f"brokers={self.settings.brokers!r}, topic_prefix={self.settings.topic_prefix!r}"
        return (
            "__import__('quietcount_consumers.kafka.ledger', fromlist=['KafkaLedger']).KafkaLedger(__import__("
            f"'quietcount_producers.kafka.settings', fromlist=['KafkaSettings']).KafkaSettings({settings}))"
        )

    def nothing(self) -> LedgerLog:
        return KafkaLedger(KafkaSettings(brokers=self.settings.brokers, topic_prefix=self.kafka.prefix()))


BENCHES: dict[str, Callable[[pytest.FixtureRequest], Bench]] = {"embedded": EmbeddedBench, "kafka": KafkaBench}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest) -> Bench:
    return BENCHES[request.param](request)


@pytest.fixture
def ledger(bench: Bench) -> Iterator[LedgerLog]:
    with closing(bench.open()) as ledger:
        yield ledger


@contextmanager
def child(bench: Bench, source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start another process that has the ledger open as `ledger`, and `opened()` to open it anew."""
    prelude = (
        "import random, sys, time\nfrom quietcount_aggregates.errors import LedgerFenced, LedgerUnavailable\n"
        f"def opened():\n    return {bench.opening()}\nledger = opened()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = forking.Popen(
        [sys.executable, "-c", prelude + source, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        with process:
            yield process
            process.kill()
    finally:
        process.kill()


@pytest.mark.promise("ledger-contract")
def test_what_was_appended_is_read_back_whole_and_from_any_index_on(bench: Bench, ledger: LedgerLog) -> None:
    given = [b"one", b"", b"\0\xff" * 50, b"one", b"five"]
    epoch = ledger.fence()
    ledger.append(given[:3], epoch=epoch, expected=0)
    ledger.append(given[3:4], epoch=epoch, expected=3)
    ledger.append(given[4:], epoch=epoch, expected=4)
    with closing(bench.open(create=False)) as reader:
        for each in (ledger, reader):
            for start in (0, 5, 2, 4, 6, 1, 0):
                assert each.read(start) == given[start:]


def test_places_are_read_back_whole_and_from_any_number_on(bench: Bench, ledger: LedgerLog) -> None:
    given = [b"a", b"", b"\0\xff" * 50, b"a"]
    epoch = ledger.fence()
    assert ledger.read_places() == []
    ledger.append([b"one", b"two", b"three"], given[:2], epoch=epoch, expected=0)
    ledger.append([b"four"], epoch=epoch, expected=3)
    ledger.append([b"five"], given[2:3], epoch=epoch, expected=4)
    with closing(bench.open(create=False)) as reader:
        assert reader.read_places() == given[:3]
        ledger.append([b"six"], given[3:], epoch=epoch, expected=5)
        for each in (ledger, reader):
            for start in (0, 4, 2, 3, 1, 0):
                assert each.read_places(start) == given[start:]
        assert reader.read(3) == [b"four", b"five", b"six"]


def test_an_append_that_is_refused_leaves_no_place(bench: Bench) -> None:
    with closing(bench.open()) as older, closing(bench.open()) as newer:
        first = older.fence()
        second = newer.fence()
        for epoch, expected in ((first, 0), (second, 1)):
            with pytest.raises(LedgerFenced):
                (older if epoch == first else newer).append([b"one"], [b"a"], epoch=epoch, expected=expected)
        newer.append([b"one"], [b"a"], epoch=newer.fence(), expected=0)
        assert newer.read_places() == [b"a"]


def test_places_without_an_entry_are_appended_under_the_same_fence(bench: Bench) -> None:
    """As a settlement is, before anything is counted."""
    with closing(bench.open()) as older, closing(bench.open()) as newer:
        first = older.fence()
        older.append([b"one"], [b"a"], epoch=first, expected=0)
        older.append([], [b"b", b"c"], epoch=first, expected=1)
        assert (older.read(), older.read_places()) == ([b"one"], [b"a", b"b", b"c"])
        second = newer.fence()
        assert newer.read_places() == [b"a", b"b", b"c"]
        for ledger, epoch, expected in ((older, first, 1), (newer, second, 0), (newer, second, 2)):
            with pytest.raises(LedgerFenced):
                ledger.append([], [b"refused"], epoch=epoch, expected=expected)
        newer.append([b"two"], [b"d"], epoch=newer.fence(), expected=1)
        assert (newer.read(), newer.read_places()) == ([b"one", b"two"], [b"a", b"b", b"c", b"d"])


def test_a_ledger_that_nothing_was_appended_to_is_empty(ledger: LedgerLog) -> None:
    assert ledger.read() == []
    epoch = ledger.fence()
    assert ledger.read() == []
    ledger.append([], epoch=epoch, expected=0)
    assert ledger.read() == []


def test_a_reader_sees_what_was_appended_since(bench: Bench, ledger: LedgerLog) -> None:
    with closing(bench.open(create=False)) as reader:
        epoch = ledger.fence()
        for number in range(5):
            assert len(reader.read()) == number
            ledger.append([b"%d" % number], epoch=epoch, expected=number)
            assert reader.read(number) == [b"%d" % number]


def test_entries_of_a_wide_domain_are_kept_whole(ledger: LedgerLog) -> None:
    given = [bytes([number]) * 3_000_000 for number in range(3)]
    ledger.append([b"first", *given], epoch=ledger.fence(), expected=0)
    assert ledger.read(1) == given


@pytest.mark.promise("one-releaser")
def test_an_append_under_an_older_fence_is_refused_whoever_holds_the_newer_one(bench: Bench) -> None:
    with closing(bench.open()) as older, closing(bench.open()) as newer:
        first = older.fence()
        older.append([b"one"], epoch=first, expected=0)
        second = newer.fence()
        assert second != first
        for _ in range(2):  # the first refusal changes nothing
            with pytest.raises(LedgerFenced, match="Run one service"):
                older.append([b"two"], epoch=first, expected=1)
        newer.append([b"two"], epoch=second, expected=1)
        with pytest.raises(LedgerFenced):
            older.append([b"three"], epoch=first, expected=2)
        assert older.read() == newer.read() == [b"one", b"two"]
        third = newer.fence()
        assert third not in (first, second)
        with pytest.raises(LedgerFenced):
            newer.append([b"three"], epoch=second, expected=2)
        newer.append([b"three"], epoch=third, expected=2)
        assert older.read() == [b"one", b"two", b"three"]


def test_the_newer_holder_need_not_be_there_any_more(bench: Bench, ledger: LedgerLog) -> None:
    epoch = ledger.fence()
    with closing(bench.open()) as newer:
        newer.fence()
    with pytest.raises(LedgerFenced):
        ledger.append([b"one"], epoch=epoch, expected=0)
    assert ledger.read() == []


def test_who_took_no_fence_appends_nothing(bench: Bench, ledger: LedgerLog) -> None:
    epoch = ledger.fence()
    with closing(bench.open()) as other:
        for invented in (epoch - 1, epoch + 1, 0, -1):
            with pytest.raises(LedgerFenced):
                other.append([b"one"], epoch=invented, expected=0)
    with pytest.raises(LedgerFenced):
        ledger.append([b"one"], epoch=epoch + 1, expected=0)
    assert ledger.read() == []


@pytest.mark.parametrize("expected", [0, 1, 3, 4])
def test_an_append_that_did_not_expect_what_is_there_is_refused(ledger: LedgerLog, expected: int) -> None:
    ledger.append([b"one", b"two"], epoch=ledger.fence(), expected=0)
    with pytest.raises(LedgerFenced):
        ledger.append([b"three"], epoch=ledger.fence(), expected=expected)
    assert ledger.read() == [b"one", b"two"]
    ledger.append([b"three"], epoch=ledger.fence(), expected=2)
    assert ledger.read(2) == [b"three"]


def test_a_reader_of_nothing_brings_nothing_into_being(bench: Bench) -> None:
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"quietcount run|quietcount topics create"):
            bench.nothing()


APPENDING = """
epoch = ledger.fence()
while True:
    length = len(ledger.read())
    entries = [b"%d" % (length + n) for n in range(5)]
    ledger.append(entries, entries[:2], epoch=epoch, expected=length)
    print("appended", flush=True)
"""


def test_a_killed_releaser_leaves_the_whole_of_an_append_or_nothing(bench: Bench, ledger: LedgerLog) -> None:
    seed = int(os.environ.get("QUIETCOUNT_TEST_SEED", random.randrange(10**9)))
    print("seed", seed)
    chance = random.Random(seed)
    length = 0
    for _ in range(4):
        with child(bench, APPENDING) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 6)):
                assert process.stdout.readline() == "appended\n"
                length += 5
            time.sleep(chance.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
        epoch = ledger.fence()  # which ends what the dead one had begun
        entries = ledger.read()
        assert entries == [b"%d" % n for n in range(len(entries))]
        assert len(entries) >= length  # nothing that was done is lost
        assert len(entries) % 5 == 0
        assert ledger.read_places() == [entry for n, entry in enumerate(entries) if n % 5 < 2], (
            "all of both, or neither"
        )
        more = [b"%d" % (len(entries) + n) for n in range(5)]
        ledger.append(more, more[:2], epoch=epoch, expected=len(entries))
        length = len(entries) + 5


# What is shut out opens anew, as a service does. Where a commit meets the other's fence its outcome may stay open, so
# that more is there than each knows of: the reading at the end judges.
RACING = """
name, rounds = sys.argv[1], int(sys.argv[2])
while rounds:
    try:
        ledger = ledger or opened()
        epoch = ledger.fence()
        length = len(ledger.read())
        ledger.append([f"{length} {name}".encode()], epoch=epoch, expected=length)
        rounds -= 1
    except (LedgerFenced, LedgerUnavailable):
        if ledger:
            ledger.close()
        ledger = None
        time.sleep(random.uniform(0.0, 0.05))  # else the two may shut each other out for ever
print("done")
"""


def test_of_two_that_append_at_the_same_moment_one_is_refused(bench: Bench, ledger: LedgerLog) -> None:
    with child(bench, RACING, "a", "8") as one, child(bench, RACING, "b", "8") as other:
        for racer in (one, other):
            out, _ = racer.communicate(timeout=120)
            assert (racer.returncode, out) == (0, "done\n")
    entries = [entry.decode().split() for entry in ledger.read()]
    assert [int(index) for index, _ in entries] == list(range(len(entries)))
    assert min(Counter(name for _, name in entries).values()) >= 8
