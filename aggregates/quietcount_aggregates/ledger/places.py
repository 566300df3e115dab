"""The private log of places: where in the log of events a ledger entry was made.

An offset is an exact count, and every entry of the ledger is published. So a later declaration and a settlement have
their place in a private log beside the ledger, and the entry holds a keyed commitment: whoever has the ledger alone
learns nothing of the place, and whoever has both sees whether they belong together.

A place is a line of canonical JSON. A ledger that was restored from a published file has entries without places. The
log also holds settlements (settlements.py).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from quietcount_aggregates.errors import RESTORE_PLACES, LedgerBroken

__all__ = ["LONGEST", "LogPoint", "Place", "canonical", "number_of", "pairs_of", "point_of", "record_of", "unreadable"]

LONGEST: Final = 1_000_000
"""Bytes of a place at most: a partition takes up to 26, and no log has more than some ten thousand of them."""

_DOMAIN: Final = b"quietcount place\x00"
_KEY_BYTES: Final = 32
_LAST_OFFSET: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LogPoint:
    """A point in a log: the identity of its topic, and by partition the offset of the next record."""

    topic_id: str
    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the log was when ledger entry `entry` was made; `key` keeps its commitment from being guessed."""

    entry: int
    point: LogPoint
    key: bytes

    @classmethod
    def make(cls, entry: int, point: LogPoint) -> Place:
        """Return the place of an entry, under a new random key."""
        return cls(entry, point, secrets.token_bytes(_KEY_BYTES))

    @property
    def commitment(self) -> bytes:
        """Return what the ledger holds of this place: HMAC-SHA256, 32 bytes."""
        return hmac.digest(self.key, _DOMAIN + canonical(self._record), hashlib.sha256)

    @property
    def data(self) -> bytes:
        """Return the bytes that the private log holds."""
        return canonical({**self._record, "key": self.key.hex()})

    @property
    def _record(self) -> dict[str, Any]:
        return {"entry": self.entry, "log": self.point.topic_id, "offsets": pairs_of(self.point)}

    @classmethod
    def read(cls, data: bytes, number: int) -> Place:
        """Decode line `number` of the private log as a place. Raises LedgerBroken."""
        return cls.of(record_of(data, number), data, number)

    @classmethod
    def of(cls, record: Mapping[str, Any], data: bytes, number: int) -> Place:
        """Return the place in line `number` of the private log, which holds `data` and was decoded to `record`.

        Raises LedgerBroken unless its bytes are what `data` gives.
        """
        try:
            key, entry = bytes.fromhex(record["key"]), number_of(record["entry"])
            place = cls(entry, point_of(record), key)
            if len(key) != _KEY_BYTES or place.data != data:
                raise ValueError("not canonical")
        except (ValueError, TypeError, KeyError):
            raise unreadable(number) from None
        return place


def record_of(data: bytes, number: int) -> Mapping[str, Any]:
    """Decode line `number` of the private log; raise LedgerBroken if it is no record."""
    try:
        record = json.loads(data) if len(data) <= LONGEST else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise unreadable(number)
    return record


def unreadable(number: int) -> LedgerBroken:
    """Return the error for a line of the private log that is not one of ours."""
    return LedgerBroken(
        f"place {number} of the private log beside the ledger cannot be read: it was altered or damaged", RESTORE_PLACES
    )


def pairs_of(point: LogPoint) -> list[list[int]]:
    """Return the offsets of a point as they are written, by partition."""
    return [[partition, offset] for partition, offset in sorted(point.offsets.items())]


def point_of(record: Mapping[str, Any]) -> LogPoint:
    """Return a point as it was written. Raises KeyError, ValueError or TypeError."""
    if not isinstance(record["log"], str):
        raise TypeError
    return LogPoint(record["log"], {number_of(partition): number_of(offset) for partition, offset in record["offsets"]})


def number_of(value: Any) -> int:
    """Return a number as it was written. Raises ValueError or TypeError."""
    if type(value) is not int:  # a bool is an int, and would be written as it was read
        raise TypeError
    if not 0 <= value <= _LAST_OFFSET:
        raise ValueError("out of range")
    return value


def canonical(record: Mapping[str, Any]) -> bytes:
    """Return the bytes of a record: one form alone is accepted again."""
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
