"""Logs and a ledger in memory, for tests of the privacy core."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from quietcount_aggregates.errors import LedgerFenced
from quietcount_producers.partitioner import partition_for
from quietcount_schemas.log import Mark, NewRecord, Position, Record

__all__ = ["ForgetfulLog", "MemoryLedger", "MemoryLog", "UnpurgedLog"]

_NUMBERS = itertools.count()


class MemoryLog:
    """A log in memory."""

    def __init__(self, partitions: int = 1) -> None:
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.ends = [0] * partitions
        self.identity = f"memory {next(_NUMBERS)}"

    def topic_id(self, topic: str) -> str:
        return self.identity

    def partitions(self, topic: str) -> list[int]:
        return list(range(len(self.records)))

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        return {p: records[0].offset if records else self.ends[p] for p, records in enumerate(self.records)}

    def end_offsets(self, topic: str) -> dict[int, int]:
        return dict(enumerate(self.ends))

    def poll(self, topic: str, positions: Mapping[int, int], ends: Mapping[int, int], limit: int) -> list[Record]:
        found = [
            record
            for partition in sorted(positions.keys() & ends.keys())
            for record in self.records[partition]
            if positions[partition] <= record.offset < ends[partition]
        ]
        return found[:limit]

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        stored = []
        for record in records:
            partition = self.partition_of(record.key)
            offset = self.ends[partition]
            self.ends[partition] += 1
            self.records[partition].append(
                Record(partition, offset, record.timestamp, record.key, record.value, record.headers)
            )
            stored.append(Position(topic, partition, offset))
        return stored

    def partition_of(self, key: bytes | None) -> int:
        """Return the partition that a client chooses for a record of this key."""
        return partition_for(key, len(self.records)) if key else 0

    def purge(self, topic: str, before: Mapping[int, int]) -> bool:
        for partition, records in enumerate(self.records):
            self.records[partition] = [each for each in records if each.offset >= before.get(partition, 0)]
        return True

    def marks(self, topic: str) -> dict[int, Mark]:
        return {}

    def diverged(self, topic: str, marks: Mapping[int, Mark]) -> list[int]:
        return []

    def scrub(self) -> bool:
        return True

    def report(self, topic: str, positions: Mapping[int, int]) -> None:
        """Nobody watches."""

    def close(self) -> None:
        """Nothing is open."""


class ForgetfulLog(MemoryLog):
    """A log that can go back to where it began before a purge, as brokers do that are killed."""

    def forget(self) -> None:
        self.records = [
            [*old, *(each for each in now if not old or each.offset > old[-1].offset)]
            for old, now in zip(self.before, self.records, strict=True)
        ]

    def purge(self, topic: str, before: Mapping[int, int]) -> bool:
        self.before = [list(records) for records in self.records]
        return super().purge(topic, before)


class UnpurgedLog(MemoryLog):
    """A log that never gets to purge anything."""

    def purge(self, topic: str, before: Mapping[int, int]) -> bool:
        return False


class MemoryLedger:
    """A ledger log in memory."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.places: list[bytes] = []
        self.epoch = 0

    def fence(self) -> int:
        self.epoch += 1
        return self.epoch

    def read(self, start: int = 0) -> list[bytes]:
        return self.entries[start:]

    def read_places(self, start: int = 0) -> list[bytes]:
        return self.places[start:]

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        if epoch != self.epoch or expected != len(self.entries):
            raise LedgerFenced("another releaser has taken over")
        self.entries.extend(entries)
        self.places.extend(places)

    def close(self) -> None:
        """Nothing is open."""
