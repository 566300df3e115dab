"""The command query: one SQL query of the published statistics."""

from __future__ import annotations

from pathlib import Path

import click

from quietcount_consumers.commands.options import chosen_format, format_option
from quietcount_consumers.commands.presentation import show_rows
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.queries import query
from quietcount_schemas.cli import config_option

__all__ = ["query_command"]


@click.command("query")
@click.argument("sql")
@config_option
@format_option
def query_command(sql: str, config: Path, form: str | None) -> None:
    """Answer one SQL query from the published statistics.

    \b
    Example: quietcount query "FROM requests_by_kind"
    What there is to ask: quietcount query "FROM data_dictionary"
    """
    columns, rows = query(Configuration.load(config).public_file, sql)
    show_rows(columns, rows, chosen_format(form))
