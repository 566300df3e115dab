"""The commands of a partner that witnesses other organisations' ledgers: init, cosign, trust, show, serve."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quietcount_consumers.terminal.options import agreed, chosen_format, format_option, key_of, output_option
from quietcount_consumers.terminal.output import write_output
from quietcount_consumers.terminal.presentation import show_rows, write

if TYPE_CHECKING:
    from quietcount_consumers.witnessing.partner import Partner

__all__ = ["witness_command"]

_FOLDER = "witness"
_LISTEN = "127.0.0.1:8790"

_dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=_FOLDER,
    show_default=True,
    help="The folder of the witness.",
)


@click.group("witness")
def witness_command() -> None:
    """Witness the ledger of another organisation: sign that it has one history.

    A witness needs no project of its own, and sees only what is published anyway.

    \b
    Example: quietcount witness init --name partner.example/w1
    """


@witness_command.command("init", short_help="Make a witness: its key, and what it remembers.")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), default=_FOLDER)
@click.option(
    "--name", required=True, metavar="NAME", help="Who signs, in a form like partner.org/w1; it never changes."
)
def witness_init_command(folder: Path, name: str) -> None:
    """Make a witness in the folder DIR, and write its public key to stdout: give it to the project that you witness.

    \b
    Example: quietcount witness init --name partner.example/w1
    """
    from quietcount_consumers.witnessing.partner import Partner

    write(f"{Partner.create(folder, name).verifier_key.text}\n")
    click.echo(
        f"Tell that key to the project. The folder {folder} holds the witness: keep a backup of its key, and never "
        "go on with an older copy of the folder.",
        err=True,
    )


@witness_command.command("cosign", short_help="Check a ledger and sign its newest head.")
@click.argument("file", type=click.Path(path_type=Path))
@_dir_option
@click.option(
    "--key",
    "key",
    metavar="KEY",
    help="The project's key, as it gave it to you: then you are not asked.",
)
@output_option("NOTE")
def witness_cosign_command(file: Path, folder: Path, key: str | None, output: Path) -> None:
    """Check the ledger in FILE by all its rules, and that it continues what you signed before; then sign its head.

    FILE is a published statistics.duckdb, or what the project made with `quietcount ledger request`. The signed note
    goes back to the project, and anywhere else that you like: it is public. A ledger that is older than what you saw,
    or has another history, is refused.

    \b
    Example: quietcount witness cosign statistics.duckdb -o signed.head
    """
    from quietcount_consumers.witnessing.requests import read_request

    told = None if key is None else key_of(key, "--key")
    partner = _partner(folder)
    request = read_request(file)
    claimed = partner.unconfirmed(request)
    if claimed is not None and told is None:
        click.echo(
            f"The ledger in {file} is signed with a key that this witness does not know:\n{claimed.text}", err=True
        )
        agreed("Is this the key that the project gave you, by another way than this file?")
        told = claimed
    write_output(output, partner.cosign(request, told).data)


@witness_command.command("trust", short_help="Let a ledger be known by its key, before the first request.")
@click.argument("key", metavar="KEY")
@_dir_option
def witness_trust_command(key: str, folder: Path) -> None:
    """Let a ledger be known by the key that its project gave you: `quietcount witness serve` then signs for it.

    \b
    Example: quietcount witness trust quietcount.ledger/0123...+89ab...+AX...
    """
    told = key_of(key, "KEY")
    new = _partner(folder).trust(told)
    click.echo(f"{told.name} is known{'' if new else ' already'}.", err=True)


@witness_command.command("show", short_help="Show this witness's key, and how far each ledger went.")
@_dir_option
@format_option
def witness_show_command(folder: Path, form: str | None) -> None:
    """Show how far each ledger went when this witness signed it last, and write its own key to stderr.

    \b
    Example: quietcount witness show --format json
    """
    from quietcount_aggregates.ledger.signed_heads import read_head

    partner = _partner(folder)
    rows = [
        (
            seen.origin,
            seen.length,
            None if seen.note is None else read_head(seen.note)[1].digest.hex(),
            None if seen.note is None else dt.datetime.fromtimestamp(seen.timestamp, dt.UTC),
            seen.key.text,
        )
        for seen in partner.ledgers()
    ]
    show_rows(["ledger", "length", "head", "signed_at", "key"], rows, chosen_format(form))
    click.echo(f"This witness: {partner.verifier_key.text}", err=True)


@witness_command.command("serve", short_help="Sign over HTTP for the ledgers that are known.")
@_dir_option
@click.option("--listen", default=_LISTEN, show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--certificate", type=click.Path(path_type=Path), help="TLS: the certificate, in PEM form.")
@click.option("--key-file", type=click.Path(path_type=Path), help="TLS: its private key.")
def witness_serve_command(folder: Path, listen: str, certificate: Path | None, key_file: Path | None) -> None:
    """Sign over HTTP for the ledgers that are known, until SIGTERM or Ctrl-C. No request is logged.

    An address that other machines reach needs TLS. `POST /add-checkpoint` takes what `quietcount ledger request` makes;
    `GET /LEDGER-ID` gives everything back that this witness holds of a ledger.

    \b
    Example: quietcount witness serve --listen 127.0.0.1:8790
    """
    from quietcount_consumers.witnessing.door import serve
    from quietcount_schemas.configuration import readers

    if (certificate is None) is not (key_file is None):
        raise click.UsageError("--certificate and --key-file go together.")
    reader = readers.listen(_LISTEN, off=False)
    try:
        address = reader.read(listen)
    except ValueError:
        raise click.UsageError(f"--listen: {reader.wanted}.") from None
    files = None if certificate is None or key_file is None else (certificate, key_file)
    serve(_partner(folder), address, files, lambda line: click.echo(line, err=True))


def _partner(folder: Path) -> Partner:
    from quietcount_consumers.witnessing.partner import Partner

    return Partner(folder)
