"""Queries: read-only SQL on the public file, from any process, also while the service runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from .errors import ConsumersError

__all__ = ["QueryError", "query"]


class QueryError(ConsumersError):
    """A query that cannot be answered."""


def query(path: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run one SQL statement on the published database and return its columns and rows.

    The connection reads that file and no other: the private state next to it is out of its reach.
    """
    if not path.exists():
        raise QueryError(f"{path}: nothing is published yet; `quietcount run` or `quietcount release` publishes")
    try:
        with duckdb.connect(str(path), read_only=True, config=_config()) as connection:
            result = connection.execute(sql)
            columns = [column[0] for column in result.description or []]
            rows: Sequence[tuple[Any, ...]] = result.fetchall() if columns else []
            return columns, list(rows)
    except duckdb.IOException:
        raise QueryError(
            f"{path}: cannot be opened; check that it is readable and was published by quietcount"
        ) from None
    except duckdb.Error as error:
        # What DuckDB says is about the query, and the file holds nothing that may not be told.
        raise QueryError(f"the query was not answered: {str(error).strip()}") from None


def _config() -> dict[str, str | bool | int | float | list[str]]:
    return {"enable_external_access": "false", "autoinstall_known_extensions": "false"}
