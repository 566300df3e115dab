"""Queries on a published file, and what is said of those that cannot be answered."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import re
import threading
import time
import types
from pathlib import Path

import duckdb
import pytest
from tests.holders import holding

from quietcount_aggregates.errors import PublicationHeld
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.publication import published_file
from quietcount_aggregates.publication.publication import published_head
from quietcount_consumers import queries
from quietcount_consumers.queries import QueryError, QueryHeld, query

pytestmark = pytest.mark.quick


HEAD = Head(3, bytes(range(32)))


@pytest.fixture
def public(tmp_path: Path) -> Path:
    path = tmp_path / "statistics.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE about AS FROM (VALUES ('ledger_length', '3')) t(key, value)")
        connection.execute("INSERT INTO about VALUES ('ledger_head', ?)", [HEAD.digest.hex()])
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


def test_a_file_that_another_program_holds_open_to_write_is_answered_and_not_called_damaged(public: Path) -> None:
    """Somebody who moves it away takes the witness of how new the ledger must be."""
    with holding(public):
        assert query(public, "FROM t ORDER BY ALL") == (["kind", "n"], [("a", 1), ("b", 2)])
        assert published_head(public) == HEAD
        with pytest.raises(QueryError, match="for reading only"):
            query(public, "DELETE FROM t")


def test_what_another_program_wrote_beside_the_file_is_no_part_of_the_answer(public: Path) -> None:
    with holding(public, "DELETE FROM t; UPDATE about SET value = '0' WHERE key = 'ledger_length'"):
        assert public.with_name("statistics.duckdb.wal").exists()
        assert len(query(public, "FROM t")[1]) == 2
        assert published_head(public) == HEAD


def test_a_held_file_of_which_no_copy_can_be_made_is_held_and_not_damaged(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: Path, _copy: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with holding(public), monkeypatch.context() as patch:
        patch.setattr(published_file, "_copy", full)
        with pytest.raises(QueryHeld) as asked:
            query(public, "FROM t")
        with pytest.raises(PublicationHeld) as read:
            published_head(public)
    for error in (asked.value, read.value):
        assert "another program has it open to write" in error.what
        assert "No space left" in error.what
        assert "Move it away" not in str(error)


# Moments, settings, interruption


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT now() AS a",
        "SELECT now() AS a -- ; that is all",
        "SELECT now() AS a /* ; */ ; -- é;",
        "WITH w AS (SELECT now() AS a) FROM w ORDER BY 1;",
        "VALUES (now())",
    ],
)
def test_now_is_answered_in_utc(public: Path, sql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    [(moment,)] = query(public, sql)[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00", moment)
    assert abs(dt.datetime.fromisoformat(moment) - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


def test_moments_within_other_values_keep_the_names_and_the_order(public: Path) -> None:
    moment = "'2024-01-01 10:00:00+02'::TIMESTAMPTZ"
    columns, rows = query(
        public, f"""SELECT n, [{moment}] AS "a""b", {{'x': {moment}}} AS s, kind AS n FROM t ORDER BY n DESC"""
    )
    text = "2024-01-01 08:00:00+00"
    assert columns == ["n", 'a"b', "s", "n"]
    assert rows == [(2, [text], {"x": text}, "b"), (1, [text], {"x": text}, "a")]


@pytest.mark.parametrize(
    "sql",
    [
        "SET threads = 1",
        "SET TimeZone = 'Asia/Tokyo'",
        "RESET threads",
        "PRAGMA threads = 1",
        "SET temp_directory = '/tmp'",
    ],
)
def test_no_setting_can_be_changed(public: Path, sql: str) -> None:
    assert "configuration has been locked" in refusal(public, sql)[0]


def test_a_query_sees_no_variable_of_this_program(public: Path) -> None:
    rows = [(1,)]
    assert "does not exist" in refusal(public, "FROM rows")[0]
    assert rows


class Interrupted(threading.Event):
    """An event that a person interrupts as soon as somebody waits for it."""

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None:
            super().wait(0.3)
            raise KeyboardInterrupt
        return super().wait(timeout)


def check_interruption(public: Path, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    """A long query that is interrupted leaves no thread at work."""
    monkeypatch.setattr(queries, "threading", types.SimpleNamespace(Event=Interrupted, Thread=threading.Thread))
    with pytest.raises(KeyboardInterrupt):
        query(public, sql)
    deadline = time.monotonic() + 2
    while busy() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not busy()


def busy() -> bool:
    return any(thread.name == "quietcount-query" for thread in threading.enumerate())


LONG = [
    "SELECT count(*) FROM range(10000000) a, range(100000) b",
    "FROM range(30000000)",  # which is long to make objects of
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10000000) SELECT max(n) FROM r",
]


@pytest.mark.parametrize("sql", LONG)
def test_a_long_query_that_is_interrupted_ends(public: Path, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    check_interruption(public, monkeypatch, sql)


def test_a_twin_that_does_not_interrupt_the_query_is_found(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[duckdb.DuckDBPyConnection] = []

    def opened(path: Path, settings: published_file.Settings) -> duckdb.DuckDBPyConnection:
        connections.append(published_file.opened(path, settings))
        return connections[0]

    monkeypatch.setattr(queries, "opened", opened)
    monkeypatch.setattr(queries, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(AssertionError):
        check_interruption(public, monkeypatch, LONG[0])
    while busy():
        with contextlib.suppress(duckdb.ConnectionException):  # it was closed just now
            connections[0].interrupt()
        time.sleep(0.02)
