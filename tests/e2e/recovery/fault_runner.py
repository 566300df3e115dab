"""The service under a clock that runs faster, with the faults of a machine that a trial cannot make otherwise.

python fault_runner.py CONFIG CONTROL COMMAND...: runs a command of `quietcount`, without noise. CONTROL is a file of
JSON that the trial replaces meanwhile: see Control.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from tests.aggregates_world import ExactMechanism

from quietcount_aggregates.state.state import State
from quietcount_consumers import opening
from quietcount_consumers.commands import service as commands
from quietcount_consumers.running import runner, ticks, timekeeping
from quietcount_schemas.cli import main

START = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
"""What the clock shows when it begins to run."""
SPEED = 8640.0
"""Seconds of the clock in one: a day takes ten seconds."""

LEAST_WAIT = 0.05
"""Seconds that a wait takes at least: the service wakes up for its watchdog by its own clock."""


@dataclass(frozen=True, slots=True)
class Control:
    """What is done to the service now."""

    began: float
    """The time since boot at which the clock showed START, in seconds."""
    jump: float = 0.0
    """By how many seconds of its own the clock that people set is ahead."""
    disk: float = 0.0
    """How many seconds each transaction of the state takes longer."""
    memory: int = 0
    """How many bytes of data the process may have; 0 for no limit. Looked at when it starts."""
    guarded: bool = True
    """Without, it is the faulty twin that believes every clock. Looked at when it starts."""

    @classmethod
    def read(cls, path: Path) -> Control:
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(json.dumps(asdict(self)), encoding="utf-8")
        fresh.replace(path)

    @property
    def running(self) -> dt.timedelta:
        """How long the clock has run."""
        return dt.timedelta(seconds=(time.clock_gettime(time.CLOCK_BOOTTIME) - self.began) * SPEED)

    @property
    def true(self) -> dt.datetime:
        """What the clock would show had nobody set it."""
        return START + self.running


class FastClocks:
    """The machine's clocks, as CONTROL has them."""

    path: Path

    def wall(self) -> dt.datetime:
        control = Control.read(self.path)
        return control.true + dt.timedelta(seconds=control.jump)

    def running(self) -> dt.timedelta:
        return Control.read(self.path).running


def hasten() -> None:
    """Let the service see the fast clocks and wait by them; what it grants a clock is as long as it would be."""
    for module in (commands, timekeeping):
        mock.patch.object(module, "SystemClocks", FastClocks).start()
    for name in ("STANDING", "TOLERANCE"):
        mock.patch.object(timekeeping, name, getattr(timekeeping, name) * SPEED).start()
    mock.patch.object(runner, "_LONGEST_WAIT", runner._LONGEST_WAIT * SPEED).start()
    wait = ticks.StopSignal.wait

    def sooner(self: ticks.StopSignal, seconds: float) -> None:
        wait(self, max(seconds / SPEED, LEAST_WAIT))

    mock.patch.object(ticks.StopSignal, "wait", sooner).start()


def slow_the_disk(path: Path) -> None:
    """Let each transaction of the state take as long before its commit as CONTROL says."""
    transaction = State.transaction

    @contextlib.contextmanager
    def slow(self: State) -> Iterator[Any]:
        with transaction(self) as connection:
            yield connection
            time.sleep(Control.read(path).disk)

    mock.patch.object(State, "transaction", slow).start()


def run() -> None:
    config, control, *command = sys.argv[1:]
    path = Path(control)
    FastClocks.path = path
    given = Control.read(path)
    if given.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (given.memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    if not given.guarded:
        mock.patch.object(timekeeping.ClockGuard, "_objection_to", return_value=None).start()
    hasten()
    slow_the_disk(path)
    mock.patch.object(opening, "DiscreteLaplace", ExactMechanism).start()  # so that sums over all cells are exact
    sys.argv[1:] = [*command, "--config", config]
    main()


if __name__ == "__main__":
    run()
