"""How fast the fold is, beside polling the same log and doing nothing; whether its memory stays flat, and whether the
work of a batch grows with what was folded before. Prints ratios within one run; judges no time.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.populations import population_of

from quietcount_aggregates.counting.bounding import Bounding
from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.populations import Horizon, Population
from quietcount_aggregates.settling import stored_symbols
from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS, NewRecord
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.bench

BATCH = 20_000
SMALL, LARGE = 100_000, 500_000
SINCE = dt.date(2024, 1, 1)
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


def events(count: int) -> Iterator[list[NewRecord]]:
    """Yield requests for help in batches: most cases come once, one event in twenty is a duplicate or a correction."""
    rng = random.Random(1)
    codec = Codec(REGISTRY)
    dimensions = REGISTRY.event_type("HelpRequested").dimensions
    last: list[CaseEvent] = []
    for start in range(0, count, BATCH):
        records = []
        for _ in range(min(BATCH, count - start)):
            if last and rng.random() < 0.05:
                old = rng.choice(last)
                day, key, event_id = old.occurred_on, old.case_key, old.event_id
                revision = rng.randrange(2)
            else:
                day, key = SINCE + dt.timedelta(days=rng.randrange(180)), rng.randbytes(16)
                event_id = rng.randbytes(6) + b"\x4a" + rng.randbytes(1) + b"\xb1" + rng.randbytes(7)
                revision = 0
            attributes = {field.name: rng.choice(field.symbols) for field in dimensions}
            event = CaseEvent("HelpRequested", key, event_id, revision, day, attributes)
            last = [*last[-50:], event]
            records.append(NewRecord(key, codec.encode(event), (day - dt.date(1970, 1, 1)).days * 86_400_000))
        yield records


def emit(path: Path, count: int) -> None:
    """Fill a log with the events."""
    with EmbeddedLog(path) as log:
        log.create_topic(CASE_EVENTS, 1)
        for records in events(count):
            log.append(CASE_EVENTS, records)


def poll(path: Path, end: int) -> float:
    """Read the log and do nothing; return the seconds it took."""
    with EmbeddedLog(path) as log:
        started, at = time.perf_counter(), 0
        while records := log.poll(CASE_EVENTS, {0: at}, {0: end}, BATCH):
            at = records[-1].offset + 1
        return time.perf_counter() - started


def fold(path: Path, folder: Path, end: int) -> dict[str, Any]:
    """Fold the log up to `end`; return the seconds of each batch without polling, of all, and of a settlement."""
    batches = []
    folder.mkdir()
    with EmbeddedLog(path) as log, State(folder / "state-0.duckdb") as state:
        state.adopt(populations())
        folding = Fold(state, populations(), REGISTRY, ConsumerSecret(bytes(32)), partitions=1)
        started, at = time.perf_counter(), 0
        while records := log.poll(CASE_EVENTS, {0: at}, {0: end}, BATCH):
            before = time.perf_counter()
            folding.batch(records, SINCE)
            batches.append(time.perf_counter() - before)
            at = records[-1].offset + 1
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = time.perf_counter()
        Bounding(state, populations(), stored_symbols(REGISTRY), YearSecrets(folder / "years"), upto=at)
        settled = time.perf_counter() - before
    return {"seconds": seconds, "batches": batches, "peak": peak, "settled": settled}


def child(path: Path, folder: Path, end: int) -> dict[str, Any]:
    """Fold in a process of its own, so that its peak memory is its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, __file__, str(path), str(folder), str(end)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=600,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_fold_beside_polling_and_doing_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    emit(path, LARGE)
    polled = min(poll(path, LARGE) for _ in range(3))
    small, large = child(path, tmp_path / "small", SMALL), child(path, tmp_path / "large", LARGE)
    fifth = len(large["batches"]) // 5
    first, last = sum(large["batches"][:fifth]), sum(large["batches"][-fifth:])
    print()
    table = [
        (f"poll {LARGE:,} events and do nothing", f"{LARGE / polled:,.0f} a second"),
        ("poll and fold them", f"{LARGE / large['seconds']:,.0f} a second"),
        ("fold, with polling / polling alone", f"{polled / large['seconds']:.2f} of its rate"),
        ("fold, without polling", f"{LARGE / sum(large['batches']):,.0f} a second"),
        ("last fifth of the batches / first fifth", f"{last / first:.2f} of its time"),
        ("slowest batch / median batch", f"{max(large['batches']) / sorted(large['batches'])[fifth * 5 // 2]:.1f}"),
        (f"peak memory after {SMALL:,} events", f"{small['peak'] / 1024:,.0f} MiB"),
        (f"peak memory after {LARGE:,} events", f"{large['peak'] / 1024:,.0f} MiB"),
        (f"settle {SMALL:,} open events", f"{small['settled']:.2f} s"),
        (f"settle {LARGE:,} open events", f"{large['settled']:.2f} s"),
    ]
    for what, value in table:
        print(f"{what:<42}{value:>22}")
    # Loose on purpose: a batch whose work grows with what was folded before would be five times as slow by now.
    assert last / first < 3


if __name__ == "__main__":
    print(json.dumps(fold(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
