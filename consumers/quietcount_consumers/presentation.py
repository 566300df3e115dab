"""How rows are shown: a table at a terminal, CSV or JSON in a pipe."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

import click
from rich.console import Console
from rich.table import Table

__all__ = ["Format", "default_format", "show_rows"]


class Format(StrEnum):
    """The formats of tabular output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def default_format() -> Format:
    """Return the format for where stdout goes: a table at a terminal, CSV in a pipe."""
    return Format.TABLE if sys.stdout.isatty() else Format.CSV


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], form: Format) -> None:
    """Write rows to stdout."""
    out = io.StringIO()
    match form:
        case Format.JSON:
            objects = [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]
            json.dump(objects, out, ensure_ascii=False, indent=2)
            out.write("\n")
        case Format.CSV:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_plain(value) for value in row] for row in rows)
        case Format.TABLE:
            table = Table(box=None, header_style="bold", pad_edge=False)
            for index, column in enumerate(columns):
                numeric = all(isinstance(row[index], int | float | Decimal | None) for row in rows)
                table.add_column(column, justify="right" if numeric else "left", overflow="fold")
            for row in rows:
                table.add_row(*("" if value is None else str(_plain(value)) for value in row))
            Console(highlight=False, markup=False).print(table)
    click.echo(out.getvalue(), nl=False)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, dt.date | dt.datetime | dt.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
