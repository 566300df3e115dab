"""The topics on Kafka as they have to be: how many partitions, which settings, and why no other value is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, PARTIAL_SUMS, RELEASES, SETTLEMENTS

__all__ = ["MOST_REPLICAS", "PARTITIONS", "TOPICS", "Wanted", "wanted_settings"]

TOPICS: Final = (CASE_EVENTS, DEAD_LETTERS, RELEASES, SETTLEMENTS, PARTIAL_SUMS)

PARTITIONS: Final[Mapping[str, int]] = {
    CASE_EVENTS: 4,
    DEAD_LETTERS: 1,
    RELEASES: 1,
    SETTLEMENTS: 1,
    PARTIAL_SUMS: 1,
}
"""How many partitions a new topic gets. Case events need as many as there will ever be workers, and a few are enough
for one process. Each one more is one more newest segment in which purged events wait until the broker frees their disk
space."""

MOST_REPLICAS: Final = 3
"""With three copies one broker can fail while another is down for maintenance."""

_MEBIBYTE: Final = 1 << 20
_LONGEST: Final = (1 << 63) - 1
"""The largest number that such a setting can hold: no limit."""
_A_BATCH: Final = 1_048_588
"""Bytes: Kafka's own default, a batch of a mebibyte and its header."""
_A_DAY: Final = 86_400_000
"""Milliseconds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A setting of a topic: the value that `topics create` writes, the values that are as good, and why no other is.

    Without bounds, `value` is the only one. `why` says what another value does, without the last full stop.
    """

    value: str
    why: str
    least: int | None = None
    most: int | None = None

    def accepts(self, found: str) -> bool:
        """Return whether a topic may be set to `found`."""
        if self.least is None and self.most is None:
            return found == self.value
        try:
            number = int(found)
        except ValueError:
            return False
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)

    @property
    def allowed(self) -> str:
        """What a topic may be set to, for people to read."""
        if self.least is None and self.most is None:
            return self.value
        if self.least is None or self.least == self.most:
            return f"{self.most} at most" if self.least is None else str(self.least)
        return f"{self.least} at least" if self.most is None else f"{self.least} to {self.most}"


def wanted_settings(topic: str, replicas: int) -> dict[str, Wanted]:
    """Return the settings of the topic with the plain name `topic`, if each of its partitions has `replicas` copies."""
    return {**_EVERY_TOPIC, **_replication(replicas), **_ONE_TOPIC[topic]}


def _replication(replicas: int) -> dict[str, Wanted]:
    if replicas < 2:
        return _ONE_COPY
    why = "With less than 2, one broker that fails can lose acknowledged records; with all, it stops every writer"
    return {"min.insync.replicas": Wanted("2", why, least=2, most=max(2, replicas - 1))}


_PURGES: Final = "the broker would delete events that are not folded yet; only the service purges"
_SEGMENTS: Final = "Purged records stay on the disk until the segment that holds them is closed"
_PLACES: Final = "The broker would delete the ledger's places, from which a lost state begins again"
_LEDGER: Final = "The broker would delete the ledger, which is the truth for all that was published"

_EVERY_TOPIC: Final[Mapping[str, Wanted]] = {
    "cleanup.policy": Wanted("delete", "Compaction drops all but the last record of a key: events are lost"),
    "retention.ms": Wanted("-1", f"After that time {_PURGES}"),
    "retention.bytes": Wanted("-1", f"Above that size {_PURGES}"),
    "unclean.leader.election.enable": Wanted(
        "false", "A broker that lacks the newest records may become the leader: acknowledged records are lost"
    ),
    "message.timestamp.type": Wanted(
        "CreateTime", "The broker writes the moment of arrival into each record, which says when somebody came"
    ),
    "message.timestamp.before.max.ms": Wanted(
        str(_LONGEST), "The broker refuses events of long ago, because their timestamp is the coarsened date"
    ),
    "message.timestamp.after.max.ms": Wanted(
        str(_LONGEST), "The broker refuses records whose timestamp is ahead of its clock"
    ),
    "compression.type": Wanted(
        "uncompressed",
        "One emitter that compresses in a way that the service cannot read (lz4, snappy, zstd) stops it for all",
    ),
    "remote.storage.enable": Wanted("false", "Copies go to a storage that nothing purges reliably"),
}

_ONE_COPY: Final = {
    "min.insync.replicas": Wanted(
        "1",
        "It asks for more copies than there are: older brokers then refuse every record, newer ones read it as 1",
        least=1,
        most=1,
    ),
    "flush.messages": Wanted(
        "1", "The broker acknowledges the only copy before it is on the disk: a power cut loses it"
    ),
}

_ONE_TOPIC: Final[Mapping[str, Mapping[str, Wanted]]] = {
    CASE_EVENTS: {
        "max.message.bytes": Wanted(
            str(_A_BATCH),
            "With less, the broker refuses a batch of events; with more, one batch fills the memory of the service",
            least=_A_BATCH,
            most=16 * _MEBIBYTE,
        ),
        # The broker reads the time from the records' own timestamps, which are whole days. So the first event of a
        # later date closes the segment if that date is further away than this.
        "segment.ms": Wanted("3600000", _SEGMENTS, least=1, most=_A_DAY - 1),
        "segment.bytes": Wanted(str(16 * _MEBIBYTE), _SEGMENTS, least=_A_BATCH, most=64 * _MEBIBYTE),
    },
    DEAD_LETTERS: {
        "max.message.bytes": Wanted(
            str(_A_BATCH),
            "With less, the broker refuses a dead letter and the service stands still; with more, one may fill the "
            "memory of the service",
            least=_A_BATCH,
            most=16 * _MEBIBYTE,
        ),
        # Dead letters have no date, so the time counts from the beginning of the segment.
        "segment.ms": Wanted("3600000", _SEGMENTS, least=1, most=_A_DAY - 1),
        "segment.bytes": Wanted(str(2 * _MEBIBYTE), _SEGMENTS, least=_A_BATCH, most=16 * _MEBIBYTE),
    },
    RELEASES: {
        "cleanup.policy": Wanted("delete", "Compaction tears entries out of the ledger"),
        "retention.ms": Wanted("-1", _LEDGER),
        "retention.bytes": Wanted("-1", _LEDGER),
        "max.message.bytes": Wanted(
            str(16 * _MEBIBYTE), "The broker refuses a release with many cells", least=16 * _MEBIBYTE
        ),
        "segment.bytes": Wanted(
            str(128 * _MEBIBYTE), "The broker refuses a release that is larger than a segment", least=16 * _MEBIBYTE
        ),
    },
    SETTLEMENTS: {
        "cleanup.policy": Wanted("delete", "Compaction tears places out of the private log"),
        "retention.ms": Wanted("-1", _PLACES),
        "retention.bytes": Wanted("-1", _PLACES),
        "max.message.bytes": Wanted(
            str(_A_BATCH), "The broker refuses the place of a log with many partitions", least=_A_BATCH
        ),
    },
    PARTIAL_SUMS: {
        "max.message.bytes": Wanted(str(_A_BATCH), "The broker refuses what a worker hands over", least=_A_BATCH),
        "segment.ms": Wanted("3600000", _SEGMENTS, least=1, most=_A_DAY - 1),
        "segment.bytes": Wanted(str(2 * _MEBIBYTE), _SEGMENTS, least=_A_BATCH, most=16 * _MEBIBYTE),
    },
}
