"""The command declare: put what is new in the catalogue into the ledger, and say that its past is complete."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import click

from quietcount_aggregates.populations import Population
from quietcount_consumers.commands.service import admission
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.defects import telling_defects
from quietcount_consumers.maintenance.recovery import complete_population
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.opening import open_service
from quietcount_consumers.terminal.options import agreed, as_of_option, clock_of, naming
from quietcount_schemas.cli import config_option

__all__ = ["declare_command"]


@click.command("declare")
@config_option
@click.option("--complete", "name", metavar="POPULATION", help="Say that the past of this population is in the log.")
@click.option("--yes", is_flag=True, help="Complete it without asking.")
@as_of_option
def declare_command(config: Path, name: str | None, yes: bool, as_of: dt.datetime | None) -> None:
    """Declare what is new in the catalogue, and stop: nothing is folded or released.

    A population that is declared after the first run counts what is appended after its declaration. If it begins before
    that, nothing of it is released until you have emitted its history and said so with --complete: years of zeros could
    not be taken back.

    \b
    Example: quietcount declare
    Its history is emitted: quietcount declare --complete outcomes
    """
    configuration = Configuration.load(config)
    clock = clock_of(configuration, as_of)
    now = clock()
    if name is not None:
        _complete(configuration, name, now, yes=yes)
        return
    with (
        telling_defects(),
        LogOutput(sys.stderr, configuration.log_format) as log,
        naming(config),
        open_service(configuration, now, say=log.say, admit=admission(as_of, clock, log.say)) as service,
    ):
        service.show()


def _complete(configuration: Configuration, name: str, now: dt.datetime, *, yes: bool) -> None:
    def agree(declared: Population) -> None:
        click.echo(
            f"The next tick of the service releases what is due of {declared.name} from {declared.first_day} on, once "
            "and permanently. An event that comes in later counts late, or not at all.",
            err=True,
        )
        if not yes:
            agreed("Is all of its past in the log?")

    complete_population(configuration, name, now, agree)
    click.echo(f"The past of {name} is complete.", err=True)
