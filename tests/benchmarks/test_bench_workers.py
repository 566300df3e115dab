"""Two workers beside one, on a log of four partitions.

The broker is kept aside by leaving it out: each process has its records in memory, as a poll returns them, before the
clock starts. What is measured is decoding, marking and writing to the states, with a sync a batch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.benchmarks.marks import hold, size
from tests.benchmarks.test_bench_fold import REGISTRY, populations
from tests.benchmarks.volume import SINCE, requests

from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_aggregates.state.state import State
from quietcount_consumers.partitions import BATCH, uncollected
from quietcount_producers.partitioner import partition_for
from quietcount_schemas.log import Record

pytestmark = pytest.mark.bench

EVENTS = size(1_000_000)
PARTITIONS = 4
ROUNDS = 3


def shares(mine: Sequence[int]) -> dict[int, list[Record]]:
    """Return the records of some partitions."""
    found: dict[int, list[Record]] = {partition: [] for partition in mine}
    for batch in requests(EVENTS, max(EVENTS // 5, 1), BATCH, REGISTRY):
        for record in batch:
            partition = partition_for(record.key or b"", PARTITIONS)
            if partition in found:
                records = found[partition]
                records.append(Record(partition, len(records), record.timestamp, record.key, record.value, ()))
    return found


def work(folder: Path, mine: Sequence[int]) -> float:
    """Fold partitions when told to; return the seconds."""
    folder.mkdir()
    share = shares(mine)
    with uncollected():
        states = {partition: State(folder / f"state-{partition}.duckdb", partition) for partition in mine}
        folds = {}
        for partition, state in states.items():
            state.adopt(populations())
            folds[partition] = Fold(state, populations(), REGISTRY, ConsumerSecret(bytes(32)), partitions=PARTITIONS)
        print("ready", flush=True)
        sys.stdin.readline()
        started = time.perf_counter()
        for partition, records in share.items():
            for at in range(0, len(records), BATCH):
                assert not folds[partition].batch(records[at : at + BATCH], SINCE)
        return time.perf_counter() - started


def together(folder: Path, duties: Sequence[Sequence[int]]) -> float:
    """Let one process for each duty fold at the same time; return the seconds until the last one is done."""
    folder.mkdir()
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / str(number)), json.dumps(list(duty))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number, duty in enumerate(duties)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    seconds = [float(process.communicate()[0]) for process in running]
    assert all(process.returncode == 0 for process in running)
    return max(seconds)


def test_two_workers_beside_one(tmp_path: Path) -> None:
    ratios = []
    for turn in range(ROUNDS):
        one = together(tmp_path / f"{turn}-one", [range(PARTITIONS)])
        two = together(tmp_path / f"{turn}-two", [range(2), range(2, PARTITIONS)])
        ratios.append(one / two)
        print(f"\none {EVENTS / one:,.0f} events a second, two {EVENTS / two:,.0f}")
    hold(f"rate of two workers / of one, no broker beside them, {EVENTS:,} events", sorted(ratios)[1], least=1.7)


if __name__ == "__main__":
    print(work(Path(sys.argv[1]), json.loads(sys.argv[2])))
