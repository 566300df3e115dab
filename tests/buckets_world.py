"""A number in six buckets, and what plain Python says of its percentiles and means."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from quietcount_aggregates.intervals import quantile

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


def bracket(
    counts: Sequence[float], usual: Sequence[float], strict: Sequence[float], whole: float, p: float
) -> Bracket:
    """Return the bucket of the smallest value that a part p of all does not exceed, and those not excluded."""
    total = sum(counts)
    if not total > whole:
        return Bracket(None, None, None, None, None)
    margins = usual if total > 2 * whole else strict
    below = [up - p * total for up in accumulate(counts)][:-1]
    last = len(counts) - 1
    first_left = next((j for j in range(last) if not below[j] < -margins[j]), last)
    last_left = next((j for j in reversed(range(1, last + 1)) if not below[j - 1] >= margins[j - 1]), 0)
    nearest = next((j for j in range(last) if below[j] >= 0), last)
    if first_left == 0 and last_left == last:
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
