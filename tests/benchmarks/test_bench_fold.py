"""How fast the fold is beside reading the same rows and doing nothing, and whether rate and memory stay flat.

Prints ratios within one run, and judges no time.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.marks import hold, peak_of, size
from tests.benchmarks.volume import SINCE, requests
from tests.populations import population_of

from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.populations import Horizon, Population
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_aggregates.state.state import State
from quietcount_consumers.partitions import BATCH, uncollected
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.bench

EVENTS, CASES = size(10_000_000), size(2_000_000)
REGISTRY = SchemaRegistry.load()


def populations() -> list[Population]:
    def of(name: str, **more: Any) -> Population:
        return population_of(name, events=["HelpRequested"], registry=REGISTRY, since=SINCE, epsilon=0.25, **more)

    return [
        of("monthly", period=Period.MONTH, by=["help_kind"]),
        of("daily", period=Period.DAY, max_contributions=3),
        of("quarterly", period=Period.QUARTER, by=["region"], where={"service_category": ["MOBILISED"]}),
        of("yearly", period=Period.MONTH, horizon=Horizon.YEAR, by=["service_category"]),
    ]


def read(path: Path) -> float:
    """Read every row with Python's own driver, as many at a time as a batch, and do nothing."""
    with sqlite3.connect(path) as connection:
        started = time.perf_counter()
        rows = connection.execute('SELECT "offset", timestamp, key, value, headers FROM records')
        while rows.fetchmany(BATCH):
            pass
        seconds = time.perf_counter() - started
    connection.close()
    return seconds


def poll(path: Path) -> float:
    """Poll every record, and do nothing."""
    with EmbeddedLog(path) as log:
        started, at, end = time.perf_counter(), 0, log.end_offsets(CASE_EVENTS)
        while records := log.poll(CASE_EVENTS, {0: at}, end, BATCH):
            at = records[-1].offset + 1
        return time.perf_counter() - started


def fold(path: Path, folder: Path) -> dict[str, Any]:
    """Poll and fold as the service does; return the seconds of batches, and the peak memory (KiB) after each."""
    taken, peaks = [], []
    folder.mkdir()
    with EmbeddedLog(path) as log, State(folder / "state-0.duckdb") as state:
        state.adopt(populations())
        folding = Fold(state, populations(), REGISTRY, ConsumerSecret(bytes(32)), partitions=1)
        at, end, used = 0, log.end_offsets(CASE_EVENTS), time.process_time()
        while at < end[0]:
            started = time.perf_counter()
            with uncollected():
                records = log.poll(CASE_EVENTS, {0: at}, end, BATCH)
                assert not folding.batch(records, SINCE)
            at = records[-1].offset + 1
            taken.append(time.perf_counter() - started)
            peaks.append(peak_of())
        used = time.process_time() - used
    disk = (folder / "state-0.duckdb").stat().st_size
    return {"batches": taken, "peaks": peaks, "processor": used, "disk": disk}


def child(path: Path, folder: Path) -> dict[str, Any]:
    """Fold in a process of its own, so that its peak memory is its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def filled(path: Path, count: int, cases: int) -> Path:
    """Make a log with so many requests of so many cases."""
    with EmbeddedLog(path) as log:
        log.create_topic(CASE_EVENTS, 1)
        for records in requests(count, cases, BATCH, REGISTRY):
            log.append(CASE_EVENTS, records)
    return path


def test_the_fold_beside_reading_and_doing_nothing(tmp_path: Path) -> None:
    path = filled(tmp_path / "log.sqlite", EVENTS, CASES)
    rows, polled, found = read(path), poll(path), child(path, tmp_path / "state")
    batches = found["batches"]
    fifth, seconds = len(batches) // 5, sum(batches)
    first, last = sum(batches[:fifth]), sum(batches[-fifth:])
    told = f"{EVENTS:,} events of {CASES:,} cases"
    print(f"\n{told}: read {EVENTS / rows:,.0f} rows a second, poll {EVENTS / polled:,.0f}", end="")
    print(f", poll and fold {EVENTS / seconds:,.0f}")
    print(f"a fold by the processor {found['processor'] / EVENTS * 1e6:.2f} µs an event;", end=" ")
    print(f"on the disk {found['disk'] / EVENTS:.0f} bytes an open event")
    hold(f"embedded log: fold with polling / polling and doing nothing, {told}", polled / seconds, least=0.7)
    hold(f"embedded log: fold with polling / rows from Python's own driver, {told}", rows / seconds)
    hold(f"rate of the last fifth / of the first fifth, {told}", first / last, least=0.9)
    hold(
        f"peak memory after all / after the first fifth, {told}",
        found["peaks"][-1] / found["peaks"][fifth - 1],
        most=1.2,
    )
    hold("slowest batch / median batch, by the clock", max(batches) / sorted(batches)[len(batches) // 2])
    print(
        f"peak memory {found['peaks'][fifth - 1] / 1024:,.0f} MiB after a fifth, {found['peaks'][-1] / 1024:,.0f} MiB"
    )


if __name__ == "__main__":
    print(json.dumps(fold(Path(sys.argv[1]), Path(sys.argv[2]))))
