"""The command export: the published figures in the formats of spreadsheets, portals and other databases."""

from __future__ import annotations

from pathlib import Path

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.exporting.export import export
from quietcount_schemas.cli import config_option

__all__ = ["export_command"]


@click.command("export")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--database",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.duckdb",
    help="Export this published file, and look at no configuration.",
)
@click.option("--hxl", is_flag=True, help="Put the hashtags of HXL into the second row of each CSV file.")
@config_option
def export_command(folder: Path, database: Path | None, hxl: bool, config: Path) -> None:
    """Write the published figures as CSV, Parquet, SQLite and a Data Package.

    DIR is made, or replaced as a whole if it holds an earlier export. A folder with anything else in it is refused.

    \b
    Example: quietcount export figures
    Of a file alone: quietcount export figures --database statistics.duckdb
    """
    published = export(database or Configuration.load(config).public_file, folder, hxl=hxl, alone=database is not None)
    click.echo(
        f"Exported edition {published.about['edition']} to {folder}. Its README.md says what is in it.", err=True
    )
    if database is None and not published.said("licence"):
        click.echo(
            "Note: no licence is stated, so nobody may use the figures. Write `licence` below [publication] in the "
            "configuration, and run the service: docs/configuration.md",
            err=True,
        )
