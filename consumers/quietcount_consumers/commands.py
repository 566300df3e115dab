"""The commands of the service's install: init, run, release, query, ledger, demo."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from quietcount_aggregates.errors import StatisticError
from quietcount_aggregates.ledger import Ledger
from quietcount_schemas.cli import config_option
from quietcount_schemas.configuration import DEFAULT_LOG, KAFKA_SCHEME

from .configuration import Configuration
from .defects import hearing_threads, telling_defects
from .demo import DEFAULT_DIR, run_demo
from .http_server import MonitoringServer
from .inspection import due_now, ledger_rows, verify_ledger
from .log_events import Level
from .log_output import LogOutput
from .maintenance import follow_new_log, reading_ledger, record_state_loss, restore_ledger, retire_statistic
from .moments import Moment, check_not_far_ahead
from .presentation import Format, default_format, show_rows
from .project import create_project
from .queries import query
from .runner import Admit, Runner
from .service import Service, check_files
from .status import Board, beginning
from .supervision import Supervisor, forbid_core_dumps
from .ticks import Signals, StopSignal, run
from .timekeeping import Clock, ClockGuard, Grid, SystemClocks, fixed_clock

__all__ = ["demo_command", "init_command", "ledger_command", "query_command", "release_command", "run_command"]

_KAFKA = re.compile(re.escape(KAFKA_SCHEME) + r"[A-Za-z0-9.,:_\[\]-]+/?")


class LogName(click.ParamType[str]):
    """The embedded log, or brokers of Kafka, in characters that mean nothing else in TOML."""

    name = "log"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != DEFAULT_LOG and not _KAFKA.fullmatch(value):
            self.fail(f'write "{DEFAULT_LOG}", or brokers, as kafka://host:9092,host2:9092', param, ctx)
        return value


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


@click.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="[DIR]")
@log_option
def init_command(folder: Path, log: str) -> None:
    """Start a project: a commented quietcount.toml, and secrets with the right modes.

    Nothing is overwritten.

    \b
    Example: quietcount init helpline
    """
    for path in create_project(folder, log=log):
        click.echo(str(path))
    if log == DEFAULT_LOG:
        click.echo("Next: emit events (quietcount emit --help), then run the service (quietcount run).", err=True)
    else:
        click.echo(
            "Next: look at [kafka] in quietcount.toml, then make the topics (quietcount topics create).", err=True
        )


@click.command("run")
@config_option
@click.option("--until-idle", is_flag=True, help="Stop when the log is folded to its end and nothing is due.")
@as_of_option
def run_command(config: Path, until_idle: bool, as_of: dt.datetime | None) -> None:
    """Run the service: fold in ticks, release what is due, publish.

    SIGTERM and SIGINT let the batch in hand be folded, then end with 0; SIGHUP reads the configuration anew. When the
    brokers stop answering or the disk is full, the service waits and goes on at the tick at which that is mended; if it
    is so at its start, it ends with 1.

    \b
    Example: quietcount run
    What is there, and no more: quietcount run --until-idle
    History, as of a day: quietcount run --until-idle --as-of 2023-12-08
    """
    configuration = Configuration.load(config)
    forbid_core_dumps()
    clock = _clock(configuration, as_of)
    with (
        telling_defects(),
        LogOutput(sys.stderr, configuration.log_format) as log,
        hearing_threads(log.say, clock),
    ):
        if until_idle:
            with StopSignal() as stop, _naming(config), Service(configuration, clock(), say=log.say) as service:
                run(service, clock, configuration.tick, until_idle=True, stop=stop, flush=log.flush)
        else:
            _serve(config, configuration, clock, log)


def _serve(config: Path, configuration: Configuration, clock: Clock, log: LogOutput) -> None:
    """Run the lasting service, with all that belongs to it."""

    def opening(configuration: Configuration, now: dt.datetime, admit: Admit) -> Service:
        with _naming(config):
            return Service(configuration, now, say=log.say, admit=admit, held=True)

    def reading() -> Configuration:
        fresh = Configuration.load(config)
        with _naming(config):
            check_files(fresh)
        return fresh

    grid = clock if isinstance(clock, Grid) else Grid(configuration.tick)
    with _naming(config):
        board = Board(clock, configuration.tick, beginning(configuration))
    with Supervisor() as supervisor, Signals() as signals, MonitoringServer(configuration.metrics, board) as server:
        Runner(
            configuration,
            opening,
            clock=clock,
            grid=grid,
            board=board,
            signals=signals,
            output=log,
            reading=reading,
            guard=ClockGuard(SystemClocks()) if clock is grid else None,
            supervisor=supervisor,
            server=server,
        ).run()


@click.command("release")
@config_option
@as_of_option
@click.option("--dry-run", is_flag=True, help="Show what is due; fold nothing, draw nothing, publish nothing.")
@format_option
def release_command(config: Path, as_of: dt.datetime | None, dry_run: bool, form: str | None) -> None:
    """Release what is due and stop; what was released is written to stdout.

    \b
    Example: quietcount release --dry-run
    """
    configuration = Configuration.load(config)
    forbid_core_dumps()
    if dry_run:
        with _naming(config):
            # What closes nothing may look further ahead than a release.
            released = due_now(configuration, as_of or Grid(configuration.tick)())
        if not released:
            click.echo("Nothing is due.", err=True)
    else:
        now = _clock(configuration, as_of)()
        with (
            telling_defects(),
            LogOutput(sys.stderr, configuration.log_format, least=Level.WARNING) as log,
            hearing_threads(log.say, lambda: now),
            StopSignal() as stop,
            _naming(config),
            Service(configuration, now, say=log.say) as service,
        ):
            released = service.tick(now, stop).released
    rows = [(period.statistic, period.start, period.end) for period in released]
    show_rows(["statistic", "period_start", "period_end"], rows, _form(form))


@click.command("query")
@click.argument("sql")
@config_option
@format_option
def query_command(sql: str, config: Path, form: str | None) -> None:
    """Answer one SQL query from the published statistics.

    \b
    Example: quietcount query "FROM desertion_requests"
    What there is to ask: quietcount query "FROM data_dictionary"
    """
    columns, rows = query(Configuration.load(config).public_file, sql)
    show_rows(columns, rows, _form(form))


@click.group("ledger")
def ledger_command() -> None:
    """Look into the ledger of what was declared and released.

    \b
    Example: quietcount ledger verify
    """


@ledger_command.command("show")
@config_option
@format_option
def ledger_show_command(config: Path, form: str | None) -> None:
    """Show every entry of the ledger.

    \b
    Example: quietcount ledger show --format json
    """
    how = _form(form)
    # A whole digest would fold every other column of a table; JSON and CSV have it.
    columns, rows = ledger_rows(
        _read_ledger(Configuration.load(config)).chain, digest_length=8 if how is Format.TABLE else 64
    )
    show_rows(columns, rows, how)


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


@ledger_command.command("retire", short_help="End a statistic for good; its epsilon stays spent.")
@click.argument("statistic")
@config_option
def ledger_retire_command(statistic: str, config: Path) -> None:
    """End a statistic for good: it is not released any more, and its epsilon stays spent.

    \b
    Example: quietcount ledger retire desertion_requests
    """
    retire_statistic(Configuration.load(config), statistic, _now())
    click.echo(f"Retired {statistic}. Remove it from the configuration too.", err=True)


@ledger_command.command("restore", short_help="Restore a lost ledger from the newest file that was published.")
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@click.confirmation_option(
    prompt="An older file than the newest that was published would have values drawn twice. Is it the newest?"
)
def ledger_restore_command(file: Path, config: Path) -> None:
    """Restore a lost ledger from the newest file that was published, wherever somebody keeps a copy of it.

    Every published file holds the whole ledger that it was built from. One that the state, the public file or the
    witness knows to be older is refused, and a ledger that is there is never written over.

    \b
    Example: quietcount ledger restore statistics.duckdb
    """
    for line in restore_ledger(Configuration.load(config), file):
        click.echo(line, err=True)


@ledger_command.command("record-loss", short_help="Record that the private state is lost, and raise the stated bound.")
@config_option
@click.confirmation_option(
    prompt="Every case gets its limits anew and the stated bound is raised for ever. Is the state lost for good?"
)
def ledger_record_loss_command(config: Path) -> None:
    """Record that the private state is lost, raise the stated bound, and let releasing go on.

    \b
    Example: quietcount ledger record-loss
    """
    for line in record_state_loss(Configuration.load(config), _now()):
        click.echo(line, err=True)


@ledger_command.command("new-log", short_help="Go on with a new log in the place of one that is lost.")
@config_option
@click.confirmation_option(
    prompt="Events that were not folded yet are gone unless they are emitted again. Is the old log lost for good?"
)
def ledger_new_log_command(config: Path) -> None:
    """Go on with a new log in the place of one that is lost: every limit, mark and open period stays as it is.

    The log that lies in its place is folded from its beginning; if there is none, an empty one is made. Events that
    the old log held and that were not folded yet are to be emitted again: what was counted already counts once.

    \b
    Example: quietcount ledger new-log
    """
    follow_new_log(Configuration.load(config))
    click.echo("The state follows the new log. Emit again what may not have been folded.", err=True)


@click.command("demo", short_help="Do the whole job on synthetic cases, in seconds.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIR,
    show_default=True,
    help="Where the demo's files go; made anew at each run.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the page for people.")
@log_option
def demo_command(folder: Path, as_json: bool, log: str) -> None:
    """Do the whole job on synthetic cases: emit, fold, release, publish, compare with published figures.

    On Kafka it makes topics of its own (quietcount-demo-...), which the next demo in the same folder deletes. It knows
    no password and no TLS: the brokers must take anyone.

    \b
    Example: quietcount demo --dir /tmp/quietcount-demo
    On Kafka: quietcount demo --log kafka://localhost:9092
    """
    run_demo(folder, as_json=as_json, log=log)


def _read_ledger(configuration: Configuration) -> Ledger:
    with reading_ledger(configuration) as ledger:
        return ledger


def _clock(configuration: Configuration, as_of: dt.datetime | None) -> Clock:
    if as_of is None:
        return Grid(configuration.tick)
    check_not_far_ahead(as_of, _now())
    return fixed_clock(as_of)


@contextlib.contextmanager
def _naming(config: Path) -> Iterator[None]:
    """Name the file in which a statistic is written that cannot be declared."""
    try:
        yield
    except StatisticError as error:
        raise StatisticError(f"{config}: {error}") from None


def _form(form: str | None) -> Format:
    return Format(form) if form else default_format()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
