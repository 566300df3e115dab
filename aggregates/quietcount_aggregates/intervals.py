"""Stub."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(weights: Sequence[float], scales: Sequence[float], counts: Sequence[int], confidence: float) -> float:
    return 2 * math.sqrt(sum(w * w * 2 * s * s * n for w, s, n in zip(weights, scales, counts)))
