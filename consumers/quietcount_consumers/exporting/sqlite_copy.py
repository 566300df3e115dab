"""statistics.sqlite: the same tables for SQLite, and metadata.json, which Datasette shows beside them."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb

from quietcount_consumers.exporting.licences import licence_of
from quietcount_consumers.exporting.published_tables import ExportedTable, Published, quoted

__all__ = ["datasette_metadata", "write_sqlite"]

DATABASE: Final = "statistics"

_FACETS: Final = ("statistic", "status", "reliability", "language", "kind")


def write_sqlite(connection: duckdb.DuckDBPyConnection, published: Published, path: Path) -> None:
    """Write the tables into a new SQLite file; views are tables there. Raises sqlite3.Error.

    A decimal becomes a floating-point number, because SQLite has no other; dates are text by ISO 8601.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        # It is a new file in a folder that is thrown away if this fails, so a journal would protect nothing.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")  # the whole folder is synced in the end
        copy.execute("BEGIN")
        for table in published.tables:
            copy.execute(_definition(table))
            places = ", ".join("?" * len(table.columns))
            rows = ([_value(value) for value in row] for row in table.rows(connection))
            copy.executemany(f"INSERT INTO {quoted(table.name)} VALUES ({places})", rows)
        copy.execute("COMMIT")


def _definition(table: ExportedTable) -> str:
    lines = [
        f"{quoted(column.name)} {_affinity(column.type)}{' NOT NULL' if column.required else ''}"
        for column in table.columns
    ]
    if table.key:
        lines.append(f"PRIMARY KEY ({', '.join(map(quoted, table.key))})")
    if table.is_described:
        lines.append("FOREIGN KEY (statistic) REFERENCES descriptions (statistic)")
    return f"CREATE TABLE {quoted(table.name)} ({', '.join(lines)})"


def _affinity(kind: str) -> str:
    if kind == "BOOLEAN" or kind.endswith("INT") or kind == "INTEGER":
        return "INTEGER"
    return "REAL" if kind == "DOUBLE" or kind.startswith("DECIMAL") else "TEXT"


def _value(value: Any) -> Any:
    match value:
        case Decimal():
            return float(value)
        case dt.datetime():
            return value.isoformat(sep=" ")
        case dt.date():
            return value.isoformat()
        case _:
            return value


def datasette_metadata(published: Published) -> str:
    """Return metadata.json: title, licence and source, and what each table and column means."""
    about = dict(_about(published))
    tables = {
        table.name: {
            "description": table.description,
            "columns": {column.name: column.description for column in table.columns if column.description},
            "facets": [column.name for column in table.columns if column.symbols or column.name in _FACETS],
        }
        for table in published.tables
    }
    document = {**about, "databases": {DATABASE: {**about, "tables": tables}}}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _about(published: Published) -> Iterator[tuple[str, str]]:
    publisher, contact = published.said("publisher"), published.said("contact")
    yield "title", f"Statistics of {publisher}" if publisher else "Statistics"
    yield "description", published.about["bound"]
    if licence := licence_of(published.said("licence")):
        yield "license", licence.title
        if licence.address:
            yield "license_url", licence.address
    yield "source", published.about["citation"]
    if contact.startswith("https://"):
        yield "source_url", contact
