"""The commands about dead letters: dead-letters list, dead-letters replay."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.dead_letters import Letter, letters, replay
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.terminal.options import chosen_format, format_option
from quietcount_consumers.terminal.presentation import show_rows
from quietcount_consumers.wiring import open_log
from quietcount_producers.settings import EmitterSettings
from quietcount_schemas.cli import config_option
from quietcount_schemas.codec import Codec, RejectReason
from quietcount_schemas.configuration import LOG_FILE
from quietcount_schemas.events.periods import Period

__all__ = ["dead_letters_command"]

_COLUMNS: Final = ("reason", "topic", "partition", "offset")
_EPOCH: Final = dt.date(1970, 1, 1)
_DAY_MS: Final = 86_400_000


@click.group("dead-letters")
def dead_letters_command() -> None:
    """Look at rejected records, and replay those that are good now.

    \b
    Example: quietcount dead-letters list
    """


@dead_letters_command.command("list", short_help="List the rejected records: reason, topic, partition, offset.")
@config_option
@format_option
def dead_letters_list_command(config: Path, form: str | None) -> None:
    """List the rejected records: why each was rejected, and where it came from, but not what is in it.

    \b
    Example: quietcount dead-letters list --format json
    """
    with _opened(Configuration.load(config)) as log:
        rows = [_place(letter) for letter in letters(log)]
    show_rows(_COLUMNS, rows, chosen_format(form))


@dead_letters_command.command("replay", short_help="Append rejected records that are good now to the case events.")
@click.option(
    "--reason",
    # An event that is dated ahead is dropped at a settlement and never a dead letter.
    type=click.Choice([reason.value for reason in RejectReason if reason is not RejectReason.DATED_AHEAD]),
    help="Only records that were rejected for this reason.  [default: all but key_mismatch]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be replayed; append nothing.")
@config_option
@format_option
def dead_letters_replay_command(reason: str | None, dry_run: bool, config: Path, form: str | None) -> None:
    """Append the rejected records that are good now to the case events, and say of each what happened to it.

    Use it after you added a schema, or an id of the Schema Registry, and once the service runs with it. An event
    counts once however often it is replayed, and even if the service has counted it by itself.

    A record that was rejected for its key is left alone unless --reason key_mismatch asks for it. It is then replayed
    under the case key that it holds. First find out who wrote it.

    \b
    Example: quietcount dead-letters replay --dry-run
    """
    configuration = Configuration.load(config)
    precision = EmitterSettings.load(config).precision

    def timestamp(event: str, day: dt.date) -> int:
        """Return what an emitter would have given: the first day of the period that it coarsens dates to."""
        coarse = max(precision.get(event, Period.MONTH).coarsen(day), _EPOCH)  # the week of 1970-01-01 began in 1969
        return (coarse - _EPOCH).days * _DAY_MS

    codec = Codec(configuration.registry())
    good = "would be replayed" if dry_run else "replayed"
    with _opened(configuration) as log:
        outcomes = replay(log, None if dry_run else log, codec, timestamp, RejectReason(reason) if reason else None)
        rows = [(*_place(letter), good if rejected is None else rejected.value) for letter, rejected in outcomes]
    show_rows((*_COLUMNS, "outcome"), rows, chosen_format(form))
    for still in RejectReason:
        if any(row[-1] == still.value for row in rows):
            click.echo(f"{still.value}: {still.explanation}.", err=True)


@contextlib.contextmanager
def _opened(configuration: Configuration) -> Iterator[Any]:
    """Open the log that is there, and make none: these commands only look."""
    if configuration.kafka is None and not (configuration.private_dir / LOG_FILE).exists():
        raise ServiceError(f"{configuration.private_dir / LOG_FILE}: there is no log yet", "`quietcount run` makes it")
    with contextlib.closing(open_log(configuration)) as log:
        yield log


def _place(letter: Letter) -> tuple[str | None, str | None, int | None, int | None]:
    return (None if letter.reason is None else letter.reason.value, letter.topic, letter.partition, letter.offset)
