"""Which partition a record lands in: Kafka's default for keyed records, so that both logs agree.

Source: the murmur2 hash by Austin Appleby (public domain), with the seed that Apache Kafka's Java client uses.
"""

from __future__ import annotations

from typing import Final

__all__ = ["murmur2", "partition_for"]

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_SHIFT: Final = 24
_MASK: Final = 0xFFFFFFFF
_POSITIVE: Final = 0x7FFFFFFF


def murmur2(data: bytes) -> int:
    """Return the 32-bit murmur2 hash of `data` as an unsigned integer."""
    length = len(data)
    value = (_SEED ^ length) & _MASK
    whole = length & ~3
    for start in range(0, whole, 4):
        block = int.from_bytes(data[start : start + 4], "little") * _MULTIPLIER & _MASK
        block ^= block >> _SHIFT
        value = (value * _MULTIPLIER & _MASK) ^ (block * _MULTIPLIER & _MASK)
    if whole < length:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ (value >> 13)) * _MULTIPLIER & _MASK
    return value ^ (value >> 15)


def partition_for(key: bytes | None, partitions: int) -> int:
    """Return the partition of `key` among `partitions`; a record without a key goes to partition 0."""
    if key is None or partitions == 1:
        return 0
    return (murmur2(key) & _POSITIVE) % partitions
