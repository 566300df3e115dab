"""Queries: read-only SQL on the public file, from any process, also while the service runs."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

import duckdb

from quietcount_aggregates.errors import PublicationHeld
from quietcount_aggregates.publication.published_file import Settings, opened
from quietcount_consumers.errors import ConsumersError
from quietcount_schemas.errors import Unavailable

__all__ = ["QueryError", "QueryHeld", "QueryUnanswered", "connected", "damaged", "describe", "query"]

# What our macros say has its own remedy.
_MACRO = re.compile(
    r"\b(total|series|cumulative|compare|year_on_year|share|ranking|distribution|percentile|mean)\(\): "
)
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"
_QUOTE: Final = '"'

_FETCHED: Final = 10_000
"""Rows that are fetched between two looks for an interruption: some hundredths of a second."""

_PATIENCE_SECONDS: Final = 1.0
"""How long an interrupted query may take to end. DuckDB does not look up amid one call of a function."""

_PAUSE_SECONDS: Final = 0.02

_Rows = tuple[list[str], list[tuple[Any, ...]]]

_MEANT = re.compile(r'\nDid you mean "(.+)"\?')


class QueryError(ConsumersError):
    """A query that cannot be answered."""


class QueryUnanswered(QueryError):
    """A query that DuckDB does not answer. Its text has lines, so the remedy stands on a line of its own."""

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}" if self.remedy else self.what


class QueryHeld(QueryError, Unavailable):
    """A query that cannot be answered now; nothing is wrong with the file."""


def query(path: Path, sql: str, *, alone: bool = False) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one SQL statement on the published database and return its columns and rows.

    The connection reads that file and no other: the private state next to it is out of its reach. The time zone is UTC,
    and a moment with a time zone is text. `alone` says that no project is around the file, which could bring it back.
    Raises QueryError, also for no statement and for more than one: of several, DuckDB answers only the last.
    KeyboardInterrupt stops the query.
    """
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise QueryError("the query is not text: it holds bytes that are not UTF-8", "Write it in UTF-8") from None
    return _interruptible(connected(path, alone=alone), lambda connection: _answer(connection, sql))


def describe(path: Path, *, alone: bool = False) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return what is in the published database: views, macros and tables, each followed by its columns."""
    text = resources.files("quietcount_consumers").joinpath("describe.sql").read_text(encoding="utf-8")
    return query(path, text, alone=alone)


def _answer(connection: duckdb.DuckDBPyConnection, sql: str) -> _Rows:
    try:
        statements = connection.extract_statements(sql)
        if not statements:
            raise QueryError("the query is empty", "Write one statement: FROM statistics")
        if len(statements) > 1:
            raise QueryError("the query is more than one statement", "Ask them one by one")
        connection.execute(_without_zones(connection, statements[0]))
        columns = [column[0] for column in connection.description or []]
        rows: list[tuple[Any, ...]] = []
        # Not all at once: DuckDB would not hear an interruption before it has made an object of every value.
        while columns and (more := connection.fetchmany(_FETCHED)):
            rows += more
        return columns, rows
    except duckdb.Error as error:
        raise _unanswered(error, connection) from None


def _without_zones(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> duckdb.Statement | str:
    """Return the statement, with each moment that has a time zone as text: for objects DuckDB needs pytz."""
    if statement.type != duckdb.StatementType.SELECT:
        return statement
    relation = connection.sql(statement)
    types = [str(each) for each in relation.types]
    if not any(_ZONED in each for each in types):
        return statement
    columns = (
        f'CAST(#{place} AS {each.replace(_ZONED, "VARCHAR")}) AS "{name.replace(_QUOTE, 2 * _QUOTE)}"'
        for place, (name, each) in enumerate(zip(relation.columns, types, strict=True), 1)
    )
    # On lines of its own, because the query may end in a comment.
    return f"SELECT {', '.join(columns)} FROM (\n{_unended(statement.query)}\n)"


def _unended(statement: str) -> str:
    """Return the text of a statement without its semicolon and what follows that, so that it can stand in brackets."""
    text = statement.encode()
    ends = (place for place, _ in duckdb.tokenize(statement) if text[place : place + 1] == b";")
    return text[: next(ends, len(text))].decode()


def _interruptible(
    connection: duckdb.DuckDBPyConnection, asking: Callable[[duckdb.DuckDBPyConnection], _Rows]
) -> _Rows:
    """Ask in another thread, and close the connection there: Python hears ^C only if its main thread is not in DuckDB.

    A query that does not hear the interruption within a moment goes on in that thread, which keeps no process alive.
    """
    done = threading.Event()
    answers: list[_Rows] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            with connection:
                answers.append(asking(connection))
        except BaseException as error:  # to be raised where it was asked
            errors.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=ask, name="quietcount-query", daemon=True).start()
        done.wait()  # not the thread's `join`, which takes a thread that was waited for amid ^C for ended
    except KeyboardInterrupt:
        patience = time.monotonic() + _PATIENCE_SECONDS
        while not done.is_set() and time.monotonic() < patience:
            with contextlib.suppress(duckdb.ConnectionException):  # it was closed just now
                connection.interrupt()  # again and again: it may come before the query began
            done.wait(_PAUSE_SECONDS)
        raise
    for error in errors:
        raise error
    return answers[0]


def _unanswered(error: duckdb.Error, connection: duckdb.DuckDBPyConnection) -> QueryUnanswered:
    """Return what DuckDB says, which is about the query: the file holds nothing that is not public."""
    text, remedy = str(error).strip(), "See what there is with: FROM data_dictionary"
    if own := _MACRO.search(text):
        text, remedy = text[own.start() :], ""
    elif "Correlated columns not supported in LIMIT" in text:
        text, remedy = "an argument of a macro is a value, and no column of another table", "Ask once for each value"
    elif "file system operations are disabled" in text:
        text, remedy = "a query reads this file alone and writes none", "Keep the answer with: --format csv > FILE.csv"
    elif "read-only mode" in text:
        text, remedy = "the published file is for reading only", "Ask with SELECT or FROM"
    elif "Table with name" in text and (meant := _MEANT.search(text)) and not _is_there(meant[1], connection):
        # DuckDB proposes tables of its own catalog too.
        text = text.replace(meant[0], "")
    return QueryUnanswered(f"the query was not answered: {text}", remedy)


def _is_there(name: str, connection: duckdb.DuckDBPyConnection) -> bool:
    tables = "SELECT table_name FROM duckdb_tables() WHERE NOT internal"
    views = "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    return (name,) in connection.execute(f"{tables} UNION ALL {views}").fetchall()


def connected(path: Path, *, alone: bool = False, folder: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open the published database for reading only; the connection reaches that file alone.

    It may also write files into `folder`, if one is named. `alone` says that no project is around the file. Raises
    QueryError for a file that is missing, damaged, or not ours.
    """
    if not path.exists():
        raise QueryError(
            f"{path}: is not there: nothing is published yet, or the file was removed",
            "If `quietcount run` runs, wait for its next tick; else start it, or run `quietcount release`. What was "
            "released comes back with the same values",
        )
    if not os.access(path, os.R_OK):
        raise QueryHeld(f"{path}: cannot be read", "Mend its rights")
    try:
        connection = opened(path, _settings(folder))
        if connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'about'").fetchone():
            return _settled(connection, folder)
        connection.close()
    except PublicationHeld as error:
        raise QueryHeld(error.what, error.remedy) from None
    except duckdb.Error:
        pass
    raise damaged(path, alone=alone)


def damaged(path: Path, *, alone: bool) -> QueryError:
    """Return the error for a file that cannot be read to its end, or that is none of ours."""
    return QueryError(
        f"{path}: is damaged, or not a file that quietcount published",
        "Name another file" if alone else "Move it away: `quietcount run` brings it back from the ledger",
    )


def _settled(connection: duckdb.DuckDBPyConnection, folder: Path | None) -> duckdb.DuckDBPyConnection:
    """Make the settings that DuckDB takes only when it is open, and let none be changed from here on."""
    if folder is not None:
        quoted = str(folder).replace("'", "''")
        connection.execute(f"SET allowed_directories = ['{quoted}']; SET enable_external_access = false")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # it would be written to where the answer goes
    connection.execute("SET lock_configuration = true")
    return connection


def _settings(folder: Path | None) -> Settings:
    # DuckDB takes no folder as allowed before it is open, nor after this setting: see `_settled`.
    access: Settings = {"enable_external_access": "false"} if folder is None else {}
    return {
        **access,
        "autoinstall_known_extensions": "false",
        # A table that is not there would be looked for among the variables of this program.
        "python_enable_replacements": "false",
    }
