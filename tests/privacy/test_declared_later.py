"""What a population counts is fixed by the log and by its declaration, never by what the log could forget.

Each trial is done on a log that is purged at each settlement and on one that never gets to it, with and without a case
whose event is open for a year.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.aggregates_world import TRIALS, MemoryLog, UnpurgedLog, World, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.counting import bounding
from quietcount_aggregates.ledger.entries import Completed
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.populations import Population
from quietcount_aggregates.state.state import State
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

SINCE = dt.date(2024, 1, 1)
CASES = range(1, 21)
WAYS = list(itertools.product((True, False), (True, False)))
"""Whether the log is purged, and whether one case has an event that is open for long."""


def population(
    name: str, event: str = "Asked", period: Period = Period.MONTH, since: dt.date = SINCE, by: Sequence[str] = ()
) -> Population:
    return population_of(name, events=[event], registry=TRIALS, period=period, since=since, epsilon=0.5, by=by)


def asked(case: int, day: dt.date, *, number: int | None = None, revision: int = 0, colour: str = "RED") -> CaseEvent:
    attributes = {"colour": colour, "urgent": None}
    return CaseEvent("Asked", case_key(case), event_id(case if number is None else number), revision, day, attributes)


OPEN = CaseEvent("Answered", case_key(250), event_id(1), 0, dt.date(2024, 1, 2), {"colour": "RED"})


def january() -> list[CaseEvent]:
    """The file of January: twenty cases ask."""
    return [asked(case, dt.date(2024, 1, 10)) for case in CASES]


def begun(world: World, *, keeping: bool, first: Sequence[CaseEvent] = ()) -> None:
    """`first` and January are emitted, and January is released. `keeping`: one case has an event open for the year."""
    world.emit([OPEN] if keeping else [])
    world.emit([*first, *january()])
    world.fold(dt.date(2024, 2, 1))
    world.release(utc(dt.date(2024, 2, 8)))


def lose_state(world: World) -> None:
    """The state is lost on 9 February, and the service is started again."""
    world.lose_state(utc(dt.date(2024, 2, 9)))
    world.restart(utc(dt.date(2024, 2, 9)))


def february(world: World, day: dt.date = dt.date(2024, 2, 9)) -> None:
    """What was emitted is folded on a day of February, and the month is released."""
    world.fold(day)
    world.release(utc(dt.date(2024, 3, 8)))


def opening() -> list[Population]:
    return [
        population("monthly"),
        population("green", by=["colour"]),  # the first of its cells
        population("yearly", "Answered", Period.YEAR),
    ]


def counted(world: World, name: str) -> dict[str, int]:
    return {str(start): values[0] for (table, start), values in world.released.items() if table == name and values[0]}


Trial = Callable[[World, bool], dict[str, int]]


def declared_later(world: World, keeping: bool) -> dict[str, int]:
    """A population by the quarter comes in February; a case asks in March, and the past is said to be complete."""
    begun(world, keeping=keeping)
    world.populations.append(population("quarterly", period=Period.QUARTER))
    world.restart(utc(dt.date(2024, 2, 9)))
    world.emit([asked(101, dt.date(2024, 3, 1))])
    world.fold(dt.date(2024, 3, 2))
    world.release(utc(dt.date(2024, 4, 8)))
    assert counted(world, "quarterly") == {}, "nothing is released before its past is complete"
    world.ledger.append([Completed(world.populations[-1].name)], utc(dt.date(2024, 4, 9)))
    world.release(utc(dt.date(2024, 4, 9)))
    return counted(world, "quarterly")


def history_emitted(world: World, keeping: bool) -> dict[str, int]:
    """The same, and the file of January is emitted again as its history."""
    begun(world, keeping=keeping)
    world.populations.append(population("again"))
    world.restart(utc(dt.date(2024, 2, 9)))
    world.emit(january())
    world.fold(dt.date(2024, 2, 10))
    world.ledger.append([Completed(world.populations[-1].name)], utc(dt.date(2024, 2, 10)))
    world.release(utc(dt.date(2024, 3, 8)))
    assert counted(world, "monthly") == {"2024-01-01": 20}
    return counted(world, "again")


def state_lost(world: World, keeping: bool) -> dict[str, int]:
    """Of events of February, one came before January was released, one after it, and one after the state was lost."""
    begun(world, keeping=keeping, first=[asked(100, dt.date(2024, 2, 1))])
    world.emit([asked(101, dt.date(2024, 1, 20)), asked(102, dt.date(2024, 2, 9))])
    lose_state(world)
    world.emit([asked(103, dt.date(2024, 1, 20)), asked(104, dt.date(2024, 2, 9))])
    february(world)
    return counted(world, "monthly")


def lost_and_emitted_again(world: World, keeping: bool) -> dict[str, int]:
    """The same, and then everything is emitted again."""
    first = [asked(100, dt.date(2024, 2, 1))]
    begun(world, keeping=keeping, first=first)
    after = [asked(101, dt.date(2024, 1, 20)), asked(102, dt.date(2024, 2, 9))]
    world.emit(after)
    lose_state(world)
    world.emit([*first, *january(), *after])
    february(world)
    return counted(world, "monthly")


def lost_with_corrections(world: World, keeping: bool) -> dict[str, int]:
    """January's release meets a late correction, a withdrawal, and an event that is dated ahead.

    Then the state is lost. Whatever the log still has of them, nothing of them counts.
    """
    world.today = lambda: dt.date(2024, 2, 9)
    world.restart(utc(SINCE))
    world.emit([OPEN] if keeping else [])
    world.emit([asked(1, dt.date(2024, 2, 1)), asked(2, dt.date(2024, 2, 2)), asked(3, dt.date(2024, 2, 25))])
    world.emit([asked(1, dt.date(2024, 1, 5), revision=1)])
    world.emit([CaseEvent("Left", case_key(2), event_id(999), 0, dt.date(2024, 2, 2), {})])
    world.fold(dt.date(2024, 2, 3))
    world.release(utc(dt.date(2024, 2, 8)))
    lose_state(world)
    february(world)
    return counted(world, "monthly")


def lost_and_corrected(world: World, keeping: bool) -> dict[str, int]:
    """The state is lost once January is released; an event of January is corrected to February, behind another one."""
    begun(world, keeping=keeping)
    lose_state(world)
    world.emit([asked(1, dt.date(2024, 2, 10), number=500, colour="GREEN")])
    world.emit([asked(1, dt.date(2024, 2, 10), number=1, revision=1)])
    february(world, dt.date(2024, 2, 20))
    return counted(world, "green")


def emitted_again(world: World, keeping: bool) -> dict[str, int]:
    """A file, its correction to a day before `since`, and the file once more; then another population comes."""
    world.emit(january())
    world.emit([asked(case, dt.date(2023, 12, 28), revision=1) for case in CASES])
    world.emit([OPEN] if keeping else [])
    world.emit(january())
    world.fold(dt.date(2024, 1, 20))
    world.release(utc(dt.date(2024, 2, 8)))
    world.populations.append(population("idle", "Idle", since=dt.date(2024, 3, 1)))
    world.restart(utc(dt.date(2024, 2, 9)))
    february(world)
    return counted(world, "monthly")


RIGHT: Sequence[tuple[Trial, dict[str, int]]] = [
    (declared_later, {"2024-01-01": 1}),
    (history_emitted, {"2024-01-01": 20}),
    # What came before the release is gone from the log, and what belongs to January may have counted.
    (state_lost, {"2024-01-01": 20, "2024-02-01": 2}),
    (lost_and_emitted_again, {"2024-01-01": 20, "2024-02-01": 2}),
    (lost_with_corrections, {"2024-01-01": 1}),
    (lost_and_corrected, {"2024-02-01": 1}),
    (emitted_again, {}),
]


def outcomes(folder: Path, trial: Trial, ways: Sequence[tuple[bool, bool]] = WAYS) -> list[dict[str, int]]:
    found = []
    for purged, keeping in ways:
        place, log = folder / f"{purged} {keeping}", MemoryLog() if purged else UnpurgedLog()
        with world_in(place, opening(), log=log, now=utc(SINCE), published=False) as world:
            found.append(trial(world, keeping))
    return found


@pytest.mark.promise("deterministic-fold", "bound-per-case")
@pytest.mark.parametrize("purged", [True, pytest.param(False, marks=pytest.mark.check)])
@pytest.mark.parametrize("trial, right", RIGHT, ids=[trial.__name__ for trial, _ in RIGHT])
def test_nothing_that_one_case_does_decides_whether_others_count(
    trial: Trial, right: dict[str, int], purged: bool, tmp_path: Path
) -> None:
    assert outcomes(tmp_path, trial, [way for way in WAYS if way[0] is purged]) == [right] * 2


def test_a_population_counts_what_comes_after_its_declaration_in_each_partition(tmp_path: Path) -> None:
    with world_in(tmp_path, opening(), log=MemoryLog(3), now=utc(SINCE), published=False) as world:
        world.emit(january())
        world.populations.append(population("later", since=dt.date(2024, 2, 1)))
        world.restart(utc(dt.date(2024, 1, 20)))
        begins = {partition: offset for state in world.states for partition, offset in state.begins["later"].items()}
        assert begins == world.log.end_offsets(CASE_EVENTS)
        world.emit([asked(case, dt.date(2024, 2, 10), number=case + 1000) for case in CASES])
        february(world, dt.date(2024, 2, 20))
        assert counted(world, "monthly") == {"2024-01-01": 20}
        assert counted(world, "later") == {"2024-02-01": 20}


def test_a_population_that_begins_after_its_declaration_waits_for_no_past(tmp_path: Path) -> None:
    with world_in(tmp_path, opening(), now=utc(SINCE), published=False) as world:
        world.populations += [population("next", since=dt.date(2024, 3, 1)), population("past", since=SINCE)]
        world.restart(utc(dt.date(2024, 2, 9)))
        assert world.ledger.chain.later == {"next", "past"}
        assert world.ledger.chain.incomplete == {"past"}


def test_a_killed_declaration_keeps_the_place_at_which_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the ledger and the state: what was emitted meanwhile counts."""
    with world_in(tmp_path, opening(), now=utc(SINCE), published=False) as world:
        begun(world, keeping=False)
        world.populations.append(population("later", since=dt.date(2024, 3, 1)))
        with monkeypatch.context() as patch:
            patch.setattr(State, "adopt", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                world.restart(utc(dt.date(2024, 2, 9)))
        assert "later" in world.ledger.chain.declarations
        world.emit([asked(101, dt.date(2024, 3, 2))])
        world.restart(utc(dt.date(2024, 3, 3)))
        world.fold(dt.date(2024, 3, 3))
        world.release(utc(dt.date(2024, 4, 8)))
        assert counted(world, "later") == {"2024-03-01": 1}


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.check
def test_a_fold_that_asks_what_the_log_still_holds_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old rule: whatever is found in the log counts. It folded the log again for each declaration."""
    monkeypatch.setattr(bounding, "_behind", lambda *_: "true")
    real = State.adopt

    def folding_again(state: State, populations: Sequence[Population]) -> None:
        if any(each.name not in state.first_open for each in populations):
            with state.transaction() as connection:
                connection.execute("DELETE FROM open_events")
                connection.execute("DELETE FROM offsets")
        real(state, populations)

    monkeypatch.setattr(State, "adopt", folding_again)
    found = outcomes(tmp_path, declared_later)
    assert any(outcome != found[0] for outcome in found)


@pytest.mark.check
@pytest.mark.parametrize("trial", [state_lost, lost_with_corrections])
def test_a_state_that_begins_again_with_all_that_the_log_still_holds_is_caught(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "settled_at", None)
    purged, unpurged = outcomes(tmp_path, trial, [(True, False), (False, False)])
    assert purged != unpurged


@pytest.mark.check
def test_a_state_that_carries_what_was_settled_before_its_loss_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(State, "lost_open", {})
    assert outcomes(tmp_path, lost_and_emitted_again, WAYS[:1]) == [{"2024-01-01": 20, "2024-02-01": 23}]
