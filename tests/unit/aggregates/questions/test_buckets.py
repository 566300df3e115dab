"""What the macros answer about a number in buckets, against plain Python and against the macros for counts."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.buckets_world import BOUNDS, KNOWN, SYMBOLS, Bracket, bracket, ends, rank_margins
from tests.questions_world import Table, alone, cells_and_total, months, variance, written

from quietcount_aggregates.intervals import quantile

pytestmark = [pytest.mark.quick, pytest.mark.xdist_group("buckets")]

MONTHS = months(dt.date(2024, 1, 1), 3)
HALF_A_YEAR = months(dt.date(2024, 1, 1), 6)
SPAN = "'2024-01-01', '2024-02-29'"
SCALE = 2.0
# Each month of each table has these, and as many whose value is not known as the last says.
TABLES = {
    "middling": [30.0, 60.0, 90.0, 45.0, 15.0, 12.0],
    "low": [200.0, 20.0, 5.0, 1.0, 0.0, 0.0],
    "high": [0.0, -3.0, 10.0, 40.0, 300.0, 50.0],
    "two_peaks": [100.0, 0.0, 1.0, 0.0, 100.0, 0.0],
    "even": [20.0, 20.0, 20.0, 20.0, 20.0, 20.0],
    "large": [3000.0, 1000.0, 2500.0, 500.0, 250.0, 90.0],
    "few": [3.0, 4.0, 6.0, 2.0, 1.0, 0.0],
}
OF_KINDS = [[float(10 * place + kind) for kind in (3, 8) for place in range(6)]] * 3


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    path: Path = tmp_path_factory.mktemp("buckets") / "public.duckdb"
    buckets = {"days": BOUNDS}
    written(
        path,
        *(
            alone(Table(name, SCALE, MONTHS, [row] * 3, {"days": SYMBOLS}, buckets=buckets))
            for name, row in TABLES.items()
        ),
        alone(Table("of_kinds", SCALE, MONTHS, OF_KINDS, {"kind": ("A", "B"), "days": SYMBOLS}, buckets=buckets)),
        alone(
            Table("waiting_times", SCALE, HALF_A_YEAR, [TABLES["middling"]] * 6, {"days_waited": SYMBOLS},
                buckets={"days_waited": BOUNDS})
        ),
        cells_and_total(
            "reconciled",
            Table("parts", SCALE, MONTHS, [[40.0, 60.0, 20.0]] * 3, {"days": ("0..6", "7..29", "30+")},
                buckets={"days": [(0, 6), (7, 29), (30, 60)]}),
            Table("everything", 0.5, MONTHS, [[120.0]] * 3),
        ),
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


# ---------------------------------------------------------------- distribution


@pytest.mark.parametrize("name, within", [("of_kinds", "kind=B, "), pytest.param("few", "", marks=pytest.mark.check)])
def test_a_distribution_is_the_shares_of_those_whose_value_is_known(
    asked: duckdb.DuckDBPyConnection, name: str, within: str
) -> None:
    found = rows(asked, f"FROM distribution('{name}', 'days', {SPAN}, cells := '{within.strip(', ')}')")
    assert [(each["symbol"], each["at_least"], each["at_most"]) for each in found] == [
        (symbol, *(bounds or (None, None))) for symbol, bounds in zip(SYMBOLS, BOUNDS, strict=True)
    ]
    of = f"of := '{within}days!=unknown'"
    for place, each in enumerate(found):
        total = row(asked, f"FROM total('{name}', {SPAN}, cells := '{within}days={each['symbol']}')")
        assert {key: each[key] for key in ("estimate", "shown", "lower", "upper")} == {
            key: total[key] for key in ("estimate", "shown", "lower", "upper")
        }
        shares = [each[f"share_{end}"] for end in ("percent", "lower", "upper")]
        below = [each[f"cumulative_{end}"] for end in ("percent", "lower", "upper")]
        if each["symbol"] == "unknown":
            assert shares == below == [None] * 3
            assert "no part of the whole" in each["note"]
            continue
        query = (
            f"SELECT share_percent, share_lower, share_upper FROM share('{name}', {SPAN}, '{within}days={{}}', {of})"
        )
        assert shares == list(row(asked, query.format(each["symbol"])).values())
        if place < len(KNOWN) - 1:
            assert below == list(row(asked, query.format("|".join(SYMBOLS[: place + 1]))).values())
        else:
            assert below == [100, 100, 100]


def test_shares_of_almost_nothing_are_not_told(asked: duckdb.DuckDBPyConnection) -> None:
    one = "cells := 'days=365+|unknown'"
    (found, unknown) = rows(asked, f"FROM distribution('few', 'days', {SPAN}, {one})")
    assert (found["share_percent"], found["share_lower"], found["share_upper"]) == (None, 0, 100)
    assert "cannot tell the shares" in found["note"]
    assert unknown["share_lower"] is None


# ---------------------------------------------------------------- percentile


@pytest.mark.parametrize(
    "level", [pytest.param(90, marks=pytest.mark.check), 95, pytest.param(99, marks=pytest.mark.check)]
)
@pytest.mark.parametrize("name", TABLES)
def test_a_percentile_is_what_plain_python_finds(asked: duckdb.DuckDBPyConnection, name: str, level: int) -> None:
    counts = [2 * each for each in TABLES[name][: len(KNOWN)]]
    for percent in (25, 50, 92.5):
        found = row(asked, f"FROM percentile('{name}', 'days', {SPAN}, {percent}, level := {level})")
        usual, strict, whole = rank_margins(SCALE, 2, percent / 100, level / 100)
        wanted = bracket(counts, usual, strict, whole, percent / 100)
        assert tuple(found[key] for key in Bracket._fields) == wanted, percent
        assert ("cannot tell" in found["note"]) is (None in wanted)


def test_it_cannot_be_told_where_the_noise_is_too_large_and_is_told_elsewhere(
    asked: duckdb.DuckDBPyConnection,
) -> None:
    few = row(asked, "FROM percentile('few', 'days', '2024-01-01', '2024-01-31', 50)")
    assert few["note"].startswith("cannot tell: the whole is too close to 0")
    assert few["lower"] is few["upper"] is few["symbol"] is None
    highest = row(asked, "FROM percentile('even', 'days', '2024-01-01', '2024-01-31', 97)")
    assert highest["note"].startswith("interval of 95 %; about 20 with unknown days are left out")
    assert (highest["symbol"], highest["lower"], highest["upper"]) == ("365+", 365, 1000)
    open_above = row(asked, "FROM percentile('middling', 'days', '2024-01-01', '2024-01-31', 92)")
    assert open_above["note"].startswith("interval of 95 %; cannot tell an upper end")
    assert (open_above["symbol"], open_above["lower"], open_above["upper"]) == ("90..364", 90, None)
    large = row(asked, "FROM percentile('large', 'days', '2024-01-01', '2024-01-31', 50)")
    assert (large["symbol"], large["at_least"], large["at_most"], large["lower"], large["upper"]) == (
        *("7..29", 7, 29), *(7, 29),
    )  # fmt: skip


def test_a_percentile_of_cells_is_among_these_alone(asked: duckdb.DuckDBPyConnection) -> None:
    found = row(asked, f"FROM percentile('large', 'days', {SPAN}, 50, cells := 'days!=0..6')")
    assert found["symbol"] == "30..89"
    assert "left out" in found["note"]
    found = row(asked, f"FROM percentile('large', 'days', {SPAN}, 50, cells := 'days!=0..6|unknown')")
    assert "left out" not in found["note"]
    found = row(asked, f"FROM percentile('large', 'days', {SPAN}, 50, cells := 'days=7..29')")
    assert (found["symbol"], found["lower"], found["upper"]) == ("7..29", 7, 29)


# ---------------------------------------------------------------- mean


def fieller(counts: Sequence[float], weights: Sequence[float], scale: float, draws: int) -> tuple[float, float]:
    """Return the least and the largest ratio that the noise allows, by trying each in small steps."""
    a = sum(counts)
    b = sum(w * each for w, each in zip(weights, counts, strict=True))
    # Of large counts only ratios in a small span are allowed.
    reach = min(1.0, 4 * quantile([1.0] * len(weights), [scale] * len(weights), [draws] * len(weights), 0.95) / a)
    tried = (b / a + reach * (step / 250 - 1) for step in range(501))
    allowed = [
        r
        for r in tried
        if 0 <= r <= 1
        and abs(b - r * a) <= quantile([w - r for w in weights], [scale] * len(weights), [draws] * len(weights), 0.95)
    ]
    return min(allowed), max(allowed)


@pytest.mark.parametrize("name", ["middling", "low", pytest.param("large", marks=pytest.mark.check)])
def test_a_mean_lies_between_the_bounds_of_all_buckets(asked: duckdb.DuckDBPyConnection, name: str) -> None:
    found = row(asked, f"FROM mean('{name}', 'days', {SPAN})")
    counts = [2 * each for each in TABLES[name][: len(KNOWN)]]
    low, high = (sum(c * pair[end] for c, pair in zip(counts, KNOWN, strict=True)) / sum(counts) for end in (0, 1))
    assert found["at_least"] == pytest.approx(low, abs=0.01)
    assert found["at_most"] == pytest.approx(high, abs=0.01)
    if found["mean"] is not None:
        assert found["mean"] == pytest.approx((low + high) / 2, abs=0.01)
    for end, key, place in ((0, "lower", 0), (1, "upper", 1)):
        weights, least, width = ends(end)
        exact = least + width * fieller(counts, weights, SCALE, 2)[place]
        outwards = (exact - found[key]) * (1 if end == 0 else -1)
        # Never narrower than what trying finds but for its step, and little wider.
        assert outwards >= -width / 250
        assert outwards <= width / 500 + 0.06 * abs(exact - (low if end == 0 else high))


def test_a_mean_says_which_bucket_hides_its_middle(asked: duckdb.DuckDBPyConnection) -> None:
    found = row(asked, f"FROM mean('high', 'days', {SPAN})")
    assert found["mean"] is None
    assert (
        "cannot tell a middle: much of what lies between comes from the bucket 365+, which reaches from 365 to 1000"
        in (found["note"])
    )
    assert found["at_least"] < found["at_most"]
    within = row(asked, f"FROM mean('high', 'days', {SPAN}, cells := 'days!=365+')")
    assert within["mean"] is not None
    assert "about 100 with unknown days are left out" in within["note"]


def test_a_mean_of_almost_nothing_is_not_told(asked: duckdb.DuckDBPyConnection) -> None:
    found = row(asked, "FROM mean('few', 'days', '2024-01-01', '2024-01-31')")
    assert found.pop("note").startswith("cannot tell: the whole is too close to 0")
    assert set(found.values()) == {None}


def test_a_mean_of_one_bucket_is_within_its_bounds(asked: duckdb.DuckDBPyConnection) -> None:
    found = row(asked, f"FROM mean('large', 'days', {SPAN}, cells := 'days=7..29')")
    assert (found["lower"], found["at_least"], found["at_most"], found["upper"]) == (7, 7, 29, 29)


def test_noise_that_a_total_takes_away_is_in_no_margin(asked: duckdb.DuckDBPyConnection) -> None:
    """In a total that is almost exact, what is too many in one bucket is too few in the others."""
    share = 3 * variance(SCALE) / (3 * variance(SCALE) + variance(0.5)) / 3
    found = row(asked, f"FROM distribution('parts', 'days', {SPAN}) WHERE symbol = '0..6'")
    m = quantile([1 - share, share, share], [SCALE, SCALE, 0.5], [2, 4, 2], 0.95)
    assert (found["lower"], found["upper"]) == (math.ceil(80 - m - 1e-6), math.floor(80 + m + 1e-6))
    mean = row(asked, f"FROM mean('parts', 'days', {SPAN})")
    weights = [0.0, 7 / 30, 1.0]
    # Of the whole, 120 a month, only the total's noise is left: the lower end is that of B alone, nearly.
    b = sum(2 * w * each for w, each in zip(weights, (40, 60, 20), strict=True))
    centred = [w - share * sum(weights) for w in weights]
    around = quantile([*centred, share * sum(weights)], [SCALE] * 3 + [0.5], [2, 2, 2, 2], 0.95)
    assert mean["lower"] == pytest.approx(30 * (b - around) / 240, rel=0.06)


# ---------------------------------------------------------------- the page


@pytest.mark.promise("commands")
def test_each_question_of_the_page_is_answered_by_its_line(asked: duckdb.DuckDBPyConnection, root: Path) -> None:
    page = (root / "docs" / "querying.md").read_text(encoding="utf-8")
    table = page.partition("| question | one line |\n| --- | --- |\n")[2].partition("\n\n")[0]
    lines = [row.split(" | ", 1)[1].strip("|` ").replace("\\|", "|") for row in table.splitlines()]
    assert len(lines) == 6
    assert all(rows(asked, line) for line in lines)
    assert row(asked, lines[1])["cumulative_percent"] == 37.5
