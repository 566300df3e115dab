"""Averages: their intervals miss no more often than they say, and they are not told where nobody can tell."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from quietcount_aggregates.noise import CONFIDENCE
from quietcount_aggregates.populations import StatisticName, Sum
from quietcount_aggregates.reconciliation import averages
from quietcount_aggregates.reconciliation.averages import Ratio
from quietcount_aggregates.reconciliation.solution import Groups

pytestmark = pytest.mark.check

TRIALS = 20_000
COUNTS = (10, 30, 100, 300, 1_000, 10_000)
FALSE_ALARM = 1e-6
"""Of the whole module: each of its comparisons has its share."""

Floats = npt.NDArray[np.float64]

MARGIN = Ratio.margin


def most_misses(trials: int, comparisons: int) -> int:
    """Return how many of `trials` intervals may miss: Chernoff's bound, for a chance of FALSE_ALARM / comparisons."""
    chance = 1 - CONFIDENCE
    for misses in range(int(chance * trials), trials):
        share = misses / trials
        if share <= chance:
            continue
        divergence = share * math.log(share / chance) + (1 - share) * math.log((1 - share) / (1 - chance))
        if trials * divergence > math.log(comparisons / FALSE_ALARM):
            return misses
    return trials


def drawn(rng: np.random.Generator, weights: Groups, trials: int) -> Floats:
    """Return weighted sums of discrete Laplaces: each is the difference of two geometric draws."""
    total = np.zeros(trials)
    for (weight, scale), n in weights.items():
        chance = 1 - math.exp(-1 / scale)
        for _ in range(n):
            total += weight * (rng.geometric(chance, trials) - rng.geometric(chance, trials))
    return total


def missed(
    rng: np.random.Generator, asked: Sum, groups: Groups, epsilon: float, count: int, average: float
) -> tuple[int, int]:
    """Return in how many trials an average is told, and in how many of these its interval misses."""
    scale = asked.reach / epsilon
    true_sum = round((average - asked.middle) * count)
    sums = true_sum + drawn(rng, Counter({(1.0, scale): 1}), TRIALS)
    counts = count + drawn(rng, groups, TRIALS)
    found = Ratio(asked, groups, scale, 1, 0.0).intervals(sums, counts)
    true = true_sum / count
    outside = (true < found.lower - 1e-9) | (true > found.upper + 1e-9)
    return int(found.told.sum()), int((outside & found.told).sum())


ASKED = (
    Sum("days", 0, 120, StatisticName("n")),
    Sum("days", 0, 2, StatisticName("n")),
    Sum("x", -50, 50, StatisticName("n")),
)
NOISE: tuple[Groups, ...] = (Counter({(1.0, 2.0): 1}), Counter({(0.75, 4.0): 1, (0.25, 4.0): 3, (0.5, 1.0): 2}))


@pytest.mark.promise("intervals")
@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.97], ids=["at the end", "near it", "in the middle", "at the other"])
def test_the_interval_of_an_average_covers_as_it_says(place: float) -> None:
    """From 10 to 10,000 cases. False alarms: below 1e-6 for the module."""
    seed = np.random.SeedSequence().entropy
    rng = np.random.default_rng(seed)
    cases = list(itertools.product(ASKED, NOISE, (0.3, 2.0), COUNTS))
    for asked, groups, epsilon, count in cases:
        average = asked.low + place * (asked.high - asked.low)
        told, misses = missed(rng, asked, groups, epsilon, count, average)
        where = f"seed {seed}: {asked}, {groups}, epsilon {epsilon}, {count} cases: {misses} of {told}"
        # Of all trials at most 5 in 100 miss; and of those in which it is told, if that is more than once in 20 times.
        assert misses <= most_misses(TRIALS, 8 * len(cases)), where
        if told > TRIALS // 20:
            assert misses <= most_misses(told, 8 * len(cases)), where


def test_an_average_is_told_of_many_and_of_few_it_is_not() -> None:
    """10 cases beside noise of scale 10 tell nothing; of 10,000 the average is known to a hundredth of the range."""
    asked, groups = ASKED[0], Counter({(1.0, 10.0): 1})
    # Whatever the sum: 3,000 is more than 10 values could make it, and 20,000 more than 100 could.
    few = Ratio(asked, groups, 200.0, 1, 0.0).intervals(
        np.array([0.0, 3_000.0, -3_000.0, 20_000.0]), np.array([10.0, 10.0, -3.0, 100.0])
    )
    assert not few.told.any()
    assert set(zip(few.lower.tolist(), few.upper.tolist(), strict=True)) == {(-60, 60)}
    many = Ratio(asked, groups, 200.0, 1, 0.0).intervals(np.array([10_000.0 * 20]), np.array([10_000.0]))
    assert many.told.all()
    assert many.middle[0] == 20
    assert many.upper[0] - many.lower[0] < 1.2


@pytest.mark.parametrize(
    "mutant",
    [
        lambda ratio, size, confidence: MARGIN(ratio, 0 * size, confidence),  # the count's noise is forgotten
        lambda ratio, size, confidence: 0.7 * MARGIN(ratio, size, confidence),
    ],
    ids=["without the count's noise", "narrower"],
)
def test_a_margin_that_is_too_small_is_noticed(
    mutant: Callable[[Ratio, float, float], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ratio, "margin", lambda ratio, size, confidence=CONFIDENCE: mutant(ratio, size, confidence))
    rng = np.random.default_rng(5)
    told, misses = missed(rng, ASKED[0], Counter({(1.0, 10.0): 1}), 2.0, 300, 110.0)
    assert told > TRIALS // 20
    assert misses > most_misses(told, 1)


FEW_AND_CERTAIN = [(60, 0.3, 3), (1, 0.3, 3), (60, 1.5, 1)]
"""How far a value may lie from the middle, the epsilon of the sum, and how many cases: their count is certain."""


@pytest.mark.parametrize("reach, epsilon, count", FEW_AND_CERTAIN)
def test_a_sum_that_was_drawn_far_out_tells_no_narrow_average(reach: int, epsilon: float, count: int) -> None:
    seed = np.random.SeedSequence().entropy
    rng = np.random.default_rng(seed)
    asked, groups = Sum("days", 0, 2 * reach, StatisticName("n")), Counter({(1.0, 0.05): 1})
    told, misses = missed(rng, asked, groups, epsilon, count, reach / 2)
    where = f"seed {seed}: {misses} of {told}"
    assert misses <= most_misses(TRIALS, 2 * len(FEW_AND_CERTAIN)), where
    assert told <= TRIALS // 20 or misses <= most_misses(told, 2 * len(FEW_AND_CERTAIN)), where


def test_counts_that_are_hardly_above_0_need_the_stricter_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """An average that is told by chance is mostly one of a count that was drawn too large."""
    monkeypatch.setattr(averages, "STRICT", 0.9)
    rng = np.random.default_rng(6)
    told, misses = missed(rng, ASKED[0], Counter({(1.0, 10.0): 1}), 20.0, 10, 115.0)
    assert told > TRIALS // 20
    assert misses > most_misses(told, 1)
