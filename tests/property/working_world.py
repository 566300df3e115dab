"""A deployment whose partitions are folded by workers, each ended and begun again at any moment, as the releaser is."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.aggregates_world import SIGNING_KEY, MemoryLog, World

from quietcount_aggregates.errors import SumsMissing
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.release import Step
from quietcount_aggregates.settling import Settler, stored_symbols
from quietcount_aggregates.state.state import State
from quietcount_consumers.monitoring.standing import Standing
from quietcount_consumers.partitions import Partitions
from quietcount_consumers.workers.elsewhere import Elsewhere
from quietcount_consumers.workers.sums_channel import SumsChannel
from quietcount_consumers.workers.worker import Worker
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, Mark, NewRecord, Position, Record

__all__ = ["WorkingWorld"]

_MOST = 2000
"""Turns after which a release that has not come never will: each worker answers in one of seven."""


class Crash(BaseException):
    """The process ends here."""


class WorkingWorld(World):
    """A World whose log is folded by so many `workers`; `seed` says who does something next, and who ends when.

    What they count is handed over through `sums_log`, or in memory.
    """

    def __init__(
        self,
        folder: Path,
        populations: Sequence[Any],
        *,
        workers: int,
        seed: int,
        sums_log: Any = None,
        **options: Any,
    ) -> None:
        self._chance = random.Random(seed)
        self._count = workers
        self._workers: list[Worker | None] = []
        self._held: list[list[State]] = []
        self.sums_log: Any = sums_log or MemoryLog()
        self.crashes = 0
        super().__init__(folder, populations, observe=self._cut_short, **options)

    def close(self) -> None:
        for number in range(len(self._workers)):
            self._end(number)
        super().close()

    def restart(self, now: dt.datetime) -> None:
        """Start the releaser with what is declared, and then the workers."""
        self.close()
        self._workers = [None] * self._count
        self._held = [[] for _ in self._workers]
        self._start_releaser(now)
        self._now = now
        for number in range(self._count):
            self._worker(number)

    def follow(self, log: Any, *, bound: bool = True) -> None:
        """See World. What was released is forgotten first: afterwards nothing says what lay before it."""
        for number in range(self._count):
            self._end(number)
            self._worker(number)
        super().follow(log, bound=bound)

    def fold(self, clock: dt.date, sizes: Iterator[int] | None = None) -> None:
        """Let each worker do a tick."""
        self._now = dt.datetime.combine(clock, dt.time(), dt.UTC)
        for number in range(self._count):
            self._worker(number).tick(self._now)

    def release(self, now: dt.datetime, grace: dt.timedelta = dt.timedelta(0)) -> int:
        """Let releaser and workers go on, in any order and with any of them ended, until what is due is released."""
        self._now = now
        for _ in range(_MOST):
            who = self._chance.randrange(self._count + 1)
            try:
                if who < self._count:
                    self._worker(who).tick(now)
                else:
                    due = self.releaser.release(now, grace)
                    if not self.releaser.due(now, grace):
                        return len(due)
            except SumsMissing:
                pass
            except Crash:
                self.crashes += 1
                self._start_releaser(now)
            if self._chance.random() < 0.1:
                self._end(self._chance.randrange(self._count))
        raise AssertionError("nothing is released")

    def _cut_short(self, step: Step) -> None:
        self._observed(step)
        if self._chance.random() < 0.25:
            raise Crash

    def _start_releaser(self, now: dt.datetime) -> None:
        self.ledger = Ledger(self.ledger_log, SIGNING_KEY.public)
        self.ledger.fence()
        self.releaser = self._releaser_of(Elsewhere(self.log, self.ledger, SumsChannel(self.sums_log, self.secret)))
        self.releaser.recover()
        self.ledger.declare(self.populations, Decimal(100), now, end=self.end)
        self.releaser.publish()

    def _worker(self, number: int) -> Worker:
        """Return a worker, opened if it is not."""
        worker = self._workers[number]
        if worker is None:
            worker = self._workers[number] = self._opened(number)
            self.states = sorted((state for held in self._held for state in held), key=lambda each: each.partition)
        return worker

    def _opened(self, number: int) -> Worker:
        partitions = len(self.log.partitions(CASE_EVENTS))
        with contextlib.ExitStack() as resources:
            return self._opened_in(resources, number, partitions)

    def _opened_in(self, resources: contextlib.ExitStack, number: int, partitions: int) -> Worker:
        mine = range(number, partitions, self._count)
        states = [resources.enter_context(State(self.state_of(each), each)) for each in mine]
        ledger = Ledger(self.ledger_log)
        ledger.refresh()
        ledger.read_places()
        log, symbols = _Routed(self.log, self.letters), stored_symbols(self.registry)
        settlers = [
            Settler(state, ledger, symbols=symbols, year_secrets=self.years_of(state.partition)) for state in states
        ]
        folded = Partitions(settlers, log=log, ledger=ledger, registry=self.registry, secret=self.secret, batch=50)
        folded.bind(topic_id=self.log.topic_id(CASE_EVENTS))
        worker = Worker(
            log=log,
            partitions=folded,
            ledger=ledger,
            channel=SumsChannel(self.sums_log, self.secret),
            standing=Standing(
                ledger.chain,
                states,
                self._now,
                interval=dt.timedelta(minutes=1),
                grace=dt.timedelta(0),
                digest="",
                disk_free=tuple,
                publishes=False,
            ),
            opened=self._now,
            resources=(kept := contextlib.ExitStack()),
        )
        worker.follow()
        kept.enter_context(resources.pop_all())
        self._held[number] = states
        return worker

    def _end(self, number: int) -> None:
        worker, self._workers[number] = self._workers[number], None
        self._held[number] = []
        if worker is not None:
            worker.__exit__()


class _Routed:
    """A log whose dead letters lie elsewhere, so that they outlive the log."""

    def __init__(self, log: Any, letters: MemoryLog) -> None:
        self._log = log
        self._letters = letters

    def _of(self, topic: str) -> Any:
        return self._letters if topic == DEAD_LETTERS else self._log

    def topic_id(self, topic: str) -> str:
        return str(self._of(topic).topic_id(topic))

    def partitions(self, topic: str) -> list[int]:
        found: list[int] = self._of(topic).partitions(topic)
        return found

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        found: dict[int, int] = self._of(topic).beginning_offsets(topic)
        return found

    def end_offsets(self, topic: str) -> dict[int, int]:
        found: dict[int, int] = self._of(topic).end_offsets(topic)
        return found

    def poll(self, topic: str, positions: Mapping[int, int], ends: Mapping[int, int], limit: int) -> list[Record]:
        found: list[Record] = self._of(topic).poll(topic, positions, ends, limit)
        return found

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        found: list[Position] = self._of(topic).append(topic, records)
        return found

    def purge(self, topic: str, before: Mapping[int, int]) -> bool:
        return bool(self._of(topic).purge(topic, before))

    def marks(self, topic: str) -> dict[int, Mark]:
        found: dict[int, Mark] = self._of(topic).marks(topic)
        return found

    def diverged(self, topic: str, marks: Mapping[int, Mark]) -> list[int]:
        found: list[int] = self._of(topic).diverged(topic, marks)
        return found

    def scrub(self) -> bool:
        return True

    def report(self, topic: str, positions: Mapping[int, int]) -> None:
        """Nobody watches."""

    def close(self) -> None:
        """The logs stay open."""
