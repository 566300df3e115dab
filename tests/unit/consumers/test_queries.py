"""Queries on a published file, and what is said of those that cannot be answered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from quietcount_aggregates.errors import PublicationHeld
from quietcount_aggregates.publication import published_head
from quietcount_consumers.queries import QueryError, QueryHeld, query

pytestmark = pytest.mark.quick


@pytest.fixture
def public(tmp_path: Path) -> Path:
    path = tmp_path / "statistics.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE about (key VARCHAR)")
        connection.execute("CREATE TABLE t AS SELECT 'a' AS kind, 1 AS n UNION ALL SELECT 'b', 2")
    return path


@pytest.mark.parametrize(
    "sql", ["SELECT kind, n FROM t ORDER BY ALL", "FROM t ORDER BY ALL;", "FROM t ORDER BY ALL; -- that is all"]
)
def test_one_statement_is_answered(public: Path, sql: str) -> None:
    assert query(public, sql) == (["kind", "n"], [("a", 1), ("b", 2)])


def test_a_pivot_is_one_statement(public: Path) -> None:
    assert query(public, "PIVOT t ON kind USING sum(n)") == (["a", "b"], [(1, 2)])


@pytest.mark.parametrize("sql", ["", "  ", ";", " ; ", "-- FROM t"])
def test_an_empty_query_is_refused(public: Path, sql: str) -> None:
    with pytest.raises(QueryError, match="the query is empty"):
        query(public, sql)


@pytest.mark.parametrize("sql", ["FROM t; FROM t", "SET threads = 1; FROM t", "FROM t;\n;FROM t"])
def test_several_statements_are_refused(public: Path, sql: str) -> None:
    with pytest.raises(QueryError, match="more than one statement"):
        query(public, sql)


@pytest.mark.parametrize("sql", ["SELEC", "FROM nothing", "SELECT 1/", "SELECT \udcff"])
def test_a_query_that_cannot_be_read_is_a_query_error(public: Path, sql: str) -> None:
    with pytest.raises(QueryError, match="the query"):
        query(public, sql)


def refusal(public: Path, sql: str) -> list[str]:
    with pytest.raises(QueryError) as caught:
        query(public, sql)
    return str(caught.value).splitlines()


def test_the_remedy_stands_on_a_line_of_its_own(public: Path) -> None:
    for sql in ("FROM nope", "SELECT 1/", "SELECT nope FROM t"):
        assert refusal(public, sql)[-1] == "See what there is with: FROM data_dictionary"


@pytest.mark.parametrize("sql, proposed", [("FROM nope", False), ("FROM abuot", True), ("SELECT summ(1)", True)])
def test_a_table_is_proposed_only_if_the_file_has_it(public: Path, sql: str, proposed: bool) -> None:
    said = refusal(public, sql)
    assert any(line.startswith("Did you mean") for line in said) is proposed
    assert "does not exist!" in said[0]


@pytest.mark.parametrize("sql", ["DELETE FROM t", "CREATE TABLE u AS FROM t", "DROP TABLE t", "UPDATE t SET n = 2"])
def test_a_statement_that_writes_is_told_that_the_file_is_for_reading_only(public: Path, sql: str) -> None:
    assert refusal(public, sql) == [
        "the query was not answered: the published file is for reading only",
        "Ask with SELECT or FROM",
    ]


@pytest.mark.parametrize("macro", ["series", "total", "compare"])
def test_what_a_macro_says_is_the_whole_message(public: Path, macro: str) -> None:
    assert refusal(public, f"SELECT error('{macro}(): do this') FROM t") == [
        f"the query was not answered: {macro}(): do this"
    ]


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_foreign_file_in_the_place_of_the_public_one_may_be_deleted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "statistics.duckdb"
    path.write_bytes(content)
    with pytest.raises(QueryError, match="Move it away: `quietcount run` brings it back"):
        query(path, "SELECT 1")


def test_somebody_elses_database_in_the_place_of_the_public_one_may_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "statistics.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE statistics (a INTEGER)")
    with pytest.raises(QueryError, match="Move it away: `quietcount run` brings it back"):
        query(path, "FROM statistics")


def test_a_damaged_file_in_the_place_of_the_public_one_may_be_deleted(public: Path) -> None:
    with public.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(QueryError, match="Move it away: `quietcount run` brings it back"):
        query(public, "FROM t")


def test_a_file_that_another_program_writes_to_is_not_called_damaged(public: Path) -> None:
    """Somebody who moves it away takes the witness of how new the ledger must be."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(public)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(QueryHeld) as asked:
            query(public, "FROM t")
        with pytest.raises(PublicationHeld) as read:
            published_head(public)
        holder.communicate()
    for error in (asked.value, read.value):
        assert "another program has it open to write" in error.what
        assert "Move it away" not in str(error)
