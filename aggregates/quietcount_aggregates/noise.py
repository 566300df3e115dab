"""The noise: OpenDP's discrete Laplace mechanism, and the exact distribution of one draw.

A release draws one vector. Its sensitivity in L1 is what one case can move all releases of the table by over the whole
horizon: for counts, the population's `max_contributions`. So the scale sensitivity / epsilon serves every release of
the table, however many there are (Dwork, McSherry, Nissim and Smith, 2006; for integers Ghosh, Roughgarden and
Sundararajan, 2009). Nothing here has a seed, and nothing turns the noise off.
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

from quietcount_aggregates.errors import NoiseError
from quietcount_aggregates.populations import Table

__all__ = [
    "CONFIDENCE",
    "DiscreteLaplace",
    "NoiseMechanism",
    "cases_to_be_seen",
    "margin",
    "variance",
]

CONFIDENCE = 0.95
"""The confidence of every published interval."""

_REPORT = "Report this line. What is due is released once that is mended"


class NoiseMechanism(Protocol):
    """What a release asks of the noise. `name` is recorded in the ledger with each release."""

    @property
    def name(self) -> str: ...

    def scale(self, *, cells: int, sensitivity: int, epsilon: float) -> float:
        """Return the smallest noise scale whose privacy map is at most `epsilon`."""
        ...

    def draw(self, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        """Return `exact` (one int a cell) with noise of `scale` added to each."""
        ...


class DiscreteLaplace:
    """The only mechanism of the service: integers in, integers out, from OpenDP's secure random source."""

    name = "opendp.discrete_laplace"

    def __init__(self) -> None:
        _opendp()  # a service that cannot draw finds it out when it opens, and not at its first release

    def scale(self, *, cells: int, sensitivity: int, epsilon: float) -> float:
        """Return sensitivity / epsilon, raised by a few last digits until OpenDP's own map is at most epsilon."""
        scale = sensitivity / epsilon
        for _ in range(8):
            if _measurement(cells, scale).map(sensitivity) <= epsilon:
                return scale
            scale = math.nextafter(scale, math.inf)
        raise NoiseError(f"no noise scale gives epsilon {epsilon} for sensitivity {sensitivity}", _REPORT)

    def draw(self, exact: Sequence[int], *, scale: float, sensitivity: int, epsilon: float) -> list[int]:
        """Return the noised values; raise NoiseError before drawing if a precondition does not hold."""
        if not (math.isfinite(scale) and scale > 0):
            raise NoiseError("the noise scale is not a positive number; nothing was drawn", _REPORT)
        if not exact or any(type(each) is not int for each in exact):
            raise NoiseError("the exact values are not whole numbers; nothing was drawn", _REPORT)
        from opendp.mod import OpenDPException

        measurement = _measurement(len(exact), scale)
        if not measurement.map(sensitivity) <= epsilon:
            raise NoiseError("the privacy map of the noise is above the declared epsilon; nothing was drawn", _REPORT)
        try:
            drawn = [int(value) for value in measurement(list(exact))]
        except OpenDPException as error:
            raise NoiseError(f"OpenDP could not draw ({error.variant}); nothing was released", _REPORT) from None
        if len(drawn) != len(exact):
            raise NoiseError("the mechanism returned another number of cells; nothing was released", _REPORT)
        return drawn


@functools.cache
def _opendp() -> ModuleType:
    """Import OpenDP only to draw noise: it takes as long as the database, and reading a ledger does not need it."""
    import opendp.prelude

    opendp.prelude.enable_features("contrib")
    return opendp.prelude


@functools.lru_cache(maxsize=256)
def _measurement(cells: int, scale: float) -> Any:
    dp = _opendp()
    domain = dp.vector_domain(dp.atom_domain(T="i64"), size=cells)
    return dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale=scale)


def margin(scale: float, confidence: float = CONFIDENCE) -> int:
    """Return the smallest m with P(|X| <= m) >= confidence for one discrete Laplace draw X of `scale`.

    P(|X| > m) = 2 a^(m+1) / (1 + a) with a = exp(-1/scale); solved for m.
    """
    a = math.exp(-1 / scale)
    if 2 * a / (1 + a) <= 1 - confidence:
        return 0
    m = max(0, math.ceil(math.log((1 - confidence) * (1 + a) / 2) / math.log(a) - 1) - 1)
    while 2 * a ** (m + 1) / (1 + a) > 1 - confidence:
        m += 1
    return m


def variance(scale: float) -> float:
    """Return the variance of one discrete Laplace draw, 2a / (1 - a)^2 with a = exp(-1/scale); alike on every machine.

    A system's own exp may differ in the last digit from another one's.
    """
    with decimal.localcontext(prec=50):
        a = (-1 / decimal.Decimal(scale)).exp()
        return float(2 * a / (1 - a) ** 2)


def cases_to_be_seen(table: Table, max_contributions: int) -> int:
    """Return how many contributions a period fill a table so that its average cell is as large as its margin."""
    return table.cells * margin(max_contributions / table.epsilon)
