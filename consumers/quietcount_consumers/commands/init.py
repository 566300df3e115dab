"""The command init: start a project."""

from __future__ import annotations

from pathlib import Path

import click

from quietcount_consumers.commands.options import log_option
from quietcount_consumers.project import create_project
from quietcount_schemas.configuration import DEFAULT_LOG

__all__ = ["init_command"]


@click.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="[DIR]")
@log_option
def init_command(folder: Path, log: str) -> None:
    """Start a project: a commented quietcount.toml, and secrets with the right modes.

    Nothing is overwritten.

    \b
    Example: quietcount init helpline
    """
    for path in create_project(folder, log=log):
        click.echo(str(path))
    if log == DEFAULT_LOG:
        click.echo(
            "Next: choose your statistics in quietcount.toml. Then emit events (quietcount emit --help) and run the "
            "service (quietcount run): its first run declares the statistics, and what they spend never comes back.",
            err=True,
        )
    else:
        click.echo(
            "Next: look at [kafka] in quietcount.toml, then make the topics (quietcount topics create). Choose your "
            "statistics before the first run, which declares them: what they spend never comes back.",
            err=True,
        )
