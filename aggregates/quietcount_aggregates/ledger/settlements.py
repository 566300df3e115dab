"""Settlements: what the releaser is about to count, written down before anything is counted.

A settlement is a line of the private log of places. It says up to where each partition's records belong to it, and the
moment that decides which periods are due. Every state counts exactly what lies before that, whenever it reads the line
and however much more it has folded, so each count of it gives the same numbers. It is never in the ledger: offsets are
exact counts.

It holds as long as the ledger has the length that it names: once anything is appended, it is settled, or void.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from quietcount_aggregates.ledger.places import LogPoint, canonical, number_of, pairs_of, point_of, unreadable

__all__ = ["IDENTITY_BYTES", "Settlement"]

IDENTITY_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Settlement:
    """What lies before `point` is settled: the periods that had ended by `until`, as of the clock's `day`.

    `identity` is random, 16 bytes. `after` is the length of the ledger when it was written. `newest` is the last day
    that an event may be dated: what lies further ahead is dropped.
    """

    identity: bytes
    after: int
    day: dt.date
    newest: dt.date
    until: dt.datetime
    point: LogPoint

    @classmethod
    def make(cls, after: int, day: dt.date, newest: dt.date, until: dt.datetime, point: LogPoint) -> Settlement:
        """Return a settlement under a new random identity."""
        return cls(secrets.token_bytes(IDENTITY_BYTES), after, day, newest, until, point)

    @property
    def data(self) -> bytes:
        """Return the bytes that the private log holds."""
        return canonical(
            {
                "settle": self.identity.hex(),
                "after": self.after,
                "day": self.day.isoformat(),
                "newest": self.newest.isoformat(),
                "until": self.until.isoformat(),
                "log": self.point.topic_id,
                "offsets": pairs_of(self.point),
            }
        )

    @classmethod
    def of(cls, record: Mapping[str, Any], data: bytes, number: int) -> Settlement:
        """Return the settlement in line `number` of the private log, which holds `data` and was decoded to `record`.

        Raises LedgerBroken unless its bytes are what `data` gives.
        """
        try:
            identity = bytes.fromhex(record["settle"])
            found = cls(
                identity,
                number_of(record["after"]),
                dt.date.fromisoformat(record["day"]),
                dt.date.fromisoformat(record["newest"]),
                dt.datetime.fromisoformat(record["until"]),
                point_of(record),
            )
            if len(identity) != IDENTITY_BYTES or found.data != data:
                raise ValueError("not canonical")
        except (ValueError, TypeError, KeyError):
            raise unreadable(number) from None
        return found
