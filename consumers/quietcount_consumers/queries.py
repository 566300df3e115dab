"""Queries: read-only SQL on the public file, from any process, also while the service runs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from quietcount_consumers.errors import ConsumersError
from quietcount_schemas.errors import Unavailable

__all__ = ["QueryError", "QueryHeld", "QueryUnanswered", "query"]

_MACRO = re.compile(r"\b(series|total|compare)\(\): ")  # what our macros say has its own remedy
_MEANT = re.compile(r'\nDid you mean "(.+)"\?')


class QueryError(ConsumersError):
    """A query that cannot be answered."""


class QueryUnanswered(QueryError):
    """A query that DuckDB does not answer. Its text has lines, so the remedy stands on a line of its own."""

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}" if self.remedy else self.what


class QueryHeld(QueryError, Unavailable):
    """A query that cannot be answered now; nothing is wrong with the file."""


def query(path: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one SQL statement on the published database and return its columns and rows.

    The connection reads that file and no other: the private state next to it is out of its reach. Raises QueryError,
    also for no statement and for more than one: of several, DuckDB answers only the last.
    """
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise QueryError("the query is not text: it holds bytes that are not UTF-8", "Write it in UTF-8") from None
    with _opened(path) as connection:
        try:
            statements = connection.extract_statements(sql)
            if not statements:
                raise QueryError("the query is empty", "Write one statement: FROM statistics")
            if len(statements) > 1:
                raise QueryError("the query is more than one statement", "Ask them one by one")
            result = connection.execute(statements[0])
            columns = [column[0] for column in result.description or []]
            rows: Sequence[tuple[Any, ...]] = result.fetchall() if columns else []
            return columns, list(rows)
        except duckdb.Error as error:
            raise _unanswered(error, connection) from None


def _unanswered(error: duckdb.Error, connection: duckdb.DuckDBPyConnection) -> QueryUnanswered:
    """Return what DuckDB says, which is about the query: the file holds nothing that is not public."""
    text, remedy = str(error).strip(), "See what there is with: FROM data_dictionary"
    if own := _MACRO.search(text):
        text, remedy = text[own.start() :], ""
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


def _opened(path: Path) -> duckdb.DuckDBPyConnection:
    if not path.exists():
        raise QueryError(
            f"{path}: is not there: nothing is published yet, or the file was removed",
            "If `quietcount run` runs, wait for its next tick; else start it, or run `quietcount release`. What was "
            "released comes back with the same values",
        )
    if not os.access(path, os.R_OK):
        raise QueryHeld(f"{path}: cannot be read", "Mend its rights")
    try:
        connection = duckdb.connect(str(path), read_only=True, config=_config())
        if connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'about'").fetchone():
            return connection
        connection.close()
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise QueryHeld(
                f"{path}: another program has it open to write", "End that program, then ask again"
            ) from None
    except duckdb.Error:
        pass
    raise QueryError(
        f"{path}: is damaged, or not a file that quietcount published",
        "Move it away: `quietcount run` brings it back from the ledger",
    )


def _config() -> dict[str, str | bool | int | float | list[str]]:
    return {"enable_external_access": "false", "autoinstall_known_extensions": "false"}
