"""The export: a folder with what the published file holds, in every format that is handed on."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import duckdb

from quietcount_consumers.exporting.csv_files import write_csv
from quietcount_consumers.exporting.data_package import DATA_PACKAGE, data_package
from quietcount_consumers.exporting.folder import ExportError, replacing
from quietcount_consumers.exporting.parquet_files import write_parquet
from quietcount_consumers.exporting.published_tables import Published, published_tables
from quietcount_consumers.exporting.reader_page import reader_page
from quietcount_consumers.exporting.sqlite_copy import datasette_metadata, write_sqlite
from quietcount_consumers.queries import connected, damaged

__all__ = ["export"]

_UNWRITTEN = re.compile(r"Could not (write|sync|create|truncate)|Cannot open file|No space left|Disk quota")
"""What DuckDB says if it cannot write a Parquet file; anything else is about the file that it reads."""


def export(path: Path, folder: Path, *, hxl: bool = False, alone: bool = False) -> Published:
    """Write what the published file at `path` holds into `folder`, as a whole, and return what was exported.

    Only that file is read. The same file gives the same bytes under one version of DuckDB and of SQLite. Raises
    QueryError for a file that cannot be read, and ExportError for a folder that cannot be written.
    """
    connected(path, alone=alone).close()  # before anything is written
    with replacing(folder) as draft:
        try:
            return _written(path, draft, hxl=hxl, alone=alone)
        except (duckdb.Error, sqlite3.OperationalError) as error:
            if isinstance(error, duckdb.Error) and not _UNWRITTEN.search(str(error)):
                raise damaged(path, alone=alone) from None
            raise ExportError(
                f"{folder}: cannot be written", "Make room on its disk, then run again. What was there is unchanged"
            ) from None


def _written(path: Path, draft: Path, *, hxl: bool, alone: bool) -> Published:
    for name in ("csv", "parquet"):
        (draft / name).mkdir()
    with connected(path, alone=alone, folder=draft / "parquet") as connection:
        published = published_tables(connection)
        for table in published.tables:
            write_csv(connection, table, draft / "csv" / f"{table.name}.csv", hxl=hxl)
            write_parquet(connection, published, table, draft / "parquet" / f"{table.name}.parquet")
        write_sqlite(connection, published, draft / "statistics.sqlite")
        page = reader_page(connection, published, hxl=hxl)
    _write(draft / "metadata.json", datasette_metadata(published))
    _write(draft / "README.md", page)
    _write(draft / DATA_PACKAGE, data_package(published, draft, hxl=hxl))
    return published


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
