"""A state that begins again after a loss: in which log, from where, and what is left to purge."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.aggregates_world import MemoryLog, utc, world_in
from tests.privacy.test_places import APRIL, FEBRUARY, MARCH, SINCE, asked, counted, emitted, lose, population

from quietcount_aggregates import losses
from quietcount_aggregates.errors import StateError
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.state.state import State
from quietcount_schemas.log import CASE_EVENTS

pytestmark = [pytest.mark.quick, pytest.mark.promise("losses")]


def begin_without(key: str, patch: pytest.MonkeyPatch) -> None:
    """The mutant: a state that begins again and does not remember `key`."""
    right = State.begin_anew

    def forgetful(state: State, *arguments: Any) -> None:
        right(state, *arguments)
        with state.transaction():
            state[key] = ""

    patch.setattr(State, "begin_anew", forgetful)


def check_a_declaration_after_the_settlement(folder: Path) -> None:
    """What comes between the two is folded again, and counts for the older population alone."""
    with world_in(folder, [population("monthly")], now=utc(SINCE), published=False) as world:
        world.release(utc(FEBRUARY))
        emitted(world, range(101, 106), dt.date(2024, 3, 1))
        world.populations.append(population("later", dt.date(2024, 3, 1)))
        world.restart(utc(dt.date(2024, 2, 10)))
        emitted(world, range(201, 204), dt.date(2024, 3, 2))
        lose(world)
        world.restart(utc(dt.date(2024, 2, 12)))
        world.fold(MARCH)
        world.release(utc(APRIL))
        assert counted(world, "later") == {"2024-03-01": 3}
        assert counted(world, "monthly")["2024-03-01"] == 8


def test_after_a_loss_a_population_that_was_declared_after_the_settlement_begins_there(tmp_path: Path) -> None:
    check_a_declaration_after_the_settlement(tmp_path)


@pytest.mark.parametrize("known", [set[str](), {"later"}], ids=["at the end", "at the settlement"])
def test_a_loss_that_forgets_the_place_of_such_a_declaration_is_found(
    known: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "declared_at", lambda *_: None)
    monkeypatch.setattr(losses, "_declared_before_settlement", lambda _: known)
    with pytest.raises(AssertionError):
        check_a_declaration_after_the_settlement(tmp_path)


def check_a_place_that_is_unknown_and_older_than_a_settlement(folder: Path) -> None:
    """Its place lies in a log that is no more; what comes after a settlement in the next log came after it."""
    with world_in(folder, [population("monthly")], now=utc(SINCE), published=False) as world:
        world.populations.append(population("later", dt.date(2024, 2, 1)))
        world.restart(utc(dt.date(2024, 1, 20)))
        world.log = MemoryLog()
        world.there.follow(world.log.topic_id(CASE_EVENTS))
        world.restart(utc(dt.date(2024, 1, 21)))
        world.release(utc(FEBRUARY))
        emitted(world, range(101, 106), dt.date(2024, 2, 1))
        lose(world)
        world.restart(utc(FEBRUARY))
        world.fold(FEBRUARY)
        world.release(utc(MARCH))
        assert counted(world, "later") == {"2024-02-01": 5}


def test_after_a_loss_a_place_that_is_unknown_is_at_the_settlement_that_followed_it(tmp_path: Path) -> None:
    check_a_place_that_is_unknown_and_older_than_a_settlement(tmp_path)


def test_a_loss_that_takes_each_unknown_place_for_the_end_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_declared_before_settlement", lambda _: set[str]())
    with pytest.raises(AssertionError):
        check_a_place_that_is_unknown_and_older_than_a_settlement(tmp_path)


class Busy(MemoryLog):
    """A log that cannot forget at once, because somebody reads it."""

    reader = True

    def purge(self, topic: str, before: Mapping[int, int]) -> bool:
        return super().purge(topic, before) and not self.reader


def check_that_a_purge_is_finished_after_a_loss(folder: Path) -> None:
    with world_in(folder, [population("monthly")], now=utc(SINCE), log=Busy(), published=False) as world:
        emitted(world, range(1, 6), dt.date(2024, 1, 10))
        world.release(utc(FEBRUARY))
        lose(world)
        world.restart(utc(FEBRUARY))
        assert world.there.purge_due, "the log is not asked again"
        world.log.reader = False
        world.releaser.purge()
        assert not world.there.purge_due


def test_a_purge_that_the_lost_state_had_not_finished_is_finished_by_the_next_one(tmp_path: Path) -> None:
    check_that_a_purge_is_finished_after_a_loss(tmp_path)


def test_a_state_that_begins_again_with_nothing_to_purge_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_without("purge_due", monkeypatch)
    with pytest.raises(AssertionError, match="not asked again"):
        check_that_a_purge_is_finished_after_a_loss(tmp_path)


def check_a_log_that_is_replaced_after_a_loss(folder: Path) -> None:
    """The state begins at a place of the log that was there: in the next one that place means nothing."""
    with world_in(folder, [population("monthly")], now=utc(SINCE), published=False) as world:
        emitted(world, range(1, 6), dt.date(2024, 1, 10))
        world.release(utc(FEBRUARY))
        lose(world)
        world.log = MemoryLog()
        world.emit([asked(case, dt.date(2024, 2, 1)) for case in range(101, 109)])
        with pytest.raises(StateError, match="the log is another one"):
            world.restart(utc(FEBRUARY))
        world.there.follow(world.log.topic_id(CASE_EVENTS))
        world.restart(utc(FEBRUARY))
        world.fold(FEBRUARY)
        world.release(utc(MARCH))
        assert counted(world, "monthly")["2024-02-01"] == 8


def test_a_log_that_is_replaced_between_a_loss_and_the_next_start_is_noticed(tmp_path: Path) -> None:
    check_a_log_that_is_replaced_after_a_loss(tmp_path)


def test_a_state_that_begins_again_in_whatever_log_is_there_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_without("topic_id", monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_a_log_that_is_replaced_after_a_loss(tmp_path)
