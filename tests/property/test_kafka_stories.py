"""Stories through a real broker: its log forgets only its beginning, and partitions are read in any order."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.property.kafka_logs import Broker
from tests.property.playing import foretold, played
from tests.property.stories import world_of
from tests.property.story_checks import check_halves, check_margins, check_one_case
from tests.property.test_aggregates_mutants import MUTANTS

pytestmark = [pytest.mark.check, pytest.mark.promise("kafka", "bound-per-case", "deterministic-fold")]

SEEDS = (505, 522, 548, 597)
"""Worlds of four stories each: one to four partitions, what comes later (populations, schemas), what is lost (logs, the
state)."""
MORE = (501, 502, 506, 518)
"""What these have, those have as well."""


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
