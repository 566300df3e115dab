"""A published file as readers meet it: six months of two populations, released with real noise."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.aggregates_world import TRIALS, World, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period

SINCE = dt.date(2024, 1, 1)


@contextmanager
def published_in(folder: Path) -> Iterator[World]:
    """Six months of the populations "plain" and "detailed", with a table each,, released and published in `folder`."""
    populations = [
        population_of("plain", events=["Asked"], registry=TRIALS, period=Period.MONTH, since=SINCE, epsilon=0.5),
        population_of(
            "detailed",
            events=["Asked"],
            registry=TRIALS,
            period=Period.MONTH,
            since=SINCE,
            epsilon=1.0,
            by=["colour", "urgent"],
            where={"colour": ["RED", "GREEN"]},
        ),
    ]
    with world_in(folder, populations, mechanism=DiscreteLaplace()) as world:
        for month in range(1, 7):
            world.emit(
                [
                    CaseEvent(
                        "Asked",
                        case_key(case),
                        event_id(1000 * month + case),
                        0,
                        dt.date(2024, month, 1),
                        {"colour": "RED", "urgent": case % 2 == 0},
                    )
                    for case in range(30 * month, 30 * month + 30)
                ]
            )
            world.fold(dt.date(2024, month, 2))
        world.release(utc(dt.date(2024, 7, 1)))
        yield world
