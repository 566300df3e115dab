"""JSON that two readers cannot understand in two ways: in files and in deliveries alike."""

from __future__ import annotations

import json
import math
from typing import Final, NoReturn

from quietcount_producers.errors import EventRefused

__all__ = ["DECODER"]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EventRefused("", "has a key twice, so it is unclear which of the two holds")
    return found


def _no_constant(_: str) -> NoReturn:
    raise EventRefused("", "holds NaN or Infinity, which are not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise EventRefused("", "holds a number that is too large")
    return number


DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
"""Raises EventRefused for a key that stands there twice, for NaN and Infinity, and for a number beyond all numbers."""
