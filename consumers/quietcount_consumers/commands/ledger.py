"""The commands about the ledger: show, verify, receipt, retire, restore, record-loss, new-log."""

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
    published_chain,
    reading_ledger,
    restore_ledger,
    retire_population,
)
from quietcount_consumers.terminal.options import agreed, chosen_format, format_option, wall_clock
from quietcount_consumers.terminal.output import write_output
from quietcount_consumers.terminal.presentation import Format, show_rows
from quietcount_schemas.cli import config_option

__all__ = ["ledger_command"]

_SECTORS = ("Technology", "Healthcare", "Education", "Government", "Energy", "Finance")
"""The sectors of the registry. A test holds them to the receipt's, which loads what draws a page."""


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


@ledger_command.command("receipt", short_help="Write the record that the OpenDP deployments registry asks for.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=Path("-"),
    metavar="OUT",
    help="Write into this file, and not to the standard output.",
)
@click.option(
    "--format", "form", type=click.Choice(["yaml", "html"]), default="yaml", show_default=True, help="The form."
)
@click.option("--name", default="", help="What the data product is called.  [default: Statistics of the publisher]")
@click.option("--intended-use", default="", help="What the figures are for.")
@click.option("--region", default="", help="Which region the figures describe, or whose laws apply.")
@click.option("--sector", type=click.Choice(_SECTORS), help="What the figures are about.")
@click.option("--justification", default="", help="How the limits, periods and epsilons were chosen, and why.")
@click.option(
    "--source", "sources", multiple=True, help="A link or a paper about the deployment; several are possible."
)
@click.option("--author", "authors", multiple=True, help="Who fills this record in; several are possible.")
@config_option
def ledger_receipt_command(
    file: Path | None,
    output: Path,
    form: str,
    config: Path,
    name: str,
    intended_use: str,
    region: str,
    sector: str | None,
    justification: str,
    sources: tuple[str, ...],
    authors: tuple[str, ...],
) -> None:
    """Write what the ledger says of the guarantee, as the record that the OpenDP deployments registry asks for.

    From the published FILE alone, or without one from the project's ledger. Every number comes from the ledger. What
    only a person knows comes from the options; what is missing is marked in the record, and listed on stderr.

    \b
    Example: quietcount ledger receipt statistics.duckdb -o receipt.yaml
    As a page: quietcount ledger receipt --format html -o receipt.html
    """
    from quietcount_consumers.receipts.forms import page_of, yaml_of
    from quietcount_consumers.receipts.receipt import Said, open_questions, receipt_of

    chain = _read_ledger(Configuration.load(config)).chain if file is None else published_chain(file)
    receipt = receipt_of(chain, Said(name, intended_use, region, sector or "", justification, sources, authors))
    if write_output(output, yaml_of(receipt) if form == "yaml" else page_of(receipt)):
        click.echo(f"Wrote {output}.", err=True)
    for question in open_questions(receipt):
        click.echo(f"Still to be stated: {question}.", err=True)


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


def _read_ledger(configuration: Configuration) -> Ledger:
    with reading_ledger(configuration) as ledger:
        return ledger
