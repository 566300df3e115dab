"""Statistics: what is refused and how it is said, the canonical form, and the domain of cells."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from tests.strategies import envelope, registry_of

from quietcount_aggregates.errors import StatisticError
from quietcount_aggregates.release import due_periods
from quietcount_aggregates.statistics import Dimension, Filter, Horizon, Late, Statistic, exact_epsilon, resolve
from quietcount_schemas.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()


def of(name: str = "help_requests", **more: Any) -> Statistic:
    written: dict[str, Any] = {
        "events": ["HelpRequested"],
        "period": Period.MONTH,
        "epsilon": 0.5,
        "since": dt.date(2023, 4, 17),
        **more,
    }
    return resolve(name, registry=REGISTRY, **written)


@pytest.mark.parametrize(
    "key, written, says",
    [
        ("events", {"events": []}, "at least one"),
        ("events", {"events": ["HelpRequested", "HelpRequested"]}, "twice"),
        ("events", {"events": ["Unheard"]}, "HelpRequested"),
        ("events", {"events": ["CaseWithdrawn"]}, "withdrawn"),
        ("max_contributions", {"max_contributions": 0}, "from 1"),
        ("max_contributions", {"max_contributions": True}, "from 1"),
        ("max_contributions", {"max_contributions": 1_000_001}, "from 1"),
        ("epsilon", {"epsilon": 0.0}, "0.001"),
        ("epsilon", {"epsilon": -1.0}, "0.001"),
        ("epsilon", {"epsilon": float("nan")}, "0.001"),
        ("epsilon", {"epsilon": float("inf")}, "0.001"),
        ("epsilon", {"epsilon": 21.0}, "20"),
        ("where", {"where": {"verdict": ["GUILTY"]}}, "help_kind"),
        ("where.help_kind", {"where": {"help_kind": ["DESERTER"]}}, "DESERTION"),
        ("where.help_kind", {"where": {"help_kind": []}}, "DESERTION"),
        ("by", {"by": ["occurred_on"]}, "service_category"),
        ("by", {"by": ["region", "region"]}, "twice"),
    ],
)
def test_a_refusal_names_the_statistic_the_key_and_what_is_allowed(
    key: str, written: dict[str, Any], says: str
) -> None:
    with pytest.raises(StatisticError) as refused:
        of(**written)
    text = str(refused.value)
    assert "'help_requests'" in text
    assert f"'{key}'" in text
    assert says in text


@pytest.mark.parametrize("name", ["", "Help", "1st", "help requests", "x" * 64, "hélp", "a'b", "statistics", "compare"])
def test_a_name_that_cannot_be_a_view_is_refused(name: str) -> None:
    with pytest.raises(StatisticError, match="key 'name'"):
        of(name)


def test_too_many_cells_are_refused() -> None:
    with pytest.raises(StatisticError, match="fewer fields"):
        resolve(
            "wide",
            events=["Wide"],
            registry=wide_registry(),
            period=Period.MONTH,
            epsilon=1.0,
            by=[f"f{number}" for number in range(6)],
        )


def wide_registry() -> SchemaRegistry:
    fields = []
    for number in range(6):
        enum = {"type": "enum", "name": f"F{number}", "symbols": list("ABCDEFGHIJ"), "default": "A", "doc": "."}
        fields.append({"name": f"f{number}", "type": enum, "default": "A", "doc": "A field."})
    return registry_of(
        {
            "type": "record",
            "name": "Wide",
            "namespace": "example.trial",
            "doc": "A trial.",
            "fields": envelope() + fields,
        }
    )


def test_the_canonical_form_reads_back_as_the_same_statistic() -> None:
    for statistic in (
        of(),
        of(by=["region", "help_kind"], where={"service_category": ["MOBILISED", "CONTRACT"]}, horizon=Horizon.YEAR),
        of(events=["HelpRequested", "CourtCaseFiled"], late=Late.DROP, max_contributions=3, epsilon=0.1),
    ):
        again = Statistic.from_canonical(statistic.canonical)
        assert again == statistic
        assert again.digest == statistic.digest
        assert len(statistic.digest) == 32


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"name":"a"}'])
def test_a_text_that_is_no_declaration_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Statistic.from_canonical(text)


def test_a_declaration_that_is_not_in_canonical_form_is_refused() -> None:
    spaced = json.dumps(json.loads(of().canonical), indent=1)
    with pytest.raises(ValueError, match="canonical"):
        Statistic.from_canonical(spaced)


def test_the_digest_changes_with_every_key() -> None:
    base = of(by=["region"], where={"help_kind": ["DESERTION"]})
    other = Dimension("help_kind", ("A", "B"), "A")
    changes: dict[str, Any] = {
        "name": "other",
        "events": ("CourtCaseFiled",),
        "where": (Filter(other, ("A",)),),
        "by": (other,),
        "period": Period.WEEK,
        "max_contributions": 2,
        "horizon": Horizon.YEAR,
        "since": dt.date(2023, 5, 1),
        "epsilon": 0.25,
        "late": Late.DROP,
    }
    assert set(changes) == set(Statistic.__slots__)
    digests = [base.digest, *(replace(base, **{key: value}).digest for key, value in changes.items())]
    assert len(set(digests)) == len(digests)


def test_a_symbol_that_a_schema_gains_later_does_not_change_a_declared_domain() -> None:
    declared = of(by=["help_kind"])
    assert Statistic.from_canonical(declared.canonical).domain == declared.domain


def test_the_differences_of_two_statistics_name_the_keys() -> None:
    base = of()
    assert base.differences(base) == []
    assert base.differences(replace(base, since=None)) == []
    assert base.differences(replace(base, since=dt.date(2024, 1, 1), late=Late.DROP)) == ["late", "since"]


def test_the_order_in_which_a_person_writes_fields_makes_no_difference() -> None:
    one = of(by=["region", "help_kind"], where={"help_kind": ["DESERTION", "SURRENDER"]})
    other = of(by=["help_kind", "region"], where={"help_kind": ["SURRENDER", "DESERTION", "SURRENDER"]})
    assert one.digest == other.digest


@pytest.mark.promise("public-domain")
def test_the_domain_is_the_cross_product_of_the_sorted_symbols_and_holds_zeros() -> None:
    statistic = of(by=["region", "help_kind"])
    assert len(statistic.domain) == statistic.cells == len(set(statistic.domain))
    expected = [
        {"help_kind": kind, "region": region}
        for kind, region in itertools.product(*(dimension.symbols for dimension in statistic.by))
    ]
    assert [json.loads(cell) for cell in statistic.domain] == expected
    assert all(list(dimension.symbols) == sorted(dimension.symbols) for dimension in statistic.by)
    assert of().domain == ["{}"]


def test_weeks_have_no_yearly_horizon_because_they_lie_in_two_years() -> None:
    with pytest.raises(StatisticError, match=r"key 'period'.*two calendar years") as refused:
        of(period=Period.WEEK, horizon=Horizon.YEAR)
    assert refused.value.remedy
    assert of(period=Period.WEEK).horizon is Horizon.LIFETIME


def test_since_is_the_first_day_of_its_period() -> None:
    assert of().since == dt.date(2023, 4, 1)
    assert of(period=Period.WEEK).since == dt.date(2023, 4, 17)
    assert of(period=Period.QUARTER).since == dt.date(2023, 4, 1)
    with pytest.raises(ValueError, match="declaration"):
        _ = of(since=None).first_day


def test_epsilons_add_up_as_they_are_written() -> None:
    assert sum(exact_epsilon(0.1) for _ in range(10)) == 1
    assert str(exact_epsilon(0.5)) == "0.5"


@pytest.mark.promise("clock-alone")
def test_periods_fall_due_by_the_clock_alone_and_empty_ones_too() -> None:
    monthly, weekly = of(), of("weekly", period=Period.WEEK)
    first_open = {"help_requests": dt.date(2023, 4, 1), "weekly": dt.date(2023, 4, 17)}
    grace = dt.timedelta(days=7)

    def due(year: int, month: int, day: int, hour: int = 0, second: int = 0) -> list[tuple[str, str, str]]:
        now = dt.datetime(year, month, day, hour, 0, second, tzinfo=dt.UTC)
        found = due_periods([monthly, weekly], first_open, now, grace)
        return [(period.statistic, period.start.isoformat(), period.end.isoformat()) for period in found]

    assert due(2023, 4, 30) == []
    assert due(2023, 5, 1) == [("weekly", "2023-04-17", "2023-04-23")]
    assert ("help_requests", "2023-04-01", "2023-04-30") not in due(2023, 5, 7, 23)
    assert ("help_requests", "2023-04-01", "2023-04-30") in due(2023, 5, 8)
    assert [start for name, start, _ in due(2024, 1, 8) if name == "help_requests"] == [
        f"2023-{month:02d}-01" for month in range(4, 13)
    ]
