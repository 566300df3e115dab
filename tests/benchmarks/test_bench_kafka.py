"""How fast the service folds from a real broker, beside the plain client that polls the same records and does nothing,
and beside programs of others that count them. Prints ratios within one run, and judges no time.

The plain client is the one that quietcount is built on, kafka-python's. Each is measured from its first poll on, and a
peer from its first record on, because it joins a group before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from tests.aggregates_world import World
from tests.benchmarks.marks import hold, measured, peak_of, size
from tests.benchmarks.peers import reading
from tests.benchmarks.test_bench_fold import REGISTRY, populations
from tests.benchmarks.volume import SINCE, requests
from tests.kafka.fixtures import Kafka
from tests.readers.programs import installed

from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.kafka.topics import create_topics
from quietcount_consumers.partitions import BATCH, uncollected
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.bench

LARGE, SMALL = size(1_000_000), size(200_000)
PARTITIONS = 4
PEERS = {
    "confluent": "confluent-kafka's consumer doing nothing",
    "quix": "quixstreams' durable count of one statistic",
    "quix-by-case": "quixstreams' durable count by case, which is no statistic yet",
    "bytewax": "bytewax's durable count of one statistic",
}
"""What the fold, which has four statistics, is measured beside."""


def client(settings: KafkaSettings, count: int) -> dict[str, float]:
    """Poll `count` records as the client does and do nothing with them."""
    consumer = KafkaConsumer(
        bootstrap_servers=list(settings.brokers),
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
    )
    partitions = [TopicPartition(settings.topic(CASE_EVENTS), p) for p in range(PARTITIONS)]
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, 0)
    left = count

    def work() -> None:
        nonlocal left
        while left > 0:
            left -= sum(map(len, consumer.poll(1000, max_records=BATCH).values()))

    found = measured(work)
    consumer.close()
    return found


def read(settings: KafkaSettings) -> dict[str, float]:
    """Poll all records as the service does, and do nothing with them."""

    def work() -> None:
        at = dict.fromkeys(ends, 0)
        while at != ends:
            with uncollected():
                for record in log.poll(CASE_EVENTS, at, ends, BATCH * len(ends)):
                    at[record.partition] = record.offset + 1

    with KafkaLog(settings) as log:
        ends = log.end_offsets(CASE_EVENTS)
        return measured(work)


def fold(settings: KafkaSettings, count: int, folder: Path) -> dict[str, float]:
    """Fold `count` records, which are all, as the service does."""
    with KafkaLog(settings) as log, world_on(log, folder) as world:
        found = measured(lambda: world.partitions.fold_to_end(SINCE, lambda: False))
        check_folded(world, count)
        return found


def world_on(log: KafkaLog, folder: Path) -> World:
    """Return a world that counts requests from `log`, with a state for each of its partitions."""
    return World(folder, populations(), registry=REGISTRY, log=log, mechanism=DiscreteLaplace(), published=False)


def check_folded(world: World, count: int) -> None:
    """Fail if a state does not hold its share of the events, so that nothing cheaper is measured."""
    held = [int(state.rows("SELECT count(*) FROM open_events")[0][0]) for state in world.states]
    assert min(held) > count / (2 * len(held))
    assert sum(held) == count


def child(what: str, settings: KafkaSettings, count: int, folder: Path) -> dict[str, float]:
    """Measure in a process of its own, so that its peak memory and its processor's time are its own."""
    folder.mkdir(parents=True)
    command = [__file__, what, settings.servers, settings.topic_prefix, str(count), str(folder)]
    return told(command, os.pathsep.join(sys.path))


def peer(what: str, settings: KafkaSettings, count: int, folder: Path) -> dict[str, float]:
    """Let a program of others read `count` records."""
    folder.mkdir(parents=True)
    program = Path(reading.__file__)
    schema = folder / "schema.avsc"
    schema.write_text(json.dumps(REGISTRY.event_type("HelpRequested").current.definition), encoding="utf-8")
    topic = settings.topic(CASE_EVENTS)
    command = [str(program), what, settings.servers, topic, str(PARTITIONS), str(count), str(folder), str(schema)]
    return told(command, str(installed(program.with_name("requirements.txt"))))


def told(command: list[str], path: str) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def filled(kafka: Kafka, count: int, partitions: int = PARTITIONS) -> KafkaSettings:
    """Make a topic with `count` requests."""
    settings = KafkaSettings(brokers=(kafka.bootstrap,), topic_prefix=kafka.prefix())
    create_topics(settings, partitions=partitions)
    with KafkaLog(settings) as log:
        for records in requests(count, max(count // 5, 1), BATCH, REGISTRY):
            log.append(CASE_EVENTS, records)
    return settings


def test_folding_from_kafka_beside_polling_and_doing_nothing(tmp_path: Path, kafka: Kafka) -> None:
    settings = filled(kafka, LARGE)
    # In turns, so that what else the machine does meets each of them; the least time of each counts.
    runs: dict[str, list[dict[str, float]]] = {"client": [], "poll": [], "fold": []}
    for number in range(3):
        for what, found in runs.items():
            found.append(child(what, settings, LARGE, tmp_path / f"{what}-{number}"))
    least = {
        what: {key: min(run[key] for run in found) for key in ("clock", "processor")} for what, found in runs.items()
    }
    small = child("fold", filled(kafka, SMALL), SMALL, tmp_path / "small")
    print()
    for what, times in least.items():
        print(
            f"{what:<8}{LARGE / times['clock']:>12,.0f} a second, {times['processor'] / LARGE * 1e6:.2f} µs of CPU each"
        )
    for what, mark in (("poll", None), ("fold", 1.3)):
        for key, least_mark in (("processor", mark), ("clock", None)):
            ratio = least["client"][key] / least[what][key]
            hold(f"{what} from Kafka / plain client doing nothing, by {key}, {LARGE:,} events", ratio, least=least_mark)
    hold(f"peak memory of {LARGE:,} events / of {SMALL:,}", runs["fold"][0]["peak"] / small["peak"])


def test_folding_from_kafka_beside_programs_of_others(tmp_path: Path, kafka: Kafka) -> None:
    settings = filled(kafka, LARGE)
    ours = child("fold", settings, LARGE, tmp_path / "ours")
    for what, name in PEERS.items():
        found = peer(what, settings, LARGE, tmp_path / what)
        for key in ("clock", "processor"):
            mark = 8 if (what, key) == ("quix", "clock") else None
            hold(f"fold / {name}, by {key}, {LARGE:,} events", found[key] / ours[key], least=mark)


if __name__ == "__main__":
    what, servers, prefix, number, place = sys.argv[1:]
    given = KafkaSettings(brokers=(servers,), topic_prefix=prefix)
    works: dict[str, Callable[[], dict[str, float]]] = {
        "client": lambda: client(given, int(number)),
        "poll": lambda: read(given),
        "fold": lambda: fold(given, int(number), Path(place)),
    }
    print(json.dumps({**works[what](), "peak": peak_of()}))
