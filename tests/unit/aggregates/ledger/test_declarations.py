"""Declarations: what the ledger takes, what it refuses, and what each costs."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from tests.aggregates_world import TRIALS, MemoryLedger
from tests.numbers_world import DAYS, visits
from tests.unit.aggregates.ledger.ledgers import END, NOW, ONE, QUARTERS, SINCE, TrialLedger, of, opened, read

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.errors import BudgetError, LedgerBroken, PopulationError
from quietcount_aggregates.ledger.entries import Declared, Entry, Retired
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.populations import Dimension, Epsilon, Horizon, Late, Population, StatisticName, Sum
from quietcount_schemas.events.numbers import Buckets, Summed
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick


def test_the_number_of_partitions_is_what_the_ledger_was_opened_with() -> None:
    ledger = TrialLedger(MemoryLedger())
    ledger.fence()
    ledger.declare([of("one")], ONE, NOW, end=LogPoint("memory", dict.fromkeys(range(4), 0)))
    ledger.declare([of("one"), of("two")], ONE, NOW, end=LogPoint("memory", dict.fromkeys(range(5), 0)))
    assert ledger.chain.opened.partitions == 4


@pytest.mark.promise("budget")
def test_a_declaration_over_the_budget_declares_nothing() -> None:
    fresh = MemoryLedger()
    ledger = opened(fresh)
    with pytest.raises(BudgetError) as refused:
        ledger.declare([of("one", 0.75), of("two", 0.5)], ONE, NOW, end=END)
    assert "1.25" in str(refused.value)
    assert "Nothing was declared" in str(refused.value)
    assert ledger.chain.declarations == {}
    assert len(fresh.entries) == 1
    assert [s.name for s in ledger.declare([of("one", 0.75), of("two", 0.25)], ONE, NOW, end=END)] == [
        "one",
        "two",
    ]
    assert ledger.chain.budget.left == 0


def test_ten_declarations_of_a_tenth_fit_into_one() -> None:
    ledger = opened()
    ledger.declare([of(f"s{number}", 0.1) for number in range(10)], ONE, NOW, end=END)
    assert ledger.chain.budget.left == 0


@pytest.mark.promise("declared-for-life")
def test_a_declared_population_that_changed_is_refused_with_the_key() -> None:
    ledger = opened()
    ledger.declare([of("one", 0.25)], ONE, NOW, end=END)
    for changed, key in (
        (of("one", 0.2), "'epsilon of table one'"),
        (of("one", 0.25, max_contributions=2), "'max_contributions'"),
        (of("one", 0.25, by=["colour"]), "'by of table one'"),
        (of("one", 0.25, late=Late.DROP), "'late'"),
        (of("one", 0.25, horizon=Horizon.YEAR), "'horizon'"),
        (of("one", 0.25, where={"colour": ["RED"]}), "'where'"),
    ):
        with pytest.raises(PopulationError) as refused:
            ledger.declare([changed], ONE, NOW, end=END)
        assert key in str(refused.value)
        assert "'one'" in str(refused.value)


def test_a_declared_population_cannot_be_left_out_and_a_retired_one_cannot_come_back() -> None:
    ledger = opened()
    ledger.declare([of("one"), of("two")], ONE, NOW, end=END)
    with pytest.raises(PopulationError, match="ledger retire two"):
        ledger.declare([of("one")], ONE, NOW, end=END)
    ledger.append([Retired("two")], NOW)
    assert ledger.declare([of("one")], ONE, NOW, end=END) == []
    with pytest.raises(PopulationError, match="retired"):
        ledger.declare([of("one"), of("two")], ONE, NOW, end=END)
    assert ledger.chain.budget.left == 0, "what was spent stays spent"


def test_the_lifetime_epsilon_is_stated_once() -> None:
    log = MemoryLedger()
    opened(log).declare([of("one")], ONE, NOW, end=END)
    ledger = TrialLedger(log)
    ledger.fence()
    assert ledger.declare([of("one")], Decimal("1.0"), NOW, end=END) == []
    with pytest.raises(BudgetError, match="lifetime_epsilon = 1"):
        ledger.declare([of("one")], Decimal(2), NOW, end=END)


def test_a_first_run_that_is_refused_fixes_no_bound() -> None:
    log = MemoryLedger()
    ledger = TrialLedger(log)
    ledger.fence()
    with pytest.raises(BudgetError):
        ledger.declare([of("one", 0.75), of("two", 0.5)], ONE, NOW, end=END)
    assert log.entries == []
    ledger.declare([of("one", 0.75), of("two", 0.5)], Decimal("1.25"), NOW, end=END)
    assert ledger.chain.budget.lifetime_epsilon == Decimal("1.25")


# ---------------------------------------------------------------- tables


def test_a_population_spends_the_sum_of_the_epsilons_of_its_tables() -> None:
    ledger = opened()
    with pytest.raises(BudgetError, match=r"would spend epsilon 1\.25"):
        ledger.declare([of("one", 1.0, coarser=QUARTERS)], ONE, NOW, end=END)
    ledger.declare([of("one", 0.5, coarser=QUARTERS)], ONE, NOW, end=END)
    assert ledger.chain.budget.declared == Decimal("0.75")
    assert ledger.chain.budget.left == Decimal("0.25")
    assert ledger.chain.budget.yearly == 0
    with pytest.raises(BudgetError, match=r"would spend epsilon 0\.5, and 0\.25 "):
        ledger.declare([of("one", 0.5, coarser=QUARTERS), of("two")], ONE, NOW, end=END)


def test_tables_of_a_tenth_and_two_tenths_spend_three_tenths_and_not_a_little_more() -> None:
    coarser = (AskedTable("quarterly", 0.2, by=["urgent"], period=Period.QUARTER),)
    ledger = opened(epsilon="0.3")
    ledger.declare([of("one", 0.1, coarser=coarser)], Decimal("0.3"), NOW, end=END)
    assert ledger.chain.budget.left == 0


def test_of_a_population_with_a_yearly_horizon_all_tables_are_spent_each_year() -> None:
    ledger = opened()
    ledger.declare([of("one", 0.25), of("two", 0.5, horizon=Horizon.YEAR, coarser=QUARTERS)], ONE, NOW, end=END)
    assert ledger.chain.budget.declared == 1
    assert ledger.chain.budget.yearly == Decimal("0.75")


def test_what_a_retired_population_spent_stays_spent_for_all_its_tables() -> None:
    ledger = opened()
    ledger.declare([of("one", 0.5, coarser=QUARTERS)], ONE, NOW, end=END)
    ledger.append([Retired("one")], NOW)
    assert ledger.chain.budget.left == Decimal("0.25")


def of_tables(name: str, *tables: str) -> Population:
    """Return a population whose tables, all by another field or none, have these names."""
    fields: tuple[list[str], ...] = ([], ["colour"], ["urgent"])
    epsilons = (0.3, 0.1, 0.1)
    asked = [AskedTable(*each) for each in zip(tables, epsilons, fields, strict=False)]
    return resolve(name, events=["Asked"], registry=TRIALS, period=Period.MONTH, since=SINCE, tables=asked)


@pytest.mark.parametrize(
    "populations, names",
    [
        ([of_tables("one", "shown"), of_tables("two", "shown")], ("two", "shown", "one")),
        ([of_tables("one", "shown", "hidden"), of_tables("two", "other", "hidden")], ("two", "hidden", "one")),
    ],
    ids=["the first of two", "the second of two"],
)
def test_a_name_of_a_table_is_there_once_in_all_populations(
    populations: list[Population], names: tuple[str, str, str]
) -> None:
    log = MemoryLedger()
    ledger = opened(log)
    new, table, taken = names
    with pytest.raises(PopulationError) as refused:
        ledger.declare(populations, ONE, NOW, end=END)
    assert f"population {new!r}: the name of table {table!r} is taken by population {taken!r}" in str(refused.value)
    assert "Give it another name" in refused.value.remedy
    assert len(log.entries) == 1, "nothing was declared"


def test_the_name_of_a_table_stays_taken_when_its_population_is_declared_or_retired() -> None:
    ledger = opened()
    ledger.declare([of_tables("one", "shown")], ONE, NOW, end=END)
    with pytest.raises(PopulationError, match="'shown' is taken by population 'one'"):
        ledger.declare([of_tables("one", "shown"), of_tables("two", "shown")], ONE, NOW, end=END)
    ledger.append([Retired("one")], NOW)
    with pytest.raises(PopulationError, match="'shown' is taken by population 'one'"):
        ledger.declare([of_tables("two", "shown")], ONE, NOW, end=END)


def test_a_population_may_have_the_name_of_another_ones_table() -> None:
    ledger = opened()
    ledger.declare([of_tables("one", "two"), of_tables("two", "one")], ONE, NOW, end=END)
    assert [(population.name, table.name) for population, table in ledger.chain.tables] == [
        ("two", "one"),
        ("one", "two"),
    ]


def summing(**changes: Any) -> Population:
    """Return a population whose sum is not over the table that it names: it has another key."""
    kind = {"kind": ["NEW", "OLD"]}
    population = visits(
        AskedTable("finest", 0.1),
        AskedTable("by_days", 0.1, by=[Buckets("age", (0,)), DAYS], where=kind, period=Period.QUARTER),
        AskedTable("waiting", 0.1, by=["age", "days"], sum=Summed("days", (0, 60), "by_days")),
    )
    *counts, waiting = population.tables
    return replace(population, tables=(*counts, replace(waiting, **changes)))


@pytest.mark.parametrize(
    "population, says",
    [
        (of_tables("two", "one"), "a table of population 'two' is declared already"),
        (
            replace(of_tables("two", "same"), tables=2 * of_tables("two", "same").tables),
            "a table of population 'two' is declared already",
        ),
        (replace(of("two", 0.25), period=Period.QUARTER), "do not fit its period"),
        (replace(of("two", 0.25), period=Period.DAY), "do not fit its period"),
        (replace(of("two", 0.25, period=Period.WEEK), period=Period.MONTH), "do not fit its period"),
        (of("two", 0.5, coarser=QUARTERS), "passes the lifetime epsilon"),
        (summing(where=()), "names no table that counts what it sums up"),
        (summing(by=visits().tables[0].by[1:]), "names no table that counts what it sums up"),
        (summing(by=summing().tables[2].by[::-1]), "names no table that counts what it sums up"),
        (summing(period=Period.MONTH), "names no table that counts what it sums up"),
        (summing(sum=Sum("days", 0, 60, StatisticName("waiting"))), "names no table that counts what it sums up"),
        (summing(sum=Sum("days", 0, 60, StatisticName("none"))), "names no table that counts what it sums up"),
    ],
)
def test_a_declaration_that_the_rules_forbid_breaks_the_chain_even_when_it_is_well_made(
    population: Population, says: str
) -> None:
    log = MemoryLedger()
    ledger = opened(log)
    ledger.declare([of("one")], ONE, NOW, end=END)
    head = ledger.chain.head
    with pytest.raises(LedgerBroken, match=says):
        read([*log.entries, Entry.make(head.length, head.digest, NOW, Declared(population)).data])


@pytest.mark.promise("declared-for-life")
def test_a_population_whose_tables_changed_is_refused_with_the_table() -> None:
    ledger = opened()
    declared = of("one", 0.25, coarser=QUARTERS)
    ledger.declare([declared], ONE, NOW, end=END)
    finer = AskedTable("quarterly", 0.25, by=["urgent"], period=Period.YEAR)
    for changed, key in (
        (of("one", 0.25), "'table quarterly'"),
        (of("one", 0.25, coarser=(*QUARTERS, AskedTable("more", 0.1, by=["colour"]))), "'table more'"),
        (of("one", 0.25, coarser=(finer,)), "'period of table quarterly'"),
        (replace(declared, title="Requests"), "'title'"),
    ):
        with pytest.raises(PopulationError) as refused:
            ledger.declare([changed], ONE, NOW, end=END)
        assert key in str(refused.value)
        assert "new names" in refused.value.remedy
    assert ledger.declare([declared], ONE, NOW, end=END) == []


def forged(**changes: Any) -> Population:
    """Return a population that no catalogue declares, because its table was changed."""
    population = of("two", 0.25, by=["colour"])
    return replace(population, tables=(replace(population.tables[0], **changes),))


def named(name: str, *symbols: str) -> tuple[Dimension, ...]:
    return (Dimension(name, symbols, symbols[0]),)


@pytest.mark.promise("budget")
@pytest.mark.parametrize(
    "population, says",
    [
        (forged(epsilon=Epsilon(-0.25)), "the epsilon of table 'two'"),
        (forged(epsilon=Epsilon(math.nan)), "the epsilon of table 'two'"),
        (forged(epsilon=Epsilon(0.0)), "the epsilon of table 'two'"),
        (forged(name=StatisticName('two" AS SELECT 1; COPY')), "has a name that is none"),
        (forged(name=StatisticName("ledger")), "the name of a table of every published file"),
        (forged(by=named('a", getenv', "A")), "a field, or a symbol, with a name that is none"),
        (forged(by=named("a", "A", "Ivan Petrov, 1987")), "a field, or a symbol, with a name that is none"),
        (forged(by=named("a", "A", "A")), "one symbol twice"),
        (forged(by=2 * named("a", "A")), "by fields, each once"),
        (forged(by=named("cell", "A")), "by fields, each once"),
        (forged(by=tuple(each for n in "abcdef" for each in named(n, *"ABCDEFGHIJ"))), "more cells than"),
        (replace(forged(), max_contributions=0), "no possible number of times"),
        (replace(forged(), max_contributions=90_000), "would hide everything"),
        (replace(forged(), since=dt.date(1, 1, 1)), "begins on a day"),
        (replace(forged(), since=dt.date(2024, 1, 2)), "begins on a day"),
        (replace(forged(), events=("Asked'; --",)), "no type of event"),
        (replace(forged(), title="x" * 10_001), "too long"),
    ],
)
def test_a_declaration_that_no_catalogue_makes_breaks_the_chain(population: Population, says: str) -> None:
    log = MemoryLedger()
    head = opened(log).chain.head
    with pytest.raises(LedgerBroken, match=says):
        read([*log.entries, Entry.make(head.length, head.digest, NOW, Declared(population, whole_log=True)).data])


def test_a_twin_that_takes_any_declaration_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietcount_aggregates.ledger.chain.objection_to", lambda _: None)
    with pytest.raises(pytest.fail.Exception):
        test_a_declaration_that_no_catalogue_makes_breaks_the_chain(forged(epsilon=Epsilon(-0.25)), "the epsilon")


@pytest.mark.parametrize("epsilon", ["NaN", "Infinity", "-1", "0"])
def test_a_ledger_is_opened_with_a_bound_that_bounds(epsilon: str) -> None:
    body = replace(opened().chain.opened, lifetime_epsilon=Decimal(epsilon))
    with pytest.raises(LedgerBroken, match="lifetime epsilon is not a positive number"):
        read([Entry.make(0, bytes(32), NOW, body).data])
