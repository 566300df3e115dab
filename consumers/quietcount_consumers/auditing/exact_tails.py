"""Exact tails: of the discrete Laplace distribution, of chi-square, and of the mean of values between 0 and 1."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quietcount_consumers.auditing.binomial_bounds import log_factorials
from quietcount_consumers.auditing.measurement import FALSE_ALARM

__all__ = [
    "chi_square",
    "chi_square_tail",
    "laplace_tail",
    "noncentral_tail",
    "noncentrality_needed",
    "rate_allowed",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


# ---------------------------------------------------------------- the discrete Laplace distribution


def laplace_tail(scale: float, least: int) -> float:
    """Return P(X >= least) for one draw X and `least` from 1 on: a^least / (1 + a)."""
    return math.exp(-least / scale) / (1 + math.exp(-1 / scale))


# ---------------------------------------------------------------- chi-square


def chi_square_tail(value: float, freedom: int) -> float:
    """Return P(Q >= value) for Q of the chi-square distribution with an even number of degrees of freedom.

    It is a finite sum then: Q(x; 2n) = exp(-x/2) (1 + (x/2) + ... + (x/2)^(n-1)/(n-1)!).
    """
    if freedom <= 0 or freedom % 2:
        raise ValueError("the degrees of freedom are a positive even number")
    if value <= 0:
        return 1.0
    half = value / 2
    logs = [index * math.log(half) - math.lgamma(index + 1) - half for index in range(freedom // 2)]
    top = max(logs)
    return min(1.0, math.exp(top) * sum(math.exp(log - top) for log in logs))


def chi_square(observed: Sequence[int] | Integers, probabilities: Sequence[float] | Floats) -> float:
    """Return the p-value of counts in classes of known probabilities (Pearson, 1900): an odd number of classes.

    The chi-square distribution stands for the exact one, so each class is to expect some hundred.
    """
    counts, expected = np.asarray(observed, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    expected = expected * counts.sum()
    return chi_square_tail(float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1)


@functools.cache
def noncentrality_needed(freedom: int, false_alarm: float = FALSE_ALARM) -> float:
    """Return how far off the classes have to be for a chi-square test to miss it with `false_alarm` at most, too.

    The measure is Pearson's noncentrality: the number of draws times the sum of (q - p)^2 / p over the classes, p as
    declared and q as they are. The test rejects at `false_alarm`.
    """
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if chi_square_tail(middle, freedom) > false_alarm else (low, middle)
    least, most = 0.0, 1e4
    for _ in range(40):
        middle = (least + most) / 2
        missed = 1 - noncentral_tail(high, freedom, middle)
        least, most = (least, middle) if missed <= false_alarm else (middle, most)
    return most


def noncentral_tail(value: float, freedom: int, noncentrality: float) -> float:
    """Return P(Q >= value) for the noncentral chi-square distribution with an even number of degrees of freedom.

    It is a Poisson mixture of central ones (Patnaik, 1949): that of 2n degrees of freedom is P(N < n) for N of the
    Poisson distribution with the mean value / 2.
    """
    terms = int(noncentrality / 2 + 15 * math.sqrt(noncentrality / 2) + 60)
    weights = _poisson(noncentrality / 2, terms)
    tails = np.cumsum(_poisson(value / 2, terms + freedom // 2))
    return min(1.0, float((weights * tails[freedom // 2 - 1 : freedom // 2 - 1 + terms]).sum()))


def _poisson(mean: float, terms: int) -> Floats:
    """Return the probabilities of 0, 1, ..., terms - 1."""
    if mean <= 0:
        return np.eye(1, terms).reshape(-1)
    numbers = np.arange(terms)
    return np.exp(numbers * math.log(mean) - log_factorials(terms)[:terms] - mean)


# ---------------------------------------------------------------- rates


def rate_allowed(stated: float, units: int, false_alarm: float = FALSE_ALARM) -> float:
    """Return the mean that `units` independent values between 0 and 1 reach with `false_alarm` at most.

    Each has an expectation of at most `stated`, and any distribution: a unit may be the share of misses among figures
    that miss together. P(mean >= r) <= exp(-units KL(r, stated)) holds for all of them (Hoeffding, 1963, theorem 1),
    with KL(r, s) = r ln(r/s) + (1-r) ln((1-r)/(1-s)). Return 1 if no mean would be too large.
    """
    if not 0 < stated < 1:
        raise ValueError("a rate lies between 0 and 1")
    if units <= 0:
        return 1.0
    wanted = -math.log(false_alarm) / units
    if wanted >= -math.log(stated):
        return 1.0
    low, high = stated, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        divergence = middle * math.log(middle / stated) + (1 - middle) * math.log((1 - middle) / (1 - stated))
        low, high = (middle, high) if divergence < wanted else (low, middle)
    return high
