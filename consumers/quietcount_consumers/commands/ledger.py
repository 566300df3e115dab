"""The commands about the ledger: show, verify, head, retire, restore, record-loss, new-log, new-key."""

from __future__ import annotations

from pathlib import Path

import click

from quietcount_aggregates.bound import plain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.populations import Population
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.maintenance.inspection import budget_lines, ledger_rows, ledger_runs, verify_ledger
from quietcount_consumers.maintenance.losses import Lost, examine_loss, record_state_loss
from quietcount_consumers.maintenance.recovery import (
    follow_new_log,
    reading_ledger,
    restore_ledger,
    retire_population,
)
from quietcount_consumers.maintenance.signing import published_note, renew_key
from quietcount_consumers.terminal.options import agreed, chosen_format, format_option, wall_clock
from quietcount_consumers.terminal.presentation import Format, show_rows
from quietcount_schemas.cli import config_option

__all__ = ["ledger_command"]


@click.group("ledger")
def ledger_command() -> None:
    """Look into the ledger of what was declared and released.

    \b
    Example: quietcount ledger verify
    """


@ledger_command.command("show", short_help="Show the entries of the ledger, and what is left to declare.")
@config_option
@format_option
def ledger_show_command(config: Path, form: str | None) -> None:
    """Show the ledger, and say on stderr what is spent and what is left to declare.

    JSON and CSV have every entry whole. A table has one line for the releases of a table in a row: the days from
    the first to the last, and how many they are. It leaves settlements out, of which there is one before each release.

    \b
    Example: quietcount ledger show --format json
    """
    how = chosen_format(form)
    chain = _read_ledger(Configuration.load(config)).chain
    columns, rows = ledger_runs(chain) if how is Format.TABLE else ledger_rows(chain)
    show_rows(columns, rows, how)
    for line in budget_lines(chain):
        click.echo(line, err=True)


@ledger_command.command("verify", short_help="Verify the chain of the ledger, and the published file against it.")
@config_option
def ledger_verify_command(config: Path) -> None:
    """Verify the chain of the ledger, and that the published file holds what the ledger says.

    \b
    Example: quietcount ledger verify
    """
    configuration = Configuration.load(config)
    for line in verify_ledger(_read_ledger(configuration).chain, configuration.public_file):
        click.echo(line)


@ledger_command.command("head", short_help="Print the signed head of the published ledger.")
@config_option
def ledger_head_command(config: Path) -> None:
    """Print the signed head of the newest ledger that was published: a signed note, for partners and readers.

    Whoever keeps it can hold the publisher to it: no ledger of that name may ever have as many entries and another
    digest.

    \b
    Example: quietcount ledger head
    """
    click.echo(published_note(Configuration.load(config).public_file).data, nl=False)


@ledger_command.command("retire", short_help="End a population permanently; its epsilon stays spent.")
@click.argument("population")
@config_option
@click.option("--yes", is_flag=True, help="Retire it without asking.")
def ledger_retire_command(population: str, config: Path, yes: bool) -> None:
    """End a population permanently: it is not released any more, and its epsilon stays spent.

    \b
    Example: quietcount ledger retire outcomes
    """

    def agree(declared: Population) -> None:
        click.echo(
            f"{declared.name} ends permanently. What was released of its tables stays published, and their epsilon "
            f"{plain(declared.epsilon)} stays spent. Nothing more is released of them, and no name of theirs can be "
            "used again.",
            err=True,
        )
        if not yes:
            agreed("Is it to be retired?")

    retire_population(Configuration.load(config), population, wall_clock(), agree)
    click.echo(
        f"Retired {population}. Remove it from {config} before the next start, which refuses it otherwise.", err=True
    )


@ledger_command.command("restore", short_help="Restore a lost ledger from the newest file that was published.")
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@click.option("--yes", is_flag=True, help="Restore it without asking.")
def ledger_restore_command(file: Path, config: Path, yes: bool) -> None:
    """Restore a lost ledger from the newest published file, or from a copy of it.

    Every published file holds the whole ledger that it was built from. One that the state, the public file or the
    witness knows to be older is refused, and a ledger that is there is never written over.

    \b
    Example: quietcount ledger restore statistics.duckdb
    """
    configuration = Configuration.load(config)
    if not yes:
        agreed("An older file than the newest that was published would have values drawn twice. Is it the newest?")
    for line in [f"Restored the ledger from {file}.", *restore_ledger(configuration, file)]:
        click.echo(line, err=True)


@ledger_command.command("record-loss", short_help="Record that the private state is lost, and raise the stated bound.")
@config_option
@click.option(
    "--lost",
    type=click.Choice([each.value for each in Lost]),
    help="Which secret is lost: needed if the state is sound.",
)
@click.option("--yes", is_flag=True, help="Record it without asking.")
def ledger_record_loss_command(config: Path, lost: str | None, yes: bool) -> None:
    """Record that the private state or a secret is lost, raise the stated bound permanently, and let releasing go on.

    Looks at the state first. If it is sound, it records nothing, unless you say which secret is lost: the emitters'
    pepper, the service's secret, or the secret of a year.

    \b
    Example: quietcount ledger record-loss
    """
    configuration = Configuration.load(config)
    secret = None if lost is None else Lost(lost)
    loss = examine_loss(configuration, secret)
    click.echo(f"{loss.found}.\n{loss.price}.", err=True)
    if not yes:
        if secret is None:
            click.echo(
                "If you have a copy of the state from after the last release, answer no and put it back: nothing is "
                "lost then.",
                err=True,
            )
        agreed("Is it lost permanently, and is that to be recorded?")
    for line in record_state_loss(configuration, wall_clock(), secret):
        click.echo(line, err=True)


@ledger_command.command("new-log", short_help="Go on with a new log in the place of one that is lost.")
@config_option
@click.option("--yes", is_flag=True, help="Follow the new log without asking.")
def ledger_new_log_command(config: Path, yes: bool) -> None:
    """Go on with a new log in the place of one that is lost: every limit, mark and open period stays as it is.

    The log that lies in its place is folded from its beginning; if there is none, an empty one is made. Events that
    the old log held and that were not folded yet are to be emitted again: what was counted already counts once.

    \b
    Example: quietcount ledger new-log
    """

    def agree() -> None:
        if not yes:
            agreed("What was not folded yet is gone unless it is emitted again. Is the old log lost permanently?")

    follow_new_log(Configuration.load(config), agree)
    click.echo(
        "The state follows the new log. Before you start the service, emit again what may not have been folded.",
        err=True,
    )


@ledger_command.command("new-key", short_help="Sign with a new key in the place of one that is lost or stolen.")
@config_option
@click.option("--stolen", is_flag=True, help="Replace a key that is there, because somebody else may have it.")
@click.option("--yes", is_flag=True, help="Make the new key without asking.")
def ledger_new_key_command(config: Path, stolen: bool, yes: bool) -> None:
    """Make a new signing key, name it in the ledger, and publish that: the ledger keeps its name.

    Partners and readers refuse the new signatures until they accept the new key by hand. Tell them another way than
    through the published file, which a thief could write as well.

    \b
    Example: quietcount ledger new-key
    """

    def agree(found: str) -> None:
        click.echo(f"{found}.", err=True)
        if not yes:
            agreed("Every partner and reader has to accept the new key by hand. Is it to be made?")

    signer = renew_key(Configuration.load(config), wall_clock(), agree, stolen=stolen)
    click.echo("The ledger names the new key. Make a backup of it, and give this to partners and readers:", err=True)
    click.echo(signer.text)


def _read_ledger(configuration: Configuration) -> Ledger:
    with reading_ledger(configuration) as ledger:
        return ledger
