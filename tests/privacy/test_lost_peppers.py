"""The bound after a loss of the emitters' pepper: a person who comes back is another case, and the state goes on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.aggregates_world import TRIALS, World, case_key, event_id, utc, world_in

from quietcount_aggregates import losses
from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.populations import Population
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period

pytestmark = [pytest.mark.quick, pytest.mark.promise("losses")]

SINCE = dt.date(2024, 1, 1)


def population() -> Population:
    tables = [AskedTable("monthly", 0.5), AskedTable("quarterly", 0.5, period=Period.QUARTER)]
    return resolve("asked", events=["Asked"], registry=TRIALS, period=Period.MONTH, since=SINCE, tables=tables)


def come(world: World, key: int, month: int) -> None:
    """Let the one person of these stories come in a month, as the case that the emitters' pepper makes of them."""
    day = dt.date(2024, month, 2)
    world.emit(
        [CaseEvent("Asked", case_key(key), event_id(10 * key + month), 0, day, {"colour": "RED", "urgent": None})]
    )
    world.fold(day)


def release(world: World, month: int) -> None:
    world.release(utc(dt.date(2024, month, 8)))


def lose_pepper(world: World) -> None:
    losses.record_loss(world.ledger, utc(dt.date(2024, 2, 3)), kept=True)


def lose_state(world: World) -> None:
    now = utc(dt.date(2024, 2, 8))
    world.lose_state(now)
    world.restart(now)
    world.fold(now.date())


def two_peppers(world: World) -> None:
    come(world, 2, 2)
    lose_pepper(world)
    come(world, 3, 2)


def then_the_state(world: World) -> None:
    come(world, 2, 2)
    lose_state(world)


def check_bound(folder: Path, then: Callable[[World], None]) -> None:
    """Let a person come under a pepper, lose it, let `then` happen, and compare how often they count with the bound."""
    with world_in(folder, [population()], now=utc(SINCE), published=False) as world:
        come(world, 1, 1)
        release(world, 2)
        come(world, 1, 2)  # the limit is used up
        lose_pepper(world)
        then(world)
        release(world, 3)
        times = sum(sum(values) for (table, _), values in world.released.items() if table == "monthly")
        assert times == 3, "the story is not the one that it is to be"
        assert times <= 1 + world.ledger.chain.losses, "the person counts more often than the bound says"


STORIES = [two_peppers, then_the_state]


@pytest.mark.parametrize("then", STORIES)
def test_a_person_counts_no_more_often_than_the_recorded_losses_say(
    tmp_path: Path, then: Callable[[World], None]
) -> None:
    check_bound(tmp_path, then)


@pytest.mark.parametrize("then", STORIES)
def test_a_mutant_that_takes_a_loss_after_that_of_a_pepper_for_the_same_one_is_found(
    tmp_path: Path, then: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = losses.record_loss

    def once(ledger: Ledger, now: dt.datetime, partition: int | None = None, *, kept: bool = False) -> int:
        if ledger.chain.entries[-1].kind == "state_lost":
            return ledger.chain.losses
        return right(ledger, now, partition, kept=kept)

    monkeypatch.setattr(losses, "record_loss", once)
    monkeypatch.setattr("tests.aggregates_world.record_loss", once)
    with pytest.raises(AssertionError, match="more often than the bound"):
        check_bound(tmp_path, then)


def test_a_quarter_goes_on_when_a_pepper_is_lost_for_its_sums_are_in_the_state(tmp_path: Path) -> None:
    with world_in(tmp_path, [population()], now=utc(SINCE), published=False) as world:
        come(world, 1, 1)
        release(world, 2)
        lose_pepper(world)
        come(world, 2, 3)
        world.release(utc(dt.date(2024, 4, 8)))
        assert not world.ledger.chain.withheld
        assert sum(world.released["quarterly", SINCE]) == 2
