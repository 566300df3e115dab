"""The marks that remain of settled events: none of a case whose limit is used up, and of the others for a year."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.aggregates_world import SECRET, TRIALS, World, case_key, event_id, marks_held, utc, world_in
from tests.populations import population_of
from tests.privacy.settling_world import first_of

from quietcount_aggregates.counting import bounding, contributions
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import CASE_EVENTS

pytestmark = [pytest.mark.quick, pytest.mark.promise("forgetting")]

JANUARY, FEBRUARY = first_of(1), first_of(2)


def asked(name: str = "asked", k: int = 1, period: Period = Period.MONTH, **options: object) -> Population:
    options = {"since": JANUARY, "epsilon": 1.0, **options}
    return population_of(
        name,
        events=["Asked"],
        registry=TRIALS,
        period=period,
        max_contributions=k,
        **options,  # type: ignore[arg-type]
    )


def event(case: int, number: int, day: dt.date, revision: int = 0, colour: str = "RED") -> CaseEvent:
    return CaseEvent("Asked", case_key(case), event_id(number), revision, day, {"colour": colour, "urgent": None})


def block(data: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(data, dtype=np.uint8).reshape(1, 16)


def number_of(words: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]) -> int:
    return int(words[0, 0]) << 64 | int(words[0, 1])


def case_mark(key: bytes) -> int:
    return number_of(SECRET.case_marks(block(key)))


def event_mark(key: bytes, identity: bytes) -> int:
    return number_of(SECRET.event_marks(block(key), block(identity)))


def holding(world: World, mark: int) -> set[tuple[str, str]]:
    """Return the columns and files of the state in which a mark stands, those that are made later not left out."""
    return {place for place, marks in marks_held(world.there).items() if mark in marks}


def event_numbers(world: World, among: range, case: int = 1) -> set[int]:
    """Return which events of a case have a mark in the state."""
    return {number for number in among if holding(world, event_mark(case_key(case), event_id(number)))}


def settle(world: World, month: int) -> None:
    """Fold and release when a month is over."""
    world.fold(first_of(month + 1))
    world.release(utc(first_of(month + 1)))


def totals(world: World) -> dict[dt.date, int]:
    return {start: sum(cells) for (_, start), cells in sorted(world.released.items()) if sum(cells)}


# ---------------------------------------------------------------- a limit that is used up


def check_one(folder: Path, late: Late = Late.CARRY) -> None:
    with world_in(folder, [asked(late=late)], published=False) as world:
        first = event(1, 1, JANUARY)
        world.emit([first, event(1, 2, JANUARY), event(1, 3, FEBRUARY)])
        settle(world, 1)
        assert event_numbers(world, range(1, 3)) == set(), "a mark is left of a case that counted"
        world.emit([first, event(1, 1, FEBRUARY, 1), event(1, 4, JANUARY)])  # again, corrected to the open month, late
        settle(world, 2)
        settle(world, 3)
        assert totals(world) == {JANUARY: 1}, "no mark is needed: the limit is used up"
        assert event_numbers(world, range(1, 5)) == set()
        assert {place for place, _ in holding(world, case_mark(case_key(1)))} == {"limits"}


@pytest.mark.promise("nothing-twice", "late")
@pytest.mark.parametrize("late", list(Late))
def test_with_a_limit_of_one_nothing_but_the_limiters_hash_remains_of_a_case_that_counted(
    late: Late, tmp_path: Path
) -> None:
    check_one(tmp_path, late)


def check_two(folder: Path) -> None:
    with world_in(folder, [asked(k=2)], published=False) as world:
        world.emit([event(1, 1, JANUARY), event(2, 9, JANUARY)])
        settle(world, 1)
        world.emit([event(1, 1, JANUARY), event(1, 1, FEBRUARY, 1)])  # again, and corrected too late
        settle(world, 2)
        assert totals(world) == {JANUARY: 2}, "an event counted twice"
        assert event_numbers(world, range(1, 3)) == {1}
        world.emit([event(1, 2, first_of(3))])
        settle(world, 3)
        assert totals(world) == {JANUARY: 2, first_of(3): 1}
        assert event_numbers(world, range(1, 3)) == set(), "a mark is left of a case whose limit is used up"
        assert {place for place, _ in holding(world, case_mark(case_key(1)))} == {"limits"}
        assert event_numbers(world, range(9, 10), case=2) == {9}, "another case's mark stays"
        assert ("closed_events", "case_mark") in holding(world, case_mark(case_key(2)))


@pytest.mark.promise("nothing-twice")
def test_the_marks_from_before_go_when_a_case_uses_up_its_limit(tmp_path: Path) -> None:
    check_two(tmp_path)


def check_two_populations(folder: Path) -> None:
    """January's last week is open when January is settled; the case counted in its first week, and in January."""
    by_month, by_week = asked("by_month"), asked("by_week", period=Period.WEEK)
    with world_in(folder, [by_month, by_week], published=False) as world:
        world.emit([event(1, 1, dt.date(2024, 1, 3))])
        for day in (8, 15, 22, 29):
            world.fold(dt.date(2024, 1, day))
            world.release(utc(dt.date(2024, 1, day)))
        assert world.there.rows("SELECT count(*) FROM open_events") == [(1,)], "January needs it"
        settle(world, 1)
        assert totals(world) == {JANUARY: 1}  # the week begins on the same day
        assert world.there.rows("SELECT count(*) FROM open_events") == [(0,)], "a settled event is kept as if open"
        assert {place for place, _ in holding(world, case_mark(case_key(1)))} == {"limits"}


def test_an_event_is_gone_when_all_populations_have_settled_it(tmp_path: Path) -> None:
    check_two_populations(tmp_path)


# ---------------------------------------------------------------- who does not belong


def check_others(folder: Path, k: int) -> None:
    """Case 1 asked for green alone; by its correction, which is late, the event belongs to the red ones."""
    with world_in(
        folder, [asked(k=k, where={"colour": ["RED"]}), asked("slow", period=Period.QUARTER)], published=False
    ) as world:
        world.emit([event(1, 1, JANUARY, colour="GREEN"), event(2, 2, JANUARY)])
        settle(world, 1)
        assert world.there.rows("SELECT count(*) FROM open_events") == [(2,)], "the quarter needs both"
        places = holding(world, case_mark(case_key(1))) | holding(world, event_mark(case_key(1), event_id(1)))
        assert {table for table, _ in places} == {"open_events"}, "something is kept of who does not belong"
        settle(world, 2)
        world.emit([event(1, 1, JANUARY, 1)])
        settle(world, 3)
        found = {start: sum(cells) for (name, start), cells in world.released.items() if name == "asked"}
        assert found == {JANUARY: 1, FEBRUARY: 0, first_of(3): 1}


@pytest.mark.parametrize("k", [1, 2])
def test_nothing_is_kept_of_an_event_that_does_not_belong_to_the_population(k: int, tmp_path: Path) -> None:
    check_others(tmp_path, k)


# ---------------------------------------------------------------- a year


def expected_from(settled: dt.date) -> dt.date:
    """Return the first open month at which the mark of an event is gone that was settled in a month."""
    following = Period.MONTH.next(settled)
    return following.replace(year=following.year + 1)


def check_year(folder: Path, population: Population, marks: bool = True) -> None:
    """Send one event again in each of sixteen months; its mark is there for as long as it could count again."""
    day = dt.date(2024, 1, 31)
    with world_in(folder, [population], published=False) as world:
        for month in range(1, 17):
            world.emit([event(1, 1, day), event(100, month, first_of(month))])
            settle(world, month)
            opened = first_of(month + 1)
            kept = opened < expected_from(JANUARY)
            assert not marks or event_numbers(world, range(1, 2)) == ({1} if kept else set()), f"{opened}: wrong marks"
        assert world.there.rows("SELECT count(*) FROM open_events") == [(0,)]
        found = [cells for _, cells in sorted(world.released.items())]
        assert [sum(cells) for cells in found] == [2] + [1] * 15, "an event counted twice"


@pytest.mark.check
@pytest.mark.promise("nothing-twice", "late")
@pytest.mark.parametrize("late", list(Late))
@pytest.mark.parametrize("horizon", list(Horizon))
def test_a_mark_is_kept_for_as_long_as_its_event_could_count_again(
    late: Late, horizon: Horizon, tmp_path: Path
) -> None:
    check_year(tmp_path, asked(k=20, late=late, horizon=horizon))


def test_a_carried_event_has_its_mark_for_a_year_from_the_period_that_counted_it(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked(k=3)], published=False) as world:
        settle(world, 1)
        settle(world, 2)
        world.emit([event(1, 1, JANUARY)])
        settle(world, 3)
        assert world.there.rows("SELECT DISTINCT period FROM closed_events") == [(first_of(3),)]
        for month in range(4, 15):
            settle(world, month)
            assert event_numbers(world, range(1, 2)) == {1}
        settle(world, 15)
        assert event_numbers(world, range(1, 2)) == set()


@pytest.mark.promise("year-forgotten")
def test_with_a_yearly_horizon_event_marks_stay_without_a_mark_of_the_case(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked(horizon=Horizon.YEAR)], published=False) as world:
        world.emit([event(1, 1, JANUARY)])
        settle(world, 1)
        assert event_numbers(world, range(1, 2)) == {1}, "the limit begins again, so the mark is needed"
        assert holding(world, case_mark(case_key(1))) == set(), "it would outlive the year's secret"


# ---------------------------------------------------------------- an attacker

PEPPER = Pepper(bytes(range(100, 148)))
COLOURS, URGENT = ("RED", "GREEN", "NONE"), (True, False, None)


def guesses(identifier: str) -> dict[tuple[dt.date, str, bool | None], CaseEvent]:
    """Return the event that the producers' own recipe makes of each day of January and all attributes.

    Its id is derived from what is sent, so the days of one month cannot be told apart by it.
    """
    composer, codec = Composer(TRIALS, PEPPER, today=lambda: dt.date(2024, 2, 1)), Codec(TRIALS)
    found = {}
    for day, colour, urgent in itertools.product(range(1, 32), COLOURS, URGENT):
        facts = (JANUARY.replace(day=day), colour, urgent)
        record = composer.compose(
            Facts("Asked", identifier, facts[0], {"colour": colour, "urgent": urgent}), lambda _: 0
        )
        found[facts] = codec.decode(record.value)
    assert len({each.event_id for each in found.values()}) == 9, "an id tells days apart that are sent as one"
    return found


def attacked(folder: Path, k: int) -> tuple[set[str], dict[str, list[tuple[dt.date, str, bool | None]]]]:
    """Return who is found to have come, and of whom which guesses are right, from the state after a settlement."""
    secrets_of = {
        "Anna": (dt.date(2024, 1, 17), "GREEN", True),
        "Boris": (dt.date(2024, 1, 2), "RED", None),
    }
    with world_in(folder, [asked(k=k)], published=False) as world:
        for name, facts in secrets_of.items():
            told = guesses(name)[facts]
            assert (told.occurred_on, told.attributes) == (JANUARY, {"colour": facts[1], "urgent": facts[2]})
            world.emit([told])
        world.emit([event(1, 1, FEBRUARY)])
        world.fold(FEBRUARY)
        before = guesses("Anna")[secrets_of["Anna"]]
        assert holding(world, event_mark(before.case_key, before.event_id)), "the attacker's recipe is a wrong one"
        world.release(utc(FEBRUARY))
        log = world.log
        start = dict.fromkeys(log.partitions(CASE_EVENTS), 0)
        assert log.poll(CASE_EVENTS, start, log.end_offsets(CASE_EVENTS), 10) == []
        assert world.there.rows("SELECT count(*) FROM open_events") == [(1,)], "February's is still open"
        names = (*secrets_of, "Clara")
        came = {name for name in names if holding(world, case_mark(PEPPER.case_key(name)))}
        marks = {mark for held in marks_held(world.there).values() for mark in held}
        right = {
            name: [
                facts for facts, guess in guesses(name).items() if event_mark(guess.case_key, guess.event_id) in marks
            ]
            for name in names
        }
    told_by_an_id = {
        name: [(JANUARY.replace(day=day), *secrets_of[name][1:]) for day in range(1, 32)] for name in secrets_of
    }
    assert right in (told_by_an_id | {"Clara": []}, {name: [] for name in names})
    return came, {name: found for name, found in right.items() if found}


@pytest.mark.promise("pseudonyms")
def test_with_all_secrets_an_attacker_finds_that_a_case_came_and_nothing_of_its_attributes_or_day(
    tmp_path: Path,
) -> None:
    came, right = attacked(tmp_path, k=1)
    assert came == {"Anna", "Boris"}
    assert right == {}, "a guess of attributes and day can be told from a wrong one"


def test_while_a_limit_is_not_used_up_a_guess_can_be_tested_as_the_pages_say(tmp_path: Path) -> None:
    came, right = attacked(tmp_path, k=2)
    assert came == right.keys() == {"Anna", "Boris"}


# ---------------------------------------------------------------- mutants


def _script_with(old: str, new: str, patch: pytest.MonkeyPatch) -> None:
    real = bounding._sql

    def mutant(name: str) -> str:
        sql = real(name)
        if name != "close.sql":
            return sql
        assert sql.count(old) == 1, f"close.sql has changed: {old!r} is not in it once"
        return sql.replace(old, new)

    patch.setattr(bounding, "_sql", mutant)


Patch = Callable[[pytest.MonkeyPatch], None]

_marks_of_the_used_up = partial(_script_with, "HAVING sum(contributions) >= max_contributions", "HAVING false")
_limit_as_of_before = partial(_script_with, "WHERE counted AND period < day AND year = 0", "WHERE false")
_marks_from_before_kept = partial(
    _script_with,
    "SELECT population, event_mark, case_mark, period FROM closed_events",
    "SELECT population, event_mark, NULL AS case_mark, period FROM closed_events",
)


def _checked_others(folder: Path) -> None:
    check_others(folder, 2)


_marks_of_others = partial(_script_with, "period < day AND member", "period < day")
_no_marks = partial(_script_with, "WHERE period >= marks_from", "WHERE false")
_for_ever = partial(_script_with, "WHERE period >= marks_from", "")
_a_month_longer = partial(_script_with, "WHERE period >= marks_from", "WHERE period >= marks_from - INTERVAL 1 MONTH")
_a_month_less = partial(_script_with, "WHERE period >= marks_from", "WHERE period > marks_from")


def _used_up_still_placed(patch: pytest.MonkeyPatch) -> None:
    real = contributions.insertion

    def mutant(population: Population, placed: str) -> str:
        limit = f"AND contributions >= {population.max_contributions}"
        sql = real(population, placed)
        assert sql.count(limit) == 1
        return sql.replace(limit, "AND false")

    patch.setattr(contributions, "insertion", mutant)


def _checked_attacker(folder: Path) -> None:
    test_with_all_secrets_an_attacker_finds_that_a_case_came_and_nothing_of_its_attributes_or_day(folder)


def _checked_year(folder: Path) -> None:
    check_year(folder, asked(k=20))


@pytest.mark.check
@pytest.mark.parametrize(
    "mutant, check, why",
    [
        pytest.param(_marks_of_the_used_up, check_one, "a mark is left", id="marks of the used up"),
        pytest.param(_marks_of_the_used_up, _checked_attacker, "a guess of attributes", id="a guess to test"),
        pytest.param(_limit_as_of_before, check_one, "a mark is left", id="the limit as of before"),
        pytest.param(_marks_from_before_kept, check_two, "a mark is left", id="marks from before"),
        pytest.param(_marks_of_others, _checked_others, "who does not belong", id="marks of others"),
        pytest.param(_no_marks, check_two, "counted twice", id="no marks"),
        pytest.param(_for_ever, _checked_year, "wrong marks", id="for ever"),
        pytest.param(_a_month_longer, _checked_year, "wrong marks", id="a month longer"),
        pytest.param(_a_month_less, _checked_year, "wrong marks", id="a month less"),
        pytest.param(_used_up_still_placed, check_two_populations, "as if open", id="used up, and still placed"),
    ],
)
def test_a_settlement_that_keeps_too_much_or_too_little_is_caught(
    mutant: Patch, check: Callable[[Path], None], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=why):
        check(tmp_path)


@pytest.mark.check
def test_without_its_mark_an_event_of_the_past_year_would_count_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of the year and the life of the marks belong together: a longer carry needs longer marks."""
    monkeypatch.setattr(contributions, "placement", partial(_carried_for, 400, contributions.placement))
    with pytest.raises(AssertionError, match="counted twice"):
        check_year(tmp_path, asked(k=20), marks=False)


def _carried_for(
    days: int,
    real: Callable[..., str],
    population: Population,
    symbols: contributions.Symbols,
    opened: dt.date,
    *rest: Any,
) -> str:
    year = contributions.year_before(opened)
    sql = real(population, symbols, opened, *rest)
    assert sql.count(year) == 1
    return sql.replace(year, f"(DATE '{opened}' - INTERVAL {days} DAY)")
