"""Stories whose log is folded by workers, each of them and the releaser ended at any moment."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.property.kafka_logs import Broker
from tests.property.playing import foretold, played
from tests.property.stories import World, world_of
from tests.property.story_checks import check_halves, check_margins, check_one_case
from tests.property.working_world import WorkingWorld

from quietcount_aggregates import settling
from quietcount_aggregates.errors import StateBehind
from quietcount_aggregates.settling import Settler
from quietcount_consumers.workers import elsewhere
from quietcount_schemas.log import PARTIAL_SUMS

pytestmark = pytest.mark.promise("deterministic-fold", "bound-per-case", "nothing-lost")

PARTITIONS = 4
WORKERS = (1, 2, 4)
MORE = range(3000, 3030)


def story(seed: int) -> World:
    return replace(world_of(seed), partitions=PARTITIONS)


def deployed(seed: int, workers: int) -> Any:
    return partial(WorkingWorld, workers=workers, seed=seed)


def check(seed: int, workers: int, folder: Path) -> bool:
    """Play a world twice: as it is told, and with events that come while a release waits for what workers count.

    Return whether some of those lay behind what was settled.
    """
    world = story(seed)
    released = played(world, folder / "told", judged=True, deployed=deployed(seed, workers))
    assert released == foretold(world), f"seed {seed}: {workers} workers count other values"
    check_halves(world, released)
    check_one_case(world, released)
    check_margins(world, released)
    early: list[bool] = []
    played(world, folder / "early", judged=True, deployed=deployed(seed, workers), early=early)
    return any(early)


@pytest.mark.quick
def test_what_two_workers_count_is_what_the_oracle_counts(in_memory: Path) -> None:
    assert check(501, 2, in_memory), "nothing came behind a settlement: the trial shows nothing"


# A check tries each number of workers below, from a log on Kafka.
@pytest.mark.soak
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("seed", [522, 528, 530])
def test_any_number_of_workers_counts_what_the_oracle_counts(seed: int, workers: int, in_memory: Path) -> None:
    check(seed, workers, in_memory)


@pytest.mark.soak
@pytest.mark.parametrize("seed", MORE)
def test_many_stories_of_workers_agree_with_the_oracle(seed: int, in_memory: Path) -> None:
    for workers in WORKERS:
        check(seed, workers, in_memory / str(workers))


@pytest.mark.check
@pytest.mark.promise("kafka")
@pytest.mark.parametrize("seed", [522, pytest.param(505, marks=pytest.mark.soak)])
def test_any_number_of_workers_counts_the_same_from_a_log_on_kafka(seed: int, broker: Broker, in_memory: Path) -> None:
    world, crashes = story(seed), 0
    expected = foretold(world)
    for workers in WORKERS:
        made: list[WorkingWorld] = []

        def deploy(*given: Any, workers: int = workers, made: list[WorkingWorld] = made, **more: Any) -> WorkingWorld:
            sums = broker.opened()
            sums.create_topic(PARTIAL_SUMS, 1)
            made.append(WorkingWorld(*given, workers=workers, seed=seed, sums_log=sums, **more))
            return made[-1]

        released = played(world, in_memory / str(workers), judged=True, logs=broker, deployed=deploy)
        assert released == expected, f"seed {seed}: {workers} workers count other values"
        crashes += made[0].crashes
    assert broker.purged, "the broker forgot nothing: the trial shows nothing"
    assert crashes, "no releaser was cut short: the trial shows nothing"


def counts_what_came_after(patch: pytest.MonkeyPatch) -> None:
    """A state counts all that it has folded, and not what lies before the place of the settlement."""
    bounding = Settler._bounding

    def unbarred(self: Settler, _: int, newest: dt.date) -> Any:
        return bounding(self, self.state.offsets[self._partition], newest)

    patch.setattr(Settler, "_bounding", unbarred)


def leaves_one_partition_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(elsewhere, "added", lambda parts: settling.added(list(parts)[1:]))


def forgets_nothing_that_was_released(patch: pytest.MonkeyPatch) -> None:
    """A worker takes no notice of the releases in the ledger."""
    patch.setattr(Settler, "close", lambda *_: None)


@pytest.mark.check
@pytest.mark.parametrize(
    "broken", [counts_what_came_after, leaves_one_partition_out, forgets_nothing_that_was_released]
)
def test_workers_that_break_a_rule_are_caught(broken: Any, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    with pytest.raises((AssertionError, StateBehind), match=r"seed|does not know"):
        played(story(501), in_memory, judged=True, deployed=deployed(501, 2), early=[])
