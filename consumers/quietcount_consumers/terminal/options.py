"""The options that several commands share."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from quietcount_aggregates.errors import NoteError, PopulationError
from quietcount_consumers.running.timekeeping import Clock, Grid, fixed_clock
from quietcount_consumers.terminal.moments import Moment, check_not_far_ahead
from quietcount_consumers.terminal.presentation import Format, default_format
from quietcount_schemas.configuration import DEFAULT_LOG, KAFKA_SCHEME

if TYPE_CHECKING:
    from quietcount_aggregates.ledger.signed_notes import VerifierKey
    from quietcount_consumers.configuration import Configuration

__all__ = [
    "agreed",
    "as_of_option",
    "chosen_format",
    "clock_of",
    "format_option",
    "key_of",
    "log_option",
    "naming",
    "output_option",
    "wall_clock",
]

_Command = TypeVar("_Command", bound=Callable[..., object])

_KAFKA = re.compile(re.escape(KAFKA_SCHEME) + r"[A-Za-z0-9.,:_\[\]-]+/?")


class LogName(click.ParamType[str]):
    """The embedded log, or brokers of Kafka, in characters that mean nothing else in TOML."""

    name = "log"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != DEFAULT_LOG and not _KAFKA.fullmatch(value):
            self.fail(f'write "{DEFAULT_LOG}", or brokers, as kafka://host:9092,host2:9092', param, ctx)
        return value


def agreed(question: str) -> None:
    """Ask a person before something that cannot be undone; end the command unless the answer is yes."""
    if not click.confirm(question, err=True):
        click.echo("Nothing was changed.", err=True)
        raise click.exceptions.Exit(1)


as_of_option = click.option(
    "--as-of",
    type=Moment(),
    metavar="TIME",
    help="Let the clock stand at this date or moment (UTC): for trials, and for history emitted afterwards.",
)
log_option = click.option(
    "--log",
    type=LogName(),
    default=DEFAULT_LOG,
    show_default=True,
    metavar="LOG",
    help="The embedded log, or brokers: kafka://host:9092,host2:9092.",
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    help="How rows are written.  [default: table at a terminal, csv in a pipe]",
)


def key_of(text: str, hint: str) -> VerifierKey:
    """Return the public key of a ledger or of a witness that a person gave as `hint`; any other text is wrong usage."""
    from quietcount_aggregates.ledger.signed_notes import VerifierKey

    try:
        return VerifierKey.parse(text)
    except NoteError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None


def output_option(metavar: str) -> Callable[[_Command], _Command]:
    """Return the option that says where `write_output` writes: to stdout, unless it names a file."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
        default=Path("-"),
        metavar=metavar,
        help="Write into this file, and not to the standard output.",
    )


def chosen_format(form: str | None) -> Format:
    """Return the format that --format names, or the one that fits the output."""
    return Format(form) if form else default_format()


def clock_of(configuration: Configuration, as_of: dt.datetime | None) -> Clock:
    """Return the clock that --as-of asks for, or the grid of the real one."""
    if as_of is None:
        return Grid(configuration.tick)
    check_not_far_ahead(as_of, wall_clock())
    return fixed_clock(as_of)


@contextlib.contextmanager
def naming(config: Path) -> Iterator[None]:
    """Name the configuration file in the error if one of its statistics cannot be declared."""
    try:
        yield
    except PopulationError as error:
        raise PopulationError(f"{config}: {error.what}", error.remedy) from None


def wall_clock() -> dt.datetime:
    """Return the time, in whole seconds (UTC)."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
