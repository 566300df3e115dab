"""What it takes to settle 100,000 contributions after none, a million and ten million cases have been settled.

Prints the times and the peak memory as ratios within one run, and the bytes on disk of a settled case; judges no time.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.aggregates_world import SIGNING_KEY, MemoryLedger, MemoryLog
from tests.benchmarks.marks import hold, peak_of, size
from tests.benchmarks.settled_cases import remember
from tests.populations import population_of

from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.witness import Witness
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.populations import Horizon, Population
from quietcount_aggregates.release import Releaser
from quietcount_aggregates.settling import Settler, Settlers, stored_symbols
from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, Record
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.bench

SETTLED = (0, size(1_000_000), size(10_000_000))
CONTRIBUTIONS = size(100_000)
ROUNDS = 5
SINCE = dt.date(2024, 1, 1)
RELEASED = dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
REGISTRY = SchemaRegistry.load()


def population(k: int, horizon: Horizon) -> Population:
    return population_of(
        "requests",
        events=["HelpRequested"],
        registry=REGISTRY,
        since=SINCE,
        epsilon=1.0,
        period=Period.MONTH,
        by=["help_kind"],
        max_contributions=k,
        horizon=horizon,
    )


def records() -> list[Record]:
    """Return a month of requests, each of a case of its own."""
    rng, codec = np.random.default_rng(1), Codec(REGISTRY)
    dimensions = REGISTRY.event_type("HelpRequested").dimensions
    found = []
    for offset in range(CONTRIBUTIONS):
        key, identity = rng.bytes(16), rng.bytes(16)
        identity = identity[:6] + b"\x4a" + identity[7:8] + b"\xb1" + identity[9:]
        attributes = {field.name: field.symbols[offset % len(field.symbols)] for field in dimensions}
        day = SINCE + dt.timedelta(days=offset % 31)
        value = codec.encode(CaseEvent("HelpRequested", key, identity, 0, day, attributes))
        found.append(Record(0, offset, 0, key, value, ()))
    return found


def settle(folder: Path, k: int, horizon: Horizon) -> dict[str, Any]:
    """Settle a month; return the seconds, the peak memory (KiB), and the bytes of the limits and of the state."""
    asked = population(k, horizon)
    log, ledger, secret = MemoryLog(), Ledger(MemoryLedger(), SIGNING_KEY.public), ConsumerSecret(bytes(32))
    log.records[0] = records()
    with State(folder / "state-0.duckdb") as state:
        ledger.fence()
        ledger.declare([asked], asked.epsilon, RELEASED, end=LogPoint("", {0: 0}))
        years = YearSecrets(folder / "years")
        settler = Settler(state, ledger, symbols=stored_symbols(REGISTRY), year_secrets=years)
        releaser = Releaser(
            Settlers([settler], log, CASE_EVENTS),
            ledger=ledger,
            registry=REGISTRY,
            mechanism=DiscreteLaplace(),
            public=folder / "statistics.duckdb",
            witness=Witness(folder / "witness"),
            signing_key=SIGNING_KEY,
        )
        releaser.adopt()
        folding = Fold(state, [asked], REGISTRY, secret, partitions=1)
        for start in range(0, CONTRIBUTIONS, 20_000):
            folding.batch(log.records[0][start : start + 20_000], SINCE)
        started = time.perf_counter()
        releaser.release(RELEASED, dt.timedelta(0))
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "peak": peak_of(),
        "limits": sum(path.stat().st_size for path in folder.glob("state-0.limits.*")),
        "state": (folder / "state-0.duckdb").stat().st_size,
    }


def child(folder: Path, settled: int, k: int = 1, horizon: Horizon = Horizon.LIFETIME) -> dict[str, Any]:
    """Settle in a process of its own, so that its peak memory is its own."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(settled), str(k), horizon.value],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=600,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_settling_behind_many_settled_cases(tmp_path: Path) -> None:
    rounds = [
        {settled: child(tmp_path / f"{turn}-{settled}", settled) for settled in SETTLED} for turn in range(ROUNDS)
    ]
    print()
    for settled in SETTLED:
        seconds = statistics.median(turn[settled]["seconds"] for turn in rounds)
        longer = statistics.median(turn[settled]["seconds"] / turn[0]["seconds"] for turn in rounds)
        more = statistics.median(turn[settled]["peak"] / turn[0]["peak"] for turn in rounds)
        peak = rounds[0][settled]["peak"] / 1024
        print(
            f"settle {CONTRIBUTIONS:,} after {settled:>9,}: {seconds:5.2f} s, {longer:.2f} of the time after none; "
            f"{peak:4.0f} MiB, {more:.2f} of the memory; "
            f"{rounds[0][settled]['limits'] / (settled + CONTRIBUTIONS):.1f} bytes a settled case"
        )
        if settled == SETTLED[-1]:
            told = f"settle {CONTRIBUTIONS:,} after {settled:,} settled cases / after none"
            hold(f"{told}, time", longer, most=1.5)
            hold(f"{told}, peak memory", more, most=1.3)
    for k, horizon in ((2, Horizon.LIFETIME), (1, Horizon.YEAR)):
        found = child(tmp_path / f"{k}-{horizon.value}", 0, k, horizon)
        marks = (found["state"] - rounds[0][0]["state"]) / CONTRIBUTIONS
        print(
            f"k = {k}, horizon {horizon.value}: {found['limits'] / CONTRIBUTIONS:.1f} bytes a contribution, and "
            f"{marks:.0f} more for a year, for the mark of its event"
        )


if __name__ == "__main__":
    place, behind = Path(sys.argv[1]), int(sys.argv[2])
    place.mkdir()
    if (process := os.fork()) == 0:  # so that its memory is not that of the settlement
        remember(place / "state-0.duckdb", "requests", behind)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    print(json.dumps(settle(place, int(sys.argv[3]), Horizon(sys.argv[4]))))
