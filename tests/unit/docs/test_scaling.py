"""The model of docs/scaling.md is plain arithmetic, and the page shows what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.benchmarks.model import COUNTRY, EXAMPLES, MEASURED, Costs, Deployment, Machine, largest, needs, page

pytestmark = pytest.mark.quick

COSTS = Costs(
    fold=2, settle=3, again=4, fixed=23, memory=5, process=7, state=11, empty=6, broker=13, batched=1, cell=17, limit=19
)
ASKED = Deployment("", 100, 1000, open_days=10, settlements_a_year=73, cells_a_settlement=6, populations=2)


def test_needs_are_costs_times_what_there_is() -> None:
    found = needs(ASKED, COSTS)
    assert (found.open_events, found.fold_a_day, found.settle) == (1000, 200, 7000 + 12 * 23)
    assert (found.limits, found.limit_files) == (2000 * 19, 2000 * 16)
    assert (found.state, found.draw) == (11_000 + 12 * 6, 102)
    assert found.memory == pytest.approx(7 + 5000 / 12)  # one of twelve partitions at a time
    assert found.brokers == 100 * 5 * 13 * 3  # the days between two settlements, on three replicas


def test_workers_share_all_but_the_draw_and_the_brokers() -> None:
    one, four = needs(ASKED, COSTS), needs(replace(ASKED, workers=4), COSTS)
    shared = ("open_events", "fold_a_day", "settle", "limits", "state", "limit_files")
    assert all(getattr(one, name) == 4 * getattr(four, name) for name in shared)
    assert (one.draw, one.brokers) == (four.draw, four.brokers)
    assert one.memory == four.memory, "whoever has several partitions settles one at a time"
    assert needs(replace(ASKED, workers=12), COSTS).settle == 23 + 3000 / 12, "with one state it counts once"
    for workers in (0, 13):
        with pytest.raises(ValueError, match="a partition of its own"):
            needs(replace(ASKED, workers=workers), COSTS)


@pytest.mark.parametrize("asked", EXAMPLES, ids=lambda each: each.name)
def test_the_largest_that_fits_fills_the_memory(asked: Deployment) -> None:
    machine = Machine(cores=2, memory=2**34, disk=1e12)
    full = replace(asked, events_a_day=largest(asked, MEASURED, machine.memory))
    assert needs(full, MEASURED).shares(machine)["a settlement's memory"] == pytest.approx(1)


def test_what_dominates_comes_first() -> None:
    shares = needs(COUNTRY, MEASURED).shares(Machine(cores=2, memory=2**34, disk=1e12))
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert next(iter(shares)) == "a settlement's memory"
    small = needs(COUNTRY, replace(MEASURED, memory=0)).shares(Machine(cores=2, memory=2**34, disk=1e9))
    assert next(iter(small)) == "the state's disk"


def test_the_page_shows_what_the_model_says(root: Path) -> None:
    text = (root / "docs" / "scaling.md").read_text(encoding="utf-8")
    for table in page(MEASURED).split("\n\n"):
        assert table.strip() in text
