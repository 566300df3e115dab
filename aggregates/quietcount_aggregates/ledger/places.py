"""The private log of places: where in the log of events a ledger entry was made.

An offset is an exact count, and every entry of the ledger is published. So a later declaration and a settlement have
their place in a private log beside the ledger, and the entry holds a keyed commitment: whoever has the ledger alone
learns nothing of the place, and whoever has both sees whether they belong together.

A place is a line of canonical JSON. A ledger that was restored from a published file has entries without places.
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

__all__ = ["LONGEST", "LogPoint", "Place"]

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
        return hmac.digest(self.key, _DOMAIN + _canonical(self._record), hashlib.sha256)

    @property
    def data(self) -> bytes:
        """Return the bytes that the private log holds."""
        return _canonical({**self._record, "key": self.key.hex()})

    @property
    def _record(self) -> dict[str, Any]:
        offsets = [[partition, offset] for partition, offset in sorted(self.point.offsets.items())]
        return {"entry": self.entry, "log": self.point.topic_id, "offsets": offsets}

    @classmethod
    def read(cls, data: bytes, number: int) -> Place:
        """Decode place `number` of the private log; raise LedgerBroken unless its bytes are what `data` gives."""
        try:
            if len(data) > LONGEST:
                raise ValueError("too long")
            place = cls._of(json.loads(data))
            if place.data != data:
                raise ValueError("not canonical")
        except (ValueError, TypeError, KeyError, RecursionError):
            raise LedgerBroken(
                f"place {number} of the private log beside the ledger cannot be read: it was altered or damaged",
                RESTORE_PLACES,
            ) from None
        return place

    @classmethod
    def _of(cls, record: Any) -> Place:
        topic_id, pairs = record["log"], record["offsets"]
        numbers = [record["entry"], *(number for pair in pairs for number in pair)]
        # A bool is an int, and would be written as it was read.
        if not isinstance(topic_id, str) or any(type(number) is not int for number in numbers):
            raise TypeError
        key = bytes.fromhex(record["key"])
        if len(key) != _KEY_BYTES or not all(0 <= number <= _LAST_OFFSET for number in numbers):
            raise ValueError("out of range")
        return cls(record["entry"], LogPoint(topic_id, dict(pairs)), key)


def _canonical(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
