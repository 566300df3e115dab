"""Stories through a real broker: its log forgets only its beginning, and partitions are read in any order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.kafka.bench import LogWithTopics, opened
from tests.kafka.fixtures import Kafka
from tests.property.playing import Log, foretold, played
from tests.property.stories import World, world_of
from tests.property.story_checks import check_halves, check_margins, check_one_case
from tests.property.test_aggregates_mutants import MUTANTS

from quietcount_schemas.log import CASE_EVENTS

pytestmark = [pytest.mark.check, pytest.mark.promise("kafka", "bound-per-case", "deterministic-fold")]

SEEDS = (505, 522, 548, 597)
"""Worlds of four stories each: one to four partitions, what comes later (populations, schemas), what is lost (logs, the
state)."""
MORE = (501, 502, 506, 518)
"""What these have, those have as well."""


class Broker:
    """Makes logs with topics of their own on the broker that all tests share, and counts what they lost."""

    def __init__(self, kafka: Kafka, stack: ExitStack) -> None:
        self.kafka = kafka
        self._stack = stack
        self.logs: list[LogWithTopics] = []

    def __call__(self, world: World) -> Log:
        log = opened(self.kafka.bootstrap, self.kafka.prefix())
        self._stack.callback(log.close)
        log.create_topic(CASE_EVENTS, world.partitions)
        self.logs.append(log)
        return log

    @property
    def purged(self) -> int:
        """How many partitions no longer begin with their first record."""
        return sum(begin > 0 for log in self.logs for begin in log.beginning_offsets(CASE_EVENTS).values())


@pytest.fixture
def broker(kafka: Kafka) -> Iterator[Broker]:
    with ExitStack() as stack:
        yield Broker(kafka, stack)


@pytest.mark.parametrize("seed", [*SEEDS, *(pytest.param(seed, marks=pytest.mark.soak) for seed in MORE)])
def test_every_release_is_what_the_oracle_counts_from_a_log_on_kafka(
    seed: int, broker: Broker, in_memory: Path
) -> None:
    world = world_of(seed)
    released = played(world, in_memory, judged=True, logs=broker)
    check_halves(world, released)
    check_one_case(world, released)
    check_margins(world, released)
    assert released == foretold(world), f"seed {seed}: a broker's partitions change what is counted"
    assert broker.purged, "the broker forgot nothing: the trial shows nothing"


def test_a_fold_that_asks_what_the_broker_still_holds_is_caught(
    broker: Broker, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this world a population is declared later, while open events keep settled ones in the log."""
    MUTANTS["by_what_the_log_still_holds"](monkeypatch)
    with pytest.raises(AssertionError, match="seed 522"):
        played(world_of(522), in_memory, judged=True, logs=broker)
