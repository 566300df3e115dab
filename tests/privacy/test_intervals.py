"""Margins hold what they say, against the exact distribution. What macros answer is in test_question_intervals.py."""

from __future__ import annotations

import numpy as np
import pytest
from tests.privacy.exact_noise import exact_margin, one_cell

from quietcount_aggregates.noise import CONFIDENCE, DiscreteLaplace, margin, variance

pytestmark = pytest.mark.quick


def test_the_margin_of_a_cell_is_the_smallest_that_holds() -> None:
    for scale in [0.05, 0.1, 0.3, 0.34, 0.5, 1, 1.5, 2, 3, 4, 10, 40]:
        for confidence in (0.5, 0.9, 0.95, 0.99):
            assert margin(scale, confidence) == exact_margin(one_cell(scale), confidence), (scale, confidence)


def test_the_variance_of_a_draw_is_exact() -> None:
    for scale in (0.1, 0.3, 1, 2, 4, 10):
        mass = one_cell(scale)
        places = np.arange(len(mass)) - len(mass) // 2
        assert variance(scale) == pytest.approx(float((mass * places**2).sum()))


@pytest.mark.parametrize("epsilon, expected", [(1.0, 3), (0.5, 6), (0.25, 12)])
def test_the_margins_are_those_that_were_planned_with(epsilon: float, expected: int) -> None:
    assert margin(1 / epsilon) == expected


@pytest.mark.promise("intervals")
def test_published_intervals_hold_the_true_count_as_often_as_they_say() -> None:
    """100,000 cells: fewer than 94.6 in a hundred would be met by chance with a probability below 1e-6."""
    scale, count = 2.0, 7
    m = margin(scale)
    drawn = np.array(
        [DiscreteLaplace().draw([count] * 1000, scale=scale, sensitivity=1, epsilon=0.5) for _ in range(100)]
    )
    lower, upper = np.maximum(drawn - m, 0), np.maximum(drawn, 0) + m
    covered = float(((lower <= count) & (count <= upper)).mean())
    print(f"coverage of one cell's interval: {covered:.4f}")
    assert covered > CONFIDENCE - 0.004
    # The same test refuses intervals a little too narrow.
    assert float((np.abs(drawn - count) <= m - 1).mean()) < CONFIDENCE - 0.004
