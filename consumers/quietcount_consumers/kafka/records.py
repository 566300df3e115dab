"""Records that the brokers have sent and the caller has not taken yet.

The client (kafka-python 3.0) makes four objects of a record and reads each field by a call, which is far too slow for
the service. It also stops permanently at a header whose name is not UTF-8, and brokers take such a header from anyone.
So batches are unpacked here, straight into records. Fetching and transactions stay the client's work.
Source: the format of record batches, version 2 (KIP-98).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import IsolationLevel
from kafka.errors import (
    CorruptRecordError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
    UnsupportedForMessageFormatError,
)

from quietcount_producers.errors import LogError
from quietcount_producers.kafka import connection
from quietcount_producers.kafka.internals import FetchedPartition, content, decode_varint, size_of
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import Record

__all__ = ["Epochs", "Fetched", "Unpacked", "Volume", "explained", "records_in"]

_MAGIC: Final = 2
"""The version of record batches that is read; brokers have written no other since Kafka 0.11."""

_SIGN: Final = 1 << 63
_ALL_BITS: Final = (1 << 64) - 1


class Epochs:
    """The leader epochs of the records of each partition that were fetched last."""

    def __init__(self) -> None:
        self._spans: dict[Any, list[tuple[int, int]]] = {}

    def add(self, partition: Any, first: int, epoch: int) -> None:
        """Note that records from offset `first` on are of `epoch`."""
        spans = self._spans.setdefault(partition, [])
        # What is fetched again after a seek comes here again.
        while spans and spans[-1][0] >= first:
            spans.pop()
        if not spans or spans[-1][1] != epoch:
            spans.append((first, epoch))

    def of(self, partition: Any, offset: int) -> int:
        """Return the epoch of a record that was fetched, and forget what lies before it."""
        spans = self._spans[partition]
        while len(spans) > 1 and spans[1][0] <= offset:
            del spans[0]
        return spans[0][1]


@dataclass(slots=True)
class Volume:
    """How many bytes of batches were unpacked since somebody set it to 0."""

    bytes: int = 0


@dataclass(slots=True)
class Fetched:
    """The records of one partition that were fetched and not handed out yet.

    `next` is the offset after what was handed out. Offsets rise, with gaps.
    """

    next: int
    records: list[Record] = field(default_factory=list)
    start: int = 0

    def __len__(self) -> int:
        return len(self.records) - self.start

    def add(self, records: Sequence[Record]) -> None:
        """Add what was fetched behind what is in hand."""
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

    def take(self, count: int) -> list[Record]:
        """Hand out the next `count` records; there must be at least one."""
        taken = self.records[self.start : self.start + count]
        self.start += count
        self.next = taken[-1].offset + 1
        return taken


class Unpacked(FetchedPartition):
    """What one answer holds of a partition, unpacked into records; derive from it to set `epochs` and `volume`."""

    epochs: Epochs
    volume: Volume

    def unpacked(self, partition: Any, batches: Any) -> Iterator[Record]:
        """Yield the records of `batches`. Raises KafkaError for a batch that cannot be read."""
        batch = batches.next_batch()
        while batch is not None:
            if batch.magic != _MAGIC:
                raise UnsupportedForMessageFormatError(f"record batches of version {batch.magic}")
            if self.check_crcs and not batch.validate_crc():
                # The offset is left out: it counts all records that there ever were.
                raise CorruptRecordError(f"partition {partition.partition}, a batch has a wrong checksum")
            self.leader_epoch = batch.leader_epoch
            self.bytes_read += batch.size_in_bytes
            if not self._passed_over(batch):
                self.epochs.add(partition, batch.base_offset, batch.leader_epoch)
                found = records_in(batch, partition.partition)
                self.volume.bytes += size_of(batch)
                for record in found:
                    self.records_read += 1
                    self.next_fetch_offset = record.offset + 1
                    yield record
            # Also past what a batch no longer holds.
            self.next_fetch_offset = batch.next_offset
            batch = batches.next_batch()
        self.drain()

    def _passed_over(self, batch: Any) -> bool:
        """Return whether `batch` belongs to an aborted transaction, or marks the end of one."""
        committed_only = self.isolation_level == IsolationLevel.READ_COMMITTED
        if committed_only and batch.has_producer_id() and self.aborted(batch):
            return True
        return bool(batch.is_control_batch)


def records_in(batch: Any, partition: int) -> list[Record]:
    """Return the records of a batch. Raises CorruptRecordError, which says nothing of what they hold.

    A record's offset is its place in the batch. The offset that is written in the record is only its client's word:
    brokers check the number of records and not what each says of itself, so one emitter could move the reader past the
    records of others, or back. A record without a value (a tombstone) counts as one without bytes: the fold rejects it,
    and does not pass over it.
    """
    data, at = content(batch)
    base, time, count = batch.base_offset, batch.first_timestamp, batch.records_count
    # Brokers refuse a batch with fewer records than offsets. Only compacting takes some out, and then the places are
    # lost: what the records say is all there is.
    compacted = count != batch.last_offset_delta + 1
    appended = batch.max_timestamp if batch.timestamp_type else None
    new, varint = tuple.__new__, decode_varint
    records: list[Record] = []
    where = f"partition {partition}, a batch"
    try:
        for place in range(count):
            offset = base + place
            # A call for each number would be half of the work. Nearly every size has two bytes, and the others one.
            size = data[at]
            if size >= 0x80 > data[at + 1]:
                size, at = size & 0x7F | data[at + 1] << 7, at + 2
                size = (size >> 1) ^ -(size & 1)
            else:
                size, at = varint(data, at)
            end = at + size
            at += 1  # the attributes: no record has any
            delta, at, shift = data[at], at + 1, 7
            if delta >= 0x80:  # days apart: five bytes
                delta &= 0x7F
                while (more := data[at]) >= 0x80 and shift < 63:
                    delta |= (more & 0x7F) << shift
                    at, shift = at + 1, shift + 7
                if more >= 0x80:
                    raise ValueError  # no number has eleven bytes
                delta, at = (delta | more << shift) & _ALL_BITS, at + 1
            delta = (delta >> 1) ^ -(delta & 1)
            stamp = time + delta if appended is None else appended
            if not -_SIGN <= stamp < _SIGN:
                # As the broker adds it up, which takes such a batch from anybody: refused here, it would stop us.
                stamp = ((stamp + _SIGN) & _ALL_BITS) - _SIGN
            if compacted:
                told, at = varint(data, at)
                offset = base + told
                if not (records[-1].offset if records else base - 1) < offset <= batch.last_offset:
                    raise CorruptRecordError(f"{where} holds records that are not in order")
            else:
                while data[at] >= 0x80:
                    at += 1
                at += 1
            length = data[at]
            if length < 0x80:
                length, at = (length >> 1) ^ -(length & 1), at + 1
            else:
                length, at = varint(data, at)
            key = None
            if length >= 0:
                key = data[at : at + length]
                at += length
            length = data[at]
            if length < 0x80:
                length, at = (length >> 1) ^ -(length & 1), at + 1
            else:
                length, at = varint(data, at)
            value = b""
            if length > 0:
                value = data[at : at + length]
                at += length
            headers: tuple[tuple[str, bytes], ...] = ()
            if data[at]:
                headers, at = _headers(data, at)
            else:
                at += 1
            if at != end or end > len(data):
                raise CorruptRecordError(f"{where} holds a record that is not as long as it says")
            records.append(new(Record, (partition, offset, stamp, key, value, headers)))
    except (IndexError, ValueError):
        raise CorruptRecordError(f"{where} cannot be read") from None
    if at != len(data):
        raise CorruptRecordError(f"{where} holds more than the records that it announces")
    return records


def _headers(data: bytes, at: int) -> tuple[tuple[tuple[str, bytes], ...], int]:
    """Return a record's headers and the place after them."""
    count, at = decode_varint(data, at)
    headers = []
    for _ in range(count):
        length, at = decode_varint(data, at)
        if length < 0:
            raise ValueError  # it would go back, and read the same again and again
        name = data[at : at + length].decode("utf-8", "replace")
        at += length
        length, at = decode_varint(data, at)
        headers.append((name, data[at : at + max(length, 0)]))
        at += max(length, 0)
    return tuple(headers), at


def explained(error: BaseException, settings: KafkaSettings, act: str, topic: str) -> LogError:
    """Return the error to show for the library's `error` while records of `topic` (its plain name) were fetched."""
    where = f"Topic {settings.topic(topic)} at {settings.servers}"
    if isinstance(error, OffsetOutOfRangeError):
        return LogError(
            f"{where}: somebody took records out of it while it was read",
            "Start again: the next start says what was lost",
        )
    if isinstance(error, CorruptRecordError):
        return LogError(
            f"{where}: {error.args[0]}",
            "Brokers take no such batch from a client: look at their disks, and for a wrong setting of the topic "
            "(`quietcount topics check`)",
        )
    if isinstance(error, UnsupportedCodecError):
        return LogError(
            f"{where}: a client compressed records in a way that this one cannot read",
            "Install kafka-python[lz4,snappy,zstd] beside quietcount, and set the topic's compression.type to "
            "uncompressed; see `quietcount topics check`",
        )
    return connection.explained(error, settings, act, topic)
