"""Placing: in which partition of the log the records of a case have to lie.

Each partition has a state of its own, which knows what its cases used up of their limits. So an event of a case that
lies in two partitions would count twice as often as its limit allows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["partitions_of"]

# murmur2 with the seed of Kafka's Java client, for keys of 16 bytes: four words of four.
_SEED: Final = np.uint32(0x9747B28C ^ 16)
_MULTIPLIER: Final = np.uint32(0x5BD1E995)
_POSITIVE: Final = np.uint32(0x7FFFFFFF)


def partitions_of(keys: npt.NDArray[np.uint8], partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each case key, (n, 16) bytes, as Kafka's Java client chooses it."""
    if partitions == 1:
        return np.zeros(len(keys), np.int64)
    words = np.ascontiguousarray(keys).view("<u4").astype(np.uint32)
    value = np.full(len(keys), _SEED, np.uint32)
    for index in range(words.shape[1]):
        word = words[:, index] * _MULTIPLIER
        word ^= word >> np.uint32(24)
        value = (value * _MULTIPLIER) ^ (word * _MULTIPLIER)
    value ^= value >> np.uint32(13)
    value *= _MULTIPLIER
    value ^= value >> np.uint32(15)
    return (value & _POSITIVE).astype(np.int64) % partitions
