"""The tests of the macros see it if a safeguard of theirs is taken away."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.questions_world import Table, alone, cells_and_total, exchange, months, months_and_quarters, written

pytestmark = pytest.mark.quick

MONTHS = months(dt.date(2024, 1, 1), 4)
QUARTER = [(MONTHS[0][0], MONTHS[2][1])]
FOUR = "'2024-01-01', '2024-04-30'"
ONE, HALF = "'2024-01-01', '2024-01-31'", "'2024-01-15', '2024-02-29'"


def public(path: Path) -> Path:
    # Scales that are large, so that whole numbers show each difference.
    by_kind = Table("kinds", 40.0, MONTHS, [[900.0] * 3] * 4, {"kind": ("A", "B", "C")})
    monthly = Table("monthly", 40.0, MONTHS, [[900.0]] * 4)
    return written(
        path,
        alone(Table("plain", 2.0, MONTHS, [[50.0]] * 4, {"colour": ("RED",)})),
        months_and_quarters("timed", monthly, Table("quarterly", 20.0, QUARTER, [[2700.0]])),
        cells_and_total("parts", by_kind, Table("everything", 20.0, MONTHS, [[2700.0]] * 4)),
        alone(
            Table(
                "bucketed",
                2.0,
                MONTHS,
                [[90.0, 80.0, 15.0, 50.0]] * 4,
                {"days": ("0..6", "7..29", "30+", "unknown")},
                buckets={"days": [(0, 6), (7, 29), (30, 99), None]},
            )
        ),
        alone(Table("broken", 2.0, [MONTHS[0], *MONTHS[2:]], [[50.0]] * 3)),
        withheld=[("broken", *MONTHS[1], "the state was lost")],
    )


@pytest.fixture(scope="module")
def right_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The file, opened once: a mutant lives in a transaction that is rolled back."""
    with duckdb.connect(str(public(tmp_path_factory.mktemp("mutants") / "right.duckdb"))) as connection:
        yield connection


def answer(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]] | str:
    try:
        return connection.execute(query).fetchall()
    except duckdb.Error as error:
        return str(error)


@pytest.mark.parametrize(
    "query, mutation",
    [
        # what the noise is made of
        (f"FROM total('kinds', {ONE}, cells := 'kind=A')", (" - k.share_a", "")),
        (f"FROM total('kinds', {ONE}, cells := 'kind=A')", ("product(h.share_a)", "1")),
        ("FROM total('monthly', '2024-01-01', '2024-02-29')", ("sum(draws) AS draws", "1 AS draws")),
        (f"FROM total('monthly', {ONE})", ("abs(g.alpha * d.weight_a", "(g.alpha * d.weight_a")),
        (f"FROM total('monthly', {ONE})", ("list_contains(l.places_a, w.place)", "true")),
        # what is asked of buckets
        (
            f"FROM percentile('bucketed', 'days', {ONE}, 50)",
            ("sum(i.estimate) FILTER (i.least IS NOT NULL)", "sum(i.estimate)"),
        ),
        (f"FROM mean('bucketed', 'days', {ONE})", ("OR b.lower IS NOT NULL)", "OR true)")),
        (f"FROM percentile('bucketed', 'days', {FOUR}, 49)", ("AND d < -around", "AND d < 0")),
        (f"FROM percentile('bucketed', 'days', {FOUR}, 48)", ("d >= around AS reached", "d >= 0 AS reached")),
        (f"FROM mean('bucketed', 'days', {ONE})", ("CASE e.s WHEN 1 THEN i.least ELSE i.most END", "i.least")),
        (f"FROM mean('bucketed', 'days', {ONE})", ("WHERE i.least IS NOT NULL\n    GROUP BY", "GROUP BY")),
        # what is refused
        (f"SELECT 1 FROM percentile('bucketed', 'days', {ONE}, 100)", ("BETWEEN 1 AND 99, false)", "> 0, false)")),
        (f"FROM total('plain', {HALF})", ("OR NOT whole", "")),
        ("FROM total('broken', '2024-01-01', '2024-03-31')", ("OR why IS NOT NULL OR", "OR")),
        (f"FROM total('plain', {ONE}, cells := 'colour=GREEN')", ("NOT bool_or(t.symbol = w.symbol)", "false")),
        (f"FROM total('plain', {ONE}, level := 80)", ("NOT IN (90, 95, 99)", "IS NULL")),
        (f"SELECT 1 FROM total('plan', {ONE})", ("CASE WHEN problem IS NULL", "CASE WHEN true")),
        (f"FROM compare('plain', {ONE}, {ONE})", ("GROUP BY y.dimension HAVING NOT bool_or(y.in_a AND y.in_b)", "")),
        (f"FROM share('kinds', {ONE}, 'kind=A', of := 'kind=B|C')", ("AND y.in_b AND NOT y.in_a", "AND false")),
    ],
    ids=str,
)  # fmt: skip
def test_a_macro_without_one_of_its_safeguards_answers_otherwise(
    right_file: duckdb.DuckDBPyConnection, query: str, mutation: tuple[str, str]
) -> None:
    right = answer(right_file, query)
    macro = query.partition("FROM ")[2].partition("(")[0]
    right_file.execute("BEGIN")
    try:
        exchange(right_file, macro, *mutation)
        wrong = answer(right_file, query)
    finally:
        right_file.execute("ROLLBACK")
    print(right, wrong)
    assert right != wrong


@pytest.mark.parametrize("query", [f"FROM total('plain', {ONE})", f"FROM total('plain', {HALF})"])
def test_a_macro_that_is_written_again_as_it_was_answers_the_same(
    right_file: duckdb.DuckDBPyConnection, query: str
) -> None:
    """What tells a mutant is what was exchanged, and not the exchange."""
    right = answer(right_file, query)
    right_file.execute("BEGIN")
    try:
        exchange(right_file, "total", "OR NOT whole", "OR NOT whole")
        again = answer(right_file, query)
    finally:
        right_file.execute("ROLLBACK")
    assert again == right


def test_two_editions_without_the_guard_answer_from_the_wrong_one(tmp_path: Path) -> None:
    mutation = ("AND len(names) > 1", "AND false")
    with duckdb.connect() as connection:
        for name, estimate in (("a", 50.0), ("b", 70.0)):
            table = Table("plain", 2.0, MONTHS, [[estimate]] * 4)
            path = written(tmp_path / f"{name}.duckdb", alone(table))
            with duckdb.connect(str(path)) as file:
                exchange(file, "total", *mutation)
            connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
        connection.execute("USE a")
        assert connection.execute(f"SELECT shown FROM b.total('plain', {ONE})").fetchall() == [(50,)]
