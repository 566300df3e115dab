"""The command report: the published statistics as one page for people."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.terminal.output import write_output
from quietcount_schemas.cli import config_option

__all__ = ["report_command"]

_LANGUAGES = ("en", "ru", "uk")


@click.command("report")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=Path("report.html"),
    show_default=True,
    metavar="FILE.html",
    help="Write the page into this file; - is the standard output.",
)
@click.option(
    "--language",
    type=click.Choice(_LANGUAGES),
    default=_LANGUAGES[0],
    show_default=True,
    help="The language of the page.",
)
@click.option(
    "--database",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.duckdb",
    help="Report on this published file, and look at no configuration.",
)
@config_option
def report_command(output: Path, language: str, database: Path | None, config: Path) -> None:
    """Write the published statistics as one page, with pictures and margins.

    The page is one file. It works without a network, and holds no program.

    \b
    Example: quietcount report -o report.html
    In Ukrainian: quietcount report --language uk -o report-uk.html
    """
    from rich.console import Console

    from quietcount_consumers.report import report  # it loads what draws

    path = database or Configuration.load(config).public_file
    with ExitStack() as stack:
        console = Console(stderr=True)
        if console.is_terminal:
            stack.enter_context(console.status("Drawing the report"))
        text = report(path, language, alone=database is not None)
    if write_output(output, text):
        click.echo(f"Wrote {output}. Open it in a browser, or send it on: it is one file.", err=True)
