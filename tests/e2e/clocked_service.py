"""`quietcount run` on a clock that a test sets, held where the test wants to look, and its faulty twins.

python clocked_service.py CONFIG START [--mutant NAME]... It reads commands from stdin, a line each: a moment sets the
clock, "go" lets a batch be folded. It tells on stdout where it stands: "resting" when it waits for the clock, "folding"
before it folds a batch. Everything else is the command as it is.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import os
import select
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from quietcount_aggregates.counting.fold import Fold
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.publication import publication
from quietcount_aggregates.settling import Settler
from quietcount_aggregates.state.marks import YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_consumers import service
from quietcount_consumers.commands import service as commands
from quietcount_consumers.monitoring import disks, log_output, metrics
from quietcount_consumers.monitoring.log_events import CATALOGUE, EventKind, Level, LogEvent
from quietcount_consumers.monitoring.log_output import LogOutput
from quietcount_consumers.monitoring.metrics import Metric
from quietcount_consumers.monitoring.server import MonitoringServer
from quietcount_consumers.monitoring.status import Board, Status
from quietcount_consumers.monitoring.supervision import Supervisor
from quietcount_consumers.opening import open_service
from quietcount_consumers.partitions import Partitions
from quietcount_consumers.running.runner import Runner
from quietcount_consumers.running.ticks import StopSignal
from quietcount_consumers.running.timekeeping import SystemClocks
from quietcount_consumers.service import Service
from quietcount_schemas.cli import main as quietcount
from quietcount_schemas.log import CASE_EVENTS

__all__ = ["MUTANTS"]

RESTING, FOLDING, GO = "resting", "folding", "go"


class Control:
    """The test's side of this process: the clock, and where to stand still."""

    def __init__(self, start: dt.datetime) -> None:
        self.start = self.now = start

    def wall(self) -> dt.datetime:
        return self.now

    def running(self) -> dt.timedelta:
        return self.now - self.start

    def tell(self, where: str) -> None:
        os.write(1, f"{where}\n".encode())

    def obey(self) -> None:
        """Do the next command."""
        command = b""
        while not command.endswith(b"\n"):
            byte = os.read(0, 1)
            if not byte:
                os._exit(3)  # the test is gone
            command += byte
        said = command.decode().strip()
        if said != GO:
            self.now = dt.datetime.fromisoformat(said)

    def rest(self, stop: StopSignal) -> None:
        """Wait for a command or a signal, as StopSignal.wait does for time to pass."""
        self.tell(RESTING)
        ready, _, _ = select.select([stop._reader, 0], [], [])
        if 0 in ready:
            self.obey()


def instead(owner: Any, name: str, value: Any) -> None:
    mock.patch.object(owner, name, value).start()


def take_over(control: Control) -> None:
    """Put the test's clock, disk and pauses in the place of the machine's."""
    instead(SystemClocks, "wall", lambda _self: control.wall())
    instead(SystemClocks, "running", lambda _self: control.running())
    instead(StopSignal, "wait", lambda self, _seconds: control.rest(self))
    fold = Fold.batch

    def batch(self: Fold, *arguments: Any) -> bool:
        control.tell(FOLDING)
        control.obey()
        return fold(self, *arguments)

    instead(Fold, "batch", batch)
    # The machine's own disk is everybody's: what others write to it could move a share over a step.
    instead(disks, "os", SimpleNamespace(statvfs=lambda _: SimpleNamespace(f_blocks=100, f_bfree=60, f_bavail=60)))
    serving = MonitoringServer.__init__

    def standing(self: MonitoringServer, *arguments: Any, **keywords: Any) -> None:
        # While the test's clock stands, pages must not age in the process that serves them.
        serving(self, *arguments, **(keywords | {"left": None}))

    instead(MonitoringServer, "__init__", standing)
    instead(commands, "forbid_core_dumps", lambda: None)  # it hides from a test what the process has open
    instead(Runner, "__init__", functools.partialmethod(Runner.__init__, pause=lambda _seconds: None))
    passing = functools.partialmethod(Supervisor.__init__, passing=lambda: control.running().total_seconds())
    instead(Supervisor, "__init__", passing)


# The mutants. Each lets out, in a place of its own, what there was to fold or when it was done.


def raw_counter() -> None:
    """A metric of how many records were folded."""
    fold, folded = Fold.batch, [0]

    def batch(self: Fold, records: Any, *rest: Any) -> bool:
        folded[0] += len(records)
        return fold(self, records, *rest)

    instead(Fold, "batch", batch)
    counter = Metric("quietcount_folded_events", "Events folded.", lambda _: [((), float(folded[0]))])
    instead(metrics, "METRICS", (*metrics.METRICS, counter))


def lag_gauge() -> None:
    """A metric of how many records lay before the end of the log when the tick began."""
    fold_to_end, lag = Partitions.fold_to_end, [0]

    def measured(self: Partitions, *arguments: Any) -> bool:
        ends, offsets = self._log.end_offsets(CASE_EVENTS), self.offsets
        lag[0] = sum(end - offsets.get(partition, 0) for partition, end in ends.items())
        return fold_to_end(self, *arguments)

    instead(Partitions, "fold_to_end", measured)
    gauge = Metric("quietcount_log_lag", "Records to fold.", lambda _: [((), float(lag[0]))])
    instead(metrics, "METRICS", (*metrics.METRICS, gauge))


BATCH_FOLDED = EventKind("batch folded", Level.INFO, ("records",), "A batch was folded.", "nothing")


def batch_size_line() -> None:
    """A log line of how many records a batch had."""
    fold = Fold.batch
    said: list[Callable[[LogEvent], None]] = []
    opening = Service.__init__

    def opened(self: Service, *arguments: Any, **keywords: Any) -> None:
        said[:] = [keywords["say"]]
        opening(self, *arguments, **keywords)

    def batch(self: Fold, records: Any, clock: dt.date, *rest: Any) -> bool:
        tick = dt.datetime.combine(clock, dt.time(), dt.UTC)
        said[0](BATCH_FOLDED.at(tick, records=str(len(records))))
        return fold(self, records, clock, *rest)

    instead(Service, "__init__", opened)
    instead(Fold, "batch", batch)
    instead(log_output, "CATALOGUE", (*CATALOGUE, BATCH_FOLDED))


def line_at_once() -> None:
    """Log lines that are written when they are said, and not at the next point of the grid."""
    say = LogOutput.say

    def said(self: LogOutput, event: LogEvent) -> None:
        say(self, event)
        self.flush()

    instead(LogOutput, "say", said)


def status_at_once() -> None:
    """A status that is shown when it is posted, and not at the next point of the grid."""
    post = Board.post

    def posted(self: Board, status: Status) -> None:
        post(self, status)
        self.turn()

    instead(Board, "post", posted)


def publication_at_once() -> None:
    """A public file that is put in its place as soon as it is built."""
    opening = open_service

    def opened(*arguments: Any, **keywords: Any) -> Service:
        return opening(*arguments, **(keywords | {"held": False}))

    instead(commands, "open_service", opened)


def reject_at_once() -> None:
    """A flag of rejected records that rises on the day on which they come."""
    noted_on = State.noted_on

    def today_too(self: State, day: dt.date) -> frozenset[Any]:
        return noted_on(self, day) | noted_on(self, day + dt.timedelta(days=1))

    instead(State, "noted_on", today_too)


def kept_birth() -> None:
    """A public file that is built at once in the private folder, and so keeps the time at which it was built."""

    class Built:
        def __init__(self) -> None:
            self.held: tuple[Path, Path] | None = None

        def __call__(self, chain: Chain, path: Path, signed_head: str) -> None:
            built = path.parent / "private" / "store" / path.name
            publication.publish(chain, built, signed_head)
            self.held = built, path

        def show(self) -> None:
            if self.held is not None:
                built, path = self.held
                built.replace(path)
            self.held = None

    instead(service, "HeldPublication", Built)


def years_by_need() -> None:
    """Secrets of years, and the folder around them, that are made when events need them."""
    prepare, create = YearSecrets.prepare, YearSecrets.create

    def needed(self: YearSecrets, year: int) -> None:
        prepare(self)
        create(self, year)

    instead(YearSecrets, "prepare", lambda _self: None)
    instead(YearSecrets, "create", needed)
    instead(Settler, "_keep_years", lambda _self, _day: None)


def sign_of_life_at_work() -> None:
    """Signs of life that are given before each batch: systemd tells everybody when it heard of the last one."""
    instead(Supervisor, "working", lambda self: self._send("WATCHDOG=1"))


MUTANTS = {
    "raw counter": raw_counter,
    "lag gauge": lag_gauge,
    "batch size line": batch_size_line,
    "line at once": line_at_once,
    "status at once": status_at_once,
    "publication at once": publication_at_once,
    "reject at once": reject_at_once,
    "kept birth": kept_birth,
    "years by need": years_by_need,
    "sign of life at work": sign_of_life_at_work,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("start", type=dt.datetime.fromisoformat)
    parser.add_argument("--mutant", choices=sorted(MUTANTS), action="append", default=[])
    given = parser.parse_args()
    for name in given.mutant:
        MUTANTS[name]()
    take_over(Control(given.start))
    quietcount(["run", "--config", str(given.config)])


if __name__ == "__main__":
    main()
