"""How far the noise of a figure may lie from 0: the quantile of a weighted sum of discrete Laplace draws.

The characteristic function of the sum S is real and positive. At t it is the product over the groups of
(1 + k sin^2(w t / 2))^-n, for n draws of weight w and scale s, with k = 1 / sinh^2(1 / (2 s)). A Fourier series of step
2 pi / L inverts it. Three errors remain. Each one has a bound, and we ask for that much more than the confidence:

* **Wrapping.** The series is exact for S modulo L: it counts what lies beyond L - m as if it lay within m. L follows
  from Chernoff's bound: the moment generating function is the product of (1 - k sinh^2(w u / 2))^-n, for real u.
* **Smoothing.** S jumps, so its series does not converge. We invert S + U: U lies between -h and h and has Kaiser's
  density, proportional to I0(B sqrt(1 - (x / h)^2)). |S| > m + h implies |S + U| > m. So if m covers S + U, m + h
  covers S, and is at most 2 h too large. h is about 1 / 400 of the result.
* **Truncation.** Beyond h t = B the transform of Kaiser's density is at most (B / sinh B) / sqrt((h t)^2 - B^2). The
  series loses at most the integral of (2 / pi) times that over t, from h t = B on, which is 1 / sinh B.

If all weights are whole multiples of one step, S lies on a lattice. A short series is then exact without U, and the
result is the smallest multiple that covers. If rounding moved the weights off their multiples, a bound of what that
amounts to is added.

`intervals.sql` does the same in SQL, as the macro noise_quantile, for the readers of the published file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quietcount_aggregates.errors import NoiseError

__all__ = ["quantile"]

_Floats = npt.NDArray[np.float64]

_RARE = 1e-13
"""A group is left out if the probability that any of its draws is not 0 is below twice this."""

_EXACT = 1e-9
"""The probability allowed for all errors on a lattice: rare draws, wrapping, and the rounding of the weights."""

_EXACT_NATS = 24.0
"""2 exp(-24) = 8e-11: the probability of wrapping on a lattice, and of a draw beyond the bound of the rounding."""

_SMOOTH = 1e-5
"""The probability allowed for all errors with smoothing. It widens a 99 % margin by 0.02 %."""

_SMOOTH_NATS = 13.2
"""2 exp(-13.2) = 3.7e-6: the probability of wrapping with smoothing."""

_KAISER = 13.0
"""B, the parameter of Kaiser's density. Truncation loses at most 1 / sinh(13) = 4.5e-6."""

_LONGEST_LATTICE = 1 << 15

_LONGEST_SERIES = 1 << 17
"""If a sum needs more terms (rare huge draws among small ones), its margin covers, and is more than 1 % too wide."""

_DIVISORS = np.arange(1.0, 25.0)
"""The step of a lattice is the smallest weight divided by one of these."""

_SHARES = np.concatenate([1 - 0.5 ** np.arange(6.0, 1, -1), 0.5 ** np.arange(1, 16.5, 0.5)])
"""The places where we evaluate the moment generating function, as shares of the place where it becomes infinite."""


def quantile(weights: Sequence[float], scales: Sequence[float], counts: Sequence[int], confidence: float) -> float:
    """Return an m with P(|S| <= m) >= confidence, for S the sum over the groups of weight * (the sum of count draws).

    A group has a weight of any sign, the scale of its independent discrete Laplace draws, P(X = x) proportional to
    exp(-|x| / scale), and their number. m is in the unit of weight * draw, never below the true quantile and at
    most 1 % above the smallest m that covers. If the weights are multiples of one step and some thousand steps matter,
    it is the smallest multiple that covers, and a millionth more. Without noise it is 0. It is rounded up to 2^-20 of
    itself, so that all machines return the same bits. Raises NoiseError for unequal lengths or values out of range.

    Source: Gil-Pelaez, 1951; Abate and Whitt, "The Fourier-series method for inverting transforms", 1992; Kaiser, 1966.
    """
    draws = _Draws.of(weights, scales, counts, confidence)
    if not draws.counts.size or draws.probability_of_none() >= confidence + _EXACT:
        return 0.0
    most = _rounded_up(draws.reach(math.log(2 / (1 - confidence))))
    step, moved = draws.lattice()
    if step and (size := (draws.reach(_EXACT_NATS) + most) / step + 2) <= _LONGEST_LATTICE:
        return _rounded_up(_on_lattice(draws, step, math.ceil(size) | 1, most, confidence) + moved)
    return _smoothed(draws, most, confidence)


@dataclass(frozen=True, slots=True)
class _Draws:
    """The groups that matter: absolute weights, scales, spreads k = 1 / sinh^2(1 / (2 scale)), and numbers of draws."""

    weights: _Floats
    scales: _Floats
    spreads: _Floats
    counts: _Floats

    @classmethod
    def of(cls, weights: Sequence[float], scales: Sequence[float], counts: Sequence[int], confidence: float) -> _Draws:
        w, s, n = (np.asarray(column, dtype=np.float64) for column in (weights, scales, counts))
        if not (w.shape == s.shape == n.shape == (w.size,) and 0 < confidence < 1):
            raise NoiseError(
                "the lists of weights, scales and counts differ in length, or the confidence is not between 0 and 1",
                "Pass three lists of equal length, and a confidence such as 0.95",
            )
        if not (np.isfinite(w).all() and np.isfinite(s).all() and (s > 0).all() and (n >= 0).all()):
            raise NoiseError(
                "a weight is not finite, a scale is not positive and finite, or a count is negative",
                "Pass finite weights, positive scales, and counts from 0 on",
            )
        matters = (w != 0) & (n * np.exp(-1 / s) > _RARE)
        w, s, n = np.abs(w[matters]), s[matters], n[matters]
        return cls(w, s, np.sinh(0.5 / s) ** -2, n)

    def probability_of_none(self) -> float:
        """Return the probability that every draw is 0."""
        return math.exp(-0.5 * float((self.counts * np.log1p(self.spreads)).sum()))

    def reach(self, nats: float) -> float:
        """Return a y with P(|S| >= y) <= 2 exp(-nats), by Chernoff's bound."""
        at = _SHARES / float((self.weights * self.scales).max())
        log_mgf = np.zeros(len(at))
        for w, spread, n in zip(self.weights, self.spreads, self.counts, strict=True):
            log_mgf -= n * np.log1p(-spread * np.sinh(0.5 * w * at) ** 2)
        return float(((log_mgf + nats) / at).min())

    def characteristic(self, at: _Floats) -> _Floats:
        """Return the characteristic function of S at each place of `at`."""
        exponent = np.zeros(len(at))
        for w, spread, n in zip(self.weights, self.spreads, self.counts, strict=True):
            exponent -= n * np.log(1 + spread * np.sin(0.5 * w * at) ** 2)
        return np.exp(exponent)

    def lattice(self) -> tuple[float, float]:
        """Return the step of the lattice on which S lies, and how far S may be off it; (0, 0) if there is no lattice.

        A weight that is off by e moves S by e |T|, for T the sum of its n draws. By Chernoff's bound at u = 1 / (2 s),
        |T| > s (0.58 n + 2 nats) has a probability below 2 exp(-nats).
        """
        steps = self.weights[self.weights > 1e-9 * self.weights.max()].min() / _DIVISORS
        off = np.abs(self.weights - steps[:, None] * np.rint(self.weights / steps[:, None]))
        draws_reach = self.scales * (0.58 * self.counts + 2 * (_EXACT_NATS + math.log(len(self.weights))))
        moved = (off * draws_reach).sum(axis=1)
        fitting = np.flatnonzero(moved < steps / 4096)
        return (float(steps[fitting[0]]), float(moved[fitting[0]])) if len(fitting) else (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Series:
    """The Fourier series of P(|S| <= m) with period `length`: 2 m / length + the sum of terms * sin(m * at)."""

    length: float
    at: _Floats
    terms: _Floats

    def smallest(self, goal: float, unit: float, offset: float, most: int) -> int:
        """Return the smallest k in 0..most with P(|S| <= (k + offset) unit) >= goal, by bisection; else `most`."""
        least = -1
        while most - least > 1:
            middle = (least + most) // 2
            m = (middle + offset) * unit
            if 2 * m / self.length + float((self.terms * np.sin(m * self.at)).sum()) >= goal:
                most = middle
            else:
                least = middle
        return most


def _on_lattice(draws: _Draws, step: float, size: int, most: float, confidence: float) -> float:
    """Return the smallest multiple of `step` that covers. `size` is odd: the places in the period of the series."""
    at = 2 * np.pi / (size * step) * _whole(size // 2)
    series = _Series(size * step, at, 2 / size / np.sin(0.5 * step * at) * draws.characteristic(at))
    return step * series.smallest(confidence + _EXACT, step, 0.5, math.ceil(most / step))


def _smoothed(draws: _Draws, most: float, confidence: float) -> float:
    """Return `most`, which covers, lowered until it is at most 1 % above the smallest that covers.

    m and h are multiples of a power of 2, so that the last bits of the series do not matter.
    """
    wrapping = draws.reach(_SMOOTH_NATS)
    h = most / 32  # wide at first: the series is short, and finds about how large the quantile is
    while True:
        unit = 2.0 ** (math.frexp(most)[1] - 14)
        h = unit * math.floor(h / unit)
        length = wrapping + most + 2 * h
        count = math.ceil(_KAISER * length / (2 * math.pi * h)) - 1
        at = 2 * np.pi / length * _whole(count)
        root = np.sqrt(_KAISER**2 - (h * at) ** 2)
        kernel = np.sinh(root) / root * (_KAISER / math.sinh(_KAISER))
        series = _Series(length, at, 4 / length / at * kernel * draws.characteristic(at))
        k = series.smallest(confidence + _SMOOTH, unit, 0, math.ceil((most + h) / unit))
        most = min(most, k * unit + h)
        narrower = max(most / 400, h / 24, _KAISER * (wrapping + most) / (2 * math.pi * _LONGEST_SERIES))
        if narrower > h / 2:
            return most
        h = narrower


def _whole(count: int) -> _Floats:
    return np.arange(1, count + 1, dtype=np.float64)


def _rounded_up(m: float) -> float:
    """Return a multiple of 2^-20 of m's power of 2 that is above m by more than m's last bits."""
    mantissa, exponent = math.frexp(m * (1 + 2.0**-40))
    return math.ldexp(math.ceil(mantissa * 2**20), exponent - 20)
