"""What the check of the intervals takes for independent: figures that share no draw, however long their spans are."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from tests.numbers_world import visits

from quietcount_aggregates.catalogue import AskedTable
from quietcount_aggregates.populations import StatisticName, Sum
from quietcount_consumers.auditing.coverage import Tally, tallied
from quietcount_consumers.trials.asked_figures import Answer
from quietcount_consumers.trials.made_up_counts import MadeUp
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

SINCE = dt.date(2001, 1, 1)


def month(number: int) -> tuple[dt.date, dt.date]:
    start = dt.date(2001, number, 1)
    return start, Period.MONTH.end(start)


QUARTER = dt.date(2001, 1, 1), dt.date(2001, 3, 31)
SPANS = {"alone": [month(each) for each in range(1, 7)], "tied": [*(month(each) for each in range(1, 7)), QUARTER]}


def answer(population: str, *spans: tuple[dt.date, dt.date], missed: bool | None = False, kind: str = "x") -> Answer:
    return Answer(kind, population, spans, missed)


@pytest.mark.promise("audited")
def test_months_that_nothing_ties_together_are_units_of_their_own() -> None:
    every = [answer("alone", month(each), missed=each == 1) for each in (1, 1, 2, 3)]
    assert tallied(every, SPANS)["x"] == Tally(3, 1.0, 4)


def test_a_released_quarter_ties_its_months_together() -> None:
    every = [answer("tied", month(each), missed=each == 1) for each in (1, 2, 3, 4)]
    found = tallied(every, SPANS)["x"]
    assert found.units == 2
    assert found.missed == pytest.approx(1 / 3)


def test_a_figure_ties_together_what_it_spans_and_what_it_compares() -> None:
    apart = [answer("alone", month(1)), answer("alone", month(4), missed=True)]
    assert tallied(apart, SPANS)["x"].units == 2
    assert tallied([*apart, answer("alone", month(1), month(4))], SPANS)["x"].units == 1
    assert tallied([*apart, answer("alone", (month(1)[0], month(4)[1]))], SPANS)["x"].units == 1


def test_of_what_may_not_be_told_one_figure_a_unit_is_taken_and_counts_if_it_is_told() -> None:
    kind = "percent changes"
    told = [answer("alone", month(1), missed=True, kind=kind), answer("alone", month(1), missed=None, kind=kind)]
    assert tallied(told, SPANS, lambda found: found[0])[kind] == Tally(1, 1.0, 1)
    assert tallied(told, SPANS, lambda found: found[-1])[kind] == Tally(0, 0, 0)


def test_made_up_counts_of_all_tables_agree() -> None:
    population = visits(AskedTable("by_kind", 1.0, by=["kind"]), AskedTable("every", 1.0), since=SINCE)
    made = MadeUp.of(population, dt.date(2003, 1, 1), np.random.default_rng(3))
    by_kind, every = (made.values(table) for table in population.tables)
    assert by_kind.sum() > 0
    assert (by_kind.sum(axis=1) == every[:, 0]).all()
    assert len(made.starts) == 24


def test_made_up_sums_lie_between_their_ends() -> None:
    population = visits(since=SINCE)
    made = MadeUp.of(population, dt.date(2004, 1, 1), np.random.default_rng(4))
    count = next(table for table in population.counts)
    (sums,) = population.sums
    assert sums.sum == Sum("days", 0, 60, StatisticName("by_days"))
    counted = made.values(count).reshape(len(made.starts), -1, 3).sum(axis=1)  # by days and kind
    assert (np.abs(made.values(sums)) <= 30 * counted).all()
    assert (made.values(sums, middle=True) == made.values(sums) + 30 * counted).all()
