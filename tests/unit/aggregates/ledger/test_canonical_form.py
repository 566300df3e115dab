"""The canonical form of a population: what the ledger records of it, the domains it fixes, and how two differ."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.populations import (
    Dimension,
    Epsilon,
    Filter,
    Horizon,
    Late,
    Population,
    StatisticName,
    Sum,
    Table,
    exact_epsilon,
)
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
TABLES = (
    AskedTable("by_kind", 0.5, by=["help_kind"]),
    AskedTable("by_region", 0.1, by=["region"], where={"help_kind": ["DESERTION"]}, period=Period.QUARTER),
)
OTHER = Dimension("other", ("A", "B"), "A")


def of(*tables: AskedTable, **more: Any) -> Population:
    written: dict[str, Any] = {
        "events": ["HelpRequested"],
        "period": Period.MONTH,
        "since": dt.date(2023, 4, 1),
        "tables": tables or TABLES,
        **more,
    }
    return resolve("requests", registry=REGISTRY, **written)


@pytest.mark.parametrize(
    "population",
    [
        of(),
        of(title="Requests", description='What "they" asked for: п, ü and \\'),
        of(AskedTable("a", 0.1, by=["region", "help_kind"]), horizon=Horizon.YEAR, late=Late.DROP),
        of(AskedTable("a", 20), where={"service_category": ["MOBILISED", "CONTRACT"]}, max_contributions=1_000_000),
        of(AskedTable("a", 0.3), events=["HelpRequested", "CourtCaseFiled"], period=Period.WEEK),
    ],
)
def test_the_canonical_form_reads_back_as_the_same_population(population: Population) -> None:
    again = Population.from_canonical(population.canonical)
    assert again == population
    assert again.canonical == population.canonical
    assert again.digest == population.digest
    assert len(population.digest) == 32
    assert population.canonical.isascii()


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"name":"a"}'])
def test_a_text_that_is_no_declaration_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Population.from_canonical(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: json.dumps(data, indent=1),
        lambda data: json.dumps({**data, "more": 1}, sort_keys=True, separators=(",", ":")),
        lambda data: json.dumps({**data, "tables": []}, sort_keys=True, separators=(",", ":")),
        lambda data: json.dumps(
            {**data, "tables": [{**data["tables"][0], "epsilon": "0.50"}]}, sort_keys=True, separators=(",", ":")
        ),
    ],
    ids=["spaced", "a key more", "no table", "an epsilon written otherwise"],
)
def test_a_declaration_that_is_not_in_canonical_form_is_refused(change: Any) -> None:
    with pytest.raises(ValueError, match="canonical"):
        Population.from_canonical(change(json.loads(of().canonical)))


def test_the_digest_changes_with_every_key() -> None:
    base = of()
    table = base.tables[0]
    of_table: dict[str, Any] = {
        "name": "other",
        "where": (Filter(OTHER, ("A",)),),
        "by": (OTHER,),
        "period": Period.QUARTER,
        "epsilon": Epsilon(0.25),
        "sum": Sum("days", 0, 10, StatisticName("a")),
    }
    of_population: dict[str, Any] = {
        "name": "other",
        "title": "Other",
        "description": "Other.",
        "events": ("CourtCaseFiled",),
        "where": (Filter(OTHER, ("A",)),),
        "period": Period.WEEK,
        "max_contributions": 2,
        "horizon": Horizon.YEAR,
        "since": dt.date(2023, 5, 1),
        "late": Late.DROP,
        "tables": (table,),
    }
    assert set(of_table) == {field.name for field in fields(Table)}
    assert set(of_population) == {field.name for field in fields(Population)}
    changed = [replace(base, **{key: value}) for key, value in of_population.items()]
    changed += [
        replace(base, tables=(replace(table, **{key: value}), *base.tables[1:])) for key, value in of_table.items()
    ]
    digests = [base.digest, *(population.digest for population in changed)]
    assert len(set(digests)) == len(digests)
    for population in changed:
        assert population.name != base.name or base.differences(population), "the ledger would not see the change"


def test_the_order_in_which_a_person_writes_fields_makes_no_difference() -> None:
    one = of(
        AskedTable("a", 1.0, by=["region", "help_kind"], where={"help_kind": ["DESERTION", "SURRENDER"]}),
        events=["HelpRequested"],
    )
    other = of(
        AskedTable("a", 1.0, by=["help_kind", "region"], where={"help_kind": ["SURRENDER", "DESERTION", "SURRENDER"]})
    )
    assert one.digest == other.digest


# ---------------------------------------------------------------- domains


@pytest.mark.promise("public-domain")
def test_the_domain_is_the_cross_product_of_the_sorted_symbols_and_holds_zeros() -> None:
    [table] = of(AskedTable("a", 1.0, by=["region", "help_kind"])).tables
    assert len(table.domain) == table.cells == len(set(table.domain))
    expected = [
        f"help_kind={kind}, region={region}"
        for kind, region in itertools.product(*(dimension.symbols for dimension in table.by))
    ]
    assert table.domain == expected
    assert all(list(dimension.symbols) == sorted(dimension.symbols) for dimension in table.by)
    [total] = of(AskedTable("a", 1.0)).tables
    assert (total.domain, total.cells) == (["all"], 1)


@pytest.mark.promise("public-domain")
def test_a_condition_takes_no_cell_out_of_a_domain() -> None:
    where = {"help_kind": ["DESERTION"]}
    [plain] = of(AskedTable("a", 1.0, by=["help_kind"])).tables
    [of_table] = of(AskedTable("a", 1.0, by=["help_kind"], where=where)).tables
    [of_population] = of(AskedTable("a", 1.0, by=["help_kind"]), where=where).tables
    assert plain.domain == of_table.domain == of_population.domain


def test_a_symbol_that_a_schema_gains_later_does_not_change_a_declared_domain() -> None:
    declared = of()
    again = Population.from_canonical(declared.canonical)
    assert [table.domain for table in again.tables] == [table.domain for table in declared.tables]


def gained(dimension: Dimension) -> Dimension:
    """Return a field as a later version of its schema has it."""
    return replace(dimension, symbols=tuple(sorted((*dimension.symbols, "SOMETHING_NEW"))))


def test_a_symbol_that_a_schema_gains_makes_no_difference_to_a_declaration() -> None:
    declared = of(where={"service_category": ["MOBILISED"]})
    tables = tuple(
        replace(
            table,
            by=tuple(map(gained, table.by)),
            where=tuple(replace(each, field=gained(each.field)) for each in table.where),
        )
        for table in declared.tables
    )
    where = tuple(replace(each, field=gained(each.field)) for each in declared.where)
    later = replace(declared, tables=tables, where=where)
    assert later.digest != declared.digest
    assert later.differences(declared) == []


def test_a_population_refers_to_the_fields_of_all_its_tables() -> None:
    population = of(where={"service_category": ["MOBILISED"]})
    assert population.fields_of("HelpRequested") == ["service_category", "help_kind", "region"]
    assert population.fields_of("CourtCaseFiled") == []


# ---------------------------------------------------------------- differences


BASE = of()
KIND, REGION = BASE.tables


@pytest.mark.parametrize(
    "other, keys",
    [
        (BASE, []),
        (replace(BASE, since=None), []),
        (replace(BASE, since=dt.date(2024, 1, 1), late=Late.DROP), ["late", "since"]),
        (replace(BASE, title="Requests"), ["title"]),
        (replace(BASE, description="Of help."), ["description"]),
        (replace(BASE, events=("CourtCaseFiled",)), ["events"]),
        (replace(BASE, period=Period.WEEK), ["period"]),
        (replace(BASE, max_contributions=2), ["max_contributions"]),
        (replace(BASE, horizon=Horizon.YEAR), ["horizon"]),
        (replace(BASE, where=(Filter(KIND.by[0], ("DESERTION",)),)), ["where"]),
        (replace(BASE, tables=(REGION, KIND)), []),
        (replace(BASE, tables=(KIND,)), ["table by_region"]),
        (replace(BASE, tables=(KIND, REGION, replace(KIND, name=StatisticName("more")))), ["table more"]),
        (
            replace(BASE, tables=(KIND, replace(REGION, name=StatisticName("other")))),
            ["table by_region", "table other"],
        ),
        (replace(BASE, tables=(replace(KIND, by=REGION.by), REGION)), ["by of table by_kind"]),
        (replace(BASE, tables=(replace(KIND, by=()), REGION)), ["by of table by_kind"]),
        (replace(BASE, tables=(replace(KIND, epsilon=Epsilon(0.25)), REGION)), ["epsilon of table by_kind"]),
        (replace(BASE, tables=(KIND, replace(REGION, period=Period.YEAR))), ["period of table by_region"]),
        (replace(BASE, tables=(KIND, replace(REGION, where=()))), ["where of table by_region"]),
        (
            replace(BASE, title="Requests", tables=(replace(KIND, by=(), epsilon=Epsilon(1)),)),
            ["title", "table by_region", "epsilon of table by_kind", "by of table by_kind"],
        ),
    ],
)
def test_the_differences_of_two_populations_name_the_keys_and_the_tables(other: Population, keys: list[str]) -> None:
    assert BASE.differences(other) == keys
    assert sorted(other.differences(BASE)) == sorted(keys)


# ---------------------------------------------------------------- epsilon


def test_epsilons_add_up_as_they_are_written() -> None:
    assert sum(exact_epsilon(0.1) for _ in range(10)) == 1
    assert str(exact_epsilon(0.5)) == "0.5"


def test_the_epsilon_of_a_population_is_the_sum_over_its_tables() -> None:
    fields = (["region"], ["help_kind"], ["service_category"])
    tables = [AskedTable(f"t{number}", 0.1, by=by) for number, by in enumerate(fields)]
    assert of(*tables).epsilon == Decimal("0.3")
    assert BASE.epsilon == Decimal("0.6")
