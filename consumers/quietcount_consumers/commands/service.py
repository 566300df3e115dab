"""The commands run and release: the service until it is stopped, and one release."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import click

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Declared, Opened, Released
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.core_dumps import forbid_core_dumps
from quietcount_consumers.defects import hearing_threads, telling_defects
from quietcount_consumers.errors import ClockBehind, ServiceError
from quietcount_consumers.maintenance.inspection import due_now
from quietcount_consumers.monitoring.log_events import CLOCK_JUMPED, Level, Say
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board, beginning
from quietcount_consumers.monitoring.supervision import Supervisor
from quietcount_consumers.opening import open_service
from quietcount_consumers.running.runner import Admit, Runner
from quietcount_consumers.running.ticks import Signals, StopSignal, run_until_idle
from quietcount_consumers.running.timekeeping import Clock, ClockGuard, Grid, SystemClocks, check_not_before
from quietcount_consumers.service import Service
from quietcount_consumers.terminal.options import (
    as_of_option,
    chosen_format,
    clock_of,
    format_option,
    naming,
    wall_clock,
)
from quietcount_consumers.terminal.presentation import show_rows
from quietcount_consumers.wiring import check_files
from quietcount_consumers.workers.duty import Duty, Role, duty_of
from quietcount_consumers.workers.worker import Worker
from quietcount_consumers.workers.worker_opening import check_workers, open_worker
from quietcount_schemas.cli import config_option

__all__ = ["release_command", "run_command"]

_MINUTE: Final = dt.timedelta(minutes=1)


@click.command("run")
@config_option
@click.option("--until-idle", is_flag=True, help="Stop when the log is folded to its end and nothing is due.")
@click.option(
    "--role",
    type=click.Choice([each.value for each in Role]),
    default=Role.BOTH.value,
    show_default=True,
    help="Whether this process does all of it, or only one half. The halves need Kafka.",
)
@click.option("--partitions", metavar="LIST", help="Which partitions of the log a worker folds, as in 0-3,6.")
@as_of_option
def run_command(config: Path, until_idle: bool, role: str, partitions: str | None, as_of: dt.datetime | None) -> None:
    """Run the service: fold in ticks, release what is due, publish.

    SIGTERM and SIGINT let the batch in hand be folded, then end with 0; SIGHUP reads the configuration again. When the
    brokers stop answering or the disk is full, the service waits and goes on at the tick at which that is mended; if it
    is so at its start, it ends with 1.

    \b
    Example: quietcount run
    What is there, and no more: quietcount run --until-idle
    History, as of a day: quietcount run --until-idle --as-of 2023-12-08
    One of several workers: quietcount run --role fold --partitions 0-3
    And the one that releases: quietcount run --role release
    """
    duty = duty_of(role, partitions)
    configuration = Configuration.load(config)
    if duty.role is not Role.BOTH:
        check_workers(configuration)
    forbid_core_dumps()
    clock = clock_of(configuration, as_of)
    with (
        telling_defects(),
        LogOutput(sys.stderr, configuration.log_format) as log,
        hearing_threads(log.say, clock),
    ):
        if until_idle:
            admit = admission(as_of, clock, log.say)
            with (
                StopSignal() as stop,
                naming(config),
                _opened(configuration, clock(), duty, log.say, admit, rest=_resting(configuration, stop)) as service,
            ):
                run_until_idle(service, clock, stop, flush=log.flush)
                service.show()
        else:
            _serve(config, configuration, clock, as_of, log, duty)


def _opened(
    configuration: Configuration,
    now: dt.datetime,
    duty: Duty,
    say: Say,
    admit: Callable[[Chain], None],
    *,
    held: bool = False,
    rest: Callable[[], None] = lambda: None,
) -> Service | Worker:
    """Open what the duty asks for."""
    if duty.role is Role.FOLD:
        return open_worker(configuration, now, duty, admit=admit)
    return open_service(configuration, now, say=say, admit=admit, held=held, rest=rest, duty=duty)


def _serve(
    config: Path,
    configuration: Configuration,
    clock: Clock,
    as_of: dt.datetime | None,
    log: LogOutput,
    duty: Duty,
) -> None:
    """Run the lasting service, with all that belongs to it."""

    def opening(configuration: Configuration, now: dt.datetime, admit: Admit) -> Service | Worker:
        def admitted(chain: Chain) -> None:
            check_not_behind(as_of, chain)
            admit(chain.latest)

        with naming(config):
            return _opened(configuration, now, duty, log.say, admitted, held=True)

    def reading() -> Configuration:
        fresh = Configuration.load(config)
        with naming(config):
            check_files(fresh, signs=duty.role is not Role.FOLD)
        return fresh

    grid = clock if isinstance(clock, Grid) else Grid(configuration.tick)
    with naming(config):
        board = Board(clock, configuration.tick, beginning(configuration))
    left = (lambda: grid.left) if clock is grid else None
    with (
        Supervisor() as supervisor,
        Signals() as signals,
        MonitoringServer(configuration.metrics, board, left=left, say=log.say) as server,
    ):
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


def _resting(configuration: Configuration, stop: StopSignal) -> Callable[[], None]:
    """Return what waits for the next point of the real clock's grid, or for a signal; a minute at most."""
    return lambda: stop.wait(Grid(min(configuration.tick, _MINUTE)).left)


def admission(as_of: dt.datetime | None, clock: Clock, say: Say) -> Callable[[Chain], None]:
    """Return what looks at the ledger before anything is written, for a command that does not stay up.

    It raises ServiceError for an `as_of` that lies before what the ledger holds, and ClockBehind if it is the machine's
    clock that does.
    """

    def admit(chain: Chain) -> None:
        try:
            check_moment(as_of, chain)
        except ClockBehind as error:
            say(CLOCK_JUMPED.at(clock(), meaning=str(error)))  # for those who watch the log, as the service does
            raise

    return admit


def check_moment(as_of: dt.datetime | None, chain: Chain) -> None:
    """Raise ServiceError if `as_of` lies before what the ledger holds, ClockBehind if it is the machine's clock."""
    check_not_behind(as_of, chain)
    if as_of is None:
        check_not_before(chain.latest, wall_clock())


def check_not_behind(as_of: dt.datetime | None, chain: Chain) -> None:
    """Raise ServiceError if the ledger holds something that the service declared or released after `as_of`.

    What a command recorded says nothing about `as_of`: commands always use the real clock.
    """
    newest = max(entry.recorded_at for entry in chain.entries if isinstance(entry.body, Opened | Declared | Released))
    if as_of is not None and as_of < newest:
        raise ServiceError(
            f"--as-of lies before {newest:%Y-%m-%dT%H:%M:%SZ}, the time of the newest declaration or release in the "
            "ledger. Nothing was changed",
            "Give that time or a later one. To begin earlier, make a new project with quietcount init",
        )


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
        with naming(config):
            # What closes nothing may look further ahead than a release.
            released = due_now(configuration, as_of or Grid(configuration.tick)(), partial(check_moment, as_of))
        if not released:
            click.echo("Nothing is due.", err=True)
    else:
        clock = clock_of(configuration, as_of)
        now = clock()
        with (
            telling_defects(),
            LogOutput(sys.stderr, configuration.log_format, least=Level.WARNING) as log,
            hearing_threads(log.say, lambda: now),
            StopSignal() as stop,
            naming(config),
            open_service(
                configuration,
                now,
                say=log.say,
                admit=admission(as_of, clock, log.say),
                rest=_resting(configuration, stop),
            ) as service,
        ):
            released = service.tick(now, stop).released
            service.show()
    rows = [(period.population, period.statistic, period.start, period.end) for period in released]
    show_rows(["population", "statistic", "period_start", "period_end"], rows, chosen_format(form))
