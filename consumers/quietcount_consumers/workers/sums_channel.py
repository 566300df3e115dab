"""The channel on which workers hand over what they counted: a topic of sealed pieces, purged after each release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from quietcount_aggregates.due_periods import DuePeriod
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.settling import Sums
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.workers.sealing import Forged, Piece, ReleaserKey, joined, pieces_of, sealed
from quietcount_schemas.log import PARTIAL_SUMS, LogReader, LogWriter, NewRecord, Record

__all__ = ["SumsChannel", "partitions_answered"]

_NO_DATE: Final = -1
"""The timestamp of a piece: when a worker was done must not show."""
_BATCH: Final = 100


class Log(LogReader, LogWriter, Protocol):
    """The log that has the topic of partial sums."""


class SumsChannel:
    """One side of the channel: a worker's, or the releaser's."""

    def __init__(self, log: Log, secret: ConsumerSecret) -> None:
        self._log = log
        self._mac_key = secret.sums_key

    def send(self, settlement: Settlement, partition: int, due: Sequence[DuePeriod], sums: Sums) -> None:
        """Hand over what a partition counted; sending the same again does no harm. Raises what the log raises."""
        pieces = sealed(settlement, partition, due, sums, self._mac_key)
        for piece in pieces:
            self._log.append(PARTIAL_SUMS, [NewRecord(_name(settlement, partition), piece, _NO_DATE)])

    def received(
        self, key: ReleaserKey, settlement: Settlement, chain: Chain, due: Sequence[DuePeriod]
    ) -> dict[int, Sums]:
        """Return what came whole for a settlement, by partition.

        Raises ServiceError if a partition counted two different sums, or if a worker has another secret.
        """
        found: dict[int, dict[int, Piece]] = {}
        for piece in self._pieces(key, settlement, chain.opened.partitions):
            if piece.settlement != settlement.identity:
                continue
            known = found.setdefault(piece.partition, {}).setdefault(piece.number, piece)
            if known != piece:
                raise ServiceError(
                    f"settlement {settlement.identity.hex()[:8]}, partition {piece.partition} of the log: two workers "
                    "counted different sums for it. Nothing is released",
                    "Stop the workers. One of them folds this partition on an older copy of its state: find it, and "
                    "move that copy away. Then start one worker for each partition, and the releaser",
                )
        cells: dict[str, int] = {table.name: table.cells for _, table in chain.tables}
        sizes = [(period, cells[period.statistic]) for period in due]
        wanted = pieces_of(sum(size for _, size in sizes))
        if any(piece.pieces != wanted for pieces in found.values() for piece in pieces.values()):
            raise ServiceError(
                "a worker counted other tables than the releaser asked for. Nothing is released",
                "Run one version of quietcount on all machines",
            )
        return {
            partition: joined(list(pieces.values()), sizes)
            for partition, pieces in found.items()
            if len(pieces) == wanted
        }

    def clear(self) -> None:
        """Purge what lies in the topic: it was released, or belongs to a settlement that is void."""
        ends = self._log.end_offsets(PARTIAL_SUMS)
        if ends != self._log.beginning_offsets(PARTIAL_SUMS):
            self._log.purge(PARTIAL_SUMS, ends)

    def close(self) -> None:
        """Close the connection."""
        self._log.close()

    def _pieces(self, key: ReleaserKey, settlement: Settlement, partitions: int) -> list[Piece]:
        names, found = {_name(settlement, partition): partition for partition in range(partitions)}, []
        for record in _records(self._log):
            try:
                piece = key.opened(record.value, self._mac_key)
            except Forged:
                # What the record itself says cannot be believed any more than its key.
                named = f" (partition {names[record.key]}, by its record's key)" if record.key in names else ""
                raise ServiceError(
                    f"a worker{named} has another service's secret than the releaser. Nothing is released",
                    "Copy the releaser's secret (service.secret_file) to each worker before its first start",
                ) from None
            if piece is not None:
                found.append(piece)
        return found


def partitions_answered(log: LogReader, settlement: Settlement, partitions: int) -> set[int]:
    """Return which of so many partitions have something in the topic for a settlement, as its records' keys say.

    For who looks for a worker: a key is anybody's word, and what a record holds alone counts.
    """
    keys = {record.key for record in _records(log)}
    return {partition for partition in range(partitions) if _name(settlement, partition) in keys}


def _records(log: LogReader) -> Iterator[Record]:
    """Yield what lies in the topic."""
    positions, ends = dict(log.beginning_offsets(PARTIAL_SUMS)), log.end_offsets(PARTIAL_SUMS)
    while records := log.poll(PARTIAL_SUMS, positions, ends, _BATCH):
        for record in records:
            positions[record.partition] = record.offset + 1
            yield record


def _name(settlement: Settlement, partition: int) -> bytes:
    """Return the key of the records of a partition. That it has answered is no secret: brokers see its connection."""
    return settlement.identity + partition.to_bytes(4)
