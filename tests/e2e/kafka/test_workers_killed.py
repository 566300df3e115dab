"""kill -9 of workers, of the releaser and of the broker: nothing is lost, counted twice or drawn twice."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.kafka.kafka_services import nonzero
from tests.e2e.kafka.working_desks import Desk, desk_on
from tests.e2e.projects import simulated, true_cells
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Clusters

pytestmark = pytest.mark.soak

BEFORE = dt.date(2023, 1, 2)
MONTHS = [dt.date(2023, month, 8) for month in range(2, 12)]
LONGEST = 180.0
"""Seconds after which a release that does not come is a failure."""


class Machines:
    """The processes of a desk: three workers and a releaser, each started again when it is killed."""

    def __init__(self, desk: Desk, cluster: Cluster, chance: random.Random, folder: Path) -> None:
        self._desk, self._cluster, self._chance, self._folder = desk, cluster, chance, folder
        self._running: list[subprocess.Popen[str]] = []
        self.kills = 0

    @contextlib.contextmanager
    def on(self, day: dt.date) -> Iterator[None]:
        """Run all of them as of a day."""
        self._running = [self._started(number, day) for number in range(4)]
        try:
            yield
        finally:
            for process in self._running:
                process.terminate()
            for process in self._running:
                process.wait(60)

    def _started(self, number: int, day: dt.date) -> subprocess.Popen[str]:
        project, role = self._desk.releaser, ["--role", "release"]
        if number < 3:
            partitions = ",".join(map(str, self._desk.shares[number]))
            project, role = self._desk.workers[number], ["--role", "fold", "--partitions", partitions]
        said = (self._folder / f"said-{number}").open("ab")
        with said:
            return project.start(
                *("run", *role, "--as-of", day.isoformat()),
                environment={"QUIETCOUNT_TICK": "1s"},
                stdout=said,
                stderr=said,
            )

    def kill(self, day: dt.date) -> None:
        """Kill one of them, or the broker once in ten times, and start it again."""
        time.sleep(self._chance.uniform(0.5, 4))
        self.kills += 1
        if self._chance.random() < 0.1:
            self._cluster.kill()
            self._cluster.restart()
            return
        number = self._chance.randrange(4)
        self._running[number].kill()
        self._running[number].wait()
        self._running[number] = self._started(number, day)

    def mend(self, day: dt.date) -> None:
        """Start again whoever ended by itself, as systemd does: a start while the broker is away is refused."""
        for number, process in enumerate(self._running):
            if process.poll() is not None:
                self._running[number] = self._started(number, day)


@pytest.mark.promise("nothing-lost", "nothing-twice", "drawn-once")
@pytest.mark.parametrize("events, kills", [(200_000, 200)])
def test_whatever_is_killed_three_workers_release_what_was_emitted_once(
    events: int, kills: int, tmp_path: Path, kafka_cluster: Clusters
) -> None:
    """One seed a run, which a failure shows."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    lines = simulated(events)[:events]
    cluster = kafka_cluster()
    with desk_on(tmp_path / "desk", cluster, [(0,), (1, 3), (2,)]) as desk:
        desk.release(dt.datetime.combine(BEFORE, dt.time(), dt.UTC))  # opens the ledger
        desk.end_releaser()
        machines = Machines(desk, cluster, chance, tmp_path)
        # In their order: of a case the events count that come first.
        slices = [lines[at : at + events // 10] for at in range(0, events, events // 10)]
        with machines.on(BEFORE):
            for part in slices:
                desk.releaser.emit(part)
                for _ in range(kills // 40):
                    machines.kill(BEFORE)
                    machines.mend(BEFORE)
        for day in MONTHS:
            with machines.on(day):
                for _ in range(kills * 3 // 40):
                    machines.kill(day)
                    machines.mend(day)
                until, last = time.monotonic() + LONGEST, f"{day.replace(day=1) - dt.timedelta(days=1):%Y-%m}-01"
                while not any(start == last for _, start, _ in desk.releaser.ledger_values()):
                    assert time.monotonic() < until, f"no release of {last}"
                    machines.mend(day)
                    time.sleep(0.5)
            print(f"{day}: {machines.kills} kills", flush=True)
        wanted = {cell: count for cell, count in true_cells(lines).items() if cell[1] < "2023-11"}
        assert nonzero(desk.releaser) == wanted
        assert desk.releaser.ledger_values() == desk.releaser.released()
        assert machines.kills >= kills
