"""The sentences of a plan: what to change, and what it gains."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.aggregates_world import TRIALS
from tests.numbers_world import visits

from quietcount_aggregates.catalogue import resolve
from quietcount_aggregates.planning.advice import Change, advised
from quietcount_aggregates.planning.answers import asking
from quietcount_aggregates.planning.margins import Margins
from quietcount_aggregates.planning.plan import planned
from quietcount_aggregates.planning.volume import Volume
from quietcount_aggregates.populations import Horizon, Population
from quietcount_aggregates.tables import AskedTable
from quietcount_consumers.planning.event_counts import PopulationCounts
from quietcount_consumers.planning.words import (
    COLUMNS,
    advice_lines,
    aligned,
    budget_line,
    count_lines,
    figure_words,
    margin_words,
    row_of,
    size_words,
)
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick


def asked(*tables: AskedTable, period: Period = Period.MONTH, **more: object) -> Population:
    return resolve("asked", events=["Asked"], registry=TRIALS, period=period, tables=tables, **more)  # type: ignore[arg-type]


def sentences(population: Population, contributions: float, below: dict[str, float] | None = None) -> list[str]:
    return list(advice_lines(advised(Margins(population), Volume.evenly(population, contributions)), below or {}))


def test_a_table_that_another_makes_superfluous() -> None:
    population = asked(AskedTable("by_colour", 0.5, by=["colour"]), AskedTable("total", 0.3))
    assert sentences(population, 100_000) == [
        "Leave out total, because by_colour says the same: with its epsilon, one cell of by_colour would have ±4 in "
        "place of ±5.3, and no margin grows."
    ]
    # That is known without a volume, too: no other change is.
    (advice,) = advised(Margins(population))
    assert advice.change is Change.LEAVE_OUT
    assert list(advice_lines([advice], {})) == sentences(population, 100_000)


def test_a_table_whose_epsilon_no_other_one_may_have_stays() -> None:
    population = asked(AskedTable("by_colour", 19, by=["colour"]), AskedTable("total", 2))
    assert advised(Margins(population)) == []


def test_a_poor_table_has_a_longer_period_and_a_dimension_to_drop() -> None:
    population = asked(AskedTable("by_both", 0.25, by=["colour", "urgent"]))
    assert sentences(population, 600, {"by_both": 0.62}) == [
        "by_both: one cell of a month would be 8.3 ±12, and 62 % of the cells smaller than their margin. By quarter it "
        "would be 25 ±12. Without colour it would be 25 ±12."
    ]
    assert sentences(asked(AskedTable("total", 0.25)), 300) == [
        "total: a month would be 25 ±12. By quarter it would be 75 ±12."
    ]


def test_a_table_of_noise_is_given_up_for_one_that_needs_its_epsilon() -> None:
    population = asked(AskedTable("by_both", 0.1, by=["colour", "urgent"]), AskedTable("total", 0.1))
    said = sentences(population, 1200)
    assert (
        "Leave out by_both, or make it coarser: its cells would be mostly smaller than their margin. With its epsilon, "
        "a month of total would be 100 ±15 in place of 100 ±27." in said
    )


def test_a_change_after_which_all_is_still_noise_is_not_proposed() -> None:
    assert sentences(asked(AskedTable("by_both", 0.05, by=["colour", "urgent"])), 20) == []


def test_no_two_advices_contradict_each_other() -> None:
    """The table that says what the total says must not be left out for the total."""
    both = AskedTable("by_both", 2.0, by=["colour", "urgent"])
    said = sentences(asked(both, AskedTable("total", 0.1), period=Period.QUARTER), 20)
    assert any(each.startswith("Leave out total, because by_both says the same") for each in said)
    assert not any(each.startswith("Leave out by_both") for each in said)


def test_an_epsilon_is_moved_to_the_table_that_needs_it() -> None:
    population = asked(
        AskedTable("by_colour", 0.1, by=["colour"]), AskedTable("by_urgent", 0.9, by=["urgent"], period=Period.QUARTER)
    )
    (moved,) = [each for each in sentences(population, 2000) if each.startswith("Move ")]
    assert moved.startswith("Move 0.54 of the epsilon of by_urgent to by_colour: one cell of by_colour would be 56 ±")
    assert ", and one cell of by_urgent 250 ±" in moved


def test_a_table_of_which_an_average_is_made_stays_as_it_is() -> None:
    poor = visits(max_contributions=3)
    assert [each for each in sentences(poor, 30) if "By quarter" in each or "Leave out" in each] == []


def test_what_the_limit_leaves_uncounted() -> None:
    population = asked(AskedTable("total", 0.25), horizon=Horizon.YEAR)
    counts = PopulationCounts(Volume({}, {}), [(1, 0.124), (2, 0.004), (3, 0.0)], 0.0)
    assert list(count_lines(population, counts)) == [
        "With max_contributions = 1, 12 % of the events of asked are not counted, because a case has more over a "
        "calendar year. 2 leaves under 1 % out, 3 leaves none out. Every margin grows with it."
    ]
    assert list(count_lines(population, PopulationCounts(Volume({}, {}), [(1, 0.0)], 0.0))) == [
        "max_contributions = 1 counts every event of asked."
    ]


def test_what_the_catalogue_spends_and_what_is_left() -> None:
    population = asked(AskedTable("total", 0.25))
    assert budget_line([population], Decimal(1)) == (
        "The catalogue spends epsilon 0.25 of 1 (lifetime_epsilon), and 0.75 is left."
    )


def test_columns_are_aligned_and_no_line_ends_in_a_space() -> None:
    assert list(aligned([["a", "bb"], ["long", ""]])) == ["a     bb", "long"]


def test_each_kind_of_figure_is_named_as_a_person_asks_for_it() -> None:
    population = visits()
    with asking() as answers:
        figures = list(planned(Margins(population), Volume.evenly(population, 3000), answers))
    named = {(str(each.table.name), figure_words(each)): each for each in figures}
    for table, words, margin in (
        ("by_days", "one cell, a month", "±3"),
        ("by_days", "one kind, a month", "±5"),
        ("by_days", "all cells, a year", "±28"),
        ("by_days", "change of one cell, by quarter", "±9 points"),
        ("by_days", "share of one bucket of days, a quarter", "±1 points"),
        ("waiting", "average of one cell, a month", "±1.4"),
        ("waiting", "average of all cells, a quarter", "±0.46"),
    ):
        assert margin_words(named[table, words]) == margin
    average = named["waiting", "average of one cell, a month"]
    assert size_words(average) == "15"
    assert dict(zip(COLUMNS, row_of(population, average), strict=True)) == {
        "population": "visits",
        "table": "waiting",
        "figure": "average of cell",
        "dimension": None,
        "period": "month",
        "unit": "days",
        "size": 15,
        "margin": 1.4,
        "margin_alone": None,
        "reliability": "good",
        "below_margin_percent": None,
    }
