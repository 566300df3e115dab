"""What is exported: the tables of the published file that people read, as the file itself describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import duckdb

__all__ = ["Column", "ExportedTable", "Published", "published_tables", "quoted"]

_READ: Final = 10_000
"""Rows that are in memory at once."""

_LEFT_OUT: Final = ("ledger", "noise_%")
"""The chain is for those who check it and the noise is for the macros: both need DuckDB, and the file as it is."""

_FIRST: Final = ("statistics", "margins", "averages", "buckets", "descriptions", "labels", "notes", "withheld")

# What names a row. A title of a dimension has the symbol '' in `labels`, which a CSV file cannot tell from nothing, so
# `labels` has no key.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "statistics": ("statistic", "period_start", "cell"),
    "margins": ("statistic", "dimension", "symbol", "period", "period_start"),
    "averages": ("statistic", "period", "period_start", "cell"),
    "buckets": ("population", "dimension", "symbol"),
    "descriptions": ("statistic",),
    "withheld": ("statistic", "period_start"),
    "budget": ("statistic",),
    "about": ("key",),
}
_DESCRIBED: Final = ("statistics", "margins", "averages", "notes", "withheld", "budget")
"""Each `statistic` of these tables has its row in `descriptions`."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type is that of DuckDB, and its description is the comment in the file."""

    name: str
    type: str
    description: str
    required: bool
    symbols: tuple[str, ...] = ()
    """Of a dimension of a view: its symbols, in their order. Empty for every other column."""


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """A table, or the view of a statistic with its dimensions as columns."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    is_described: bool
    """Whether each of its statistics has a row in `descriptions`."""
    is_view: bool
    select: str = field(repr=False)

    @property
    def counts(self) -> bool:
        """Whether its rows are counts, and not averages or words."""
        return any(column.name == "shown" for column in self.columns)

    def rows(self, connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
        """Yield the rows in the order of the published file."""
        connection.execute(self.select)
        while rows := connection.fetchmany(_READ):
            yield from rows


@dataclass(frozen=True, slots=True)
class Published:
    """What is exported of one published file, and what the file says of itself."""

    tables: tuple[ExportedTable, ...]
    about: Mapping[str, str]
    descriptions: tuple[Mapping[str, Any], ...]
    titles: Mapping[str, str]
    """What people read for a dimension (in English), as far as the schemas say it."""

    def said(self, key: str) -> str:
        """Return what `about` says under a key; empty if nobody stated it."""
        value = self.about.get(key, "")
        return "" if value in ("not stated", "none") else value


def published_tables(connection: duckdb.DuckDBPyConnection) -> Published:
    """Read what there is to export. Views come first among equals: most readers want one of them."""
    descriptions = tuple(_objects(connection, "FROM descriptions"))
    titles = dict(
        connection.execute("SELECT dimension, min(label) FROM labels WHERE symbol = '' AND language = 'en' GROUP BY 1")
        .fetchall()
    )  # fmt: skip
    dimensions = {
        row["statistic"]: tuple(row["dimensions"].split(", ")) if row["dimensions"] != "none" else ()
        for row in descriptions
    }
    names = connection.execute(
        "SELECT view_name, comment, true FROM duckdb_views() WHERE NOT internal UNION ALL "
        "SELECT table_name, comment, false FROM duckdb_tables() WHERE NOT internal"
        + "".join(f" AND table_name NOT LIKE '{pattern}'" for pattern in _LEFT_OUT)
    ).fetchall()
    kept = {name for name, _, _ in names}
    tables = [
        _table(connection, name, comment or "", dimensions.get(name, ()) if is_view else None, kept)
        for name, comment, is_view in names
    ]
    return Published(
        tuple(sorted(tables, key=_place)),
        dict(connection.execute("SELECT key, value FROM about").fetchall()),
        descriptions,
        titles,
    )


def quoted(name: str) -> str:
    """Return a name of a table or a column as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _table(
    connection: duckdb.DuckDBPyConnection, name: str, comment: str, dimensions: tuple[str, ...] | None, kept: set[str]
) -> ExportedTable:
    found = connection.execute(
        "SELECT column_name, data_type, comment, NOT is_nullable FROM duckdb_columns() "
        "WHERE table_name = ? AND NOT internal ORDER BY column_index",
        [name],
    ).fetchall()
    names = [row[0] for row in found]
    select = f"FROM {quoted(name)}"
    if name == "data_dictionary":
        # The macros and the other tables are not in the export.
        listed = ", ".join("'" + each.replace("'", "''") + "'" for each in sorted(kept))
        select += f" WHERE table_name IN ({listed})"
    key = _KEYS.get(name, ()) if dimensions is None else ("period_start", *dimensions)
    columns = tuple(
        Column(
            column,
            kind,
            text or "",
            required or column in key,
            _symbols(connection, name, column) if column in (dimensions or ()) else (),
        )
        for column, kind, text, required in found
    )
    return ExportedTable(
        name,
        comment,
        columns,
        key if set(key) <= set(names) else (),
        name in _DESCRIBED and "statistic" in names,
        dimensions is not None,
        select,
    )


def _symbols(connection: duckdb.DuckDBPyConnection, view: str, column: str) -> tuple[str, ...]:
    """Return the symbols of a dimension in their order: each release has all of them."""
    name = quoted(column)
    rows = connection.execute(f"SELECT {name} FROM {quoted(view)} WHERE period_start = (SELECT min(period_start) "
                              f"FROM {quoted(view)})").fetchall()  # fmt: skip
    return tuple(dict.fromkeys(value for (value,) in rows))


def _objects(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[dict[str, Any]]:
    rows = connection.execute(sql)
    names = [column[0] for column in rows.description or []]
    for row in rows.fetchall():
        yield dict(zip(names, row, strict=True))


def _place(table: ExportedTable) -> tuple[int, str]:
    if table.is_view:
        return -1, table.name
    return (_FIRST.index(table.name) if table.name in _FIRST else len(_FIRST)), table.name
