"""The Parquet files: written by DuckDB, with what the file says of itself as their metadata."""

from __future__ import annotations

from pathlib import Path

import duckdb

from quietcount_consumers.exporting.published_tables import ExportedTable, Published

__all__ = ["write_parquet"]


def write_parquet(
    connection: duckdb.DuckDBPyConnection, published: Published, table: ExportedTable, path: Path
) -> None:
    """Write a table as a Parquet file into a folder that the connection may write to. Raises duckdb.Error."""
    said = {
        "title": table.name,
        "description": table.description,
        "publisher": published.said("publisher"),
        "licence": published.said("licence"),
        "citation": published.about["citation"],
        "bound": published.about["bound"],
    }
    words = ", ".join(f"{key}: {_literal(value)}" for key, value in said.items() if value)
    # Its default compression, snappy, is what most readers know.
    connection.execute(f"COPY ({table.select}) TO {_literal(str(path))} (FORMAT parquet, KV_METADATA {{{words}}})")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
