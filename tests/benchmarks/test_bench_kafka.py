"""How fast the service folds from a real broker, beside the client that polls the same records and does nothing, and
whether memory stays flat whatever the backlog. Prints ratios within one run; judges no time.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from tests.benchmarks.test_bench_fold import BATCH, REGISTRY, SINCE, events, populations
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_aggregates.state.state import State
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_consumers.kafka.topics import create_topics
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.bench

SMALL, LARGE = 100_000, 500_000
PARTITIONS = 4


def measured(work: Callable[[], None]) -> dict[str, float]:
    """Return the seconds of the clock and of the processor, the client's own thread included."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return {"clock": time.perf_counter() - started, "processor": time.process_time() - used}


def client(settings: KafkaSettings, count: int) -> None:
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
    while count > 0:
        count -= sum(map(len, consumer.poll(1000, max_records=BATCH).values()))
    consumer.close()


def read(settings: KafkaSettings, count: int, batch: Callable[[Any, KafkaLog], None]) -> None:
    """Poll `count` records as the service does."""
    with KafkaLog(settings) as log:
        ends = log.end_offsets(CASE_EVENTS)
        at = dict.fromkeys(ends, 0)
        while count > 0:
            records = log.poll(CASE_EVENTS, at, ends, min(BATCH, count))
            batch(records, log)
            count -= len(records)
            for record in records:
                at[record.partition] = record.offset + 1


def fold(settings: KafkaSettings, count: int, folder: Path) -> None:
    """Fold `count` records as the service does."""
    with State(folder / "state-0.duckdb") as state:
        state.adopt(populations())
        folding = Fold(state, populations(), REGISTRY, ConsumerSecret(bytes(32)), partitions=PARTITIONS)

        def batch(records: Any, log: KafkaLog) -> None:
            log.topic_id(CASE_EVENTS)
            folding.batch(records, SINCE, log.marks(CASE_EVENTS))

        read(settings, count, batch)


def child(what: str, settings: KafkaSettings, count: int, folder: Path) -> dict[str, float]:
    """Measure in a process of its own, so that its peak memory and its processor's time are its own."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, __file__, what, settings.servers, settings.topic_prefix, str(count), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=600,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_folding_from_kafka_beside_polling_and_doing_nothing(tmp_path: Path, kafka: Kafka) -> None:
    settings = KafkaSettings(brokers=(kafka.bootstrap,), topic_prefix=kafka.prefix())
    create_topics(settings, partitions=PARTITIONS)
    with KafkaLog(settings) as log:
        for records in events(LARGE):
            log.append(CASE_EVENTS, records)
    # In turns, so that what else the machine does meets each of them; the least time of each is told.
    runs: dict[str, list[dict[str, float]]] = {"client": [], "poll": [], "fold": []}
    for number in range(3):
        for what, found in runs.items():
            found.append(child(what, settings, LARGE, tmp_path / f"{what}-{number}"))
    least = {
        what: {key: min(run[key] for run in found) for key in ("clock", "processor")} for what, found in runs.items()
    }
    small = child("fold", settings, SMALL, tmp_path / "small")
    peak = runs["fold"][0]["peak"]
    print()
    for what, name in (("client", "the client polls and does nothing"), ("poll", "poll"), ("fold", "poll and fold")):
        print(f"{name:<42}{LARGE / least[what]['clock']:>14,.0f} a second")
    for key in ("clock", "processor"):
        for what in ("poll", "fold"):
            ratio = least["client"][key] / least[what][key]
            print(f"{what + ' / the client, by the ' + key:<42}{ratio:>14.2f} of its rate")
    print(f"{f'peak memory after {SMALL:,} events':<42}{small['peak'] / 1024:>14,.0f} MiB")
    print(f"{f'peak memory after {LARGE:,} events':<42}{peak / 1024:>14,.0f} MiB")
    # Loose on purpose: a reader that took in the backlog would hold five times as much.
    assert peak / small["peak"] < 2


if __name__ == "__main__":
    what, servers, prefix, number, place = sys.argv[1:]
    given = KafkaSettings(brokers=(servers,), topic_prefix=prefix)
    works: dict[str, Callable[[], None]] = {
        "client": lambda: client(given, int(number)),
        "poll": lambda: read(given, int(number), lambda *_: None),
        "fold": lambda: fold(given, int(number), Path(place)),
    }
    result = measured(works[what])
    print(json.dumps({**result, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
