"""The command init: start a project."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from quietcount_consumers.project import create_project
from quietcount_consumers.terminal.options import log_option
from quietcount_schemas.commands.days import Day
from quietcount_schemas.configuration import DEFAULT_LOG

__all__ = ["init_command"]


@click.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="[DIR]")
@click.option(
    "--since",
    type=Day(),
    metavar="DATE",
    help="For history: each population begins with its first whole period from this day on.",
)
@log_option
def init_command(folder: Path, since: dt.date | None, log: str) -> None:
    """Start a project: a commented quietcount.toml, and secrets with the right modes.

    Nothing is overwritten. If you have the events of years in a file, name their first day with --since, emit the file,
    and then run the service for the first time: it publishes all that has become due.

    \b
    Example: quietcount init helpline
    With history: quietcount init helpline --since 2023-04-01
    """
    from quietcount_aggregates.ledger.signed_heads import signer_of
    from quietcount_aggregates.ledger.signed_notes import SigningKey

    made = create_project(folder, since=since, log=log)
    for path in made:
        click.echo(str(path))
    click.echo(
        "Give this key to partners and readers: with it they check that what is published is yours, and that nothing "
        f"of it was taken back.\n{signer_of(SigningKey.load(made[-1]).public).text}",
        err=True,
    )
    if log == DEFAULT_LOG:
        click.echo(
            "Next: choose your populations in quietcount.toml (quietcount plan --help). Then emit events "
            "(quietcount emit --help) and run the service (quietcount run): its first run declares the populations, "
            "and what they spend never comes back.",
            err=True,
        )
    else:
        click.echo(
            "Next: look at [kafka] in quietcount.toml, then make the topics (quietcount topics create). Choose your "
            "populations before the first run, which declares them: what they spend never comes back.",
            err=True,
        )
