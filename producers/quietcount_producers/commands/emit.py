"""The command emit: the events of a file to the log."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import click

from quietcount_producers.beginnings import counted_nowhere
from quietcount_producers.commands.progress import Steps, progress, size_of
from quietcount_producers.commands.spool import sent_on
from quietcount_producers.composition import utc_today
from quietcount_producers.errors import ProducersError
from quietcount_producers.files.bad_lines import BadLines
from quietcount_producers.files.emission import Check, CheckedRecords, check, send
from quietcount_producers.files.event_files import FileFormat
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_producers.spool.event_spool import EventSpool
from quietcount_schemas.cli import EXIT_INTERRUPTED, config_option
from quietcount_schemas.log import LogWriter
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["emit_command"]

_STANDARD = "-"


@click.command(
    "emit",
    epilog="Example: quietcount emit cases.csv --dry-run",
    short_help="Send the events of a JSONL or CSV file to the log.",
)
@click.argument("file", metavar="FILE|-")
@click.option(
    "--format",
    "format_name",
    type=click.Choice([each.value for each in FileFormat]),
    help="What FILE holds.  [default: by its suffix; jsonl for -]",
)
@click.option("--dry-run", is_flag=True, help="Check the whole file and send nothing.")
@click.option("--skip-bad", is_flag=True, help="Send the good lines; write the bad ones, with reasons, beside FILE.")
@click.option(
    "--bad-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Where --skip-bad writes the bad lines.  [default: FILE.bad.csv or FILE.bad.jsonl]",
)
@config_option
def emit_command(
    file: str, format_name: str | None, dry_run: bool, skip_bad: bool, bad_file: Path | None, config: Path
) -> None:
    """Send the events of FILE (JSONL or CSV; - is standard input) to the log.

    The whole file is checked before its first event is sent. Emitting the same file twice counts once, so if
    anything ends this command midway, run it again.
    """
    stdin = file == _STANDARD
    path = Path(file)
    name = "standard input" if stdin else file
    if bad_file is not None and not skip_bad:
        raise click.UsageError("--bad-file goes with --skip-bad.")
    if stdin and skip_bad and bad_file is None and not dry_run:
        raise click.UsageError("--skip-bad of standard input needs --bad-file.")
    if format_name is not None:
        file_format = FileFormat(format_name)
    else:
        file_format = FileFormat.JSONL if stdin else FileFormat.guess(path)
    settings = EmitterSettings.load(config)
    registry = settings.registry()
    composer = settings.composer(registry)
    with ExitStack() as stack:
        stream = sys.stdin.buffer if stdin else stack.enter_context(_opened(path))
        if dry_run:
            with _stoppable(), progress("Checking", size_of(stream)) as bar:
                found = check(stream, name, file_format, composer, advance=Steps(bar, stream))
            _show(found)
            _note(found, settings, registry)  # first: a dry run is to find all that is to be mended
            if found.problems and not skip_bad:
                raise ProducersError(
                    f"{name} has lines that cannot be emitted", "Mend them, or leave them out with --skip-bad"
                )
            verdict = "the lines above cannot be emitted, the others can." if found.problems else "every line is good."
            click.echo(f"Checked {name}: {verdict} Nothing was sent.", err=True)
            return
        bad = None
        if skip_bad:
            target = bad_file or path.with_name(f"{path.name}.bad.{file_format.value}")
            if not stdin and target.exists() and target.samefile(path):
                raise ProducersError(f"{target} is the file to be emitted", "Name another file with --bad-file")
            bad = BadLines(target, file_format)
            stack.callback(bad.discard)
        with _stoppable():  # it waits while the brokers do not answer
            outbox = None if settings.spool is None else EventSpool(settings.spool)
            log: LogWriter = open_log(settings) if outbox is None else outbox
        stack.callback(log.close)
        records = CheckedRecords(outbox.store if outbox else settings.scratch_folder)
        stack.callback(records.close)
        with _stoppable(), progress("Checking", size_of(stream)) as bar:
            found = check(stream, name, file_format, composer, records=records, bad=bad, advance=Steps(bar, stream))
        _show(found)
        if found.problems and bad is None:
            raise ProducersError(
                f"{name} has lines that cannot be emitted; nothing was sent",
                "Mend them, or send the others with --skip-bad",
            )
        if bad is not None:
            bad.finish()
            if found.problems and not found.good:
                raise ProducersError(
                    f"{name} has no good line; nothing was sent", f"Mend the lines: {bad.path} has them, with reasons"
                )
        _note(found, settings, registry)
        try:
            with progress("Sending", records.count) as bar:
                send(log, records, bar)
            where = sent_on(outbox, settings, name) if outbox else "in the log"
        except KeyboardInterrupt:
            click.echo(f"Stopped. Run the same command again to complete {name}: nothing counts twice.", err=True)
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
        if not found.good:
            click.echo(f"{name} holds no events.", err=True)
        elif bad is not None and found.problems:
            click.echo(f"Emitted {name}: every good line is {where}. The bad ones are in {bad.path}.", err=True)
        else:
            click.echo(f"Emitted {name}: every line is {where}.", err=True)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ProducersError(f"Cannot read {path}: {reason}", "Check the path and the rights of the file") from error


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """End on Ctrl-C with a line that says that nothing was sent."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Stopped; nothing was sent.", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


def _show(found: Check) -> None:
    for line in found.shown():
        click.echo(line, err=True)


def _note(found: Check, settings: EmitterSettings, registry: SchemaRegistry) -> None:
    """Say which numbers are defaults, and which events count nowhere, as far as the configuration tells."""
    for line in (*found.notes(), *counted_nowhere(found.earliest, settings.beginnings, registry, utc_today())):
        click.echo(line, err=True)
