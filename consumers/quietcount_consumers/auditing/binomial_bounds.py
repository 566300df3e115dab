"""Bounds on a probability from how often something came, and on epsilon from what a test statistic does under two logs.

The lower bound on epsilon follows from its definition: an event that is at least p likely under one log and at most q
likely under the other shows a loss of log(p / q) (as in Jagielski, Ullman and Oprea, 2020, for pure epsilon).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "chernoff", "clopper_pearson", "log_factorials", "loss_between"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_STEPS: Final = 50
_MOST_EVENTS: Final = 400
"""Thresholds that are looked at; more lie so near each other that the best of them is not better."""


def log_factorials(n: int) -> Floats:
    """Return the logarithms of 0! to n!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def clopper_pearson(hits: int, runs: int, alpha: float, table: Floats) -> tuple[float, float]:
    """Return one-sided bounds on a probability, each wrong with probability `alpha` at most (Clopper, Pearson, 1934).

    `table` has the logarithms of the factorials up to `runs`.
    """
    below, above = np.arange(hits + 1), np.arange(hits, runs + 1)

    def tail(which: Integers, p: float) -> float:
        ways = table[runs] - table[which] - table[runs - which]
        return float(np.exp(ways + which * math.log(p) + (runs - which) * math.log1p(-p)).sum())

    def solve(exceeds: Callable[[float], bool]) -> float:
        low, high = 1e-12, 1 - 1e-12
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if exceeds(middle) else (middle, high)
        return (low + high) / 2

    lower = 0.0 if hits == 0 else solve(lambda p: tail(above, p) > alpha)
    upper = 1.0 if hits == runs else solve(lambda p: tail(below, p) < alpha)
    return lower, upper


def chernoff(hits: Integers, runs: int, alpha: float) -> tuple[Floats, Floats]:
    """Return bounds as `clopper_pearson` does, for many events at once, a little wider (Chernoff, 1952).

    A probability p is refuted by a frequency f if the relative entropy of f to p exceeds log(1 / alpha) / runs.
    """
    often = hits / runs
    most = math.log(1 / alpha) / runs

    def refuted(p: Floats) -> npt.NDArray[np.bool_]:
        with np.errstate(divide="ignore", invalid="ignore"):
            there = np.where(often > 0, often * np.log(often / p), 0.0)
            not_there = np.where(often < 1, (1 - often) * np.log((1 - often) / (1 - p)), 0.0)
        return there + not_there > most

    def solve(inside: Floats, outside: Floats) -> Floats:
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            bad = refuted(middle)
            inside, outside = np.where(bad, inside, middle), np.where(bad, middle, outside)
        return outside

    return solve(often.copy(), np.zeros(len(hits))), solve(often.copy(), np.ones(len(hits)))


def loss_between(one: Floats | Integers, other: Floats | Integers, alpha: float) -> float:
    """Return a lower bound on epsilon that is wrong with probability `alpha` at most; 0 if nothing was learnt.

    `one` and `other` are independent values of one statistic under two neighbouring logs, as many of the one as of the
    other. The telling event (a threshold, above or below) is chosen on one half of them by its own bound at the same
    `alpha`, and tested on the other half: an event so rare that its bound says nothing is never chosen.
    """
    half = len(one) // 2
    chosen = _telling(one[:half], other[:half], alpha)
    if chosen is None:
        return 0.0
    threshold, upward = chosen
    likely, unlikely = (one, other) if upward else (other, one)
    hits = [int((v[half:] >= threshold).sum() if upward else (v[half:] <= threshold).sum()) for v in (likely, unlikely)]
    runs = len(one) - half
    table = log_factorials(runs)
    lower = clopper_pearson(hits[0], runs, alpha / 2, table)[0]
    upper = clopper_pearson(hits[1], runs, alpha / 2, table)[1]
    return max(0.0, math.log(lower / upper)) if lower > 0 else 0.0


def _telling(one: Floats | Integers, other: Floats | Integers, alpha: float) -> tuple[float, bool] | None:
    """Return the threshold whose bound is highest, and whether `one` lies above it more often; None if none tells."""
    every = np.unique(np.concatenate([one, other]))
    thresholds: Floats = every[np.unique(np.linspace(0, len(every) - 1, _MOST_EVENTS).astype(np.int64))].astype(
        np.float64
    )
    both: list[Floats] = [np.sort(each).astype(np.float64) for each in (one, other)]
    best: tuple[float, float, bool] = (0.0, 0.0, True)
    for upward in (True, False):
        hits = [_beyond(values, thresholds, upward) for values in both]
        likely, unlikely = hits if upward else hits[::-1]
        lower = chernoff(likely, len(one), alpha / 2)[0]
        upper = chernoff(unlikely, len(one), alpha / 2)[1]
        with np.errstate(divide="ignore"):
            bounds = np.log(lower / upper)
        place = int(np.argmax(bounds))
        if bounds[place] > best[0]:
            best = float(bounds[place]), float(thresholds[place]), upward
    return best[1:] if best[0] > 0 else None


def _beyond(ordered: Floats, thresholds: Floats, upward: bool) -> Integers:
    """Return how many values lie at each threshold or above it, or at it or below."""
    if upward:
        return len(ordered) - np.searchsorted(ordered, thresholds, side="left")
    return np.searchsorted(ordered, thresholds, side="right")
