"""A deployment of the audit's own: events go from the emitter's door to the published file, by the code of the service.

The clock is the story's. Its days lie in the future, so that an event which is dated ahead is ahead of the real clock,
too.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from quietcount_aggregates.publication.published_file import opened
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.opening import open_service
from quietcount_consumers.service import Service
from quietcount_consumers.trials.audited import Audited
from quietcount_consumers.trials.margins import Release
from quietcount_consumers.trials.recorder import Draw, Recorder
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.publisher import CaseEventPublisher

if TYPE_CHECKING:
    from quietcount_producers.embedded.embedded_log import EmbeddedLog
    from quietcount_producers.kafka.writer import KafkaWriter

__all__ = ["Day", "Emission", "Played", "played"]


@dataclass(frozen=True, slots=True)
class Emission:
    """One event as an emitter reports it; `case` is an identifier."""

    event: str
    case: str
    occurred_on: dt.date
    attributes: Mapping[str, Any]
    event_id: UUID
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    """One day: what is emitted, and whether the service then works, after a new start or not."""

    day: dt.date
    emissions: Sequence[Emission] = ()
    released: bool = True
    restarted: bool = False

    @property
    def moment(self) -> dt.datetime:
        """Return the moment at which the service works."""
        return dt.datetime.combine(self.day, dt.time(), dt.UTC)


@dataclass(slots=True)
class Played:
    """What came of a log: by release what was drawn, and what the public file says of it."""

    draws: dict[Release, Draw] = field(default_factory=dict)
    noisy: dict[Release, tuple[int, ...]] = field(default_factory=dict)
    estimates: dict[Release, tuple[int, ...]] = field(default_factory=dict)
    """In millionths."""
    astray: int = 0
    """How many draws belong to no release, and releases to no draw."""

    @property
    def exact(self) -> dict[Release, tuple[int, ...]]:
        """Return what the mechanism was handed."""
        return {release: draw.exact for release, draw in self.draws.items()}

    @property
    def altered(self) -> int:
        """Return how many draws are not what the public file has, or the other way round."""
        drawn = {release: draw.drawn for release, draw in self.draws.items()}
        releases = drawn.keys() | self.noisy.keys()
        return self.astray + sum(drawn.get(each) != self.noisy.get(each) for each in releases)


def played(audited: Audited, folder: Path, since: dt.date, days: Sequence[Day], name: str) -> Played:
    """Play a log through a deployment in `folder`, which is made, and return what came of it.

    `name` tells the topics apart from those of other deployments. Raises what the service raises.
    """
    configuration = audited.project(folder, since, name)
    with _topics(configuration), contextlib.ExitStack() as stack:
        playing = _Playing(audited, configuration, days[0].moment, stack)
        for each in days:
            playing.play(each)
        playing.read()
        return playing.played


@contextlib.contextmanager
def _topics(configuration: Configuration) -> Iterator[None]:
    """Make the topics on brokers, and delete them afterwards."""
    if configuration.kafka is None:
        yield
        return
    from quietcount_consumers.kafka.topics import create_topics, delete_topics

    try:
        create_topics(configuration.kafka, replication_factor=1)
        yield
    finally:
        delete_topics(configuration.kafka)


class _Playing:
    """A deployment that is being played."""

    def __init__(
        self, audited: Audited, configuration: Configuration, begins: dt.datetime, stack: contextlib.ExitStack
    ) -> None:
        self._configuration = configuration
        self._recorder = Recorder(audited.mechanism())
        self._stack = stack
        self.played = Played()
        registry = audited.registry()
        # The service first: it makes the folders, and declares before anything is in the log.
        self._service = self._opened(begins)
        log = stack.enter_context(contextlib.closing(_written(configuration)))
        self._publisher = stack.enter_context(
            CaseEventPublisher(
                log,
                pepper=Pepper.load(configuration.emitter.pepper_file),
                registry=registry,
                precision=audited.precision(),
                linger=0,
                today=lambda: dt.date.max - dt.timedelta(days=1),  # what is dated ahead is the service's to find
            )
        )

    def play(self, day: Day) -> None:
        """Emit the events of a day, and let the service work."""
        for each in day.emissions:
            self._publisher.emit(
                each.event,
                each.case,
                each.occurred_on,
                event_id=each.event_id,
                revision=each.revision,
                **each.attributes,
            )
        self._publisher.flush()
        if day.restarted:
            self._service.__exit__()
            self._service = self._opened(day.moment)
        while day.released:
            self._tick(day.moment)
            if self._service.at_end() and not self._service.due(day.moment):
                break

    def _opened(self, moment: dt.datetime) -> Service:
        return self._stack.enter_context(open_service(self._configuration, moment, mechanism=self._recorder))

    def _tick(self, moment: dt.datetime) -> None:
        """Let the service tick, and tell which draw is of which release."""
        self._recorder.draws.clear()
        due = self._service.due(moment)
        self._service.tick(moment)
        # The releaser draws table by table, and each in the order in which its periods are due.
        tables = [table.name for population in self._declared for table in population.tables]
        order = sorted(due, key=lambda each: tables.index(each.statistic))
        releases = [(each.statistic, each.start) for each in order]
        self.played.astray += abs(len(releases) - len(self._recorder.draws))
        self.played.draws |= dict(zip(releases, self._recorder.draws, strict=False))

    @property
    def _declared(self) -> Any:
        return self._configuration.populations(self._configuration.registry())

    def read(self) -> None:
        """Read what is published."""
        with contextlib.closing(opened(self._configuration.public_file)) as connection:
            rows = connection.execute(
                "SELECT statistic, period_start, cell, noisy, (estimate * 1000000)::HUGEINT FROM statistics"
            ).fetchall()
            sums = connection.execute(
                "SELECT statistic, period_start, cell, noisy, 0 FROM averages WHERE noisy IS NOT NULL"
            ).fetchall()
        for population in self._declared:
            for table in population.tables:
                place = {cell: number for number, cell in enumerate(table.domain)}
                found: dict[Release, list[tuple[int, int, int]]] = {}
                for statistic, start, cell, noisy, estimate in rows if table.sum is None else sums:
                    if statistic == table.name:
                        found.setdefault((table.name, start), []).append((place[cell], noisy, estimate))
                for release, cells in found.items():
                    cells.sort()
                    self.played.noisy[release] = tuple(noisy for _, noisy, _ in cells)
                    if table.sum is None:
                        self.played.estimates[release] = tuple(estimate for *_, estimate in cells)


def _written(configuration: Configuration) -> EmbeddedLog | KafkaWriter:
    """Open the log to write to it, as emitters do."""
    if configuration.kafka is None:
        from quietcount_producers.embedded.embedded_log import EmbeddedLog

        return EmbeddedLog(configuration.private_dir / "log.sqlite")
    from quietcount_producers.kafka.writer import KafkaWriter

    return KafkaWriter(configuration.kafka)
