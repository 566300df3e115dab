"""The releaser's view of workers: it folds nothing, and adds up what they hand over."""

from __future__ import annotations

from collections.abc import Sequence

from quietcount_aggregates.due_periods import DuePeriod
from quietcount_aggregates.errors import SumsMissing
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.settling import Sums, added
from quietcount_aggregates.state.state import State
from quietcount_consumers.positions import check_known, check_partitions
from quietcount_consumers.workers.sealing import ReleaserKey
from quietcount_consumers.workers.sums_channel import SumsChannel
from quietcount_schemas.log import CASE_EVENTS, LogReader

__all__ = ["Elsewhere"]


class Elsewhere:
    """Counts nothing itself: see Counting in quietcount_aggregates.settling."""

    def __init__(self, log: LogReader, ledger: Ledger, channel: SumsChannel) -> None:
        self._log = log
        self._ledger = ledger
        self._channel = channel
        self._key = ReleaserKey()
        self._whole = b""
        """The settlement for which all sums had come."""

    @property
    def states(self) -> list[State]:
        return []

    @property
    def point(self) -> LogPoint:
        """Return where the log ends. Raises LogUnavailable or ServiceError unless it says so of each partition."""
        ends, partitions = self._log.end_offsets(CASE_EVENTS), self._ledger.chain.opened.partitions
        check_known(ends, partitions)
        check_partitions(ends, partitions)
        return LogPoint(self._log.topic_id(CASE_EVENTS), ends)

    def new_key(self) -> bytes:
        """Return the public half of a new key; the one before is forgotten."""
        self._key = ReleaserKey()
        return self._key.public

    def recover(self) -> None:
        """Clear away what was sealed to a key that went with its process."""
        self._channel.clear()

    def adopt(self) -> None:
        """Each worker does that when it reads the declaration."""

    def sums(self, settlement: Settlement, due: Sequence[DuePeriod]) -> Sums:
        """Return what all partitions count together. Raises SumsMissing, and ServiceError if two differ.

        That is at the second call after all came: another worker that counts the same partition has until then.
        """
        received = self._channel.received(self._key, settlement, self._ledger.chain, due)
        wanted = range(self._ledger.chain.opened.partitions)
        missing = [partition for partition in wanted if partition not in received]
        if missing or settlement.identity != self._whole:
            self._whole = b"" if missing else settlement.identity
            raise SumsMissing(missing)
        return added([received[partition] for partition in wanted])

    def close(self, _: Settlement) -> None:
        """Each worker forgets when it reads the release."""
        self._channel.clear()
        self._key = ReleaserKey()

    def purge(self) -> None:
        """Each worker purges its partitions."""
