"""The epsilon that a margin needs: the smallest one, on the code of the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.aggregates_world import TRIALS

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.planning.epsilons import needed
from quietcount_aggregates.planning.margins import Figure, Margins, Over
from quietcount_aggregates.populations import Epsilon, Population
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

POPULATION = resolve(
    "asked",
    events=["Asked"],
    registry=TRIALS,
    period=Period.MONTH,
    tables=[
        AskedTable("by_colour", 0.5, by=["colour"]),
        AskedTable("urgent", 0.2, by=["urgent"], period=Period.QUARTER),
    ],
)


def margin(population: Population, name: str) -> float:
    table = next(each for each in population.tables if each.name == name)
    return Margins(population).of(Figure(table, Over.CELL, table.period))


def test_the_epsilon_gives_the_margin_and_a_smaller_one_does_not() -> None:
    changed, (need,) = needed(POPULATION, {"by_colour": 2.5})
    assert need.epsilon
    assert margin(changed, "by_colour") == need.reached <= 2.5 * 1.0001
    less = replace(changed.tables[0], epsilon=Epsilon(need.epsilon * 0.98))
    assert margin(replace(changed, tables=(less, changed.tables[1])), "by_colour") > 2.5
    assert need.now == margin(POPULATION, "by_colour")


def test_two_tables_sharpen_each_other() -> None:
    wanted = {"by_colour": 2.5, "urgent": 4.0}
    changed, together = needed(POPULATION, wanted)
    for need in together:
        assert need.epsilon
        assert margin(changed, need.table) <= wanted[need.table] * 1.0001
        _, (alone,) = needed(POPULATION, {need.table: wanted[need.table]})
        assert alone.epsilon
        assert need.epsilon <= alone.epsilon


def test_a_margin_that_no_epsilon_gives_is_said_to_be_out_of_reach() -> None:
    _, (need,) = needed(replace(POPULATION, max_contributions=50), {"by_colour": 0.5})
    assert need.epsilon is None
    assert need.reached > 0.5


def test_a_margin_that_the_other_tables_give_alone_needs_the_least_epsilon() -> None:
    _, (need,) = needed(POPULATION, {"by_colour": 100_000.0})
    assert need.epsilon == 0.001
