"""Settling: what a month adds to the coarser tables of its population, and what then remains of the month's people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.aggregates_world import World, utc, world_in
from tests.privacy.settling_world import (
    MONTHS,
    asked,
    check_agreement,
    event,
    events_of,
    first_of,
    live,
    on_time,
    settle,
)

from quietcount_aggregates.counting.bounding import Bounding
from quietcount_aggregates.errors import StateBehind
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.losses import begin_anew, record_loss
from quietcount_aggregates.populations import Table
from quietcount_aggregates.release import Step
from quietcount_aggregates.state.limits import UsedUp
from quietcount_aggregates.state.state import State
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

JANUARY, FEBRUARY, APRIL = first_of(1), first_of(2), first_of(4)

QUARTER = range(1, 4)

Released = dict[tuple[str, dt.date], tuple[int, ...]]


class Crash(BaseException):
    """The process ends here."""


def lived(folder: Path, months: range = MONTHS) -> Released:
    with world_in(folder, [asked()], published=False) as world:
        live(world, months)
        return dict(world.released)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return lived(tmp_path_factory.mktemp("undisturbed"))


def of_quarter(released: Released) -> Released:
    """Return what is released when the first quarter has ended."""
    return {(table, start): values for (table, start), values in released.items() if start < APRIL}


# ---------------------------------------------------------------- what is counted


@pytest.mark.promise("corrections", "nothing-twice", "late")
def test_quarters_are_the_sums_of_their_months_and_the_margins_of_all_tables_agree(undisturbed: Released) -> None:
    assert sorted(undisturbed) == sorted(
        [("monthly", first_of(month)) for month in MONTHS]
        + [(table, start) for table in ("quarterly", "red") for start in (JANUARY, APRIL)]
    )
    check_agreement(undisturbed)


@pytest.mark.promise("bound-per-case")
def test_each_contribution_lands_in_one_cell_of_each_table_whose_condition_holds(tmp_path: Path) -> None:
    """One case at a time, with two contributions at most; NONE, GREEN, RED is the order of colours, false the first."""
    may = first_of(5)
    with world_in(tmp_path, [asked()], published=False) as world:
        world.emit(
            [
                event(1, 1, JANUARY, "GREEN", True),
                event(1, 2, JANUARY, "RED", True),
                event(1, 3, JANUARY, "RED", False),  # the third
                event(2, 1, JANUARY, "RED", False),
                event(2, 1, JANUARY, "GREEN", True, 1),  # corrected in time
            ]
        )
        settle(world, 1, [event(4, 1, FEBRUARY, "GREEN", None)])  # there before January is settled
        world.emit(
            [
                event(2, 1, JANUARY, "RED", False, 2),  # corrected too late
                event(3, 1, JANUARY, "RED", False),  # late, and counted when it arrives
                event(3, 2, FEBRUARY, "NONE", None),
                event(1, 4, FEBRUARY, "RED", False),  # its limit is used up
            ]
        )
        settle(world, 2)
        settle(world, 3)
        world.emit([event(2, 2, may, "RED", True), event(2, 3, may, "RED", True), event(3, 3, may, "RED", True)])
        for month in (4, 5, 6):
            settle(world, month)
        assert world.released == {
            ("monthly", JANUARY): (2, 0, 1),
            ("monthly", FEBRUARY): (1, 1, 1),
            ("monthly", first_of(3)): (0, 0, 0),
            ("quarterly", JANUARY): (3, 3),
            ("red", JANUARY): (2,),
            ("monthly", APRIL): (0, 0, 0),
            ("monthly", may): (0, 0, 1),
            ("monthly", first_of(6)): (0, 0, 0),
            ("quarterly", APRIL): (0, 1),
            ("red", APRIL): (1,),
        }


def test_a_quarter_settled_by_the_month_is_what_it_is_when_it_is_settled_at_once(tmp_path: Path) -> None:
    values = []
    for name, by_month in (("by month", True), ("at once", False)):
        with world_in(tmp_path / name, [asked()], published=False) as world:
            for month in range(1, 7):
                world.emit(on_time(month))
                if by_month or month == 6:
                    settle(world, month)
            values.append(dict(world.released))
    assert values[0] == values[1]
    check_agreement(values[0])


@pytest.mark.promise("withdrawal")
def test_a_withdrawal_takes_a_case_out_of_the_open_month_and_not_out_of_a_settled_one(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()], published=False) as world:
        world.emit([event(1, 1, JANUARY, "RED", True), event(2, 1, JANUARY, "RED", True)])
        settle(world, 1)
        first = event(1, 2, FEBRUARY, "RED", True)
        world.emit([first, event(2, 2, FEBRUARY, "RED", True), replace(first, event="Left", attributes={})])
        for month in (2, 3):
            settle(world, month)
        assert world.released["red", JANUARY] == (3,)
        assert world.released["monthly", FEBRUARY] == (0, 0, 1)


# ---------------------------------------------------------------- crashes and restarts


CRASHES = [
    pytest.param(
        step,
        month,
        id=f"{step}-{where}",
        marks=() if month == 3 and step in (Step.APPENDED, Step.STATE_WRITTEN) else pytest.mark.check,
    )
    for step in Step
    for month, where in ((2, "amid the quarter"), (3, "at its end"))
]


@pytest.mark.promise("drawn-once")
@pytest.mark.parametrize("step, month", CRASHES)
def test_a_crash_at_any_step_of_a_settlement_changes_no_value(
    step: Step, month: int, tmp_path: Path, undisturbed: Released
) -> None:
    def observe(reached: Step) -> None:
        if reached is step:
            raise Crash

    now = utc(first_of(month + 1))
    with world_in(tmp_path, [asked()], published=False) as world:
        live(world, range(1, month))
        world.observe = observe
        world.restart(now)
        world.emit(events_of(month))
        with pytest.raises(Crash):
            settle(world, month)
        world.observe = None
        world.restart(now)
        settle(world, month)
        world.restart(now)
        assert settle(world, month) == 0, "what is settled is due again"
        live(world, range(month + 1, 4))
        assert world.released == of_quarter(undisturbed)


@pytest.mark.check
def test_a_restart_between_all_months_changes_no_value(tmp_path: Path, undisturbed: Released) -> None:
    with world_in(tmp_path, [asked()], published=False) as world:
        for month in QUARTER:
            world.restart(utc(first_of(month)))
            live(world, [month])
        world.restart(utc(APRIL))
        assert world.released == of_quarter(undisturbed)


@pytest.mark.promise("deterministic-fold")
def test_a_log_that_is_folded_again_amid_a_quarter_changes_no_value(tmp_path: Path, undisturbed: Released) -> None:
    with world_in(tmp_path, [asked()], published=False) as world:
        for month in QUARTER:
            world.emit(events_of(month))
            world.fold(first_of(month), iter(lambda: 7, 0))
            with world.there.transaction() as connection:  # as after a recorded loss, but with all its marks
                connection.execute("DELETE FROM open_events")
                connection.execute("DELETE FROM offsets")
            live(world, [month])
        assert world.released == of_quarter(undisturbed)


# ---------------------------------------------------------------- a lost state


def lose(world: World, month: int) -> None:
    """Lose the state after a month was settled, and begin again as `quietcount ledger record-loss` does."""
    now = utc(first_of(month + 1))
    world.close()
    world.state_path.unlink()
    with pytest.raises(StateBehind, match="record-loss"):
        world.restart(now)
    record_loss(world.ledger, now)
    begin_anew(world.there, world.ledger, world.log.beginning_offsets(CASE_EVENTS), world.end)
    world.restart(now)


def rows(world: World, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(world.public), read_only=True) as connection:
        return connection.execute(query).fetchall()


def check_loss(folder: Path) -> None:
    """Lose the state amid a quarter: that quarter is withheld, and all that is released is right."""
    with world_in(folder, [asked()]) as world:
        live(world, [1, 2])
        lose(world, 2)
        live(world, [3])
        assert ("monthly", first_of(3)) in world.released, "the months go on"
        withheld = [("quarterly", JANUARY), ("red", JANUARY)]
        assert not set(withheld) & set(world.released)
        assert sorted(world.ledger.chain.withheld) == withheld

        [(entry,)] = rows(world, "SELECT \"index\" FROM ledger WHERE kind = 'state_lost'")
        reason = f"a part of it was counted in a state that was lost (ledger entry {entry})"
        expected = [(name, start, dt.date(2024, 3, 31), reason) for name, start in withheld]
        assert rows(world, "FROM withheld ORDER BY statistic") == expected
        for span in ("'2024-01-01', '2024-03-31'", "'2024-01-01', '2024-06-30'"):
            with pytest.raises(
                duckdb.Error,
                match="2024-03-31 never will be: a part of it was counted in a state",
            ):
                rows(world, f"FROM total('quarterly', {span})")

        live(world, [4, 5, 6])
        check_agreement(world.released, [4])
        assert rows(world, "FROM withheld ORDER BY statistic") == expected
        for span in ("'2024-01-01', '2024-03-31'", "'2024-01-01', '2024-06-30'"):
            with pytest.raises(
                duckdb.Error, match="holds a period that is never released, 2024-01-01 to 2024-03-31: a part of it was"
            ):
                rows(world, f"FROM total('quarterly', {span})")
        found = rows(world, "SELECT noisy FROM total('quarterly', '2024-04-01', '2024-06-30')")
        assert found == [(sum(world.released["quarterly", APRIL]),)]


@pytest.mark.promise("losses")
def test_a_state_that_is_lost_amid_a_quarter_withholds_the_quarter_and_says_so(tmp_path: Path) -> None:
    check_loss(tmp_path)


def test_no_sums_are_kept_of_a_quarter_that_is_never_released(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()], published=False) as world:
        live(world, [1])
        assert world.there.rows("FROM sums")
        lose(world, 1)
        live(world, [2])
        assert world.there.rows("FROM sums") == []
        live(world, [3, 4])
        assert {day for (day,) in world.there.rows("SELECT period FROM sums")} == {APRIL}


def test_a_state_that_is_lost_between_quarters_withholds_nothing(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()]) as world:
        live(world, [1, 2, 3])
        lose(world, 3)
        live(world, [4, 5, 6])
        check_agreement(world.released)
        assert rows(world, "FROM withheld") == []


# ---------------------------------------------------------------- mutants

Patch = Callable[[pytest.MonkeyPatch], None]


def _sums_forgotten_at_close(patch: pytest.MonkeyPatch) -> None:
    real = State.rewrite

    def mutant(self: State, fill: str, used_up: Sequence[UsedUp]) -> None:
        kept = [statement for statement in fill.split(";") if "next.sums" not in statement]
        assert len(kept) == fill.count(";")
        real(self, ";".join(kept), used_up)

    patch.setattr(State, "rewrite", mutant)


def _sums_counted_twice(patch: pytest.MonkeyPatch) -> None:
    real = Bounding._sums

    def mutant(self: Bounding, population: str, table: Table, *before: dt.date) -> str:
        again = f"SELECT period, cell, contributions FROM sums WHERE statistic = '{table.name}'"
        return f"{again} UNION ALL {real(self, population, table, *before)}"

    patch.setattr(Bounding, "_sums", mutant)


def _open_months_added_to_the_sums(patch: pytest.MonkeyPatch) -> None:
    real = Bounding._sums
    patch.setattr(Bounding, "_sums", lambda self, population, table, *_: real(self, population, table))


def _turn_taken_per_table(patch: pytest.MonkeyPatch) -> None:
    real = Bounding._sums

    def mutant(self: Bounding, population: str, table: Table, *before: dt.date) -> str:
        sql = real(self, population, table, *before)
        place = [each.name for each in asked().tables].index(table.name) + 1
        assert sql.count("FROM contributions") == sql.count("AND counted AND") == 1
        turns = (
            f"FROM (SELECT * FROM contributions WHERE cells[{place}] IS NOT NULL QUALIFY row_number() OVER "
            "(PARTITION BY case_mark ORDER BY period, event_mark) <= 2) AS contributions"
        )
        return sql.replace("FROM contributions", turns).replace("AND counted AND", "AND")

    patch.setattr(Bounding, "_sums", mutant)


MUTANTS = [_sums_forgotten_at_close, _sums_counted_twice, _open_months_added_to_the_sums, _turn_taken_per_table]


@pytest.mark.check
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_settlement_that_breaks_a_rule_is_caught(
    mutant: Patch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=r"is not the sum of its months|the red ones do not agree"):
        check_agreement(lived(tmp_path, QUARTER), [1])


@pytest.mark.check
def test_a_ledger_that_withholds_nothing_after_a_loss_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chain, "_withhold", lambda *_: None)
    with pytest.raises(AssertionError):
        check_loss(tmp_path)
