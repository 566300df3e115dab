"""Worlds of stories, played through the real fold, state, ledger and releaser, or told by the oracle alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from tests.aggregates_world import MemoryLog, record_of, utc, world_in
from tests.property.counting_oracle import Oracle, Place, Releases
from tests.property.stories import PARTS, REGISTRY, START, Step, World, differences

from quietcount_aggregates.ledger.entries import Completed, Retired
from quietcount_schemas.log import CASE_EVENTS, LogReader, LogWriter

__all__ = ["foretold", "played", "played_apart"]


class Log(LogReader, LogWriter, Protocol):
    """A log that can be read and written."""


Logs = Callable[[World], Log]
"""Makes an empty log with the partitions of a world."""


def in_memory(world: World) -> Log:
    return MemoryLog(world.partitions)


def _sizes(rng: random.Random) -> Iterator[int]:
    """Return the sizes of batches, without an end: most of them large, since each takes as long as a large one."""
    while True:
        yield rng.choice((1, 5, 30, 1000, 1000, 1000))


def played(
    world: World, folder: Path, *, judged: bool = False, batches: int | None = None, logs: Logs = in_memory
) -> Releases:
    """Return the true values of every release of a world; compare each with the oracle if it is to be judged."""
    oracle = Oracle(world.opening) if judged else None
    sizes = _sizes(random.Random(world.seed if batches is None else batches))
    log, number = logs(world), 0
    with world_in(
        folder, world.opening, registry=REGISTRY, log=log, now=utc(START), today=START, published=False
    ) as deployment:
        for step in world.steps:
            if step.new_log:  # the service's command for it, and a start
                log, number = logs(world), number + 1
                deployment.log = log
                deployment.there.follow(log.topic_id(CASE_EVENTS))
            for population in step.declared:
                deployment.populations.append(population)
                if oracle is not None:
                    ends = [Place(number, *end) for end in log.end_offsets(CASE_EVENTS).items()]
                    oracle.declare(population, step.day, ends)
            if step.restart or step.new_log or step.declared:
                deployment.restart(utc(step.day))
            places = log.append(CASE_EVENTS, [record_of(deployment.codec, event) for event in step.events])
            deployment.fold(step.day, sizes)
            if oracle is not None:
                for event, place in zip(step.events, places, strict=True):
                    oracle.fold(event, Place(number, place.partition, place.offset))
            if step.release:
                _release(deployment, world, step, oracle)
            _end(deployment, step, oracle)
        return deployment.released


def _release(deployment: Any, world: World, step: Step, oracle: Oracle | None) -> None:
    earlier = deployment.released.keys()
    deployment.release(utc(step.day), step.grace)
    if oracle is not None:
        actual = {key: values for key, values in deployment.released.items() if key not in earlier}
        expected = oracle.release(utc(step.day), step.grace)
        assert actual == expected, f"seed {world.seed}, {step.day}: {differences(actual, expected)}"


def _end(deployment: Any, step: Step, oracle: Oracle | None) -> None:
    """Complete the past of populations, and retire others."""
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
    oracle = Oracle(world.opening)
    number, ends = 0, [0] * world.partitions
    values: Releases = {}
    for step in world.steps:
        if step.new_log:
            number, ends = number + 1, [0] * world.partitions
        for population in step.declared:
            oracle.declare(population, step.day, [Place(number, *end) for end in enumerate(ends)])
        for event in step.events:
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
