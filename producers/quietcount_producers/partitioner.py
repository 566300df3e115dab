"""Which partition a record lands in: Kafka's default for keyed records, so that both logs agree.

Source: the murmur2 hash by Austin Appleby (public domain), with the seed that Apache Kafka's Java client uses.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["murmur2", "partition_for"]

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_SHIFT: Final = 24
_MASK: Final = 0xFFFFFFFF
_POSITIVE: Final = 0x7FFFFFFF
_WORDS: Final = tuple(struct.Struct(f"<{count}I").unpack_from for count in range(5))
"""Read the whole words of keys of up to 16 bytes, as a case key has."""


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 hash of `data` as an unsigned integer."""
    length = len(data)
    value = _SEED ^ length
    whole = length >> 2
    for word in _WORDS[whole](data) if whole < len(_WORDS) else struct.unpack_from(f"<{whole}I", data):
        block = word * _MULTIPLIER & _MASK
        value = value * _MULTIPLIER & _MASK ^ (block ^ block >> _SHIFT) * _MULTIPLIER & _MASK
    if length & 3:
        value = (value ^ int.from_bytes(data[whole << 2 :], "little")) * _MULTIPLIER & _MASK
    value = (value ^ (value >> 13)) * _MULTIPLIER & _MASK
    return value ^ (value >> 15)


def partition_for(key: bytes | None, partitions: int) -> int:
    """Return the partition of `key` among `partitions`; a record without a key goes to partition 0."""
    if key is None or partitions == 1:
        return 0
    return (murmur2(key) & _POSITIVE) % partitions
