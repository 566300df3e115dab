"""Emitters with a spool as real processes: killed, on a full disk, and with a broker that is killed or stands still."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import forking
from tests.kafka.cluster import Cluster

from quietcount_producers import EmbeddedLog, EventSpool, Pepper, open_log
from quietcount_producers.settings import EmitterSettings
from quietcount_producers.spool.relay import relay_rest
from quietcount_schemas.codec import Codec
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.check

EMITTER = Path(__file__).with_name("spool_emitter.py")
CODEC = Codec(SchemaRegistry.load())


class Emitter:
    """A process that emits; what it was acknowledged is read as it comes."""

    def __init__(
        self, place: Path, name: str, *arguments: str, file_size: int | None = None, program: Path = EMITTER
    ) -> None:
        def limit() -> None:
            if file_size is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        self.acknowledged: list[tuple[str, str]] = []
        self.process: subprocess.Popen[str] = forking.Popen(
            [sys.executable, str(program), str(place / "quietcount.toml"), name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            preexec_fn=limit if file_size is not None else None,  # it takes no lock
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # a kill may cut the last one
                case, event_id = line.split()
                self.acknowledged.append((case, event_id))

    def more(self, count: int) -> None:
        """Wait until `count` events more are acknowledged."""
        wanted = len(self.acknowledged) + count
        deadline = time.monotonic() + 60
        while len(self.acknowledged) < wanted:
            assert self.process.poll() is None
            assert time.monotonic() < deadline, "emitting does not go on"
            time.sleep(0.002)

    def end(self) -> tuple[int, str]:
        """Let it close in order; return its exit code and what it wrote to stderr."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(60)
        return code, self._closed()

    def kill(self) -> None:
        """End it at once, if it goes on, and close what is read of it; a second time does nothing."""
        self.process.kill()
        self.process.wait()
        self._closed()

    def _closed(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.close()  # also tells those that it forked
        self._reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        if self.process.stderr.closed:
            return ""
        said = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return said


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "quietcount.toml").write_text('[emitter]\nspool = "spool"\n')
    (tmp_path / "secrets").mkdir()
    Pepper.generate(tmp_path / "secrets" / "pepper")
    return tmp_path


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Emitter]]:
    made: list[Emitter] = []

    def make(name: str, *arguments: str, file_size: int | None = None) -> Emitter:
        made.append(Emitter(place, name, *arguments, file_size=file_size))
        return made[-1]

    yield make
    for emitter in made:
        emitter.kill()


def drain(place: Path) -> None:
    """Send what the spool holds, as `quietcount spool drain` does."""
    settings = EmitterSettings.load(place / "quietcount.toml", {})
    assert settings.spool is not None
    with EventSpool(settings.spool) as spool:
        assert relay_rest(spool, lambda: open_log(settings))
        assert spool.state().empty
        kept = b"".join(file.read_bytes() for file in spool.store.iterdir())
        assert len(kept) < 200_000  # no records, but the WAL's index and a few pages


def embedded_values(place: Path) -> list[bytes]:
    with EmbeddedLog(EmitterSettings.load(place / "quietcount.toml", {}).log_file, create=False) as log:
        return [record.value for record in log.poll(CASE_EVENTS, {0: 0}, log.end_offsets(CASE_EVENTS), 10**7)]


def check(emitters: list[Emitter], partitions: list[list[bytes]]) -> int:
    """Each acknowledged event is in the log, in order within its case; return how many came more than once."""
    total = 0
    first: dict[str, tuple[int, int]] = {}
    for number, values in enumerate(partitions):
        for offset, value in enumerate(values):
            first.setdefault(CODEC.decode(value).event_id.hex(), (number, offset))
            total += 1
    by_case: dict[str, list[str]] = {}
    for emitter in emitters:
        for case, event_id in emitter.acknowledged:
            by_case.setdefault(case, []).append(event_id)
    for case, event_ids in by_case.items():
        missing = [event_id for event_id in event_ids if event_id not in first]
        assert not missing, f"{len(missing)} acknowledged events of {case} are not in the log"
        places = [first[event_id] for event_id in event_ids]
        assert places == sorted(places), f"the events of {case} are not in order"
        assert len({number for number, _ in places}) == 1
    return total - len(first)


def killed_in_a_loop(place: Path, start: Callable[..., Emitter], kills: int) -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    emitters = []
    for _ in range(kills):
        emitters.append(start("one", "--log", "faulty", "--pause", str(chance.choice([0.0, 0.001, 0.02]))))
        emitters[-1].more(1)
        time.sleep(chance.uniform(0.0, 0.5))
        emitters[-1].kill()
    drain(place)
    check(emitters, [embedded_values(place)])


def test_kill_9_of_an_emitter_loses_nothing_it_acknowledged(place: Path, start: Callable[..., Emitter]) -> None:
    killed_in_a_loop(place, start, 6)


def test_a_relay_that_notes_what_it_has_not_sent_is_found_out(place: Path, start: Callable[..., Emitter]) -> None:
    emitter = start("one", "--log", "faulty", "--mutant")
    emitter.more(100)
    assert emitter.end() == (0, "")
    drain(place)
    with pytest.raises(AssertionError, match="acknowledged events of one-0 are not in the log"):
        check([emitter], [embedded_values(place)])


@pytest.mark.soak
def test_200_kill_9_of_an_emitter_lose_nothing_it_acknowledged(place: Path, start: Callable[..., Emitter]) -> None:
    killed_in_a_loop(place, start, 200)


def test_two_processes_share_a_spool_and_one_goes_on_when_the_other_is_killed(
    place: Path, start: Callable[..., Emitter]
) -> None:
    emitters = [start("one"), start("two")]
    for emitter in emitters:
        emitter.more(50)
    emitters[0].kill()
    emitters[1].more(50)
    emitters.append(start("three"))
    emitters[2].more(50)
    for emitter in emitters[1:]:
        assert emitter.end() == (0, "")
    drain(place)
    check(emitters, [embedded_values(place)])


def test_on_a_full_disk_an_event_is_refused_in_one_sentence_and_none_that_was_acknowledged_is_lost(
    place: Path, start: Callable[..., Emitter]
) -> None:
    emitter = start("one", "--log", "absent", "--pause", "0", file_size=300_000)
    assert emitter.process.wait(60) == 1
    code, said = emitter.end()
    assert code == 1
    assert said.startswith("Error: Cannot append to the log ")
    assert len(said.splitlines()) == 1
    assert "space" in said or "full" in said
    assert len(emitter.acknowledged) > 100
    drain(place)
    assert check([emitter], [embedded_values(place)]) == 0


# The same with a broker


def topic_values(bootstrap: str, topic: str) -> list[list[bytes]]:
    """Every record of the topic, by partition, as an independent reader sees it."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
    )
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        values: list[list[bytes]] = [[] for _ in partitions]
        while any(consumer.position(each) < ends[each] for each in partitions):
            for partition, records in consumer.poll(timeout_ms=1000).items():
                values[partition.partition] += [record.value for record in records]
        return values
    finally:
        consumer.close()


def create_topic(bootstrap: str, topic: str) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        # The timestamps are the coarsened days, so that a broker's usual week would be over at once.
        kept = {"retention.ms": "-1"}
        admin.create_topics({topic: {"num_partitions": 3, "replication_factor": 1, "configs": kept}})
    finally:
        admin.close()


def outages(place: Path, start: Callable[..., Emitter], cluster: Cluster, seconds: float) -> None:
    """Emit while the broker is killed, down, stands still, and restarts, and while emitters are killed."""
    prefix = cluster.prefix()
    (place / "quietcount.toml").write_text(
        f'log = "kafka://{cluster.bootstrap}"\n[emitter]\nspool = "spool"\n[kafka]\ntopic_prefix = "{prefix}"\n'
    )
    create_topic(cluster.bootstrap, f"{prefix}{CASE_EVENTS}")
    emitters = [start("one", "--pause", "0.005")]
    emitters[-1].more(100)
    cluster.kill()
    emitters[-1].more(100)
    time.sleep(seconds)
    emitters[-1].more(100)
    emitters[-1].kill()
    emitters.append(start("one", "--pause", "0.005"))  # opens and emits with the broker down
    emitters[-1].more(100)
    cluster.start()
    emitters[-1].more(100)
    cluster.broker.pause()
    time.sleep(seconds)
    emitters[-1].more(100)
    cluster.broker.resume()
    emitters[-1].more(100)
    code, said = emitters[-1].end()
    assert (code, said) == (0, "")
    drain(place)
    check(emitters, topic_values(cluster.bootstrap, f"{prefix}{CASE_EVENTS}"))


def test_with_the_broker_down_or_silent_emitting_goes_on_and_nothing_is_lost_or_reordered(
    place: Path, start: Callable[..., Emitter], kafka_cluster: Callable[..., Cluster]
) -> None:
    outages(place, start, kafka_cluster(), 1.0)


@pytest.mark.soak
def test_with_the_broker_down_for_a_minute_emitting_goes_on_and_nothing_is_lost_or_reordered(
    place: Path, start: Callable[..., Emitter], kafka_cluster: Callable[..., Cluster]
) -> None:
    outages(place, start, kafka_cluster(), 60.0)
