"""Populations as a person writes them: what is refused and how it is said, and when their tables' periods fall due."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest
from tests.populations import population_of
from tests.strategies import envelope, registry_of

from quietcount_aggregates import catalogue
from quietcount_aggregates.axes import Axes
from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.due_periods import due_periods
from quietcount_aggregates.errors import PopulationError
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_aggregates.reconciliation.solution import Shape, Solution
from quietcount_aggregates.tables import RESERVED_NAMES
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
DAY, WEEK, MONTH, QUARTER, YEAR = Period


def of(*tables: AskedTable, name: str = "requests", **more: Any) -> Population:
    written: dict[str, Any] = {
        "events": ["HelpRequested"],
        "period": MONTH,
        "since": dt.date(2023, 4, 17),
        "tables": tables or [AskedTable("by_kind", 0.5, by=["help_kind"])],
        **more,
    }
    return resolve(name, registry=REGISTRY, **written)


def refused(*tables: AskedTable, **more: Any) -> PopulationError:
    with pytest.raises(PopulationError) as error:
        of(*tables, **more)
    assert error.value.remedy
    return error.value


# ---------------------------------------------------------------- the keys of a population


@pytest.mark.parametrize(
    "key, written, reason, remedy",
    [
        ("name", {"name": "Requests"}, "is no name", "lower-case letters"),
        ("events", {"events": []}, "is empty", "at least one event type"),
        ("events", {"events": ["HelpRequested", "HelpRequested"]}, "named twice", "once"),
        ("events", {"events": ["Unheard"]}, "no event type 'Unheard'", "HelpRequested"),
        ("events", {"events": ["CaseWithdrawn"]}, "withdrawn case counts nowhere", "Leave it out"),
        ("max_contributions", {"max_contributions": 0}, "is no number of events", "from 1 to 1,000,000"),
        ("max_contributions", {"max_contributions": True}, "is no number of events", "from 1 to 1,000,000"),
        ("max_contributions", {"max_contributions": 1_000_001}, "is no number of events", "from 1 to 1,000,000"),
        ("since", {"since": dt.date(1969, 12, 31)}, "no event may have this date", "1970-01-01"),
        ("since", {"since": dt.date(2100, 1, 1)}, "no event may have this date", "2099-12-31"),
        ("table", {"tables": []}, "is missing", "[[population.table]]"),
        ("table", {"tables": [AskedTable("a", 1.0), AskedTable("a", 2.0)]}, "two tables are named 'a'", "its own name"),
        ("where", {"where": {"verdict": ["GUILTY"]}}, "no enum or boolean field 'verdict'", "help_kind"),
        ("where.help_kind", {"where": {"help_kind": ["DESERTER"]}}, "names a symbol", "DESERTION"),
        ("where.help_kind", {"where": {"help_kind": []}}, "or none", "DESERTION"),
    ],
)
def test_a_refusal_names_the_population_the_key_and_what_is_allowed(
    key: str, written: dict[str, Any], reason: str, remedy: str
) -> None:
    error = refused(**written)
    assert f"population {written.get('name', 'requests')!r}, key {key!r}: " in error.what
    assert reason in error.what
    assert remedy in error.remedy


@pytest.mark.parametrize("name", ["", "Help", "1st", "help requests", "x" * 64, "hélp", "a'b", 'a"b', "a.b", "_a"])
def test_a_name_that_is_none_is_refused_for_populations_and_tables(name: str) -> None:
    for error in (refused(name=name), refused(AskedTable(name, 0.5))):
        assert "key 'name'" in error.what
        assert "63 at most" in error.remedy
    assert of(AskedTable("x" * 63, 0.5), name="y" * 63).name == "y" * 63


def test_an_event_type_that_disagrees_with_another_on_a_field_is_refused() -> None:
    enums = [
        {"type": "enum", "name": "Colour", "symbols": symbols, "default": "NONE", "doc": "."}
        for symbols in (["RED", "NONE"], ["BLUE", "NONE"])
    ]
    records = [
        {
            "type": "record",
            "name": name,
            "namespace": f"example.{name.lower()}",
            "doc": "A trial.",
            "fields": [*envelope(), {"name": "colour", "type": enum, "default": "NONE", "doc": "A colour."}],
        }
        for name, enum in zip(("One", "Other"), enums, strict=True)
    ]
    with pytest.raises(PopulationError, match=r"table 'a', key 'by': the event types do not agree .* 'colour'"):
        resolve(
            "requests",
            events=["One", "Other"],
            registry=registry_of(*records),
            period=MONTH,
            tables=[AskedTable("a", 1.0, by=["colour"])],
        )


# ---------------------------------------------------------------- the keys of a table


@pytest.mark.parametrize(
    "key, written, reason, remedy",
    [
        ("epsilon", {"epsilon": 0.0}, "too small", "from 0.001 to 20"),
        ("epsilon", {"epsilon": -1.0}, "too small", "from 0.001 to 20"),
        ("epsilon", {"epsilon": math.nan}, "no number", "from 0.001 to 20"),
        ("epsilon", {"epsilon": math.inf}, "too large", "from 0.001 to 20"),
        ("epsilon", {"epsilon": 21.0}, "too large", "from 0.001 to 20"),
        ("where", {"where": {"verdict": ["GUILTY"]}}, "no enum or boolean field 'verdict'", "help_kind"),
        ("where.help_kind", {"where": {"help_kind": ["DESERTER"]}}, "names a symbol", "DESERTION"),
        ("where.help_kind", {"where": {"help_kind": []}}, "or none", "DESERTION"),
        ("by", {"by": ["occurred_on"]}, "no enum or boolean field 'occurred_on'", "service_category"),
        ("by", {"by": ["region", "region"]}, "named twice", "once"),
        ("period", {"period": DAY}, "a day is not made of whole months", '"month" or "quarter" or "year"'),
        ("period", {"period": WEEK}, "a week is not made of whole months", "give the population a finer period"),
    ],
)
def test_a_refusal_names_the_population_the_table_the_key_and_what_is_allowed(
    key: str, written: dict[str, Any], reason: str, remedy: str
) -> None:
    faulty = AskedTable("faulty", 0.5)._replace(**written)
    error = refused(AskedTable("sound", 1.0), faulty)
    assert f"population 'requests', table 'faulty', key {key!r}: " in error.what
    assert reason in error.what
    assert remedy in error.remedy


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_table_does_not_take_the_name_of_one_of_the_public_files(name: str) -> None:
    error = refused(AskedTable(name, 0.5))
    assert f"table {name!r}, key 'name': this name belongs to a table of statistics.duckdb" in error.what
    assert of(name=name).name == name, "a population is none in that file"


def test_a_field_with_the_name_of_a_published_column_is_refused() -> None:
    record = {
        "type": "record",
        "name": "Trial",
        "namespace": "example.trial",
        "doc": "A trial.",
        "fields": [*envelope(), {"name": "estimate", "type": "boolean", "default": False, "doc": "An estimate."}],
    }
    asked = AskedTable("a", 1.0, by=["estimate"])
    registry = registry_of(record)
    with pytest.raises(PopulationError, match=r"table 'a', key 'by': the field 'estimate' has the name"):
        resolve("requests", events=["Trial"], registry=registry, period=MONTH, tables=[asked])


def test_noise_that_hides_everything_is_refused() -> None:
    assert of(AskedTable("a", 0.001), max_contributions=100).max_contributions == 100
    error = refused(AskedTable("a", 0.001), max_contributions=101)
    assert "table 'a', key 'epsilon': the noise scale, max_contributions / epsilon, would be above" in error.what


def test_too_many_cells_are_refused() -> None:
    names = [f"f{number}" for number in range(6)]
    enums = [
        {"type": "enum", "name": name.upper(), "symbols": list("ABCDEFGHIJ"), "default": "A", "doc": "."}
        for name in names
    ]
    fields = [
        {"name": name, "type": enum, "default": "A", "doc": "A field."} for name, enum in zip(names, enums, strict=True)
    ]
    record = {"type": "record", "name": "Wide", "namespace": "example.trial", "doc": "A trial."}
    registry = registry_of({**record, "fields": envelope() + fields})

    def wide(count: int) -> Population:
        asked = AskedTable("a", 1.0, by=names[:count])
        return resolve("wide", events=["Wide"], registry=registry, period=MONTH, tables=[asked])

    assert wide(5).tables[0].cells == 100_000
    with pytest.raises(PopulationError, match=r"table 'a', key 'by': .* more than 100,000 cells.* fewer fields"):
        wide(6)


# ---------------------------------------------------------------- periods


def test_a_table_without_a_period_has_the_populations() -> None:
    assert [table.period for table in of(AskedTable("a", 0.5), period=QUARTER).tables] == [QUARTER]


@pytest.mark.parametrize("own", list(Period))
@pytest.mark.parametrize("period", list(Period))
def test_a_tables_period_is_made_of_whole_periods_of_the_population(period: Period, own: Period) -> None:
    tables = AskedTable("a", 1.0, by=["region"]), AskedTable("b", 1.0, by=["help_kind"], period=own)
    if own.is_made_of(period):
        population = of(*tables, period=period)
        assert population.tables[1].period is own
        assert [table.name for table in population.finest] == (["a", "b"] if own is period else ["a"])
    else:
        assert f"a {own} is not made of whole {period}s" in refused(*tables, period=period).what


@pytest.mark.parametrize("periods, finest", [((QUARTER,), "quarter"), ((YEAR, QUARTER), "quarter"), ((YEAR,), "year")])
def test_a_population_that_settles_more_often_than_it_releases_is_refused(
    periods: tuple[Period, ...], finest: str
) -> None:
    tables = [AskedTable(f"t{number}", 0.5 + number, period=period) for number, period in enumerate(periods)]
    error = refused(*tables)
    assert "population 'requests', key 'period': no table is released by it" in error.what
    assert f'Write period = "{finest}"' in error.remedy


@pytest.mark.parametrize("tables", [[AskedTable("a", 0.5)], [AskedTable("a", 0.5), AskedTable("b", 0.5, period=WEEK)]])
def test_weeks_have_no_yearly_horizon_because_they_lie_in_two_years(tables: list[AskedTable]) -> None:
    period = WEEK if len(tables) == 1 else DAY
    error = refused(*tables, period=period, horizon=Horizon.YEAR)
    assert "population 'requests', key 'period': a week may lie in two calendar years" in error.what
    assert 'horizon = "lifetime"' in error.remedy
    assert of(*tables, period=period).horizon is Horizon.LIFETIME
    assert of(AskedTable("a", 0.5), period=DAY, horizon=Horizon.YEAR).horizon is Horizon.YEAR


def test_since_is_the_first_day_of_a_period_of_the_population() -> None:
    assert of().since == dt.date(2023, 4, 1)
    assert of(AskedTable("a", 0.5), period=WEEK).since == dt.date(2023, 4, 17)
    assert of(AskedTable("a", 0.5), period=QUARTER).since == dt.date(2023, 4, 1)
    with pytest.raises(ValueError, match="declaration"):
        _ = of(since=None).first_day


@pytest.mark.parametrize(
    "period, since, first",
    [
        (MONTH, "2023-05-01", "2023-05-01"),
        (QUARTER, "2023-04-01", "2023-04-01"),
        (QUARTER, "2023-05-01", "2023-07-01"),
        (YEAR, "2023-04-01", "2024-01-01"),
        (YEAR, "2024-01-01", "2024-01-01"),
    ],
)
def test_a_coarser_table_begins_with_its_first_whole_period(period: Period, since: str, first: str) -> None:
    table = of(AskedTable("a", 1.0), AskedTable("b", 1.0, by=["region"], period=period)).tables[1]
    assert table.first_day(dt.date.fromisoformat(since)) == dt.date.fromisoformat(first)


@pytest.mark.promise("clock-alone")
def test_periods_fall_due_by_the_clock_alone_and_empty_ones_too() -> None:
    written: dict[str, Any] = {"events": ["HelpRequested"], "registry": REGISTRY, "epsilon": 0.5}
    since = dt.date(2023, 4, 17)
    monthly = population_of("help_requests", period=MONTH, since=since, **written)
    weekly = population_of("weekly", period=WEEK, since=since, **written)
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


@pytest.mark.promise("clock-alone")
def test_coarser_tables_fall_due_after_the_finer_ones_of_their_last_day() -> None:
    population = of(
        AskedTable("quarterly", 0.5, by=["region"], period=QUARTER),
        AskedTable("monthly", 0.5, by=["help_kind"]),
        AskedTable("yearly", 0.5, by=["service_category"], period=YEAR),
        since=dt.date(2023, 8, 1),
    )
    end, none = dt.datetime(2025, 1, 1, tzinfo=dt.UTC), dt.timedelta(0)
    due = due_periods([population], {"requests": dt.date(2024, 6, 1)}, end, none)
    assert [(each.statistic, each.start.isoformat()) for each in due] == [
        ("monthly", "2024-06-01"),
        ("quarterly", "2024-04-01"),  # of which two months were settled before
        ("monthly", "2024-07-01"),
        ("monthly", "2024-08-01"),
        ("monthly", "2024-09-01"),
        ("quarterly", "2024-07-01"),
        ("monthly", "2024-10-01"),
        ("monthly", "2024-11-01"),
        ("monthly", "2024-12-01"),
        ("quarterly", "2024-10-01"),
        ("yearly", "2024-01-01"),
    ]
    assert {each.population for each in due} == {"requests"}
    assert all(each.end == population.tables[0].period.end(each.start) for each in due if each.statistic == "quarterly")
    withheld = {("quarterly", dt.date(2024, 4, 1)), ("yearly", dt.date(2024, 1, 1))}
    kept = due_periods([population], {"requests": dt.date(2024, 6, 1)}, end, none, withheld)
    assert kept == [each for each in due if (each.statistic, each.start) not in withheld]
    # A quarter and a year of which a part lies before `since` are never due.
    first = due_periods([population], {"requests": dt.date(2023, 8, 1)}, end, none)
    assert min(each.start for each in first if each.statistic == "quarterly") == dt.date(2023, 10, 1)
    assert [each.start for each in first if each.statistic == "yearly"] == [dt.date(2024, 1, 1)]


# ---------------------------------------------------------------- tables of one population

KIND = AskedTable("by_kind", 0.6, by=["help_kind"])


@pytest.mark.parametrize("epsilon", [0.1, 0.6, 2])
def test_the_same_table_under_another_name_is_refused(epsilon: float) -> None:
    error = refused(KIND, KIND._replace(name="a", epsilon=epsilon))
    assert error.what == "population 'requests', table 'a': it is table 'by_kind' once more"
    assert "give 'by_kind' the epsilon of both" in error.remedy


@pytest.mark.parametrize(
    "other",
    [
        AskedTable("a", 0.001),
        AskedTable("a", 0.001, by=["help_kind"], period=QUARTER),
        AskedTable("a", 0.001, by=["region"]),
        AskedTable("a", 0.001, by=["help_kind"], where={"help_kind": ["DESERTION"]}),
        AskedTable("a", 0.001, by=["help_kind", "region"]),
    ],
    ids=["margin", "margin in time", "another field", "another condition", "finer"],
)
def test_any_other_table_makes_the_figures_of_all_more_precise(other: AskedTable) -> None:
    assert len(of(KIND, other).tables) == 2


@pytest.mark.parametrize("coarse", [Period.MONTH, Period.QUARTER, Period.YEAR])
def test_weeks_beside_what_a_week_can_lie_across_are_refused(coarse: Period) -> None:
    weekly, other = AskedTable("weekly", 0.1, period=Period.WEEK), AskedTable("coarse", 0.1, period=coarse)
    daily = AskedTable("daily", 0.1)
    error = refused(daily, weekly, other, period=Period.DAY)
    assert f"table 'weekly', key 'period': a week may lie in two of the {coarse}s of table 'coarse'" in error.what
    assert "a population of their own" in error.remedy
    assert len(of(daily, weekly, period=Period.DAY).tables) == 2


def test_a_table_whose_condition_excludes_the_population_s_is_refused() -> None:
    other = AskedTable("a", 0.1, by=["region"], where={"help_kind": ["SURRENDER"]})
    error = refused(KIND, other, where={"help_kind": ["DESERTION"]})
    assert "table 'a', key 'where': it excludes what the population's own condition leaves" in error.what
    assert len(of(KIND, other, where={"help_kind": ["DESERTION", "SURRENDER"]}).tables) == 2


def test_tables_that_take_too_much_to_make_agree_are_refused() -> None:
    daily, yearly = AskedTable("daily", 0.1, by=["help_kind"]), AskedTable("yearly", 0.1, period=YEAR)
    assert len(of(daily, yearly, period=Period.DAY).tables) == 2
    error = refused(daily._replace(by=["help_kind", "region"]), yearly, period=Period.DAY)
    assert "more than 300,000 weights would be needed for each year" in error.what
    assert "fewer or longer periods" in error.remedy


def test_the_weights_are_counted_as_they_are_published() -> None:
    population = of(KIND, AskedTable("a", 0.1, by=["region"], where={"help_kind": ["DESERTION"]}, period=QUARTER))
    axes = Axes.of(population)
    shape = Shape(3, (tuple((month, month + 1) for month in range(3)), ((0, 3),)))
    solution = Solution(axes, [1.0, 1.0], [1.0, 1.0], shape)
    assert axes.weights(3, [3, 1]) == sum(component.weights.size for component in solution.components)


def test_fields_that_have_too_many_cells_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = AskedTable("a", 0.1, by=["help_kind"]), AskedTable("b", 0.1, by=["region"])
    cells = math.prod(len(each.symbols) for table in of(*tables).tables for each in table.by)
    monkeypatch.setattr(catalogue, "MAX_FINEST_CELLS", cells)
    assert len(of(*tables).tables) == 2
    monkeypatch.setattr(catalogue, "MAX_FINEST_CELLS", cells - 1)
    error = refused(*tables)
    assert "all fields that its tables break down by, taken together, have more than" in error.what
    assert "a population of their own" in error.remedy


# ---------------------------------------------------------------- in words


@pytest.mark.parametrize(
    "k, horizon, late, says",
    [
        (1, Horizon.LIFETIME, Late.CARRY, "At most 1 a case, over its lifetime; a late event counts when it arrives"),
        (2, Horizon.LIFETIME, Late.DROP, "At most 2 a case, over its lifetime; a late event does not count"),
        (3, Horizon.YEAR, Late.CARRY, "At most 3 a case, in a calendar year; a late event counts when it arrives"),
        (1, Horizon.YEAR, Late.DROP, "At most 1 a case, in a calendar year; a late event does not count"),
    ],
)
def test_a_population_says_in_words_how_often_a_case_counts(k: int, horizon: Horizon, late: Late, says: str) -> None:
    assert of(max_contributions=k, horizon=horizon, late=late).counting == says
