"""The command report: the published statistics as one page for people."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ConsumersError
from quietcount_schemas.cli import config_option

__all__ = ["report_command"]

_LANGUAGES = ("en", "ru", "uk")


class ReportUnwritten(ConsumersError):
    """A report that cannot be written where it was to go."""


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
    if str(output) == "-":
        rest = memoryview(text.encode())
        while rest:  # a pipe takes a part, and says no error before the next one
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.flush()
    else:
        _write(output, text)
        click.echo(f"Wrote {output}. Open it in a browser, or send it on: it is one file.", err=True)


def _write(output: Path, text: str) -> None:
    """Write the page whole, or leave what was there."""
    from quietcount_schemas.private_files import write_file

    place = output.resolve()  # a link stays, and what it leads to is replaced
    try:
        if place.exists() and not place.is_file():
            place.write_bytes(text.encode())  # a device or a pipe takes no other file's place
        else:
            write_file(place, text.encode(), replace=True)
    except OSError as error:
        raise ReportUnwritten(
            f"{output}: cannot be written ({os.strerror(error.errno or 0).lower()})",
            "Name another file with -o, or mend the rights of its folder",
        ) from None
