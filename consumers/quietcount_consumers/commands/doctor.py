"""The command doctor: what is wrong with a project, and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from quietcount_consumers.commands.options import chosen_format, format_option
from quietcount_consumers.commands.presentation import Format, show_rows
from quietcount_consumers.doctor.examination import examine
from quietcount_consumers.doctor.verdicts import Result, Verdict
from quietcount_consumers.errors import ServiceError
from quietcount_schemas.cli import config_option

__all__ = ["doctor_command"]

_COLUMNS: Final = ("check", "result", "finding", "remedy")
_STYLES: Final = {Result.OK: "green", Result.WARNING: "yellow", Result.WRONG: "bold red"}


@click.command("doctor", short_help="Look at all that the service needs; say what is wrong and how to mend it.")
@config_option
@format_option
def doctor_command(config: Path, form: str | None) -> None:
    """Look at all that the service needs, and say what is wrong and how to mend it.

    Run it where the service runs, as the service's user; a service that runs is not disturbed. Nothing is changed. It
    ends with 1 if anything is wrong; a warning alone is none.

    \b
    Example: quietcount doctor
    For a program: quietcount doctor --format json
    """
    verdicts = examine(config)
    how = chosen_format(form)
    if how is Format.TABLE:
        _show(verdicts)
    else:
        show_rows(_COLUMNS, [tuple(str(getattr(each, column)) for column in _COLUMNS) for each in verdicts], how)
    faulty = list(dict.fromkeys(each.check for each in verdicts if each.result is Result.WRONG))
    if faulty:
        raise ServiceError(f"something is wrong ({', '.join(faulty)}); it is told above")
    click.echo("Nothing is wrong.", err=True)


def _show(verdicts: Sequence[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("check", "result"):
        table.add_column(column, no_wrap=True)
    table.add_column("finding, and what to do", overflow="fold")
    before = ""
    for each in verdicts:
        told = each.finding + (f"\n→ {each.remedy}" if each.remedy else "")
        result = Text(each.result, style=_STYLES[each.result])
        table.add_row(Text("" if each.check == before else each.check), result, Text(told))
        before = each.check
    Console(highlight=False, emoji=False).print(table)
