"""The log protocol: what quietcount asks of Kafka, of the embedded log, and of any log to come.

A log has topics, a topic has partitions, a partition is a sequence of records at increasing offsets. Offsets may have
gaps (purged records, transaction markers), so the next position is always *last offset + 1*, never a count. Records of
one key keep their order because one key always lands in one partition. A log knows nothing of what an event means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

__all__ = [
    "CASE_EVENTS",
    "DEAD_LETTERS",
    "PARTIAL_SUMS",
    "RELEASES",
    "SETTLEMENTS",
    "LedgerLog",
    "LogReader",
    "LogWriter",
    "Mark",
    "NewRecord",
    "Position",
    "Record",
]

CASE_EVENTS = "case-events"
DEAD_LETTERS = "case-events.dead-letter"
RELEASES = "releases"
SETTLEMENTS = "settlements"
"""The private log of places: the service alone may read it."""
PARTIAL_SUMS = "partial-sums"
"""What workers counted, sealed to the releaser; used only if there are workers."""


class NewRecord(NamedTuple):
    """A record to append. `timestamp` is milliseconds since the epoch: the coarsened date, never "now"."""

    key: bytes | None
    value: bytes
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()


class Record(NamedTuple):
    """A record as read back."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Position(NamedTuple):
    """Where a record was stored."""

    topic: str
    partition: int
    offset: int


class Mark(NamedTuple):
    """What distinguishes two logs with the same offsets: the offset after a record, and that record's epoch.

    The epoch is Kafka's leader epoch: it rises with each leader of the partition, and the log of a leader that lacked
    records departs from what was read before under a new one.
    """

    offset: int
    epoch: int


class LogWriter(Protocol):
    """The emitters' side of a log."""

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        """Store `records` durably, all or none, and return their positions in the order given."""
        ...

    def close(self) -> None: ...


class LogReader(Protocol):
    """The consumer's side of a log. Positions are the caller's: the log remembers none for it."""

    def topic_id(self, topic: str) -> str:
        """Return the topic's identity, which differs after it was deleted and created again."""
        ...

    def partitions(self, topic: str) -> list[int]: ...

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """Return, per partition, the lowest offset that may still be asked for."""
        ...

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return, per partition, the offset that the next appended record will have."""
        ...

    def poll(self, topic: str, positions: Mapping[int, int], ends: Mapping[int, int], limit: int) -> list[Record]:
        """Return at most `limit` records at or after `positions` and before `ends`, in order within a partition.

        There may be fewer though more are there, as when they are large. An empty list says that nothing lies between
        the two. A log that did not answer raises an error instead.
        """
        ...

    def marks(self, topic: str) -> dict[int, Mark]:
        """Return, per partition, the mark after the last record that `poll` handed out; none where it needs none."""
        ...

    def diverged(self, topic: str, marks: Mapping[int, Mark]) -> list[int]:
        """Return the partitions that no longer hold what was read before their mark: cut off, or written again.

        What was purged has not diverged.
        """
        ...

    def purge(self, topic: str, before: Mapping[int, int]) -> bool:
        """Forget, per partition, the records before offset `before[partition]`.

        Return whether the log did all it can towards that; when false, ask again later.
        """
        ...

    def scrub(self) -> bool:
        """Finish what a purge that was cut short left to do; return as `purge` does. To be called at a start."""
        ...

    def report(self, topic: str, positions: Mapping[int, int]) -> None:
        """Show people who watch the log how far its reader came. Nothing depends on it; a failure stays silent."""
        ...

    def close(self) -> None: ...


class LedgerLog(Protocol):
    """A log of one partition that is only ever appended to, by one holder of the fence at a time.

    Beside its entries, which are public, it keeps the places of some of them, which only the service may read.
    """

    def fence(self) -> int:
        """Shut out every earlier holder of the fence and return this holder's epoch."""
        ...

    def read(self, start: int = 0) -> list[bytes]:
        """Return every committed entry from index `start` on, oldest first."""
        ...

    def read_places(self, start: int = 0) -> list[bytes]:
        """Return every committed place from the `start`-th on, oldest first; fewer than entries, and perhaps none."""
        ...

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        """Append `entries` if `epoch` still holds the fence and the log holds `expected` entries.

        With them go their `places`: all of both, or nothing. Raises a QuietcountError otherwise, and then nothing was
        appended, unless it is an Unavailable: whether they are in the log then only reading tells.
        """
        ...

    def close(self) -> None: ...
