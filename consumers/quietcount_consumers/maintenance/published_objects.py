"""What is in a published file: how two files differ, by object, and by rows in their order.

One of the two comes from somebody who may want to deceive: see published_copy.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb

from quietcount_consumers.witnessing.published_copy import attached

__all__ = ["difference", "shown", "written_by"]

_KINDS: Final = {
    "duckdb_schemas": ("schema", "schema_name"),
    "duckdb_types": ("type", "type_name"),
    "duckdb_tables": ("table", "table_name"),
    "duckdb_views": ("view", "view_name"),
    "duckdb_functions": ("macro", "function_name"),
    "duckdb_sequences": ("sequence", "sequence_name"),
    "duckdb_indexes": ("index", "index_name"),
    "duckdb_triggers": ("trigger", "trigger_name"),
    "duckdb_constraints": ("constraint of table", "table_name"),
    "duckdb_columns": ("column", "concat_ws('.', table_name, column_name)"),
}
"""What DuckDB lists the objects of a database in: what each is, and its name. Views stand before columns: DuckDB looks
into a view to list the columns of it, and a view of theirs is not to be looked into."""

_UNLISTED: Final = """
    SELECT function_name FROM duckdb_functions()
    WHERE database_name = 'system' AND function_name LIKE 'duckdb\\_%' ESCAPE '\\' AND len(parameters) = 0
        AND function_name NOT IN ('duckdb_databases', 'duckdb_table_sample')
    ORDER BY ALL
"""
"""What else DuckDB lists: another version may keep objects that are unknown here."""

_ACCIDENTAL: Final = frozenset({"constraint_index", "data_type_id", "estimated_size", "index_count", "is_bound"})
"""What depends on the process that asks, is an estimate, or is listed elsewhere; numbers of objects (oid) are left out,
too."""

_VERSION: Final = slice(52, 116)
"""Where the first header of a DuckDB file says which DuckDB made it: the version, then its source; 32 bytes each."""

_SHOWN: Final = 80
"""Characters of a strange name that a message has at most."""


def difference(found: Path, wanted: Path) -> str | None:
    """Return the first object of `found` that is not what it is in `wanted`, or None: as a kind and a name.

    Objects are compared first, and the rows of a table, in their order, only if all objects are the same: what is read
    then is a table of ours. Raises duckdb.Error if `found` is damaged.
    """
    with attached(found=found, wanted=wanted) as connection:
        for catalog, kind, name in _catalogs(connection):
            columns = [
                f'"{column}"'
                for (column, *_) in connection.execute(f"DESCRIBE SELECT * FROM {catalog}()").fetchall()
                if column not in _ACCIDENTAL and not column.startswith("database_") and not column.endswith("oid")
            ]
            listed = [
                f"SELECT {name} AS its_name, {', '.join(columns)} FROM {catalog}() WHERE database_name = '{database}'"
                for database in ("wanted", "found")
            ]
            for one, other in (listed, listed[::-1]):
                row = connection.execute(f"({one}) EXCEPT ALL ({other}) ORDER BY ALL LIMIT 1").fetchone()
                if row is not None:
                    return f"{kind} {shown(str(row[0]))}"
        tables = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'wanted' ORDER BY ALL"
        )
        for (table,) in tables.fetchall():
            if not _same_rows(connection, table):
                return f"table {table}"
    return None


def _catalogs(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, str]]:
    """Yield each function that lists objects, the kind of these, and an expression for the name of one."""
    others = [name for (name,) in connection.execute(_UNLISTED).fetchall() if name not in _KINDS]
    for name in others:
        columns = [column for (column, *_) in connection.execute(f"DESCRIBE SELECT * FROM {name}()").fetchall()]
        if "database_name" in columns and "schema_name" in columns:
            yield name, "object listed by", f"'{name}()'"
    for name, (kind, label) in _KINDS.items():
        yield name, kind, label


def _same_rows(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Return whether a table has the same rows in the same order in both."""
    sides = [f'SELECT each AS {side}_row FROM {side}.main."{table}" AS each' for side in ("found", "wanted")]
    counts = [f'(SELECT count(*) FROM {side}.main."{table}")' for side in ("found", "wanted")]
    try:
        if connection.execute(f"SELECT {' = '.join(counts)}").fetchone() != (True,):
            return False
        sql = (
            f"SELECT 1 FROM ({sides[0]}) POSITIONAL JOIN ({sides[1]}) "
            "WHERE found_row IS DISTINCT FROM wanted_row LIMIT 1"
        )
        return connection.execute(sql).fetchone() is None
    except duckdb.Error:  # the file opens, and the blocks of this table are damaged
        return False


def written_by(file: Path) -> str:
    """Return which DuckDB says that it made a file, as "v2.0.0 (d54cbbe3df)"."""
    with file.open("rb") as opened:
        version, source = (part.rstrip(b"\0") for part in _halves(opened.read(_VERSION.stop)[_VERSION]))
    return f"{shown(version.decode('ascii', 'replace'))} ({shown(source.decode('ascii', 'replace'))})"


def _halves(both: bytes) -> tuple[bytes, bytes]:
    return both[:32], both[32:]


def shown(text: str) -> str:
    """Return a strange name so that it acts on no terminal, and does not fill one."""
    plain = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[: _SHOWN + 1])
    return plain if len(plain) <= _SHOWN else f"{plain[: _SHOWN - 3]}..."
