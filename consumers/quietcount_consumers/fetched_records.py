"""Records between the client that fetches them and the caller who takes them in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from kafka.consumer.fetcher import ConsumerRecord

from quietcount_schemas.log import Record

__all__ = ["Fetched", "records_of"]

_RECORD_FIELDS: Final = itemgetter(*(ConsumerRecord._fields.index(name) for name in Record._fields))
_VALUE: Final = itemgetter(ConsumerRecord._fields.index("value"))
_HEADERS: Final = itemgetter(ConsumerRecord._fields.index("headers"))


@dataclass(slots=True)
class Fetched:
    """The records of one partition that were fetched and not handed out yet.

    `next` is the offset after what was handed out. Offsets rise, with gaps.
    """

    next: int
    records: list[Any] = field(default_factory=list)
    start: int = 0

    def __len__(self) -> int:
        return len(self.records) - self.start

    def add(self, records: Sequence[Any]) -> None:
        """Put what was fetched behind what is in hand."""
        if self.start:
            del self.records[: self.start]
            self.start = 0
        self.records += records

    def before(self, end: int) -> int:
        """Return how many of the records in hand lie before `end`."""
        if not len(self) or self.records[-1].offset < end:
            return len(self)
        low, high = self.start, len(self.records)
        while low < high:
            middle = (low + high) // 2
            if self.records[middle].offset < end:
                low = middle + 1
            else:
                high = middle
        return low - self.start

    def take(self, count: int) -> list[Any]:
        """Hand out the next `count` records, of which there must be one at least."""
        taken = self.records[self.start : self.start + count]
        self.start += count
        self.next = taken[-1].offset + 1
        return taken


def records_of(found: Sequence[Any]) -> list[Record]:
    """Turn the client's records into ours: at C speed where nothing is missing, which is nearly always."""
    records = list(map(Record._make, map(_RECORD_FIELDS, found)))
    if None in map(_VALUE, found) or any(map(_HEADERS, found)):
        # A record without a value (a tombstone) is one without bytes to us: it is rejected as such, not passed over.
        return [
            record._replace(
                value=record.value or b"", headers=tuple((name, value or b"") for name, value in record.headers or ())
            )
            for record in records
        ]
    return records
