"""The exact distribution of sums of discrete Laplace draws, by plain convolution."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["exact_margin", "of_sum", "one_cell"]

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
    """Return the smallest m that the noise passes with no more than the probability that `confidence` leaves."""
    centre = len(mass) // 2
    m = 0
    while mass[centre - m : centre + m + 1].sum() < confidence - 1e-12:
        m += 1
    return m
