"""The command ledger receipt: what a ledger says of the guarantee, for a registry and for people."""

from __future__ import annotations

from pathlib import Path

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance.recovery import reading_ledger
from quietcount_consumers.terminal.options import output_option
from quietcount_consumers.terminal.output import write_output
from quietcount_schemas.cli import config_option

__all__ = ["receipt_command"]

_SECTORS = ("Technology", "Healthcare", "Education", "Government", "Energy", "Finance")
"""The sectors of the registry. A test holds them to the receipt's, which loads what a page is made of."""


@click.command("receipt", short_help="Write the record that the OpenDP deployments registry asks for.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@output_option("OUT")
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
def receipt_command(
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

    From the published FILE alone, which is verified first, or without one from the project's ledger. Every number comes
    from the ledger. What only a person knows comes from the options; what is missing is marked in the record, and
    listed on stderr.

    \b
    Example: quietcount ledger receipt statistics.duckdb -o receipt.yaml
    As a page: quietcount ledger receipt --format html -o receipt.html
    """
    from quietcount_consumers.maintenance.verification import verify_file
    from quietcount_consumers.receipts.forms import page_of, yaml_of
    from quietcount_consumers.receipts.receipt import Said, open_questions, receipt_of

    if file is None:
        with reading_ledger(Configuration.load(config)) as ledger:
            chain = ledger.chain
    elif not file.is_file():
        raise ServiceError(f"{file}: there is no such file", "Name a file that was published: statistics.duckdb")
    else:
        chain = verify_file(file).chain
    receipt = receipt_of(chain, Said(name, intended_use, region, sector or "", justification, sources, authors))
    if write_output(output, yaml_of(receipt) if form == "yaml" else page_of(receipt)):
        click.echo(f"Wrote {output}.", err=True)
    for question in open_questions(receipt):
        click.echo(f"Still to be stated: {question}.", err=True)
