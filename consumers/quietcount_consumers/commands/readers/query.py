"""The command query: one SQL query of the published statistics, or what there is to ask."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.queries import QueryError, describe, query
from quietcount_consumers.terminal.options import chosen_format, format_option
from quietcount_consumers.terminal.presentation import Format, show_rows, write
from quietcount_schemas.cli import EXIT_INTERRUPTED, config_option

__all__ = ["query_command"]

_INDENT = "  "


@click.command("query")
@click.argument("sql", required=False)
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE.sql",
    help="Read the query from this file; - is the standard input.",
)
@click.option(
    "--database",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.duckdb",
    help="Ask this published file, and look at no configuration.",
)
@click.option("--describe", "describing", is_flag=True, help="Say what is in the file: views, macros, tables, columns.")
@config_option
@format_option
def query_command(
    sql: str | None, file: Path | None, database: Path | None, describing: bool, config: Path, form: str | None
) -> None:
    """Answer one SQL query from the published statistics.

    \b
    Example: quietcount query "FROM requests_by_kind"
    What there is to ask: quietcount query --describe
    Of a file alone: quietcount query --database statistics.duckdb --describe
    """
    if [sql is not None, file is not None, describing].count(True) != 1:
        raise click.UsageError("Give one of these: a query, --file with a query, --describe.")
    try:
        asked = _read(file) if file is not None else sql
        _show(database or Configuration.load(config).public_file, asked, form, alone=database is not None)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        # At once: a query that did not hear of it would keep Python from ending, or crash amid its end.
        os._exit(EXIT_INTERRUPTED)


def _show(path: Path, sql: str | None, form: str | None, *, alone: bool) -> None:
    """Write the answer to `sql`, or what is in the file if there is none."""
    chosen = chosen_format(form)
    columns, rows = describe(path, alone=alone) if sql is None else query(path, sql, alone=alone)
    if sql is None and chosen is Format.TABLE:
        write("\n".join(_described(rows)) + "\n")
    else:
        show_rows(columns, rows, chosen)


def _read(file: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise QueryError(f"{file}: cannot be read ({error.strerror})", "Name a file that holds one query") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QueryError(f"{file}: byte {error.start} is not UTF-8", "Save the file as UTF-8") from None


def _described(rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines that tell a person what is in the file."""
    width = shutil.get_terminal_size().columns
    for (kind, name), group in groupby(rows, lambda row: (row[0], row[1])):
        whole, *columns = group
        yield f"{name} ({kind})"
        yield from textwrap.wrap(whole[4], width, initial_indent=_INDENT, subsequent_indent=_INDENT)
        left = max((len(row[2]) for row in columns), default=0)
        middle = max((len(row[3] or "") for row in columns), default=0)
        for _, _, column, type_, text in columns:
            start = f"{_INDENT * 2}{column:<{left}}  " + (f"{type_ or '':<{middle}}  " if middle else "")
            yield from textwrap.wrap(
                text, max(width, len(start) + 20), initial_indent=start, subsequent_indent=" " * len(start)
            )
        yield ""
