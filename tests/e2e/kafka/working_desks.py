"""A releaser and its workers on a broker, each in a folder of its own as on a machine of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.e2e.kafka.kafka_projects import kafka_project, settings_of
from tests.e2e.projects import EXACT
from tests.kafka.cluster import Cluster
from tests.kafka.fixtures import Kafka

from quietcount_aggregates.due_periods import DuePeriod
from quietcount_aggregates.release import Step
from quietcount_consumers.kafka.topics import create_topics
from quietcount_consumers.monitoring.log_events import Level, LogEvent
from quietcount_consumers.monitoring.status import Status
from quietcount_consumers.opening import open_service
from quietcount_consumers.service import Service, Tick
from quietcount_consumers.workers.duty import Duty, Role
from quietcount_consumers.workers.worker import Worker
from quietcount_consumers.workers.worker_opening import open_worker

__all__ = ["PARTITIONS", "Desk", "desk_on"]

PARTITIONS = 4


class Desk:
    """`shares` has the partitions of each worker. What is open stays open from tick to tick, as in a process."""

    def __init__(self, folder: Path, kafka: Kafka | Cluster, shares: Sequence[Sequence[int]], prefix: str = "") -> None:
        self.prefix = prefix or kafka.prefix()
        self.releaser = kafka_project(folder / "releaser", kafka.bootstrap, self.prefix, EXACT, topics=False)
        if not prefix:
            create_topics(settings_of(self.releaser), partitions=PARTITIONS)
        self.shares = [tuple(share) for share in shares]
        self.workers = [
            kafka_project(folder / f"worker-{number}", kafka.bootstrap, self.prefix, EXACT, topics=False)
            for number in range(len(shares))
        ]
        for worker in self.workers:
            shutil.copy2(self.releaser.configuration.service.secret_file, worker.configuration.service.secret_file)
        self.statuses: dict[int, Status] = {}
        """What each worker shows since its newest tick; `status` is what the releaser shows."""
        self.said: list[LogEvent] = []
        """What the releaser has said that asks for something."""
        self._service: Service | None = None
        self._open: list[Worker | None] = [None] * len(shares)

    def close(self) -> None:
        self.end_releaser()
        for number in range(len(self.workers)):
            self.end(number)

    def end_releaser(self) -> None:
        if self._service is not None:
            self._service.__exit__()
            self._service = None

    def end(self, number: int) -> None:
        worker, self._open[number] = self._open[number], None
        if worker is not None:
            worker.__exit__()

    def release(self, now: dt.datetime, observe: Callable[[Step], None] | None = None) -> Tick:
        """Let the releaser do a tick."""
        if self._service is None:
            self._service = open_service(
                self.releaser.configuration, now, observe=observe, say=self._hear, duty=Duty(Role.RELEASE)
            )
        tick = self._service.tick(now)
        self.status: Status = self._service.status(now, tick)
        return tick

    def _hear(self, event: LogEvent) -> None:
        if event.level is not Level.INFO:
            self.said.append(event)

    def due(self, now: dt.datetime) -> list[DuePeriod]:
        """Return what the releaser that is open has yet to release."""
        assert self._service is not None
        return self._service.due(now)

    def work(self, number: int, now: dt.datetime) -> Tick:
        """Let a worker do a tick."""
        worker = self._open[number]
        if worker is None:
            duty = Duty(Role.FOLD, self.shares[number])
            worker = self._open[number] = open_worker(self.workers[number].configuration, now, duty, batch=50)
        tick = worker.tick(now)
        self.statuses[number] = worker.status(now, tick)
        return tick

    def turn(self, now: dt.datetime) -> Tick:
        """Let everybody do a tick, and the releaser until it releases what it has."""
        first = self.release(now)
        for number in range(len(self.workers)):
            self.work(number, now)
        return first if first.released else self.released(now)

    def released(self, now: dt.datetime) -> Tick:
        """Let the releaser do the tick in which it sees that all have counted, and the one in which it releases."""
        tick = self.release(now)
        return self.release(now) if tick.waiting else tick

    def move(self, source: int, target: int, partition: int) -> None:
        """Copy the state of a partition, with its secrets of years, to another worker, as docs/workers.md says."""
        ours, theirs = self.workers[source].configuration, self.workers[target].configuration
        theirs.private_dir.mkdir(parents=True, exist_ok=True)
        for path in ours.private_dir.glob(f"state-{partition}.*"):
            if not path.name.endswith(".lock"):
                shutil.copy2(path, theirs.private_dir / path.name)
        shutil.copytree(ours.years_of(partition), theirs.years_of(partition), dirs_exist_ok=True)


@contextlib.contextmanager
def desk_on(folder: Path, kafka: Kafka | Cluster, shares: Sequence[Sequence[int]], prefix: str = "") -> Iterator[Desk]:
    """Yield a desk, and close all that is open."""
    desk = Desk(folder, kafka, shares, prefix)
    try:
        yield desk
    finally:
        desk.close()
