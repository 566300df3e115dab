"""Measures the costs that the model of docs/scaling.md works with, and holds the model against two more points.

Prints the costs as `tests/benchmarks/model.py` has them, and ratios of what was foretold to what was measured.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaAdminClient
from tests.aggregates_world import utc
from tests.benchmarks.marks import hold, measured, peak_of, size
from tests.benchmarks.model import MEASURED, Costs, Deployment, needs
from tests.benchmarks.settled_cases import remember
from tests.benchmarks.test_bench_fold import REGISTRY
from tests.benchmarks.test_bench_kafka import PARTITIONS, check_folded, filled, world_on
from tests.benchmarks.volume import SINCE, requests
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.state.state import State
from quietcount_consumers.kafka.log import KafkaLog
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.bench

POINTS = size(200_000), size(1_000_000)
ALONE = 500
AFTER = dt.date(2025, 1, 1)
"""By then every period of the requests is over."""


def life(settings: KafkaSettings, folder: Path) -> dict[str, float]:
    """Fold a topic and release all of it; return seconds of the processor and bytes."""
    folder.mkdir()
    with KafkaLog(settings) as log, world_on(log, folder) as world:
        found = {"fold": measured(lambda: world.partitions.fold_to_end(SINCE, lambda: False))["processor"]}
        check_folded(world, sum(log.end_offsets(CASE_EVENTS).values()))
        for state in world.states:
            state.connection.execute("CHECKPOINT")
        found["state"] = float(sum(state.path.stat().st_size for state in world.states))
        found["settle"] = measured(lambda: world.release(utc(AFTER)))["processor"]
        found["memory"] = peak_of() * 1024.0
    return found


def child(settings: KafkaSettings, folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, settings.servers, settings.topic_prefix, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def stored(settings: KafkaSettings) -> int:
    """Return the bytes of the topic on the brokers' disks."""
    with closing(KafkaAdminClient(bootstrap_servers=list(settings.brokers))) as admin:
        described = admin.describe_log_dirs([settings.topic(CASE_EVENTS)])
    return sum(
        partition["partition_size"]
        for broker in described
        for place in broker["log_dirs"]
        for topic in place["topics"]
        for partition in topic["partitions"]
    )


def sent_alone(kafka: Kafka) -> float:
    """Return the bytes of an event that was sent by itself."""
    settings = filled(kafka, 0)
    with closing(KafkaLog(settings)) as log:
        for [record] in requests(ALONE, ALONE, 1, REGISTRY):
            log.append(CASE_EVENTS, [record])
    return stored(settings) / ALONE


def limit(folder: Path) -> float:
    """Return the seconds of the processor that a settlement takes for a case that was settled long ago."""
    marks = size(5_000_000)
    folder.mkdir()
    remember(folder / "state-0.duckdb", "requests", marks)
    with State(folder / "state-0.duckdb") as state:
        [listed] = state.used_up
        cases = np.zeros((1, 2), np.uint64)
        used = time.process_time()
        state.limits.used(listed, cases)
        state.limits.extended("requests", listed.year, listed, cases)
        return (time.process_time() - used) / marks


def test_the_model_beside_two_points(tmp_path: Path, kafka: Kafka) -> None:
    topics = [filled(kafka, count) for count in POINTS]
    batched = stored(topics[1]) / POINTS[1]  # before a release purges the topic
    small, large = (child(topic, tmp_path / str(turn)) for turn, topic in enumerate(topics))
    # Of several states one at a time is in memory when it settles, so what an event takes is seen with one state alone.
    alone = [child(filled(kafka, count, 1), tmp_path / f"alone-{count}") for count in POINTS]

    def each(what: str, two: Sequence[dict[str, float]] = (small, large)) -> float:
        return (two[1][what] - two[0][what]) / (POINTS[1] - POINTS[0])

    costs = Costs(
        fold=each("fold"),
        settle=each("settle", alone),
        again=each("settle") - each("settle", alone),
        fixed=(large["settle"] - POINTS[1] * each("settle")) / PARTITIONS,
        memory=each("memory", alone),
        process=alone[1]["memory"] - POINTS[1] * each("memory", alone),
        state=each("state"),
        empty=(large["state"] - POINTS[1] * each("state")) / PARTITIONS,
        broker=sent_alone(kafka),
        batched=batched,
        cell=MEASURED.cell,  # as test_bench_release prints it
        limit=limit(tmp_path / "limits"),
    )
    print(f"\nmeasured here: {costs}")
    for count, found in zip(POINTS, (small, large), strict=True):
        asked = Deployment("", count, 0, 1, 365, 0, partitions=PARTITIONS)
        told = needs(asked, MEASURED)
        foretold = {"fold": told.fold_a_day, "settle": told.settle, "memory": told.memory, "state": told.state}
        for what, value in foretold.items():
            hold(f"foretold / measured: {what} of {count:,} events", value / found[what], least=0.75, most=1.33)


if __name__ == "__main__":
    servers, prefix, place = sys.argv[1:]
    print(json.dumps(life(KafkaSettings(brokers=(servers,), topic_prefix=prefix), Path(place))))
