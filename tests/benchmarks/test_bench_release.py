"""What a release of 100,000 cells costs beside OpenDP's draws of as many alone: settling, drawing, ledger and state.

Publication is left out, which has a measurement of its own. Prints a ratio within one run, and judges no time.
"""

from __future__ import annotations

import datetime as dt
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import opendp.prelude as dp
import pytest
from tests.aggregates_world import World, utc
from tests.benchmarks.marks import hold, measured, size
from tests.populations import population_of
from tests.strategies import envelope, registry_of

from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.bench

SYMBOLS = [f"S{number:02}" for number in range(100)]
MONTHS = size(10)
CELLS = MONTHS * len(SYMBOLS) ** 2
ROUNDS = 3
SINCE = dt.date(2024, 1, 1)
EPSILON = 0.5


def enum(name: str) -> dict[str, Any]:
    kind = {"type": "enum", "name": name.title(), "symbols": SYMBOLS, "default": SYMBOLS[0], "doc": "."}
    return {"name": name, "type": kind, "default": SYMBOLS[0], "doc": "."}


REGISTRY = registry_of(
    {
        "type": "record",
        "name": "Asked",
        "namespace": "example.trial",
        "doc": "A trial.",
        "quietcount.role": "event",
        "fields": [*envelope(), enum("one"), enum("other")],
    }
)


def release(folder: Path, events: int) -> dict[str, float]:
    """Return the seconds that a release takes of all months, which hold so many events, each of a case of its own."""
    asked = population_of(
        "asked",
        events=["Asked"],
        registry=REGISTRY,
        period=Period.MONTH,
        epsilon=EPSILON,
        by=["one", "other"],
        since=SINCE,
    )
    rng = np.random.default_rng(1)
    starts = [SINCE]
    while len(starts) <= MONTHS:
        starts.append(Period.MONTH.next(starts[-1]))
    folder.mkdir()
    world = World(folder, [asked], registry=REGISTRY, mechanism=DiscreteLaplace(), published=False)
    for start in range(0, events, 10_000):
        chosen = rng.integers(0, len(SYMBOLS), (min(10_000, events - start), 2))
        world.emit(
            [
                CaseEvent(
                    "Asked",
                    rng.bytes(16),
                    (identity := rng.bytes(16))[:6] + b"\x4a" + identity[7:8] + b"\xb1" + identity[9:],
                    0,
                    starts[(start + row) % MONTHS],
                    {"one": SYMBOLS[one], "other": SYMBOLS[other]},
                )
                for row, (one, other) in enumerate(chosen.tolist())
            ]
        )
    world.fold(SINCE)
    found = measured(lambda: world.release(utc(starts[-1])))
    world.close()
    return found


def draws() -> dict[str, float]:
    """Return the seconds that OpenDP takes to draw as many."""
    dp.enable_features("contrib")
    cells = CELLS // MONTHS
    noise: Any = dp.m.make_laplace(
        dp.vector_domain(dp.atom_domain(T="i64"), size=cells), dp.l1_distance(T="i64"), scale=1 / EPSILON
    )
    return measured(lambda: [noise([1] * cells) for _ in range(MONTHS)])


def test_a_release_beside_the_draws_alone(tmp_path: Path) -> None:
    # One event a cell on average; and few, so that what settling them costs can be told from the rest.
    for events, mark in ((CELLS, 1.3), (CELLS // 100, None)):
        rounds = [(draws(), release(tmp_path / f"{events}-{turn}", events)) for turn in range(ROUNDS)]
        used = statistics.median(released["processor"] for _, released in rounds)
        print(f"\n{CELLS:,} cells, {events:,} events: {used / CELLS * 1e6:.1f} µs of the processor a cell")
        for key in ("clock", "processor"):
            ratio = statistics.median(released[key] / drawn[key] for drawn, released in rounds)
            told = f"release of {CELLS:,} cells, {events:,} events / OpenDP's draws alone, by {key}"
            hold(told, ratio, most=mark if key == "clock" else None)
