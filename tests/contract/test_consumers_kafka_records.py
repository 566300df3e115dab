"""Batches of the log on Kafka: any client's are read as they are, and none moves the reader past another's."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder
from tests.contract.kafka_logs import log
from tests.kafka.bench import LogWithTopics
from tests.kafka.fixtures import Kafka

from quietcount_consumers.kafka import records as fetched_records
from quietcount_consumers.kafka.records import Epochs, Fetched, records_in
from quietcount_schemas.log import NewRecord, Record

pytestmark = pytest.mark.quick

__all__ = ["log"]  # fixtures, which tests ask for by name


def fetched(offset: int) -> Record:
    return Record(0, offset, 5, b"k", b"v", ())


def test_fetched_records_are_handed_out_in_order_and_up_to_an_end_with_gaps_between() -> None:
    buffer = Fetched(3)
    assert len(buffer) == buffer.before(100) == 0
    buffer.add([fetched(offset) for offset in (4, 5, 9, 10)])
    assert [buffer.before(end) for end in (3, 4, 5, 6, 9, 10, 11, 12)] == [0, 0, 1, 2, 2, 3, 4, 4]
    assert [record.offset for record in buffer.take(2)] == [4, 5]
    assert (buffer.next, len(buffer), buffer.before(10)) == (6, 2, 1)
    buffer.add([fetched(12)])
    assert (len(buffer), buffer.before(10)) == (3, 1)
    assert [record.offset for record in buffer.take(3)] == [9, 10, 12]
    assert (buffer.next, len(buffer)) == (13, 0)


class NotUtf8(str):
    """The name of a header, as a client may write it that does not look."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


def test_whatever_a_client_writes_into_a_batch_is_read_as_it_is(log: LogWithTopics, kafka: Kafka) -> None:
    """Sizes around those at which a number takes another byte, what may be missing, and times of any year."""
    log.create_topic("t")
    sizes = [0, 1, 62, 63, 64, 65, 8190, 8191, 8192, 20_000]
    given = [(bytes([n % 256]) * size, bytes(size), n * 10**10) for n, size in enumerate(sizes)]
    with KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=1000, batch_size=10**6) as producer:
        for key, value, at in reversed(given):  # times before the batch's first one
            producer.send(log.settings.topic("t"), key=key, value=value, timestamp_ms=at, headers=[("h", value)] * 3)
        producer.send(log.settings.topic("t"), key=b"k", value=None, timestamp_ms=7)
        producer.send(log.settings.topic("t"), value=b"v", timestamp_ms=7, headers=[(NotUtf8("h"), b"x")])
        producer.flush()
    expected = [Record(0, n, at, k, v, (("h", v),) * 3) for n, (k, v, at) in enumerate(reversed(given))]
    assert log.poll("t", {0: 0}, log.end_offsets("t"), 99) == [
        *expected,
        Record(0, 10, 7, b"k", b"", ()),
        Record(0, 11, 7, None, b"v", (("\ufffd\ufffd", b"x"),)),
    ]


def test_compressed_batches_and_the_brokers_time_are_read(log: LogWithTopics, kafka: Kafka) -> None:
    log.create_topic("t")
    with KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=1000, compression_type="gzip") as producer:
        for n in range(200):
            producer.send(log.settings.topic("t"), key=b"k", value=b"%d" % n, timestamp_ms=n)
        producer.flush()
    read = log.poll("t", {0: 0}, log.end_offsets("t"), 999)
    assert [(r.offset, r.timestamp, r.value) for r in read] == [(n, n, b"%d" % n) for n in range(200)]


def test_a_batch_that_is_cut_or_altered_is_refused_without_a_word_of_what_it_holds() -> None:
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=10**6)
    for n in range(5):
        builder.append(timestamp=n, key=b"case key", value=b"secret", headers=[("name", b"secret")])
    builder.close()
    whole = bytes(builder.buffer())
    batch = DefaultRecordBatch(whole)
    assert [record.offset for record in records_in(batch, 0)] == list(range(5))
    said = []
    for at in range(61, len(whole)):  # after the batch's own header
        for altered in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            try:
                records_in(DefaultRecordBatch(altered), 0)
            except CorruptRecordError as error:
                said += [str(error), str(error.__cause__)]
    assert len(said) > 2 * (len(whole) - 61)  # what is cut is always refused
    assert "secret" not in "".join(said)


def bytes_of(deltas: list[int], last: int) -> bytearray:
    """A batch from offset 100 to `last` after it, whose records say of themselves that they lie `deltas` after it."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 10**6)
    for delta in deltas:
        builder.append(delta, 5, b"k", b"v", [])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, 100)
    struct.pack_into(">i", built, 23, last)
    return built


def batch_of(deltas: list[int], last: int) -> DefaultRecordBatch:
    return DefaultRecordBatch(bytes(bytes_of(deltas, last)))


@pytest.mark.parametrize("deltas", [[10**6, 10**6 + 1], [1, 0], [0, 0], [-3, 2**30], [70, 71]])
def test_the_offset_of_a_record_is_its_place_whatever_it_says_of_itself(deltas: list[int]) -> None:
    assert [record.offset for record in records_in(batch_of(deltas, 1), 0)] == [100, 101]


def test_what_compacting_left_of_a_batch_keeps_its_offsets_if_they_can_be_true() -> None:
    assert [record.offset for record in records_in(batch_of([0, 2, 5], 5), 0)] == [100, 102, 105]
    assert [record.offset for record in records_in(batch_of([3], 9), 0)] == [103]
    for deltas in ([2, 2], [3, 1], [-1, 3], [0, 6], [10**6]):
        with pytest.raises(CorruptRecordError, match="partition 7, a batch holds records that are not in order"):
            records_in(batch_of(deltas, 5), 7)


def stamped(*stamps: int) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 10**6)
    for place, stamp in enumerate(stamps):
        builder.append(place, stamp, b"k", b"v", [])
    return bytearray(builder.build())


def test_times_add_up_as_they_do_on_the_broker_whatever_a_client_writes() -> None:
    """A broker takes them all, and adds in 64 bits. Whoever counts in more could not store what comes out."""

    def stamps(batch: bytearray) -> list[int]:
        return [record.timestamp for record in records_in(DefaultRecordBatch(bytes(batch)), 0)]

    far = [2**62, -(2**62), 2**62 - 1]
    assert stamps(stamped(*far)) == far
    beyond = stamped(5, 10)
    struct.pack_into(">q", beyond, 27, 2**63 - 1)  # the first record's time
    assert stamps(beyond) == [2**63 - 1, -(2**63) + 4]
    struct.pack_into(">q", beyond, 27, -(2**63))
    assert stamps(beyond) == [-(2**63), -(2**63) + 5]
    ten = stamped(*far[:2])
    last = ten.index(b"\xff" * 9 + b"\x01") + 9
    for byte in (0x01, 0x7F):  # the other bits fall off
        ten[last] = byte
        assert stamps(ten) == far[:2]
    ten[last] = 0x81
    with pytest.raises(CorruptRecordError):
        stamps(ten)


def test_a_time_that_wraps_around_on_the_broker_is_read(
    log: LogWithTopics, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.create_topic("t")
    append = DefaultRecordBatchBuilder.append

    def wrapping(self: Any, offset: int, timestamp: int, *arguments: Any, **options: Any) -> Any:
        self._first_timestamp, self._max_timestamp = -(2**63), 0
        return append(self, offset, -(2**64), *arguments, **options)

    with monkeypatch.context() as lies, KafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        lies.setattr(DefaultRecordBatchBuilder, "append", wrapping)
        producer.send(log.settings.topic("t"), key=b"k", value=b"v", partition=0).get(30)
    assert [record.timestamp for record in log.poll("t", {0: 0}, log.end_offsets("t"), 9)] == [0]


def test_a_batch_with_more_than_it_tells_of_is_refused() -> None:
    whole = bytes_of([0, 1], 1)
    struct.pack_into(">i", whole, 57, 1)  # the number of records
    with pytest.raises(CorruptRecordError, match="more than"):
        records_in(DefaultRecordBatch(bytes(whole)), 0)


def lied_to(log: LogWithTopics, kafka: Kafka, patch: pytest.MonkeyPatch, shift: int) -> list[bytes]:
    """What is read of honest events with one before the last three that lies about its offset; few at a time."""
    log.create_topic("t")
    log.append("t", [NewRecord(b"k", b"first", 0)] * 2)
    append = DefaultRecordBatchBuilder.append

    def lying(self: Any, offset: int, *arguments: Any, **options: Any) -> Any:
        made = append(self, offset + shift, *arguments, **options)
        self._last_offset = offset
        return made

    with (
        patch.context() as lies,
        KafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=False) as producer,
    ):
        lies.setattr(DefaultRecordBatchBuilder, "append", lying)
        producer.send(log.settings.topic("t"), key=b"k", value=b"lie", partition=0).get(30)
    log.append("t", [NewRecord(b"k", b"last", 0)] * 3)
    at, ends = log.beginning_offsets("t"), log.end_offsets("t")
    found = []
    for _ in range(9):
        for record in log.poll("t", at, ends, 3):
            found.append(record.value)
            at[0] = record.offset + 1
    return found


HONEST = [b"first"] * 2 + [b"lie"] + [b"last"] * 3


@pytest.mark.parametrize("shift", [10**6, 2, -3])
def test_a_client_that_lies_about_its_records_offsets_moves_the_reader_past_nobodys_records(
    log: LogWithTopics, kafka: Kafka, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    assert lied_to(log, kafka, monkeypatch, shift) == HONEST


def test_a_twin_that_believes_what_records_say_of_their_offsets_is_found_out(
    log: LogWithTopics, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def believing(batch: Any, partition: int) -> list[Record]:
        placed = records_in(batch, partition)
        return [record._replace(offset=told.offset) for record, told in zip(placed, batch, strict=True)]

    monkeypatch.setattr(fetched_records, "records_in", believing)
    assert lied_to(log, kafka, monkeypatch, 10**6) != HONEST


def test_the_epoch_of_a_record_is_that_of_its_batch_also_after_going_back() -> None:
    epochs = Epochs()
    for first, epoch in ((0, 1), (10, 1), (20, 3), (30, 4)):
        epochs.add("p", first, epoch)
    assert [epochs.of("p", offset) for offset in (5, 19, 20, 29, 30, 99)] == [1, 1, 3, 3, 4, 4]
    for first, epoch in ((15, 1), (20, 3)):
        epochs.add("p", first, epoch)
    assert [epochs.of("p", offset) for offset in (16, 25)] == [1, 3]


def test_a_tombstone_of_another_client_is_read(log: LogWithTopics, kafka: Kafka) -> None:
    log.create_topic("t")
    with KafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        producer.send(log.settings.topic("t"), key=b"k", value=None, timestamp_ms=0)
    assert [(r.key, r.value) for r in log.poll("t", {0: 0}, log.end_offsets("t"), 9)] == [(b"k", b"")]
