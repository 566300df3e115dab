"""Queries: read-only SQL on the public file, from any process, also while the service runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from quietcount_consumers.errors import ConsumersError

__all__ = ["QueryError", "query"]


class QueryError(ConsumersError):
    """A query that cannot be answered."""


def query(path: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one SQL statement on the published database and return its columns and rows.

    The connection reads that file and no other: the private state next to it is out of its reach. Raises QueryError,
    also for no statement and for more than one: of several, DuckDB answers the last alone.
    """
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise QueryError("the query is not text: it holds bytes that are not UTF-8") from None
    with _opened(path) as connection:
        try:
            statements = connection.extract_statements(sql)
            if not statements:
                raise QueryError("the query is empty; write one statement: FROM statistics")
            if len(statements) > 1:
                raise QueryError("the query is more than one statement; ask them one by one")
            result = connection.execute(statements[0])
            columns = [column[0] for column in result.description or []]
            rows: Sequence[tuple[Any, ...]] = result.fetchall() if columns else []
            return columns, list(rows)
        except duckdb.Error as error:
            # What DuckDB says is about the query, and the file holds nothing that may not be told.
            raise QueryError(f"the query was not answered: {str(error).strip()}") from None


def _opened(path: Path) -> duckdb.DuckDBPyConnection:
    if not path.exists():
        raise QueryError(f"{path}: nothing is published yet; `quietcount run` or `quietcount release` publishes")
    if not os.access(path, os.R_OK):
        raise QueryError(f"{path}: cannot be read; mend its rights")
    try:
        connection = duckdb.connect(str(path), read_only=True, config=_config())
        if connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'about'").fetchone():
            return connection
        connection.close()
    except duckdb.Error:
        pass
    raise QueryError(
        f"{path}: is damaged, or not a file that quietcount published. Move it away: `quietcount run` brings it back "
        "from the ledger"
    )


def _config() -> dict[str, str | bool | int | float | list[str]]:
    return {"enable_external_access": "false", "autoinstall_known_extensions": "false"}
