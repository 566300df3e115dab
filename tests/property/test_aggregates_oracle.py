"""What is counted, judged by the oracle; what one case can change; and what released tables owe one another.

test_aggregates_mutants.py shows that each of these trials catches a fold that breaks its rule.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.aggregates_world import SECRET, MemoryLog, utc, world_in
from tests.property.playing import foretold, played, played_apart
from tests.property.stories import START, world_of
from tests.property.story_checks import check_halves, check_margins, check_one_case, differences
from tests.property.story_schemas import LATER, STORIES, emitted

from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

RUNS = int(os.environ.get("QUIETCOUNT_ORACLE_RUNS") or 200)
"""How many stories the first test judges, and a fiftieth of what the soak judges (200: 10,000 stories)."""
SHARDS = 5
"""The first test and the soak are in so many parts, which may run side by side."""
QUICK = 1
"""How many parts of the first test are quick. The others are more trials of the same, and the soak has them."""


def check_worlds(seeds: Iterable[int], folder: Path) -> None:
    """Judge each release of each story; compare it with its halves, with itself without one case, and its tables."""
    farthest = above = 0
    for seed in seeds:
        world, place = world_of(seed), folder / f"{seed}"
        released = played(world, place, judged=True)
        check_halves(world, released)
        farthest = max(farthest, check_one_case(world, released))
        above += check_margins(world, released)
        shutil.rmtree(place)
    assert farthest == 100, "no case came near its limit: the trial shows nothing"
    assert above, "no table is a margin of another: the trial shows nothing"


# ---------------------------------------------------------------- the promises


@pytest.mark.promise("corrections", "withdrawal", "late", "bound-per-case")
@pytest.mark.parametrize(
    "shard", [*range(QUICK), *(pytest.param(shard, marks=pytest.mark.soak) for shard in range(QUICK, SHARDS))]
)
def test_every_release_is_what_the_oracle_counts_adds_up_and_moves_with_one_case_by_at_most_k(
    shard: int, in_memory: Path
) -> None:
    check_worlds(range(100 + shard, 100 + RUNS // STORIES, SHARDS), in_memory)


def check_apart(seed: int, folder: Path) -> None:
    """Play a world whole, and then each part of its stories in a log, a state and a ledger of its own."""
    world = world_of(seed)
    apart = played_apart(world, folder / "apart")
    check_halves(world, apart)
    check_one_case(world, apart)
    check_margins(world, apart)
    together = played(world, folder / "together")
    assert apart == together, f"seed {seed}: other cases in the log change something: {differences(together, apart)}"


@pytest.mark.promise("bound-per-case")
@pytest.mark.parametrize(
    "seed",
    [
        1000,
        *(pytest.param(seed, marks=pytest.mark.check) for seed in (1001, 1002)),
        *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1003, 1006)),
    ],
)
def test_a_log_of_all_cases_is_the_sum_of_logs_of_its_halves(seed: int, in_memory: Path) -> None:
    check_apart(seed, in_memory)


def test_the_rules_themselves_keep_the_bound_and_add_up() -> None:
    """The oracle alone, which is quick: the rules are sound, whoever follows them."""
    farthest, above, lost, newer = 0, 0, 0, 0
    for seed in range(2000, 2050):
        world = world_of(seed)
        told = foretold(world)
        lost += world.losses > 0
        newer += any(step.newer_schemas for step in world.steps)
        check_halves(world, told)
        farthest = max(farthest, check_one_case(world, told))
        above += check_margins(world, told)
    assert farthest == 100, "no case came near its limit: the trial shows nothing"
    assert above > 100, "hardly a table is a margin of another: the trial shows nothing"
    assert lost > 5, "hardly a state is lost: the trial shows nothing"
    assert newer > 5, "hardly an emitter has newer schemas: the trial shows nothing"


@pytest.mark.soak
@pytest.mark.parametrize("shard", range(SHARDS))
def test_many_stories_agree_with_the_oracle_keep_the_bound_and_add_up(shard: int, in_memory: Path) -> None:
    """In one of 25 worlds, the parts of the stories have logs of their own, too."""
    first = int(os.environ.get("QUIETCOUNT_SEED") or 10_000)
    seeds = range(first + shard, first + 50 * RUNS // STORIES, SHARDS)
    check_worlds(seeds, in_memory)
    for seed in seeds[::25]:
        check_apart(seed, in_memory / f"{seed}")
        shutil.rmtree(in_memory / f"{seed}")


# ---------------------------------------------------------------- batches and refolding


def contents(world: Any) -> list[Any]:
    """Return what the state holds, in an order of its own."""
    tables = ("open_events", "withdrawn", "limits", "closed_events", "sums", "first_open", "offsets")
    return [
        sorted(state.connection.execute(f"SELECT * FROM {t}").fetchall(), key=repr)
        for state in world.states
        for t in tables
    ]


@pytest.mark.check
@pytest.mark.promise("deterministic-fold")
def test_other_batches_give_the_same_state_and_the_same_releases(in_memory: Path) -> None:
    for seed in range(200, 203):
        world = world_of(seed)
        one = played(world, in_memory / f"{seed}a", batches=1)
        other = played(world, in_memory / f"{seed}b", batches=2)
        assert one == other, f"seed {seed}"


@pytest.mark.promise("deterministic-fold")
def test_a_state_rebuilt_from_the_log_is_the_state(in_memory: Path) -> None:
    for seed in range(300, 303):
        story = world_of(seed)
        log = MemoryLog(story.partitions)
        day = story.steps[-1].day
        options: dict[str, Any] = {"registry": LATER, "log": log, "now": utc(START), "published": False}
        with world_in(in_memory / f"{seed}a", story.opening, **options) as world:
            for step in story.steps:
                log.append(CASE_EVENTS, [emitted(event) for event in step.events])
                world.fold(day)
            first = contents(world)
        with world_in(in_memory / f"{seed}b", story.opening, **options) as world:
            world.fold(day, iter(lambda: 30, 0))
            assert contents(world) == first, f"seed {seed}"


def test_the_secret_of_a_world_is_its_own() -> None:
    other = ConsumerSecret(bytes(32))
    key = np.zeros((1, 16), dtype=np.uint8)
    assert (SECRET.case_marks(key) != other.case_marks(key)).any()
