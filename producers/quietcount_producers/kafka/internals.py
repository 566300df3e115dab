"""What quietcount uses of kafka-python beyond its public face: every such name stands here, and is checked here.

The public face is `kafka`, `kafka.admin`, `kafka.errors` and `kafka.structs`. The rest may change with any version, so
producers/pyproject.toml asks for exactly one. If another version is installed all the same, an attribute may be set
that nothing reads any more: half of an append would be stored, or the library would unpack records again, and no error
would say so. So each client is checked when it is made; an emitter's producer only for what an emitter uses.
"""

from __future__ import annotations

import abc
import contextlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Final

import kafka
from kafka.consumer.fetcher import Fetcher
from kafka.net.compat import KafkaNetClient
from kafka.net.sasl import get_sasl_mechanism
from kafka.producer.producer_batch import ProducerBatch
from kafka.protocol import metadata
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.consumer import OffsetForLeaderEpochRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import decode_varint
from kafka.structs import TopicPartition

from quietcount_producers.errors import LogError
from quietcount_schemas.log import NewRecord

__all__ = [
    "ApiVersionsRequest",
    "BrokerVersionData",
    "FetchedPartition",
    "KafkaProtocol",
    "MetadataRequest",
    "SaslAuthenticateRequest",
    "SaslHandshakeRequest",
    "check_admin",
    "check_consumer",
    "check_producer",
    "content",
    "decode_varint",
    "end_sending",
    "epoch_ends",
    "get_sasl_mechanism",
    "hand_over",
    "network_client",
    "other_version",
    "report_offsets",
    "size_of",
    "store_whole",
    "unpack_by",
]

# The library makes these classes from its message formats, so a type checker does not see them.
ApiVersionsRequest: Any = metadata.ApiVersionsRequest
MetadataRequest: Any = metadata.MetadataRequest

_Call = tuple[tuple[object, ...], Mapping[str, object]]

_OF_PRODUCER: Final[Mapping[str, _Call | None]] = {
    "_sender._can_split": None,
    "_sender.force_close": ((), {}),
    "_sender.join": ((0.0,), {}),
    "_unregister_cleanup": ((), {}),
    "_accumulator._tp_lock": ((None,), {}),
    "_accumulator._batches.__getitem__": None,
    "_accumulator._incomplete.add": ((None,), {}),
}
"""Each name with the arguments of our call; None if Python cannot say which it takes, or if we only replace it."""
_OF_BATCHES: Final[Mapping[str, _Call | None]] = {
    "ProducerBatch": ((None, None), {}),
    "MemoryRecordsBuilder": ((2, 0, 0), {}),
    "MemoryRecordsBuilder.append": ((None, 0, None, b"", ()), {}),
}
_OF_ADMIN: Final[Mapping[str, _Call | None]] = {
    "_manager.run": ((None,), {}),
    "_manager.call_soon": ((None,), {}),
    "_manager.send": ((None,), {"node_id": 0}),
    "_manager.cluster._coordinators.clear": None,
    "_async_alter_group_offsets": (("", {}), {}),
}
_OF_CONSUMER: Final[Mapping[str, _Call | None]] = {
    "_fetcher.PartitionRecords._unpack_records": ((None, None, None, None, None), {}),
    "_fetcher.PartitionRecords._consume_aborted_transactions_up_to": ((None, 0), {}),
    "_fetcher.PartitionRecords._contains_abort_marker": ((None, None), {}),
    "_fetcher.PartitionRecords._is_batch_aborted": ((None, None), {}),
    "_fetcher.PartitionRecords.drain": ((None,), {}),
}

_RECORD_FORMAT: Final = 2
"""Of Kafka 0.11 and later (KIP-98); `enable_idempotence` asks for it, too."""
_AUTO_CREATE: Final = "allow_auto_create_topics"


def other_version(name: str) -> LogError:
    """Return the error for a version of kafka-python in which `name` is not what quietcount needs."""
    return LogError(
        f"quietcount cannot use kafka-python {kafka.__version__}: {name} is missing, or works in another way",
        "Install the version that quietcount-producers asks for",
    )


# Every client


def network_client(**options: Any) -> KafkaNetClient:
    """Make the library's network client, which must not create the topics that it asks for."""
    client = KafkaNetClient(**options)
    if _AUTO_CREATE not in client.cluster.config:
        client.close()
        raise other_version(_AUTO_CREATE)
    client.cluster.config[_AUTO_CREATE] = False  # the option of that name does not get there
    return client


# Producers


def check_producer(producer: Any) -> None:
    """Raise LogError unless a producer has inside what the functions below use."""
    _check(producer, _OF_PRODUCER)
    _check(sys.modules[__name__], _OF_BATCHES)


def store_whole(producer: Any) -> None:
    """Switch off what would store half of an append. Raises LogError if this version of the library hides it."""
    check_producer(producer)
    # A batch that the topic finds too large is refused, not cut in two: half of it could be stored alone.
    producer._sender._can_split = lambda *_: False
    # At the interpreter's end it would send what another thread had handed over of an append so far.
    producer._unregister_cleanup()


def hand_over(producer: Any, topic: str, partition: int, records: Iterable[NewRecord]) -> Any:
    """Hand over `records` as one batch of whatever size, which is stored whole or not at all; `flush` sends it.

    Returns a future. Once it `is_done`, its `value` holds the first record's offset, a time that is not ours, and None,
    or a function that gives the error of the record of a number. The public `send` takes one record at a time. It costs
    three times as much, and where a batch ends is then the library's choice.
    """
    batch = ProducerBatch(TopicPartition(topic, partition), MemoryRecordsBuilder(_RECORD_FORMAT, 0, sys.maxsize))
    add = batch.records.append
    for record in records:
        add(record.timestamp, record.key, record.value, record.headers)
    accumulator = producer._accumulator
    with accumulator._tp_lock(batch.topic_partition):
        accumulator._batches[batch.topic_partition].append(batch)
        accumulator._incomplete.add(batch)
    return batch.produce_future


def end_sending(producer: Any, seconds: float | None = None) -> None:
    """Give up what was not sent, and wait `seconds` for the sender's thread to end: `close` would go on sending."""
    producer._sender.force_close()
    if seconds is not None:
        producer._sender.join(seconds)


# Admin clients


def check_admin(admin: Any) -> None:
    """Raise LogError unless an admin client has inside what `epoch_ends` and `report_offsets` use."""
    _check(admin, _OF_ADMIN)


def epoch_ends(admin: Any, node: int, topic: str, asked: Sequence[tuple[int, int, int]]) -> Sequence[Any]:
    """Ask the broker `node` where epochs end: (partition, leader's epoch now, epoch asked for) of `topic` (KIP-320).

    Returns the broker's answers, one a partition: `partition`, `error_code`, `end_offset`. Raises KafkaError.
    """
    request = OffsetForLeaderEpochRequest(replica_id=-1, topics=[(topic, list(asked))])

    async def sent() -> Any:
        return await admin._manager.send(request, node_id=node)

    found: Sequence[Any] = admin._manager.run(sent).topics[0].partitions
    return found


def report_offsets(admin: Any, group: str, offsets: Mapping[Any, Any]) -> Any:
    """Write a group's offsets without waiting; return a future with `is_done`. Nobody hears if it fails."""

    async def told() -> None:
        with contextlib.suppress(Exception):  # information only: a failure here stops nothing
            # The library (3.0.12) never asks again who coordinates a group, though that moves with its leader.
            admin._manager.cluster._coordinators.clear()
            await admin._async_alter_group_offsets(group, offsets)

    return admin._manager.call_soon(told)


# Consumers


def check_consumer(consumer: Any) -> None:
    """Raise LogError unless a consumer has inside what `unpack_by` and FetchedPartition use."""
    _check(consumer, _OF_CONSUMER)


def unpack_by(consumer: Any, unpacking: type[FetchedPartition]) -> None:
    """Have `consumer` unpack what it fetches by `unpacking`. Raises LogError if it would not."""
    check_consumer(consumer)
    consumer._fetcher.PartitionRecords = unpacking


_PartitionRecords: Any = getattr(Fetcher, "PartitionRecords", object)  # `check_consumer` reports it if it is missing


class FetchedPartition(_PartitionRecords, abc.ABC):  # type: ignore[misc]
    """What one answer holds of a partition: a class to derive from, which `unpack_by` puts in place of the client's.

    `isolation_level`, `check_crcs`, `leader_epoch`, `next_fetch_offset`, `bytes_read`, `records_read` and `drain` are
    the client's.
    """

    @abc.abstractmethod
    def unpacked(self, partition: Any, batches: Any) -> Iterator[Any]:
        """Yield the records of `batches`, and keep the client's account of them."""

    def aborted(self, batch: Any) -> bool:
        """Return whether `batch` belongs to an aborted transaction; to be called once for each batch, in order."""
        self._consume_aborted_transactions_up_to(batch.last_offset)
        if self._contains_abort_marker(batch):
            self.aborted_producer_ids.discard(batch.producer_id)
            return False
        return bool(self._is_batch_aborted(batch))

    def _unpack_records(self, partition: Any, batches: Any, *_deserializers: object) -> Iterator[Any]:
        return self.unpacked(partition, batches)


def content(batch: Any) -> tuple[bytes, int]:
    """Return the bytes of a record batch, uncompressed, and where its first record begins among them."""
    try:
        batch._maybe_uncompress()
        return bytes(batch._buffer), batch._pos
    except AttributeError:
        raise other_version("DefaultRecordBatch") from None


def size_of(batch: Any) -> int:
    """Return how many bytes a record batch takes in memory now."""
    return len(batch._buffer)


def _check(client: object, wanted: Mapping[str, _Call | None]) -> None:
    for path, call in wanted.items():
        try:
            found = reduce(getattr, path.split("."), client)
            if call is not None:
                inspect.signature(found).bind(*call[0], **call[1])  # type: ignore[arg-type]
            elif not callable(found):
                raise TypeError
        except (AttributeError, TypeError):
            raise other_version(path) from None
