"""The emitters' side of the log on Kafka: what `append` returned for is held by as many replicas as the topic asks for.

The records of one append that go to one partition go as one batch, which Kafka stores whole or not at all. If the
library gathered them by itself, a kill could come between two halves of an append. So the writer makes the batches.

There is no transaction: if a killed emitter left one open, no reader could read what came after it. Across partitions
an append that raises may therefore have stored a part. Repeating it does no harm: the fold counts an event id once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from quietcount_producers.errors import LogError
from quietcount_producers.kafka.connection import client_options, explained, reach, way_in
from quietcount_producers.kafka.internals import end_sending, hand_over, store_whole
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_producers.partitioner import partition_for
from quietcount_schemas.log import CASE_EVENTS, NewRecord, Position

__all__ = ["KafkaWriter"]

CLIENT_ID: Final = "quietcount-emitter"
"""The same for all emitters: the broker logs it, and a host's name there would show who sent when."""
APPEND_SECONDS: Final = 30.0
"""For one append: a leader that was killed is replaced in about ten seconds, and an emitter must not hang for ever."""
_RETRY_SECONDS: Final = 0.25
_RETRIES: Final = 60
"""How often a broker that answers may refuse, for example while too few replicas are in sync: 15 s, then it raises."""
_METADATA_SECONDS: Final = 5.0
"""For news of a topic that was there a moment ago: if it is deleted, that must not hold a running emitter longer."""
_CLOSE_SECONDS: Final = 5.0
"""For the library's thread to end; nothing waits to be sent then."""
MOST_BYTES: Final = 1_000_000
"""Of one batch: a topic takes 1,048,588 bytes unless it is set otherwise, and a larger batch would be refused whole."""
_RECORD_BYTES: Final = 40
"""The most that a record costs beyond its key, value and headers (KIP-98: varints and lengths)."""
_HEADER_BYTES: Final = 10
"""The most that a header costs beyond its name and value."""
_TIMESTAMP_BITS: Final = 63
"""Without its sign. The library's thread would meet a larger one, and lose the batch without a word."""


class KafkaWriter:
    """A LogWriter on Kafka. Safe to share between threads, one append at a time; not across a fork.

    `topics` (plain names) must be there and open to this client, or the writer is not made. Raises LogUnavailable if
    no broker answers, LogError if waiting will not help.
    """

    def __init__(
        self, settings: KafkaSettings, *, topics: Iterable[str] = (CASE_EVENTS,), client_id: str = CLIENT_ID
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._producer: Any = None
        self._closed = False
        facts = reach(settings, client_id, topics, write=True)
        self._partitions = {topic: each.partitions for topic, each in facts.items()}

    def __enter__(self) -> KafkaWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        """Store `records` durably and return their positions in the order given.

        Those of one partition are stored all or none as long as they fit into one batch (1 MB). If it raises LogError,
        repeat the whole append: a part of it may be stored. If a record cannot be sent at all, nothing is stored.
        """
        if not records:
            return []
        for record in records:
            _check(record)
        if self._process != os.getpid():  # before the lock: if another thread held it at the fork, it stays locked
            raise LogError("This writer was made before a fork, and its connections stayed behind", "Make a new one")
        with self._lock:
            if self._closed:
                raise LogError("This writer is closed", "Make a new one")
            try:
                return self._append(topic, records)
            except LogError:
                self._discard()
                raise
            except kafka_errors.KafkaError as error:
                self._discard()
                raise self._diagnosed(error, topic) from error
            except BaseException:
                # What was handed over and not sent must not leave with the next append.
                self._discard()
                raise

    def close(self) -> None:
        """End the connections. Closing twice does no harm."""
        if self._process != os.getpid():
            return  # they are its parent's
        with self._lock:
            self._closed = True
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.close(timeout=_CLOSE_SECONDS)

    def _append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        until = time.monotonic() + APPEND_SECONDS
        count = self._count(topic)
        producer = self._connected()
        name = self._settings.topic(topic)
        self._check_count(topic, len(producer.partitions_for(name)))
        stored: list[Position | None] = [None] * len(records)
        for batches in _rounds(records, count):
            sent = [
                (partition, numbers, hand_over(producer, name, partition, [records[n] for n in numbers]))
                for partition, numbers in batches.items()
            ]
            producer.flush(max(0.0, until - time.monotonic()))
            for partition, numbers, future in sent:
                first, _, error = future.value
                if error is not None:
                    raise error(0)
                for index, number in enumerate(numbers):
                    # A broker that has the batch already, because its answer was lost, may not know where.
                    stored[number] = Position(topic, partition, first + index if first >= 0 else first)
        return [position for position in stored if position is not None]

    def _count(self, topic: str) -> int:
        if topic not in self._partitions:
            self._partitions[topic] = reach(self._settings, self._client_id, [topic], write=True)[topic].partitions
        return self._partitions[topic]

    def _check_count(self, topic: str, count: int) -> None:
        known = self._partitions[topic]
        if count != known:
            raise LogError(
                f"Topic {self._settings.topic(topic)} at {self._settings.servers} has {count} partition(s) now, not "
                f"{known} as when this emitter began, so a case's next events would lie in another partition and could "
                "overtake its earlier ones",
                'Stop every emitter, and do what docs/kafka.md says under "If partitions were added"',
            )

    def _connected(self) -> Any:
        if self._producer is None:
            # The library would retry for ten seconds, and not say what is wrong.
            broker, _ = way_in(self._settings, self._client_id, self._partitions, write=True)
            producer = KafkaProducer(
                **client_options(self._settings, self._client_id) | {"bootstrap_servers": [broker]},
                acks="all",
                enable_idempotence=True,
                retries=_RETRIES,
                retry_backoff_ms=int(_RETRY_SECONDS * 1000),
                max_block_ms=int(_METADATA_SECONDS * 1000),
                metrics_enabled=False,
            )
            try:
                store_whole(producer)
            except LogError:
                producer.close(timeout=0)
                raise
            self._producer = producer
        return self._producer

    def _discard(self) -> None:
        """Give up what was not acknowledged: if it were sent later, it could follow what the caller does next."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # `close` alone would wait for what is given up, and then leave the thread running.
            end_sending(producer)
            with contextlib.suppress(kafka_errors.KafkaError):
                producer.close(timeout=_CLOSE_SECONDS)

    def _diagnosed(self, error: kafka_errors.KafkaError, topic: str) -> LogError:
        """Return what is wrong; if the library only waited in vain, connect again step by step and look."""
        if isinstance(error, kafka_errors.KafkaTimeoutError | kafka_errors.InvalidMetadataError):
            try:
                reach(self._settings, self._client_id, [topic], write=True)
            except LogError as found:
                return found
        return explained(error, self._settings, "append to", topic)


def _check(record: NewRecord) -> None:
    """Raise LogError for a record that Kafka would not take, or would take in another form."""
    value: object = record.value
    timestamp: object = record.timestamp
    headers: Iterable[tuple[object, object]] = record.headers
    if not isinstance(value, bytes) or not isinstance(record.key, bytes | None):
        raise LogError(
            "A record for Kafka has a key or a value that is not in bytes", "Give both as bytes; a key may be None"
        )
    if not isinstance(timestamp, int) or timestamp.bit_length() > _TIMESTAMP_BITS:
        raise LogError("A record for Kafka has no timestamp that it could have", "Give it as milliseconds since 1970")
    if headers and not all(isinstance(name, str) and isinstance(each, bytes) for name, each in headers):
        raise LogError("A record for Kafka has a header in another form", "Give its name as text, its value as bytes")
    if _size(record) > MOST_BYTES:
        raise LogError(f"A record for Kafka has more than {MOST_BYTES} bytes, headers included", "Send a smaller one")


def _size(record: NewRecord) -> int:
    size = _RECORD_BYTES + len(record.key or b"") + len(record.value)
    for name, value in record.headers:
        size += _HEADER_BYTES + len(name.encode()) + len(value)
    return size


def _rounds(records: Sequence[NewRecord], count: int) -> list[dict[int, list[int]]]:
    """Return what is sent together: by partition the numbers of the records of its batch, in order."""
    rounds: list[dict[int, list[int]]] = []
    filled: dict[int, tuple[int, int]] = {}  # by partition: which round, and how many bytes are in its batch
    for number, record in enumerate(records):
        partition = partition_for(record.key, count)
        size = _size(record)
        at, used = filled.get(partition, (0, 0))
        if used + size > MOST_BYTES:
            at, used = at + 1, 0
        filled[partition] = (at, used + size)
        if at == len(rounds):
            rounds.append({})
        rounds[at].setdefault(partition, []).append(number)
    return rounds
