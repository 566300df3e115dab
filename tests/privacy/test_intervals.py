"""Margins hold what they say, against the exact distribution. What macros answer is in test_question_intervals.py."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from quietcount_aggregates.noise import CONFIDENCE, DiscreteLaplace, margin, standard_deviation, sum_margin

pytestmark = pytest.mark.quick

Floats = npt.NDArray[np.float64]


def one_cell(scale: float) -> Floats:
    """Return the exact probabilities of -m..m for one draw, wide enough that the rest is below 1e-15."""
    a = math.exp(-1 / scale)
    reach = math.ceil(35 * scale) + 1
    return (1 - a) / (1 + a) * a ** np.abs(np.arange(-reach, reach + 1))


def of_sum(scale: float, terms: int) -> Floats:
    """Return the exact probabilities of -m..m for a sum of draws, by plain convolution."""
    total = one = one_cell(scale)
    for _ in range(terms - 1):
        total = np.convolve(total, one)
    return total


def exact_margin(mass: Floats, confidence: float) -> int:
    centre = len(mass) // 2
    m = 0
    while mass[centre - m : centre + m + 1].sum() < confidence - 1e-12:
        m += 1
    return m


def test_the_margin_of_a_cell_is_the_smallest_that_holds() -> None:
    for scale in [0.05, 0.1, 0.3, 0.34, 0.5, 1, 1.5, 2, 3, 4, 10, 40]:
        for confidence in (0.5, 0.9, 0.95, 0.99):
            assert margin(scale, confidence) == exact_margin(one_cell(scale), confidence), (scale, confidence)


def test_the_margin_of_a_sum_is_the_smallest_that_holds() -> None:
    for scale in [0.1, 0.3, 1, 2, 4, 10]:
        for terms in (1, 2, 3, 6, 12, 30):
            assert sum_margin(scale, terms) == exact_margin(of_sum(scale, terms), CONFIDENCE), (scale, terms)
        mass = one_cell(scale)
        places = np.arange(len(mass)) - len(mass) // 2
        assert standard_deviation(scale) == pytest.approx(math.sqrt(float((mass * places**2).sum())))


@pytest.mark.parametrize("epsilon, expected", [(1.0, 3), (0.5, 6), (0.25, 12)])
def test_the_margins_are_those_that_were_planned_with(epsilon: float, expected: int) -> None:
    assert margin(1 / epsilon) == expected


@pytest.mark.promise("intervals")
def test_published_intervals_hold_the_true_count_as_often_as_they_say() -> None:
    """100,000 cells: fewer than 94.6 in a hundred would be met by chance with a probability below 1e-6."""
    scale, count = 2.0, 7
    m = margin(scale)
    drawn = np.array(
        [DiscreteLaplace().draw([count] * 1000, scale=scale, max_contributions=1, epsilon=0.5) for _ in range(100)]
    )
    lower, upper = np.maximum(drawn - m, 0), np.maximum(drawn, 0) + m
    covered = float(((lower <= count) & (count <= upper)).mean())
    print(f"coverage of one cell's interval: {covered:.4f}")
    assert covered > CONFIDENCE - 0.004
    # The same test refuses intervals a little too narrow.
    assert float((np.abs(drawn - count) <= m - 1).mean()) < CONFIDENCE - 0.004


@pytest.mark.parametrize("scale", [1001.0, 5000.0, 100_000.0])
def test_the_margin_of_a_sum_at_a_great_scale_is_told_in_little_memory_and_is_not_too_narrow(scale: float) -> None:
    """The exact margin at a scale of 1000, stretched, is the continuous limit: within 1 % of it, and never below."""
    limit = sum_margin(1000.0, 7) * scale / 1000
    assert limit - 1 <= sum_margin(scale, 7) <= 1.01 * limit
