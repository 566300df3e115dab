"""What the macros answer: sums with the interval of their exact noise, in whichever way tables are reconciled."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.questions_world import Table, alone, cells_and_total, months, months_and_quarters, variance, written

from quietcount_aggregates.intervals import quantile

pytestmark = pytest.mark.quick

FIRST = dt.date(2022, 1, 1)
YEARS = months(FIRST, 26)
SEVEN = YEARS[:7]
QUARTERS = [(YEARS[0][0], YEARS[2][1]), (YEARS[3][0], YEARS[5][1])]
WEEKS = [(FIRST + dt.timedelta(7 * i), FIRST + dt.timedelta(7 * i + 6)) for i in range(54)]
BY = {"colour": ("BLUE", "GREEN", "RED"), "urgent": ("false", "true")}
DETAILS = [[float(10 * month + place) for place in range(6)] for month in range(7)]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    path: Path = tmp_path_factory.mktemp("answers") / "public.duckdb"
    written(
        path,
        alone(Table("plain", 2.0, YEARS, [[10.0 * i - 20] for i in range(26)])),
        alone(Table("weekly", 2.0, WEEKS, [[100.0 + i] for i in range(54)])),
        alone(Table("detailed", 2.0, SEVEN, DETAILS, BY, frozenset({("colour", "BLUE")}))),
        months_and_quarters(
            "timed", Table("monthly", 2.0, SEVEN, [[8.5]] * 7), Table("quarterly", 3.0, QUARTERS, [[25.5]] * 2)
        ),
        cells_and_total(
            "parts", Table("kinds", 2.0, SEVEN[:2], [[5.0, 20.0, 60.0]] * 2, {"kind": ("A", "B", "C")}),
            Table("everything", 0.5, SEVEN[:2], [[85.0]] * 2),
        ),
        alone(Table("broken", 2.0, [*SEVEN[:2], *SEVEN[3:]], [[10.0], [20.0], [30.0], [40.0], [50.0], [60.0]])),
        withheld=[("broken", *SEVEN[2], "the state was lost")],
    )  # fmt: skip
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


def rows(asked: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    result = asked.execute(query)
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def row(asked: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    (found,) = rows(asked, query)
    return found


def interval(estimate: float, weights: list[float], scales: list[float], counts: list[int]) -> tuple[int, int]:
    """Return the interval of an estimate with this noise, as Python computes it."""
    m = quantile(weights, scales, counts, 0.95)
    return max(0, math.ceil(estimate - m - 1e-6)), math.floor(max(estimate, 0) + m + 1e-6)


def test_a_total_is_the_signed_sum_and_its_interval_that_of_the_draws(asked: duckdb.DuckDBPyConnection) -> None:
    found = row(asked, "FROM total('plain', '2022-01-01', '2022-03-31')")
    assert found["estimate"] == -30
    assert found["shown"] == 0
    assert (found["lower"], found["upper"]) == interval(-30, [1.0], [2.0], [3])
    assert found["note"] == "interval of 95 %; cannot be told from 0"


@pytest.mark.parametrize("level", [90, 95, 99])
def test_an_interval_is_of_the_level_that_is_asked_for(asked: duckdb.DuckDBPyConnection, level: int) -> None:
    found = row(asked, f"FROM total('plain', DATE '2022-06-01', '2022-06-30', level := {level})")
    m = quantile([1.0], [2.0], [1], level / 100)
    assert (found["lower"], found["upper"]) == (math.ceil(30 - m - 1e-6), math.floor(30 + m + 1e-6))


@pytest.mark.parametrize(
    "cells, places",
    [
        ("", [2, 3, 4, 5]),
        ("all", [2, 3, 4, 5]),
        ("colour=RED", [4, 5]),
        ("colour = RED | GREEN , urgent != false", [3, 5]),
        ("urgent=true,colour!=RED", [3]),
        ("colour=BLUE|RED", [4, 5]),  # the table's own condition does not count BLUE
    ],
)
def test_cells_are_chosen_by_a_plain_text(asked: duckdb.DuckDBPyConnection, cells: str, places: list[int]) -> None:
    found = row(asked, f"FROM total('detailed', '2022-02-01', '2022-04-30', cells := '{cells}')")
    expected = sum(DETAILS[month][place] for month in (1, 2, 3) for place in places)
    assert found["estimate"] == Decimal(expected)
    assert (found["lower"], found["upper"]) == interval(expected, [1.0], [2.0], [3 * len(places)])


def test_months_that_a_quarter_ties_together_share_its_noise(asked: duckdb.DuckDBPyConnection) -> None:
    share = variance(2.0) / (3 * variance(2.0) + variance(3.0))
    one = row(asked, "FROM total('monthly', '2022-02-01', '2022-02-28')")
    assert (one["lower"], one["upper"]) == interval(8.5, [1 - share, share, share], [2.0, 2.0, 3.0], [1, 2, 1])
    two = row(asked, "FROM total('monthly', '2022-02-01', '2022-03-31')")
    assert (two["lower"], two["upper"]) == interval(
        17, [1 - 2 * share, 2 * share, 2 * share], [2.0, 2.0, 3.0], [2, 1, 1]
    )
    whole = row(asked, "FROM total('monthly', '2022-01-01', '2022-07-31')")
    weights, scales = [1 - 3 * share, 3 * share, 1.0], [2.0, 3.0, 2.0]
    assert (whole["lower"], whole["upper"]) == interval(59.5, weights, scales, [6, 2, 1])
    quarter = row(asked, "FROM total('quarterly', '2022-04-01', '2022-06-30')")
    assert (quarter["lower"], quarter["upper"]) == interval(25.5, weights[:2], scales[:2], [3, 1])


def test_cells_that_a_total_ties_together_share_its_noise(asked: duckdb.DuckDBPyConnection) -> None:
    share = variance(2.0) / (3 * variance(2.0) + variance(0.5))
    one = row(asked, "FROM total('kinds', '2022-01-01', '2022-02-28', cells := 'kind=C')")
    assert (one["lower"], one["upper"]) == interval(120, [1 - share, share, share], [2.0, 2.0, 0.5], [2, 4, 2])
    total = row(asked, "FROM total('everything', '2022-01-01', '2022-01-31')")
    assert (total["lower"], total["upper"]) == interval(85, [1 - 3 * share, 3 * share], [2.0, 0.5], [3, 1])
    assert total == row(asked, "FROM total('kinds', '2022-01-01', '2022-01-31')")


def test_a_series_has_each_period_and_names_the_withheld_ones(asked: duckdb.DuckDBPyConnection) -> None:
    found = rows(asked, "FROM series('broken')")
    assert [each["period_start"] for each in found] == [start for start, _ in SEVEN]
    assert [each["shown"] for each in found] == [10, 20, None, 30, 40, 50, 60]
    assert found[2]["status"] == "withheld"
    assert found[2]["note"] == "withheld: the state was lost"
    assert found[2]["lower"] is found[2]["upper"] is found[2]["estimate"] is None
    assert "about 1 in 20" in found[0]["note"]
    assert "about 1 in 10 " in row(asked, "FROM series('plain', level := 90) LIMIT 1")["note"]
    monthly = rows(asked, "SELECT estimate, lower, upper FROM series('monthly')")
    assert monthly[0] == row(asked, "SELECT estimate, lower, upper FROM total('monthly', '2022-01-01', '2022-01-31')")


def test_a_cumulative_sum_goes_on_until_a_period_that_is_never_released(asked: duckdb.DuckDBPyConnection) -> None:
    found = rows(asked, "FROM cumulative('broken')")
    assert [each["shown"] for each in found] == [10, 30, None, None, None, None, None]
    assert [each["status"] for each in found[2:]] == ["withheld"] * 5
    assert "use total() from there on" in found[3]["note"]
    for each in rows(asked, "FROM cumulative('monthly')"):
        total = row(asked, f"FROM total('monthly', '2022-01-01', '{each['period_end']}')")
        assert (each["estimate"], each["lower"], each["upper"]) == (total["estimate"], total["lower"], total["upper"])


def test_a_comparison_has_both_sums_and_does_not_contradict_itself(asked: duckdb.DuckDBPyConnection) -> None:
    found = row(asked, "FROM compare('plain', '2022-01-01', '2022-03-31', '2022-04-01', '2022-06-30')")
    assert found["to_estimate"] - found["from_estimate"] == found["difference"] == 90
    assert (found["from_lower"], found["from_upper"]) == interval(-30, [1.0], [2.0], [3])
    assert (found["to_lower"], found["to_upper"]) == interval(60, [1.0], [2.0], [3])
    m = quantile([1.0], [2.0], [6], 0.95)
    assert (found["difference_lower"], found["difference_upper"]) == (
        math.ceil(90 - m - 1e-6),
        math.floor(90 + m + 1e-6),
    )
    assert found["percent_change"] is found["percent_lower"] is found["percent_upper"] is None
    assert "withheld: the first sum is too close to 0" in found["note"]


def test_a_percent_change_has_one_decimal_and_its_interval_is_rounded_outwards(
    asked: duckdb.DuckDBPyConnection,
) -> None:
    found = row(asked, "FROM compare('plain', '2023-01-01', '2023-06-30', '2023-07-01', '2023-12-31')")
    first, second = sum(10 * i - 20 for i in range(12, 18)), sum(10 * i - 20 for i in range(18, 24))
    assert found["percent_change"] == round(100 * (second / first - 1), 1)
    assert found["percent_lower"] < found["percent_change"] < found["percent_upper"]
    # For large counts, Fieller's interval is that of the logarithm: the noise of each count relative to it.
    relative = math.hypot(1 / first, 1 / second) * quantile([1.0], [2.0], [6], 0.95)
    assert found["percent_upper"] - found["percent_change"] == pytest.approx(100 * second / first * relative, rel=0.1)
    assert all(found[end] == round(found[end], 1) for end in ("percent_lower", "percent_upper"))


def test_cells_are_compared_with_others_in_one_span(asked: duckdb.DuckDBPyConnection) -> None:
    span = "'2022-01-01', '2022-02-28'"
    found = row(asked, f"FROM compare('kinds', {span}, {span}, cells := 'kind=C', against := 'kind=A|B')")
    assert (found["from_estimate"], found["to_estimate"], found["difference"]) == (50, 120, 70)
    share = variance(2.0) / (3 * variance(2.0) + variance(0.5))
    # C less A and B: the correction of the total is taken once and added twice.
    m = quantile([1 + share, 1 - share, share], [2.0, 2.0, 0.5], [2, 4, 2], 0.95)
    assert (found["difference_lower"], found["difference_upper"]) == (
        math.ceil(70 - m - 1e-6),
        math.floor(70 + m + 1e-6),
    )


def test_a_year_on_year_pairs_each_period_with_the_one_a_year_before(asked: duckdb.DuckDBPyConnection) -> None:
    found = rows(asked, "FROM year_on_year('plain')")
    assert [each["period_start"] for each in found] == [start for start, _ in YEARS[12:]]
    assert {each["difference"] for each in found} == {120}
    compared = row(asked, "FROM compare('plain', '2022-12-01', '2022-12-31', '2023-12-01', '2023-12-31')")
    (december,) = (each for each in found if each["period_start"] == dt.date(2023, 12, 1))
    assert {name: december[name] for name in compared if name != "note"} == {
        name: value for name, value in compared.items() if name != "note"
    }
    weeks = rows(asked, "FROM year_on_year('weekly')")
    assert [(each["period_start"], each["difference"]) for each in weeks] == [(WEEKS[52][0], 52), (WEEKS[53][0], 52)]


def test_a_share_lies_between_nothing_and_all(asked: duckdb.DuckDBPyConnection) -> None:
    span = "'2022-01-01', '2022-02-28'"
    found = row(asked, f"FROM share('kinds', {span}, 'kind=C')")
    assert (found["part_estimate"], found["whole_estimate"]) == (120, 170)
    assert found["share_percent"] == round(100 * 120 / 170, 1)
    assert 50 < found["share_lower"] < found["share_percent"] < found["share_upper"] < 90
    within = row(asked, f"FROM share('kinds', {span}, 'kind=C', of := 'kind!=A')")
    assert (within["part_estimate"], within["whole_estimate"]) == (120, 160)
    assert row(asked, f"FROM share('kinds', {span}, 'kind!=A', of := 'kind=C')")["share_percent"] == 100
    nothing = row(asked, f"FROM share('kinds', {span}, 'kind=A', of := 'kind=A')")
    assert (nothing["share_percent"], nothing["share_lower"], nothing["share_upper"]) == (None, 0, 100)
    assert "cannot tell the share" in nothing["note"]


def test_a_ranking_of_symbols_says_how_sure_it_is(asked: duckdb.DuckDBPyConnection) -> None:
    found = rows(asked, "FROM ranking('kinds', '2022-01-01', '2022-02-28', by := 'kind')")
    assert [(each["rank"], each["item"], each["estimate"]) for each in found] == [
        (1, "C", 120),
        (2, "B", 40),
        (3, "A", 10),
    ]
    assert [(each["rank_lower"], each["rank_upper"]) for each in found] == [(1, 1), (2, 2), (3, 3)]
    assert found[0]["lead_confidence"] == "99.9 %"
    total = row(asked, "FROM total('kinds', '2022-01-01', '2022-02-28', cells := 'kind=C')")
    assert (found[0]["lower"], found[0]["upper"]) == (total["lower"], total["upper"])
    assert found[0]["period_end"] == dt.date(2022, 2, 28)


def test_a_ranking_of_periods_cannot_tell_a_leader_from_its_equals(asked: duckdb.DuckDBPyConnection) -> None:
    found = rows(asked, "FROM ranking('monthly', '2022-01-01', '2022-07-31')")
    assert {each["rank"] for each in found} == {1}
    assert {(each["rank_lower"], each["rank_upper"]) for each in found} == {(1, 7)}
    assert {each["lead_confidence"] for each in found} == {"cannot tell"}
    rising = rows(asked, "FROM ranking('plain', '2022-01-01', '2022-06-30')")
    assert [each["period_start"].month for each in rising] == [6, 5, 4, 3, 2, 1]
    assert rising[0]["lead_confidence"] == "90 %"
    assert rising[-1]["lead_confidence"] == "behind the first: 99.9 %"
    alone = row(asked, "FROM ranking('plain', '2022-06-01', '2022-06-30')")
    assert (alone["rank"], alone["lead_confidence"]) == (1, "nothing to compare with")
