"""Queries: read-only SQL on the public file, from any process, also while the service runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from quietcount_consumers.errors import ConsumersError
from quietcount_schemas.errors import Unavailable

__all__ = ["QueryError", "QueryHeld", "query"]


class QueryError(ConsumersError):
    """A query that cannot be answered."""


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
            # DuckDB's text is about the query, and the file holds nothing that is not public.
            raise QueryError(
                f"the query was not answered: {str(error).strip()}", "See what there is with: FROM data_dictionary"
            ) from None


def _opened(path: Path) -> duckdb.DuckDBPyConnection:
    if not path.exists():
        raise QueryError(
            f"{path}: is not there: nothing is published yet, or the file was removed",
            "Start `quietcount run`, or run `quietcount release`: what was released comes back with the same values",
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
