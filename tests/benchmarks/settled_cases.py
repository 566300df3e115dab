"""Cases that have used up their limit, by the million, put into a state without a story of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from quietcount_aggregates.state.limits import LIFETIME
from quietcount_aggregates.state.state import State

__all__ = ["remember"]


def remember(path: Path, population: str, settled: int) -> None:
    """Let the state at `path` know of `settled` cases which have used up their limit in a population."""
    marks = np.random.default_rng(2).integers(0, 2**64, (settled, 2), dtype=np.uint64)
    with State(path) as state:
        listed = state.limits.extended(population, LIFETIME, None, marks[np.lexsort((marks[:, 1], marks[:, 0]))])
        with state.transaction() as connection:
            connection.execute("INSERT INTO limits VALUES (?, ?, ?, ?, ?)", dataclasses.astuple(listed))
