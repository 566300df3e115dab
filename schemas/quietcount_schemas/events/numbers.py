"""What a catalogue asks of a whole number of an event: to break down by it, or to sum it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Buckets", "Summed"]


class Buckets(NamedTuple):
    """A whole number to break down by: the field, and where its buckets begin, in ascending order."""

    field: str
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Summed:
    """A whole number to sum up: the field, the two ends to which what lies beyond is moved, the table that counts."""

    field: str
    between: tuple[int, int]
    count: str
