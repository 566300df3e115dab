"""The CSV files: a header, with the HXL row below it if that is asked for, and the rows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import duckdb

from quietcount_consumers.exporting.humanitarian_tags import tags
from quietcount_consumers.exporting.published_tables import ExportedTable
from quietcount_consumers.exporting.spreadsheet_cells import cell

__all__ = ["LINE_END", "write_csv"]

LINE_END: Final = "\r\n"
"""As RFC 4180 has it, which every spreadsheet takes."""


def write_csv(connection: duckdb.DuckDBPyConnection, table: ExportedTable, path: Path, *, hxl: bool) -> None:
    """Write a table as a CSV file. Raises OSError."""
    # The mark at the beginning tells Excel that it is UTF-8: without it, Cyrillic is unreadable there.
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator=LINE_END)
        writer.writerow([column.name for column in table.columns])
        if hxl:
            writer.writerow(tags(table))
        writer.writerows([cell(value) for value in row] for row in table.rows(connection))
