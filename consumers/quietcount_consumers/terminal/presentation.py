"""How rows are shown: a table at a terminal, CSV or JSON in a pipe.

A table that is wider than the terminal is shown as a block a row instead: columns folded to a few characters each
cannot be read.
"""

from __future__ import annotations

import datetime as dt
import io
import sys
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from typing import Any

from quietcount_consumers.errors import ConsumersError

__all__ = ["Format", "default_format", "show_rows", "write"]


_NO_LIMIT = 1_000_000  # characters: wider than any row


class Format(StrEnum):
    """The formats of tabular output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def default_format() -> Format:
    """Return the format for where stdout goes: a table at a terminal, CSV in a pipe."""
    return Format.TABLE if sys.stdout.isatty() else Format.CSV


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], form: Format) -> None:
    """Write rows to stdout. Raises ConsumersError for two columns of one name in JSON, whose objects hold one only."""
    out = io.StringIO()
    match form:
        case Format.JSON:
            twice = sorted({column for column in columns if list(columns).count(column) > 1})
            if twice:
                raise ConsumersError(
                    f"two columns are named {twice[0]!r}, and a JSON object holds only one",
                    "Rename one in the query with AS, or write --format csv",
                )
            import json

            objects = [dict(zip(columns, (_finite(_plain(value)) for value in row), strict=True)) for row in rows]
            # JSON has a way to write what the encoding of the output lacks.
            json.dump(objects, out, ensure_ascii=not _writes_all(), indent=2, allow_nan=False)
            out.write("\n")
        case Format.CSV:
            import csv

            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_plain(value) for value in row] for row in rows)
        case Format.TABLE:
            _show_table(columns, rows)
    write(out.getvalue())


def write(text: str) -> None:
    """Write text to stdout in its own encoding: click would write UTF-8 where that is ASCII."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _writes_all() -> bool:
    """Return whether stdout can write every symbol."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def _show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console  # its import takes longer than a query
    from rich.table import Table

    texts = [["" if value is None else str(_plain(value)) for value in row] for row in rows]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | Decimal | None) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in texts:
        table.add_row(*row)
    console = Console(highlight=False, markup=False, emoji=False)
    if not rows or console.measure(table, options=console.options.update(width=_NO_LIMIT)).maximum <= console.width:
        console.print(table)
        return
    left = max(map(len, columns)) + 1
    further = "\n" + " " * (left + 1)
    blocks = [
        "\n".join(
            f"{column + ':':<{left}} {text.replace(chr(10), further)}"
            for column, text in zip(columns, row, strict=True)
        )
        for row in texts
    ]
    # The terminal wraps a long value itself, so that it can be copied whole.
    console.print("\n\n".join(blocks), soft_wrap=True)


def _finite(value: Any) -> Any:
    """Put null for NaN and the infinities, because JSON has no word for them."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


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
