"""The commands of mappings: drafting one for an export, and showing those that come with the package."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from quietcount_producers.errors import ProducersError
from quietcount_producers.files.event_files import FileFormat, rows
from quietcount_producers.files.findings import said
from quietcount_producers.mapping import Reading
from quietcount_producers.mapping.catalogue import SHIPPED, summary
from quietcount_producers.mapping.drafting import draft, flattened, records_in
from quietcount_producers.mapping.paths import at
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.cli import config_option
from quietcount_schemas.private_files import write_secret

__all__ = ["mapping_command"]

_MOST_ROWS: Final = 5_000
"""A draft looks at the first thousands: what stands in a column is seen by then."""
_APART: Final = ";\t"


@click.group(
    "mapping",
    epilog="Example: quietcount mapping new export.csv -o mapping.toml",
    short_help="Draft a mapping for an export, or show those that come with quietcount.",
)
def mapping_command() -> None:
    """Draft a mapping for an export, or show those that come with quietcount.

    A mapping says what the columns of an export mean, so that `quietcount emit --mapping` can send it as it is.
    """


@mapping_command.command(
    "new",
    epilog="Example: quietcount mapping new export.csv -o mapping.toml",
    short_help="Draft a mapping for a file, to be filled in.",
)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it.  [default: shown]"
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([each.value for each in FileFormat]),
    help="What FILE holds.  [default: by its suffix]",
)
@click.option("--encoding", metavar="NAME", help="How its text is written, such as windows-1251.  [default: found out]")
@config_option
def new(file: Path, output: Path | None, format_name: str | None, encoding: str | None, config: Path) -> None:
    """Draft a mapping for FILE, with comments, to be filled in.

    It names the columns and what kind of values stand in them. It names values only of a column that holds the symbols
    of a field, and only if each stands there five times or more, so that no identifier is among them.
    """
    registry = EmitterSettings.load(config).registry()
    file_format = FileFormat(format_name) if format_name else FileFormat.guess(file)
    columns = _AnyColumns(str(file))
    try:
        with file.open("rb") as stream:
            found = rows(stream, str(file), file_format, columns, Reading(encoding=encoding))
            first = list(itertools.islice(found, _MOST_ROWS))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = os.strerror(getattr(error, "errno", 0) or 0).lower() if isinstance(error, OSError) else "no path"
        raise ProducersError(f"Cannot read {file}: {reason}", "Check the path and the rights of the file") from error
    looked_at: list[Mapping[str, object]] = [dict(flattened(row.values)) for row in first if row.problem is None]
    unread = next(((row.line, row.problem) for row in first if row.problem is not None), None)
    if unread is not None:
        line, problem = unread
        click.echo(f"Note: {file} has rows that cannot be read, as line {line}: {said(problem)}", err=True)
    if not looked_at:
        raise ProducersError(f"{file} has no row that can be read", "Take a file with some rows for the draft")
    records = records_in(looked_at)
    if records:
        inside = at(looked_at[0], records)
        looked_at = [dict(flattened(each)) for each in inside] if isinstance(inside, list) else looked_at
    names = columns.names or list(dict.fromkeys(name for row in looked_at for name in row))
    text = draft(file.name, names, looked_at, registry, records, encoding)
    if output is None:
        click.echo(text)
        return
    try:
        write_secret(output, text.encode())
    except FileExistsError:
        raise ProducersError(
            f"There is a file {output} already", "Give another name with -o, or move it away"
        ) from None
    except OSError as error:
        raise ProducersError(
            f"Cannot write {output}: {os.strerror(error.errno or 0).lower()}", "Check the folder and the disk"
        ) from error
    click.echo(
        f"Wrote {output}. Fill it in, then try it: quietcount emit {file} --mapping {output} --dry-run", err=True
    )


@mapping_command.command(
    "list", epilog="Example: quietcount mapping list", short_help="List the mappings that come with quietcount."
)
def list_command() -> None:
    """List the mappings that come with quietcount, and the export that each is for."""
    width = max(map(len, SHIPPED))
    for name in SHIPPED:
        click.echo(f"{name:<{width}}  {summary(name)}")


@mapping_command.command(
    "show",
    epilog="Example: quietcount mapping show kobotoolbox > kobo.toml",
    short_help="Print a mapping that comes with quietcount.",
)
@click.argument("name", type=click.Choice(list(SHIPPED)))
def show(name: str) -> None:
    """Print the mapping NAME, with comments, to be copied and changed."""
    click.echo(SHIPPED[name].read_text(encoding="utf-8"), nl=False)


class _AnyColumns:
    """Takes any header that names at least two columns, and keeps it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.names: list[str] = []

    def ignores(self, column: str) -> bool:  # noqa: ARG002
        """Return whether a cell of the column may hold line breaks: a draft makes no event of any."""
        return True

    def is_header(self, columns: Sequence[str]) -> bool:
        """Return whether these are names: different ones, not split at the wrong character."""
        wrong = sum(each.count(apart) for each in columns for apart in _APART)
        return len(columns) > 1 and all(columns) and len(set(columns)) == len(columns) and wrong < len(columns)

    def found(self, columns: Sequence[str]) -> int:  # noqa: ARG002
        """Return how many columns of those that a draft needs are there: it needs none by name."""
        return 0

    def check(self, columns: Sequence[str]) -> None:
        """Keep the header. Raises ProducersError if there is none."""
        if not self.is_header(columns):
            raise ProducersError(
                f"{self._name}: no line at its beginning names the columns, each with a name of its own",
                "Name the columns in the first line, and give each another name",
            )
        self.names = list(columns)
