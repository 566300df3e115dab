"""Worlds of stories, played through the real fold, state, ledger and releaser, or told by the oracle alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.aggregates_world import MemoryLog, UnpurgedLog, utc
from tests.aggregates_world import World as Deployment
from tests.property.counting_oracle import Oracle, Place, Releases
from tests.property.stories import START, Step, World
from tests.property.story_checks import differences
from tests.property.story_schemas import LATER, PARTS, REGISTRY, emitted, is_newer

from quietcount_aggregates.ledger.entries import Completed, Retired
from quietcount_consumers import dead_letters
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.log import CASE_EVENTS, LogReader, LogWriter, NewRecord, Position

__all__ = ["foretold", "played", "played_apart"]

_LATER = Codec(LATER)


class Log(LogReader, LogWriter, Protocol):
    """A log that can be read and written."""


Logs = Callable[[World], Log]
"""Makes an empty log with the partitions of a world."""


def in_memory(world: World) -> Log:
    return (MemoryLog if world.forgetful else UnpurgedLog)(world.partitions)


def _sizes(rng: random.Random) -> Iterator[int]:
    """Return the sizes of batches, without an end: most of them large, since each takes as long as a large one."""
    while True:
        yield rng.choice((1, 5, 30, 1000, 1000, 1000))


def played(
    world: World,
    folder: Path,
    *,
    judged: bool = False,
    batches: int | None = None,
    logs: Logs = in_memory,
    deployed: Callable[..., Deployment] = Deployment,
    early: list[bool] | None = None,
) -> Releases:
    """Return the true values of every release of a world; compare each with the oracle if it is to be judged.

    With a list `early` the events of a day come while the day before is being released, if nothing else happens to that
    day, and the list gets for each such day whether they lay behind what was settled.
    """
    log = logs(world)
    folder.mkdir(parents=True, exist_ok=True)
    with deployed(
        folder, world.opening, registry=REGISTRY, log=log, now=utc(START), today=START, published=False
    ) as deployment:
        playing = _Playing(world, deployment, logs, judged=judged)
        sizes = _sizes(random.Random(world.seed if batches is None else batches))
        for step, following in itertools.zip_longest(world.steps, world.steps[1:]):
            playing.begin(step)
            if not playing.came_early:
                playing.append(step.events)
            playing.came_early = False
            playing.fold(step, sizes)
            if step.release:
                playing.release(step, None if early is None or step.retired else following)
                if early is not None:
                    early += playing.behind
                    playing.behind = []
            playing.end(step)
        return deployment.released


class _Playing:
    """A world that is being played, with the oracle if it judges."""

    def __init__(self, world: World, deployment: Deployment, logs: Logs, *, judged: bool) -> None:
        self.world, self.deployment, self.logs = world, deployment, logs
        self.oracle = Oracle(world.opening, is_newer) if judged else None
        self.number = 0
        """How many logs were lost."""
        self.came_early = False
        """Whether the events of the day that comes next have been appended."""
        self.behind: list[bool] = []
        self.letters = deployment.letters
        """The dead letters, which no loss of the other log or of the state concerns."""

    @property
    def ends(self) -> list[Place]:
        return [Place(self.number, *end) for end in self.deployment.log.end_offsets(CASE_EVENTS).items()]

    def begin(self, step: Step) -> None:
        """Do what happens to the deployment, and start it again if any of it needs that."""
        deployment, oracle = self.deployment, self.oracle
        if step.new_log:  # the service's command for it, and a start
            deployment.follow(self.logs(self.world), bound=not step.lost)
            self.number += 1
        if step.lost:
            deployment.lose_state(utc(step.day))
            if oracle is not None:
                oracle.lose(self.ends)
        if step.newer_schemas:
            deployment.registry = LATER
        for population in step.declared:
            deployment.populations.append(population)
            if oracle is not None:
                oracle.declare(population, step.day, self.ends)
        if step.restart or step.new_log or step.lost or step.newer_schemas or step.declared:
            deployment.restart(utc(step.day))
        if step.newer_schemas:
            self._replay()

    def append(self, events: Sequence[CaseEvent]) -> None:
        self._note(events, self.deployment.log.append(CASE_EVENTS, [emitted(event) for event in events]))

    def _note(self, events: Sequence[CaseEvent], positions: Sequence[Position]) -> None:
        """Tell the oracle what was appended."""
        if self.oracle is not None:
            for event, position in zip(events, positions, strict=True):
                self.oracle.fold(event, Place(self.number, position.partition, position.offset))

    def _replay(self) -> None:
        """Emit again what was rejected for want of a schema, as `quietcount dead-letters replay` does."""
        writer = _Noting(self.deployment.log)
        outcomes = list(dead_letters.replay(self.letters, writer, _LATER, lambda *_: 0))
        assert all(outcome.rejected is None for outcome in outcomes), f"seed {self.world.seed}: a letter is no event"
        replayed = [_LATER.decode(record.value) for record in writer.records]
        if self.oracle is not None:
            expected = {_LATER.encode(event) for event in self.oracle.upgrade()}
            assert {record.value for record in writer.records} == expected, f"seed {self.world.seed}: other letters"
        self._note(replayed, writer.positions)

    def fold(self, step: Step, sizes: Iterator[int]) -> None:
        self.deployment.fold(step.day, sizes)
        for state in self.deployment.states:
            dead_letters.relay(state, self.letters, CASE_EVENTS)

    def release(self, step: Step, following: Step | None = None) -> None:
        """Release; the events of `following` come once it is written down what is settled."""
        deployment, positions = self.deployment, list[Position]()
        plain = following is not None and not (
            following.new_log or following.lost or following.newer_schemas or following.declared
        )
        events = following.events if following is not None and plain else ()

        def come() -> None:
            if events and not positions:
                positions.extend(deployment.log.append(CASE_EVENTS, [emitted(event) for event in events]))

        earlier = deployment.released.keys()
        deployment.meanwhile = come
        deployment.release(utc(step.day), step.grace)
        deployment.meanwhile = None
        self.came_early = bool(positions)
        # A releaser that was killed settles again, and counts what came meanwhile.
        settled = deployment.ledger.settled
        counted = bool(positions) and settled is not None and _lies_before(positions, settled.point.offsets)
        self.behind = [not counted] if positions else []
        if counted:
            self._note(events, positions)
        if self.oracle is not None:
            actual = {key: values for key, values in self.deployment.released.items() if key not in earlier}
            expected = self.oracle.release(utc(step.day), step.grace)
            assert actual == expected, f"seed {self.world.seed}, {step.day}: {differences(actual, expected)}"
        if positions and not counted:
            self._note(events, positions)

    def end(self, step: Step) -> None:
        """Complete the past of populations, and retire others."""
        deployment, oracle = self.deployment, self.oracle
        for name in step.completed:
            if name in deployment.ledger.chain.incomplete:
                deployment.ledger.append([Completed(name)], utc(step.day))
            if oracle is not None:
                oracle.complete(name)
        for name in step.retired:
            deployment.ledger.append([Retired(name)], utc(step.day))
            deployment.populations = [each for each in deployment.populations if each.name != name]
            deployment.restart(utc(step.day))
            if oracle is not None:
                oracle.retire(name)


def _lies_before(positions: Sequence[Position], offsets: Mapping[int, int]) -> bool:
    """Return whether all of what was appended together lies before a place; it must be all or nothing."""
    [before] = {position.offset < offsets[position.partition] for position in positions}
    return before


class _Noting:
    """Appends to a log, and keeps what was appended with where it is."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.records: list[NewRecord] = []
        self.positions: list[Position] = []

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        positions = self._log.append(topic, records)
        self.records += records
        self.positions += positions
        return positions

    def close(self) -> None:
        """The log stays open."""


def played_apart(world: World, folder: Path, logs: Logs = in_memory) -> Releases:
    """Return the same values when each part of the stories has a log, a state and a ledger of its own."""
    total: Releases = {}
    for part in PARTS:
        released = played(world.of(part), folder / part, logs=logs)
        assert not total or total.keys() == released.keys(), f"seed {world.seed}: what is released depends on data"
        total = {
            key: tuple(map(sum, zip(values, total[key], strict=True))) if total else values
            for key, values in released.items()
        }
    return total


def foretold(world: World) -> Releases:
    """Return what the oracle alone says of a world: the true values of every release."""
    oracle = Oracle(world.opening, is_newer)
    number, ends = 0, [0] * world.partitions
    values: Releases = {}

    def places() -> list[Place]:
        return [Place(number, *end) for end in enumerate(ends)]

    for step in world.steps:
        if step.new_log:
            number, ends = number + 1, [0] * world.partitions
        if step.lost:
            oracle.lose(places())
        for population in step.declared:
            oracle.declare(population, step.day, places())
        again = oracle.upgrade() if step.newer_schemas else []
        for event in [*again, *step.events]:
            partition = event.case_key[0] % world.partitions
            oracle.fold(event, Place(number, partition, ends[partition]))
            ends[partition] += 1
        if step.release:
            values |= oracle.release(utc(step.day), step.grace)
        for name in step.completed:
            oracle.complete(name)
        for name in step.retired:
            oracle.retire(name)
    return values
