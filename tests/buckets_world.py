"""A number in six buckets, and what plain Python says of its percentiles and means."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quietcount_aggregates.intervals import quantile

Floats = npt.NDArray[np.float64]

SYMBOLS = ("0..6", "7..29", "30..89", "90..364", "365+", "unknown")
KNOWN = [(0, 6), (7, 29), (30, 89), (90, 364), (365, 1000)]
BOUNDS: list[tuple[int, int] | None] = [*KNOWN, None]


class Bracket(NamedTuple):
    """What `percentile()` answers."""

    symbol: str | None
    at_least: int | None
    at_most: int | None
    lower: int | None
    upper: int | None


@functools.cache
def rank_margins(scale: float, draws: int, p: float, level: float) -> tuple[list[float], list[float], float]:
    """Return the margins of (the sum up to each bucket) - p (the whole), usual and strict; and that of the whole.

    Each bucket has so many draws of its own. The strict level leaves a twentieth of what the level leaves.
    """
    n = len(KNOWN)
    strict = 1 - (1 - level) / 20
    usual, stricter = (
        [quantile([1 - p, -p], [scale, scale], [draws * j, draws * (n - j)], conf) for j in range(1, n)]
        for conf in (level, min(strict, 0.9999))
    )
    return usual, stricter, quantile([1.0], [scale], [draws * n], min(strict, 0.9999))


class Left(NamedTuple):
    """For each of many answers: whether it is told, and the first and last bucket left, and the one by estimate."""

    told: npt.NDArray[np.bool_]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    nearest: npt.NDArray[np.int64]


def left(estimates: Floats, usual: Sequence[float], strict: Sequence[float], whole: float, p: float) -> Left:
    """Return which buckets may hold the smallest value that a part p of all does not exceed; one row an answer."""
    total = estimates.sum(axis=1)
    margins = np.where(total[:, None] > 2 * whole, np.array(usual), np.array(strict))
    below = estimates.cumsum(axis=1)[:, :-1] - p * total[:, None]
    last = estimates.shape[1] - 1
    none = np.ones((len(total), 1), dtype=bool)
    first_left = np.argmax(np.hstack([~(below < -margins), none]), axis=1)
    last_left = last - np.argmax(np.hstack([~(below >= margins)[:, ::-1], none]), axis=1)
    return Left(total > whole, first_left, last_left, np.argmax(np.hstack([below >= 0, none]), axis=1))


def bracket(
    counts: Sequence[float], usual: Sequence[float], strict: Sequence[float], whole: float, p: float
) -> Bracket:
    """Return what is answered of these sums."""
    found = left(np.array([counts]), usual, strict, whole, p)
    first_left, last_left, nearest = (int(each[0]) for each in found[1:])
    last = len(counts) - 1
    if not found.told[0] or (first_left == 0 and last_left == last):
        return Bracket(None, None, None, None, None)
    return Bracket(
        SYMBOLS[nearest],
        *KNOWN[nearest],
        None if first_left == 0 < nearest else KNOWN[first_left][0],
        None if nearest < last == last_left else KNOWN[last_left][1],
    )


def ends(end: int) -> tuple[list[float], int, int]:
    """Return the weights of the buckets in the mean of their lower (0) or upper (1) bounds, the least and the width."""
    bounds = [pair[end] for pair in KNOWN]
    least, width = min(bounds), max(bounds) - min(bounds)
    return [(each - least) / width for each in bounds], least, width
