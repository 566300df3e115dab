"""The command emit: the events of files to the log."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from quietcount_producers.commands.progress import Steps, progress, size_of
from quietcount_producers.commands.spool import sent_on
from quietcount_producers.composing.beginnings import counted_nowhere
from quietcount_producers.composing.composition import Composer, utc_today
from quietcount_producers.errors import ProducersError
from quietcount_producers.files.bad_lines import BadLines
from quietcount_producers.files.emission import Check, CheckedRecords, Identities, check, send
from quietcount_producers.files.event_files import FileFormat
from quietcount_producers.files.findings import Tally
from quietcount_producers.mapping import Mapping, Reading, catalogue
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_producers.spool.event_spool import EventSpool
from quietcount_schemas.cli import EXIT_INTERRUPTED, config_option
from quietcount_schemas.log import LogWriter
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["emit_command"]

_STANDARD = "-"


@dataclass(frozen=True, slots=True)
class _Source:
    """A file to be emitted, and where its bad lines go."""

    path: Path | None
    """None is standard input."""
    format: FileFormat
    bad_file: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return "standard input" if self.path is None else str(self.path)

    def look(self) -> None:
        """Raise ProducersError for a file that cannot be opened, before the log is."""
        if self.path is None or not self.path.is_fifo():  # a pipe is opened once
            with self.opened():
                pass

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file. Raises ProducersError."""
        if self.path is None:
            if sys.stdin is None:  # a shell's <&-
                raise ProducersError("Standard input is closed", "Name a file, or send one in through a pipe")
            yield sys.stdin.buffer
            return
        try:
            stream = self.path.open("rb")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = os.strerror(getattr(error, "errno", 0) or 0).lower() if isinstance(error, OSError) else "no path"
            raise ProducersError(
                f"Cannot read {self.path}: {reason}", "Check the path and the rights of the file"
            ) from error
        with stream:
            yield stream


@dataclass(frozen=True, slots=True)
class _Job:
    """How every file of one call is read and checked."""

    composer: Composer
    reading: Reading
    mapping: Mapping | None
    identities: Identities

    def check(
        self,
        source: _Source,
        records: CheckedRecords | None = None,
        bad: BadLines | None = None,
        tally: Tally | None = None,
    ) -> Check:
        """Check one file."""
        with source.opened() as stream, _stoppable(), progress("Checking", size_of(stream)) as bar:
            return check(
                *(stream, source.name, source.format, self.composer),
                reading=self.reading,
                mapping=self.mapping,
                records=records,
                bad=bad,
                identities=self.identities,
                tally=tally,
                advance=Steps(bar, stream),
            )


@click.command(
    "emit",
    epilog="Example: quietcount emit cases.csv --dry-run",
    short_help="Send the events of files (CSV, JSON, XLSX) to the log.",
)
@click.argument("files", metavar="FILE...|-", nargs=-1, required=True)
@click.option(
    "--mapping", "mapping_name", metavar="FILE|NAME", help="What the columns of FILE mean: see `quietcount mapping`."
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([each.value for each in FileFormat]),
    help="What FILE holds.  [default: by its suffix; jsonl for -]",
)
@click.option("--encoding", metavar="NAME", help="How its text is written, such as windows-1251.  [default: found out]")
@click.option("--dry-run", is_flag=True, help="Check the whole file, show what would be sent, and send nothing.")
@click.option("--skip-bad", is_flag=True, help="Send the good lines; write the bad ones, with reasons, beside FILE.")
@click.option(
    "--bad-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Where --skip-bad writes the bad lines.  [default: FILE.bad.csv or FILE.bad.jsonl]",
)
@config_option
def emit_command(
    files: Sequence[str],
    mapping_name: str | None,
    format_name: str | None,
    encoding: str | None,
    dry_run: bool,
    skip_bad: bool,
    bad_file: Path | None,
    config: Path,
) -> None:
    """Send the events of each FILE (CSV, JSONL, JSON or XLSX; - is standard input) to the log.

    All files are checked whole before the first event is sent. Emitting the same file twice counts once, so if
    anything ends this command midway, run it again.
    """
    if bad_file is not None and not skip_bad:
        raise click.UsageError("--bad-file goes with --skip-bad.")
    if bad_file is not None and len(files) > 1:
        raise click.UsageError("--bad-file goes with one FILE.")
    if skip_bad and bad_file is None and not dry_run and _STANDARD in files:
        raise click.UsageError("--skip-bad of standard input needs --bad-file.")
    settings = EmitterSettings.load(config)
    registry = settings.registry()
    mapping = None if mapping_name is None else Mapping.load(catalogue.found(Path(mapping_name)), registry)
    reading = Reading() if mapping is None else mapping.reading
    if encoding is not None:
        reading = dataclasses.replace(reading, encoding=encoding)
    sources = [_source(file, format_name, reading, bad_file) for file in files]
    _refuse_repeated(sources)
    job = _Job(settings.composer(registry), reading, mapping, Identities(several=len(files) > 1))
    if dry_run:
        _try_out(job, sources, settings, skip_bad)
    else:
        _emit(job, sources, settings, skip_bad)


def _source(file: str, format_name: str | None, reading: Reading, bad_file: Path | None) -> _Source:
    path = None if file == _STANDARD else Path(file)
    if path is not None and not path.name:
        raise ProducersError(f"Cannot read {file or 'a file without a name'}: is a folder", "Name the files in it")
    if format_name is not None:
        found = FileFormat(format_name)
    else:
        named = None if reading.format is None else FileFormat(reading.format)
        found = FileFormat.JSONL if path is None else FileFormat.guess(path, named)
        found = named if path is None and named is not None else found
    beside = Path(file)
    bad = bad_file or beside.with_name(f"{beside.name}.bad.{found.of_bad_lines.value}")
    return _Source(path, found, bad)


def _refuse_repeated(sources: Sequence[_Source]) -> None:
    """Raise ProducersError if a file is named twice: its bad lines would go into one file twice."""
    seen: dict[object, _Source] = {}
    for source in sources:
        identity: object = source.path
        with contextlib.suppress(OSError, ValueError):  # one that is not there is told of when it is opened
            if source.path is not None:
                status = source.path.stat()
                identity = status.st_dev, status.st_ino
        other = seen.setdefault(identity, source)
        if other is not source:
            raise ProducersError(f"{source.name} is the same file as {other.name}", "Name each file once")


def _try_out(job: _Job, sources: Sequence[_Source], settings: EmitterSettings, skip_bad: bool) -> None:
    """Check the files and show what would be sent, to the person who holds them."""
    tally = Tally()
    found = [job.check(source, tally=tally) for source in sources]
    for each in found:
        _show(each)
    _note(found, settings, job.composer.registry)  # first: a dry run is to find all that is to be mended
    if any(each.problems for each in found) and not skip_bad:
        raise ProducersError(
            f"{_names(found)} has lines that cannot be emitted", "Mend them, or leave them out with --skip-bad"
        )
    for line in tally.table():
        click.echo(line)
    for each in found:
        if not each.good and not each.problems:
            click.echo(_empty(each), err=True)
            continue
        verdict = "the lines above cannot be emitted, the others can." if each.problems else "every line is good."
        click.echo(f"Checked {each.name}: {each.held}; {verdict} Nothing was sent.", err=True)


def _emit(job: _Job, sources: Sequence[_Source], settings: EmitterSettings, skip_bad: bool) -> None:
    with ExitStack() as stack:
        bads: list[BadLines | None] = []
        for source in sources:
            source.look()
            bads.append(_bad_lines(source, job, stack) if skip_bad else None)
        with _stoppable():  # it waits while the brokers do not answer
            outbox = None if settings.spool is None else EventSpool(settings.spool)
            log: LogWriter = open_log(settings) if outbox is None else outbox
        stack.callback(log.close)
        records = CheckedRecords(outbox.store if outbox else settings.scratch_folder)
        stack.callback(records.close)
        found = [job.check(source, records, bad) for source, bad in zip(sources, bads, strict=True)]
        for each in found:
            _show(each)
        wrong = [each for each in found if each.problems]
        if wrong and not skip_bad:
            raise ProducersError(
                f"{_names(wrong)} has lines that cannot be emitted; nothing was sent",
                "Mend them, or send the others with --skip-bad",
            )
        for bad in bads:
            if bad is not None:
                bad.finish()
        for each, bad in zip(found, bads, strict=True):
            if bad is not None and each.problems and not any(one.good for one in found):
                raise ProducersError(
                    f"{each.name} has no good line; nothing was sent",
                    f"Mend the lines: {bad.path} has them, with reasons",
                )
        _note(found, settings, job.composer.registry)
        try:
            with progress("Sending", records.count) as bar:
                send(log, records, bar)
            where = sent_on(outbox, settings, _names(found)) if outbox else "in the log"
        except KeyboardInterrupt:
            names = _names(found)
            click.echo(f"Stopped. Run the same command again to complete {names}: nothing counts twice.", err=True)
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
        for each, bad in zip(found, bads, strict=True):
            _conclude(each, bad, where)


def _bad_lines(source: _Source, job: _Job, stack: ExitStack) -> BadLines:
    target = source.bad_file
    if source.path is not None and target.exists() and target.samefile(source.path):
        raise ProducersError(f"{target} is the file to be emitted", "Name another file with --bad-file")
    bad = BadLines(target, source.format, None if job.mapping is None else job.reading)
    stack.callback(bad.discard)
    return bad


def _conclude(found: Check, bad: BadLines | None, where: str) -> None:
    """Say how many events the file held. The person who has the file can count them, and nobody else sees this."""
    if not found.good and not found.problems:
        click.echo(_empty(found), err=True)
    elif bad is not None and not found.good:
        click.echo(f"{found.name} has no good line: {bad.path} has them, with reasons.", err=True)
    elif bad is not None and found.problems:
        click.echo(
            f"Emitted {found.name}: {found.held}; every good line is {where}. The bad ones are in {bad.path}.", err=True
        )
    else:
        click.echo(f"Emitted {found.name}: {found.held}; every line is {where}.", err=True)


def _empty(found: Check) -> str:
    if found.nobody:
        return f"{found.name} holds no events: by the mapping, none of its rows stands for anybody."
    return (
        f"{found.name} holds no events: it has no line, or none below the names of the columns. If it should have "
        "some, export it again."
    )


def _names(found: Sequence[Check]) -> str:
    return ", ".join(each.name for each in found)


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


def _note(found: Sequence[Check], settings: EmitterSettings, registry: SchemaRegistry) -> None:
    """Say which numbers are defaults, and which events count nowhere, as far as the configuration tells."""
    lines = dict.fromkeys(line for each in found for line in each.notes())
    earliest = {
        event: min(each.earliest[event] for each in found if event in each.earliest)
        for event in dict.fromkeys(event for each in found for event in each.earliest)
    }
    for line in (*lines, *counted_nowhere(earliest, settings.beginnings, registry, utc_today())):
        click.echo(line, err=True)
