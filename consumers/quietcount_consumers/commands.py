"""The commands of the service's install: init, run, release, query, ledger, demo."""

from __future__ import annotations

import datetime as dt
import logging
import sys
from pathlib import Path

import click
import structlog

from quietcount_aggregates.errors import LedgerError
from quietcount_aggregates.ledger import Ledger
from quietcount_schemas.cli import config_option

from .configuration import Configuration
from .demo import DEFAULT_DIR, run_demo
from .inspection import ledger_rows, verify_ledger
from .maintenance import record_state_loss, retire_statistic
from .presentation import Format, default_format, show_rows
from .project import create_project
from .queries import query
from .service import Service, open_ledger
from .ticks import StopSignal, fixed_clock, run, system_clock

__all__ = ["demo_command", "init_command", "ledger_command", "query_command", "release_command", "run_command"]


class _Moment(click.ParamType[dt.datetime]):
    """A date or a moment, in UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        if isinstance(value, dt.datetime):
            return value
        try:
            moment = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail("write a date or a moment: 2023-12-08, or 2023-12-08T06:00:00", param, ctx)
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


as_of_option = click.option(
    "--as-of",
    type=_Moment(),
    metavar="TIME",
    help="Let the clock stand at this date or moment (UTC): for trials, and for history emitted afterwards.",
)
format_option = click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    help="How rows are written.  [default: table at a terminal, csv in a pipe]",
)


@click.command("init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="[DIR]")
def init_command(folder: Path) -> None:
    """Start a project: a commented quietcount.toml, and secrets with the right modes.

    Nothing is overwritten. Example: quietcount init helpline
    """
    for path in create_project(folder):
        click.echo(str(path))
    click.echo("Next: emit events (quietcount emit --help), then run the service (quietcount run).", err=True)


@click.command("run")
@config_option
@click.option("--until-idle", is_flag=True, help="Stop when the log is folded to its end and nothing is due.")
@as_of_option
def run_command(config: Path, until_idle: bool, as_of: dt.datetime | None) -> None:
    """Run the service: fold in ticks, release what is due, publish.

    SIGTERM and SIGINT let the batch in hand be folded, then end with 0. Example: quietcount run --until-idle --as-of
    2023-12-08
    """
    configuration = Configuration.load(config)
    _log_to_stderr()
    clock = fixed_clock(as_of) if as_of else system_clock(configuration.tick)
    with StopSignal() as stop, Service(configuration, clock()) as service:
        run(service, clock, configuration.tick, until_idle=until_idle, stop=stop)


@click.command("release")
@config_option
@as_of_option
@click.option("--dry-run", is_flag=True, help="Show what is due; fold nothing, draw nothing, publish nothing.")
@format_option
def release_command(config: Path, as_of: dt.datetime | None, dry_run: bool, form: str | None) -> None:
    """Release what is due and stop; what was released is written to stdout.

    Example: quietcount release --dry-run
    """
    configuration = Configuration.load(config)
    _log_to_stderr(quiet=True)
    clock = fixed_clock(as_of) if as_of else system_clock(configuration.tick)
    now = clock()
    if dry_run:
        from .inspection import due_now

        released = due_now(configuration, now)
    else:
        with StopSignal() as stop, Service(configuration, now) as service:
            released = service.tick(now, stop).released
    rows = [(period.statistic, period.start, period.end) for period in released]
    show_rows(["statistic", "period_start", "period_end"], rows, _form(form))


@click.command("query")
@click.argument("sql")
@config_option
@format_option
def query_command(sql: str, config: Path, form: str | None) -> None:
    """Answer one SQL query from the published statistics.

    Example: quietcount query "FROM total('desertion_requests', '2023-06-01', '2023-08-31')"
    """
    columns, rows = query(Configuration.load(config).public_file, sql)
    show_rows(columns, rows, _form(form))


@click.group("ledger")
def ledger_command() -> None:
    """Look into the ledger of what was declared and released.

    Example: quietcount ledger verify
    """


@ledger_command.command("show")
@config_option
@format_option
def ledger_show_command(config: Path, form: str | None) -> None:
    """Show every entry of the ledger.

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

    Example: quietcount ledger retire desertion_requests
    """
    retire_statistic(Configuration.load(config), statistic, _now())
    click.echo(f"Retired {statistic}. Remove it from the configuration too.", err=True)


@ledger_command.command("record-loss", short_help="Record that the private state is lost, and raise the stated bound.")
@config_option
@click.confirmation_option(
    prompt="Every case gets its limits anew and the stated bound is raised for ever. Is the state lost for good?"
)
def ledger_record_loss_command(config: Path) -> None:
    """Record that the private state is lost, raise the stated bound, and let releasing go on.

    Example: quietcount ledger record-loss
    """
    click.echo(record_state_loss(Configuration.load(config), _now()), err=True)


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
def demo_command(folder: Path, as_json: bool) -> None:
    """Do the whole job on synthetic cases: emit, fold, release, publish, compare with published figures.

    Example: quietcount demo --dir /tmp/quietcount-demo
    """
    _log_to_stderr(quiet=True)
    run_demo(folder, as_json=as_json)


def _read_ledger(configuration: Configuration) -> Ledger:
    log = open_ledger(configuration, create=False)
    try:
        ledger = Ledger(log)
        ledger.refresh()
    finally:
        log.close()
    if not ledger.chain.entries:
        raise LedgerError("the ledger is empty; `quietcount run` opens it")
    return ledger


def _form(form: str | None) -> Format:
    return Format(form) if form else default_format()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _log_to_stderr(*, quiet: bool = False) -> None:
    """Send the service's events to stderr, one line each; data goes to stdout."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False)
            if sys.stderr.isatty()
            else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
