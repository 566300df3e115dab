"""The commands about the ledger: show, verify, head, receipt, retire, restore, record-loss, new-log, new-key."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click.core import ParameterSource

from quietcount_aggregates.bound import plain
from quietcount_aggregates.errors import LedgerBehind
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.populations import Population
from quietcount_consumers.commands.receipt import receipt_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.maintenance.cosigning import cosigned_head, request_of, take_cosignatures
from quietcount_consumers.maintenance.inspection import budget_lines, ledger_rows, ledger_runs
from quietcount_consumers.maintenance.losses import Lost, examine_loss, record_state_loss
from quietcount_consumers.maintenance.project_verification import compare_with_project, verify_project
from quietcount_consumers.maintenance.recovery import (
    follow_new_log,
    reading_ledger,
    restore_ledger,
    retire_population,
)
from quietcount_consumers.maintenance.signing import renew_key
from quietcount_consumers.maintenance.verification import KnownHead, check_known, known_head, verify_file
from quietcount_consumers.terminal.options import (
    agreed,
    chosen_format,
    format_option,
    key_of,
    output_option,
    wall_clock,
)
from quietcount_consumers.terminal.output import write_output
from quietcount_consumers.terminal.presentation import Format, show_rows, write
from quietcount_schemas.cli import EXIT_REFUSED, config_option
from quietcount_schemas.errors import QuietcountError

__all__ = ["ledger_command"]


@click.group("ledger")
def ledger_command() -> None:
    """Look into the ledger of what was declared and released.

    \b
    Example: quietcount ledger verify
    """


ledger_command.add_command(receipt_command)


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


@ledger_command.command("verify", short_help="Verify a published file from itself alone, or a project's ledger.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_option
@click.option(
    "--key",
    metavar="KEY",
    help="The ledger's key as the publisher gave it to you: the file has to be signed with it.",
)
@click.option(
    "--head",
    metavar="HEX|NOTE",
    help="A head that you noted earlier, or a file with a signed one: the ledger has to hold it.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="OLDER_FILE",
    help="Another copy of the published file: one of the two has to continue the other.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
@click.pass_context
def ledger_verify_command(
    ctx: click.Context,
    file: Path | None,
    config: Path,
    key: str | None,
    head: str | None,
    against: Path | None,
    as_json: bool,
) -> None:
    """Verify a published FILE with nothing but itself in hand; without FILE, the ledger of a project.

    Replays the ledger in the file by its rules, checks who signed it, and builds the file again from it: every number,
    and nothing else, has to be in the file. In a project it also asks what else there knows how far the ledger went.

    \b
    Example: quietcount ledger verify statistics.duckdb --against last-year.duckdb
    """
    for path in (file, against):
        if path is not None and not path.is_file():
            what = "this is a folder" if path.is_dir() else "there is no such file"
            raise click.UsageError(f"{path}: {what}. Name one that was published, statistics.duckdb.")
    told = None if key is None else key_of(key, "--key")
    known = None if head is None else _known(ctx, head)
    try:
        if file is None:
            if not config.exists() and ctx.get_parameter_source("config") is not ParameterSource.COMMANDLINE:
                raise click.UsageError(
                    f"Name a file that was published, statistics.duckdb. There is no project here: no file {config}."
                )
            configuration = Configuration.load(config)
            verified, where = verify_project(configuration), configuration.public_file
            verified.checks.extend(check_known(where, verified.chain, key=told, head=known, older=against))
        else:
            verified = verify_file(file, key=told, head=known, older=against)
            named = ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE
            if named or config.exists():
                verified.checks.extend(_asked_project(config, file, verified.chain, named=named))
    except QuietcountError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"holds": False, "what": error.what, "remedy": error.remedy}, ensure_ascii=False))
        ctx.exit(EXIT_REFUSED)
    if as_json:
        click.echo(json.dumps(verified.record, ensure_ascii=False))
    else:
        for line in verified.checks:
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
    write(cosigned_head(Configuration.load(config)).data)


@ledger_command.command("request", short_help="Write what a witness needs to sign the newest head.")
@config_option
@output_option("FILE")
@click.option("--from", "start", type=click.IntRange(0), default=0, help="The first entry that the witness lacks.")
def ledger_request_command(config: Path, output: Path, start: int) -> None:
    """Write what a witness needs to sign the newest head of the ledger: its entries, and your signature.

    It holds nothing but what is published, or will be once the witnesses have signed. The partner runs `quietcount
    witness cosign` with it.

    \b
    Example: quietcount ledger request -o ledger.request
    """
    write_output(output, request_of(Configuration.load(config), start).data.decode())


@ledger_command.command("cosign", short_help="Take a signed note back from a witness.")
@click.argument("note", type=click.Path(path_type=Path))
@config_option
def ledger_cosign_command(note: Path, config: Path) -> None:
    """Take the signed note of a partner, who made it with `quietcount witness cosign`.

    Once as many witnesses as `witnesses.require` says have signed the newest head, the next tick publishes it.

    \b
    Example: quietcount ledger cosign signed.head
    """
    for name in take_cosignatures(Configuration.load(config), note):
        click.echo(f"Taken: the signature of {name}.", err=True)


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
@click.option(
    "--partition",
    "partitions",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Look at this partition alone: needed if its state was on a worker's machine.",
)
@click.option("--yes", is_flag=True, help="Record it without asking.")
def ledger_record_loss_command(config: Path, lost: str | None, partitions: tuple[int, ...], yes: bool) -> None:
    """Record that the private state or a secret is lost, raise the stated bound permanently, and let releasing go on.

    Looks at the state first. If it is sound, it records nothing, unless you say which secret is lost: the emitters'
    pepper, the service's secret, or the secret of a year.

    \b
    Example: quietcount ledger record-loss
    """
    configuration = Configuration.load(config)
    secret = None if lost is None else Lost(lost)
    loss = examine_loss(configuration, secret, partitions)
    click.echo(f"{loss.found}.\n{loss.price}.", err=True)
    if not yes:
        if secret is None:
            click.echo(
                "If you have a copy of the state from after the last release, answer no and put it back: nothing is "
                "lost then.",
                err=True,
            )
        agreed("Is it lost permanently, and is that to be recorded?")
    for line in record_state_loss(configuration, wall_clock(), secret, partitions):
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

    Partners and readers refuse the new signatures until they accept the new key by hand. Give it to them by another way
    than the published file, which a thief could write as well.

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


def _asked_project(config: Path, file: Path, chain: Chain, *, named: bool) -> list[str]:
    """Return what a project says of a file that was verified.

    Raises LedgerBehind if its ledger contradicts it. A project that cannot be asked is an error only if it was `named`.
    """
    try:
        return compare_with_project(Configuration.load(config), file, chain)
    except LedgerBehind:
        raise
    except QuietcountError as error:
        if named:
            raise
        return [f"The project of {config} could not be asked: {error.what}."]


def _known(ctx: click.Context, text: str) -> KnownHead:
    """Return the head that the text of --head stands for; what it cannot stand for is wrong usage."""
    try:
        return known_head(text)
    except QuietcountError as error:
        raise click.BadParameter(str(error), ctx, param_hint="--head") from None
    except (OSError, ValueError):
        raise click.BadParameter(
            "this is neither a head nor a file that can be read. A head has 64 digits (0-9, a-f); give all of them, or "
            "at least the first 16.",
            ctx,
            param_hint="--head",
        ) from None


def _read_ledger(configuration: Configuration) -> Ledger:
    with reading_ledger(configuration) as ledger:
        return ledger
