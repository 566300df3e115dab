"""Each mistake has its own sentence, which names the macro, the culprit, the closest match and what to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import duckdb
import pytest
from tests.questions_world import Table, alone, months, written

pytestmark = pytest.mark.quick

FIRST = dt.date(2024, 1, 1)
HALF = months(FIRST, 6)


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The file, opened once: DuckDB takes a tenth of a second to read its catalogue, and a refusal changes nothing."""
    by = {"colour": ("GREEN", "NONE", "RED"), "urgent": ("false", "true")}
    path = written(
        tmp_path_factory.mktemp("refusals") / "public.duckdb",
        alone(Table("plain", 2.0, HALF, [[10.0 * i] for i in range(6)])),
        alone(Table("detailed", 2.0, HALF, [[float(i)] * 6 for i in range(6)], by, frozenset({("colour", "NONE")}))),
        alone(Table("broken", 2.0, HALF[:2] + HALF[3:], [[1.0]] * 5)),
        alone(Table("later", 2.0, [], [])),
        alone(
            Table(
                "bucketed",
                2.0,
                HALF,
                [[5.0] * 9] * 6,
                {"colour": by["colour"], "days": ("0..6", "7+", "unknown")},
                buckets={"days": [(0, 6), (7, 30), None]},
            )
        ),
        withheld=[("broken", *HALF[2], "the state was lost")],
    )
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


def refused(public: duckdb.DuckDBPyConnection, query: str) -> str:
    with pytest.raises(duckdb.InvalidInputException) as caught:
        public.execute(query)
    return str(caught.value).removeprefix("Invalid Input Error: ")


Q1, Q2 = "'2024-01-01', '2024-03-31'", "'2024-04-01', '2024-06-30'"


@pytest.mark.parametrize(
    "call, sentence",
    [
        ("plan', '2024-01-01', '2024-03-31'", 'there is no statistic "plan". Did you mean "plain"?'),
        (
            "later', '2024-01-01', '2024-03-31'",
            'no period of "later" is released yet. The table budget says since when',
        ),
        ("plain', NULL, '2024-03-31'", "start is NULL. Give it a value"),
        ("plain', '2024-01-01', NULL", "end is NULL"),
        ("plain', '2024-01-01', '2024-03-31', cells := NULL", "cells is NULL"),
        ("plain', '2024-01-01', '2024-03-31', level := NULL", "level is NULL"),
        ("plain', '2024-01-01', '2024-03-31', level := 80", "level := 80 is not offered. Choose 90, 95 or 99"),
        ("plain', 'soon', '2024-03-31'", "start: \"soon\" is no date. Write it as in '2024-01-31'"),
        ("plain', '2024-01-01', '2024-02-30'", 'end: "2024-02-30" is no date'),
        ("plain', '2024-03-01', '2024-01-31'", "the span is reversed: start is 2024-03-01, after end, 2024-01-31"),
        (
            "plain', '2024-01-15', '2024-04-10'",
            "not made of whole periods: plain is released by the month. The nearest whole span within it is 2024-02-01 "
            "to 2024-03-31, the nearest around it is 2024-01-01 to 2024-04-30",
        ),
        ("plain', '2024-01-15', '2024-01-20'", "The nearest whole span around it is 2024-01-01 to 2024-01-31"),
        (
            "plain', '2023-01-01', '2024-01-31'",
            "start is 2023-01-01, before the first released period: plain is released by the month, so far from "
            "2024-01-01 to 2024-06-30",
        ),
        ("plain', '2024-01-01', '2024-07-31'", "end is 2024-07-31, after the last released period"),
        (
            "broken', '2024-01-01', '2024-04-30'",
            "holds a period that is never released, 2024-03-01 to 2024-03-31: the state was lost",
        ),
        ("plain', '2024-01-01', '2024-01-31', cells := 'colour=RED'", 'has no dimension "colour". It has none'),
        ("detailed', '2024-01-01', '2024-01-31', cells := 'red'", '"red" is no condition. Did you mean "colour=RED"?'),
        (
            "detailed', '2024-01-01', '2024-01-31', cells := 'color=RED'",
            'has no dimension "color". Did you mean "colour"?',
        ),
        (
            "detailed', '2024-01-01', '2024-01-31', cells := 'colour=GREN'",
            'the dimension "colour" has no symbol "GREN". Did you mean "GREEN"? It has GREEN, NONE, RED',
        ),
        ("detailed', '2024-01-01', '2024-01-31', cells := 'colour=red'", 'Did you mean "RED"?'),
        (
            "detailed', '2024-01-01', '2024-01-31', cells := 'colour=RED, colour=GREEN'",
            'the dimension "colour" is named twice',
        ),
        ("detailed', '2024-01-01', '2024-01-31', cells := 'colour!=RED|GREEN'", "no cell is left"),
        ("detailed', '2024-01-01', '2024-01-31', cells := 'colour=NONE'", "no cell is left"),
    ],
)
def test_each_mistake_has_its_own_sentence(public: duckdb.DuckDBPyConnection, call: str, sentence: str) -> None:
    found = refused(public, f"FROM total('{call})")
    assert found.startswith("total(): ")
    assert sentence in found
    assert len(found) < 300


def test_a_null_and_a_foreign_type_are_refused_like_a_text(public: duckdb.DuckDBPyConnection) -> None:
    assert "statistic is NULL" in refused(public, f"FROM total(NULL, {Q1})")
    assert "there is no statistic" in refused(public, f"FROM total(7, {Q1})")
    assert 'start: "7" is no date' in refused(public, "FROM total('plain', 7, DATE '2024-03-31')")


@pytest.mark.parametrize(
    "call, sentence",
    [
        (f"'plain', {Q1}, '2024-04-01', '2024-04-30'", "of unequal length: 3 periods against 1"),
        (f"'plain', {Q1}, '2024-02-01', '2024-04-30'", "the two spans share days"),
        (f"'plain', {Q1}, '2024-04-01', '2024-04-20'", "not made of whole periods"),
        (f"'plain', {Q1}, 'then', '2024-06-30'", 'to_start: "then" is no date'),
        (f"'detailed', {Q1}, {Q2}, against := 'colour=BLUE'", 'against: the dimension "colour" has no symbol "BLUE"'),
        (f"'detailed', {Q1}, {Q1}, cells := 'colour=RED', against := 'urgent=true'", "cells and against share cells"),
        (f"'detailed', {Q1}, {Q1}, cells := 'colour=RED', against := ''", "use share() for a part of a whole"),
    ],
)
def test_a_comparison_of_what_cannot_be_compared_is_refused(
    public: duckdb.DuckDBPyConnection, call: str, sentence: str
) -> None:
    found = refused(public, f"FROM compare({call})")
    assert found.startswith("compare(): ")
    assert sentence in found


@pytest.mark.parametrize(
    "call, sentence",
    [
        (f"mean('bucketed', 'colour', {Q1})", 'mean(): the dimension "colour" has no buckets. Choose days'),
        (f"mean('detailed', 'colour', {Q1})", "No dimension of the statistic has: use total(), share() and ranking()"),
        (f"mean('bucketed', 'day', {Q1})", 'has no dimension "day". Did you mean "days"? It has colour, days'),
        (f"mean('plain', 'days', {Q1})", 'has no dimension "days". It has none'),
        (f"distribution('bucketed', NULL, {Q1})", "distribution(): dimension is NULL"),
        (f"distribution('buckets', 'days', {Q1})", 'there is no statistic "buckets". Did you mean "bucketed"?'),
        (f"distribution('bucketed', 'days', {Q1}, level := 80)", "level := 80 is not offered"),
        ("distribution('bucketed', 'days', '2024-01-01', '2024-02-03')", "is not made of whole periods"),
        (f"percentile('bucketed', 'days', {Q1}, 0.5)", 'percent: "0.5" is not offered. Choose a number from 1 to 99'),
        (f"percentile('bucketed', 'days', {Q1}, 'median')", "50 is the median"),
        (f"percentile('bucketed', 'days', {Q1}, NULL)", "percent is NULL"),
        (f"percentile('bucketed', 'days', {Q1}, 50, cells := 'days=7')", 'has no symbol "7"'),
        (
            f"percentile('bucketed', 'days', {Q1}, 50, cells := 'days=unknown')",
            'no bucket of "days" is left but the unknown',
        ),
    ],
)
def test_what_cannot_be_asked_of_buckets_is_refused(
    public: duckdb.DuckDBPyConnection, call: str, sentence: str
) -> None:
    assert sentence in refused(public, f"SELECT 1 FROM {call}")


@pytest.mark.parametrize(
    "call, sentence",
    [
        ("'colour=RED', of := 'colour=GREEN'", 'part: the symbol "RED" of "colour" is not within of'),
        ("'colour!=RED', of := 'colour=RED'", 'part: no cell is left of "colour" within of'),
        ("'colour=RED', of := 'color=RED'", 'of: the statistic has no dimension "color"'),
        ("NULL", "part is NULL"),
    ],
)
def test_a_part_that_is_none_is_refused(public: duckdb.DuckDBPyConnection, call: str, sentence: str) -> None:
    assert sentence in refused(public, f"FROM share('detailed', {Q1}, {call})")


def test_what_cannot_be_ranked_or_compared_with_a_year_before_is_refused(public: duckdb.DuckDBPyConnection) -> None:
    assert 'Did you mean "colour"? Choose one of colour, urgent, period' in refused(
        public, f"FROM ranking('detailed', {Q1}, by := 'color')"
    )
    assert "no period of plain has one a year before it" in refused(public, "FROM year_on_year('plain')")


WRONG = [
    f"total('plan', {Q1})",
    "total('plain', '2024-01-02', '2024-03-31')",
    "series('plan')",
    "series('detailed', cells := 'colour=BLUE')",
    "cumulative('plan')",
    "year_on_year('plain')",
    f"compare('plain', {Q1}, '2024-02-01', '2024-04-30')",
    f"share('detailed', {Q1}, 'colour=BLUE')",
    f"ranking('plain', {Q1}, by := 'x')",
]


def check_refused(public: duckdb.DuckDBPyConnection, call: str, columns: Sequence[str], more: str = "") -> None:
    for selected in columns:
        with pytest.raises(duckdb.InvalidInputException, match=call.partition("(")[0] + r"\(\): "):
            public.execute(f"SELECT {selected} FROM {call}{more}")


@pytest.mark.parametrize("call", WRONG)
def test_whatever_is_asked_of_the_answer_a_wrong_question_is_refused(
    public: duckdb.DuckDBPyConnection, call: str
) -> None:
    check_refused(public, call, ["1", "count(*)", "note"])
    check_refused(public, call, ["1"], " WHERE note = 'none' LIMIT 1")


@pytest.mark.soak
@pytest.mark.parametrize("call", WRONG)
def test_whichever_column_is_asked_a_wrong_question_is_refused(public: duckdb.DuckDBPyConnection, call: str) -> None:
    right = {"total": f"total('plain', {Q1})", "series": "series('plain')", "cumulative": "cumulative('plain')"}
    right |= {"share": f"share('detailed', {Q1}, 'colour=RED')", "ranking": f"ranking('plain', {Q1})"}
    right |= {"compare": f"compare('plain', {Q1}, {Q2})"}
    name = call.partition("(")[0]
    columns = ["period_start", "note", "percent_change"]
    if name in right:
        result = public.execute(f"FROM {right[name]} LIMIT 0")
        columns = [column[0] for column in result.description or []]
    check_refused(public, call, columns)


@pytest.mark.parametrize(
    "call",
    [
        "total(b.statistic, '2024-01-01', '2024-03-31')",
        "total('detailed', '2024-01-01', '2024-03-31', cells := 'colour=' || b.statistic)",
        "series(statistic)",
        "share('detailed', '2024-01-01', '2024-03-31', 'colour=' || b.statistic)",
        "compare('plain', t, '2024-01-31', '2024-02-01', '2024-02-29')",
    ],
)
def test_a_column_as_an_argument_is_refused_and_not_taken_for_one_of_ours(
    public: duckdb.DuckDBPyConnection, call: str
) -> None:
    query = f"FROM (SELECT statistic, '2024-01-01' AS t FROM budget) b, LATERAL (FROM {call}) x"
    with pytest.raises(duckdb.BinderException, match=r"Correlated columns not supported|Ambiguous reference"):
        public.execute(query)


def test_a_subquery_and_a_parameter_are_values(public: duckdb.DuckDBPyConnection) -> None:
    wanted = public.execute("FROM total('plain', '2024-01-01', '2024-03-31')").fetchall()
    query = "FROM total((SELECT min(statistic) FROM budget WHERE statistic = 'plain'), ?, '2024-03-31')"
    assert public.execute(query, ["2024-01-01"]).fetchall() == wanted
