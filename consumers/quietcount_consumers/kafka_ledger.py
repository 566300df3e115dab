"""The ledger on Kafka: the topic `releases`, one partition, every append a transaction under one fixed id.

The broker keeps the fence: whoever initialises the transactional id last holds it, and what an earlier holder sends is
refused. The append is besides a comparison: the broker says at which offset the entries came to lie, and a transaction
whose first entry does not follow the last one read is aborted. So neither a stale read nor a writer that goes round the
fence can put two entries in one place.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.structs import TopicPartition

from quietcount_aggregates.errors import LedgerBehind, LedgerBroken, LedgerError, LedgerFenced, LedgerUnavailable
from quietcount_producers.kafka_settings import KafkaSettings
from quietcount_schemas.log import RELEASES

__all__ = ["TRANSACTIONAL_ID", "KafkaLedger"]

TRANSACTIONAL_ID = "quietcount.releases"
CLIENT_ID = "quietcount-ledger"

# How long one question may take: a broker that restarts, or a leader's election, takes seconds; what takes longer is
# down, and a start has to say so while somebody still looks at it.
ANSWER_SECONDS = 10.0
# How long to wait for somebody's open transaction to end before calling the ledger unavailable: ours are over in
# milliseconds, and a killed releaser's is aborted by the fence or, for readers, after TRANSACTION_SECONDS.
OPEN_TRANSACTION_SECONDS = 15.0
# How long the entries of one append may take to be acknowledged, and then its commit.
DELIVERY_SECONDS = 20.0
COMMIT_SECONDS = 20.0
# After this the broker aborts a transaction that nobody ends. Longer than an append may take, else a slow one would be
# aborted under a releaser that is alive; shorter than anybody's patience with a ledger that cannot be read.
TRANSACTION_SECONDS = 60.0
# The client asks ahead, and what is asked next waits for the answer: at the end of the ledger that is this long.
FETCH_WAIT_MS = 50
# How long one poll waits: the end of a transaction is no record, so it moves the position and ends no waiting.
STEP_MS = 25
# A released entry tells its time itself. The record's own would only add how long the drawing took.
TIMESTAMP = 0
# What a batch of one record adds to its value: 61 bytes of header, and lengths as varints. Rounded up.
BATCH_OVERHEAD = 128

T = TypeVar("T")


class KafkaLedger:
    """A LedgerLog in a Kafka topic.

    Neither the client nor this class makes the topic: `quietcount topics create` does, with the settings that a ledger
    needs. `create` is accepted for the sake of the embedded ledger, where it matters.
    """

    def __init__(self, settings: KafkaSettings, *, create: bool = True) -> None:
        del create
        self._settings = settings
        self._topic = settings.topic(RELEASES)
        self._partition = TopicPartition(self._topic, 0)
        self._stack = contextlib.ExitStack()
        self._producer: Any = None
        self._epoch: int | None = None
        self._unknown = False
        # The offset of each entry read so far, and the offset after all that was read.
        self._offsets: list[int] = []
        self._end = 0
        try:
            self._admin = self._asked(self._new_admin)
            self._stack.callback(self._admin.close)
            self._topic_id = self._described()
            self._consumer = self._asked(self._new_consumer)
            self._stack.callback(self._consumer.close, autocommit=False)
            self._consumer.assign([self._partition])
        except BaseException:
            self.close()
            raise

    @property
    def place(self) -> str:
        """Where the ledger is, for a message."""
        return f"topic {self._topic} on {self._settings.servers}"

    def __enter__(self) -> KafkaLedger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fence(self) -> int:
        """Take the transactional id: abort the open transaction of whoever held it, and have his appends refused.

        Raises LedgerError when the topic's settings would lose entries.
        """
        self._check_usable()
        self._drop_producer()
        self._largest = self._check_settings()
        self._producer = self._asked(self._new_producer)
        try:
            self._producer.init_transactions()
        except kafka_errors.KafkaError as error:
            self._drop_producer()
            raise self._explained(error) from error
        # What tells holders apart is the broker's. This number only tells a caller's epoch from another's.
        self._epoch = secrets.randbits(62)
        return self._epoch

    def read(self, start: int = 0) -> list[bytes]:
        """Return every committed entry from index `start` on; wait for a transaction that is open to end."""
        end = self._checked_end()
        position = self._offsets[start] if start < len(self._offsets) else self._end
        index = min(start, len(self._offsets))
        entries = []
        self._consumer.seek(self._partition, position)
        deadline = time.monotonic() + OPEN_TRANSACTION_SECONDS
        while position < end:
            if time.monotonic() > deadline:
                raise LedgerUnavailable(
                    f"{self.place}: a transaction is open in it, and nothing after its start can be read until it "
                    "ends. Only quietcount may write to this topic; try again in a minute"
                )
            for record in self._polled():
                self._keep(index, record)
                if index >= start:
                    entries.append(record.value)
                index += 1
            position = self._asked(lambda: self._consumer.position(self._partition))
        self._end = max(self._end, position)
        return entries

    def append(self, entries: Sequence[bytes], *, epoch: int, expected: int) -> None:
        """Append `entries` in one transaction.

        Raises LedgerFenced when another releaser took over, LedgerError for an entry that is too large, and
        LedgerUnavailable when the broker does not answer. After a failure this object appends nothing any more.
        """
        self._check_usable()
        if epoch != self._epoch or self._producer is None:
            raise self._fenced()
        self.read(len(self._offsets))
        if len(self._offsets) != expected:
            raise self._fenced()
        for number, entry in enumerate(entries, start=expected):
            if len(entry) + BATCH_OVERHEAD > self._largest:
                raise LedgerError(
                    f"{self.place}: entry {number} of the ledger is larger than the topic's max.message.bytes allows; "
                    "nothing was appended. Raise it, or break the statistic down less; `quietcount topics check` says "
                    "how"
                )
        if not entries:
            return
        try:
            self._send(entries)
        except kafka_errors.KafkaError as error:
            # No commit was asked for, so the broker will only ever abort these.
            self._drop_producer()
            raise self._explained(error, "Nothing was appended") from error
        except BaseException:
            self._drop_producer()
            raise
        try:
            _within(COMMIT_SECONDS, self._producer.commit_transaction)
        except BaseException as error:
            self._unknown = True
            self._drop_producer()
            if isinstance(error, kafka_errors.KafkaError):
                raise self._outcome_unknown() from error
            raise

    def close(self) -> None:
        """Close the connections. An open transaction is left to the broker, which aborts it."""
        self._drop_producer()
        self._stack.close()

    def _send(self, entries: Sequence[bytes]) -> None:
        self._producer.begin_transaction()
        sent = [self._producer.send(self._topic, value=entry, partition=0, timestamp_ms=TIMESTAMP) for entry in entries]
        deadline = time.monotonic() + DELIVERY_SECONDS
        # Every acknowledgement is looked at: the client commits a transaction of which a batch has expired unsent.
        stored = [future.get(timeout=max(0.0, deadline - time.monotonic())).offset for future in sent]
        if stored != list(range(self._end, self._end + len(entries))):
            self._drop_producer()
            raise self._fenced()

    def _keep(self, index: int, record: Any) -> None:
        """Remember where entry `index` lies; an entry known already must lie where it lay."""
        if not isinstance(record.value, bytes):
            raise LedgerBroken(
                f"{self.place}, offset {record.offset}: holds a record that is no entry of a ledger. Only quietcount "
                "may write to this topic"
            )
        if index == len(self._offsets):
            self._offsets.append(record.offset)
        elif self._offsets[index] != record.offset:
            raise LedgerBroken(f"{self.place}: the ledger was replaced while it was read; restore it, then start again")

    def _polled(self) -> list[Any]:
        found = self._asked(lambda: self._consumer.poll(timeout_ms=STEP_MS))
        return [record for records in found.values() for record in records]

    def _checked_end(self) -> int:
        """Return the high watermark, which open transactions do not hold back; check that nothing was taken away."""
        if self._described() != self._topic_id:
            raise LedgerBroken(
                f"{self.place}: was deleted and created again while it was in use; put the ledger's entries back, "
                "then start again"
            )
        bounds = [self._offset(spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)]
        if bounds[0]:
            raise LedgerBroken(
                f"{self.place}: its first entries were deleted, and a ledger is never purged. Restore them from a copy "
                "that is up to date; `quietcount topics check` says which setting let them go"
            )
        if bounds[1] < self._end:
            raise LedgerBehind(
                f"{self.place}: lost entries that were read from it, as a broker does that was restored from an older "
                "copy or elected without being in sync. Restore it, then start again"
            )
        return bounds[1]

    def _offset(self, spec: OffsetSpec) -> int:
        found = self._asked(
            lambda: self._admin.list_partition_offsets(
                {self._partition: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED
            )
        )
        return int(found[self._partition].offset)

    def _described(self) -> str:
        """Return the topic's id; raise LedgerError unless it is there, with one partition."""
        found = self._asked(lambda: self._admin.describe_topics([self._topic]))
        topic = next((each for each in found if each["name"] == self._topic), None)
        if topic is None or topic["error_code"] == kafka_errors.UnknownTopicOrPartitionError.errno:
            raise LedgerError(f"{self.place}: is not there; make it with: quietcount topics create")
        if topic["error_code"] == kafka_errors.TopicAuthorizationFailedError.errno:
            raise self._explained(kafka_errors.TopicAuthorizationFailedError())
        if len(topic["partitions"]) > 1:
            raise LedgerBroken(
                f"{self.place}: has more than one partition, and a ledger is one sequence. Make it anew with one, and "
                "put the entries back; see `quietcount topics check`"
            )
        return str(topic["topic_id"])

    def _check_settings(self) -> int:
        """Raise LedgerBroken where the topic would lose entries; return the size in bytes that a batch may have."""
        resource = ConfigResource(ConfigResourceType.TOPIC, self._topic)
        found = self._asked(lambda: self._admin.describe_configs([resource], config_filter="all"))
        values = {key: entry["value"] for key, entry in found["topic"][self._topic].items()}
        if "compact" in str(values.get("cleanup.policy")):
            self._refuse("cleanup.policy", "compaction would delete entries of the ledger")
        if "delete" in str(values.get("cleanup.policy")):
            for key in ("retention.ms", "retention.bytes"):
                if values.get(key) != "-1":
                    self._refuse(key, "entries of the ledger would be deleted in time, and it must be -1")
        return int(values["max.message.bytes"])

    def _refuse(self, key: str, reason: str) -> None:
        raise LedgerBroken(f"{self.place}: {key}: {reason}. `quietcount topics check` says how to set it")

    def _check_usable(self) -> None:
        if self._unknown:
            raise self._outcome_unknown()

    def _new_admin(self) -> Any:
        return KafkaAdminClient(**self._options())

    def _new_consumer(self) -> Any:
        options: dict[str, Any] = {
            **self._options(),
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "fetch_max_wait_ms": FETCH_WAIT_MS,
            "allow_auto_create_topics": False,
        }
        return KafkaConsumer(**options)

    def _new_producer(self) -> Any:
        return KafkaProducer(
            **self._options(),
            transactional_id=self._settings.topic(TRANSACTIONAL_ID),
            transaction_timeout_ms=int(TRANSACTION_SECONDS * 1000),
            delivery_timeout_ms=int(DELIVERY_SECONDS * 1000),
            max_block_ms=int(ANSWER_SECONDS * 1000),
            max_request_size=self._largest,
            allow_auto_create_topics=False,
        )

    def _options(self) -> dict[str, Any]:
        return {
            **self._settings.client(CLIENT_ID),
            "request_timeout_ms": int(ANSWER_SECONDS * 1000),
            "bootstrap_timeout_ms": int(ANSWER_SECONDS * 1000),
        }

    def _asked(self, call: Callable[[], T]) -> T:
        """Call until there is an answer; what a restart or an election answers is asked again for ANSWER_SECONDS."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return call()
            except kafka_errors.UnknownTopicOrPartitionError:
                raise LedgerError(f"{self.place}: is not there; make it with: quietcount topics create") from None
            except kafka_errors.KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise self._explained(error) from error
                time.sleep(0.1)

    def _drop_producer(self) -> None:
        """End the producer without waiting for what it has not sent: it must not go on by itself."""
        producer, self._producer, self._epoch = self._producer, None, None
        if producer is None:
            return
        with contextlib.suppress(kafka_errors.KafkaError):
            producer.close(timeout=0)
            return
        # `close` gives up before it ends the sender when something is unsent, and would so leave it trying for ever.
        producer._sender.force_close()
        producer._sender.join(ANSWER_SECONDS)
        with contextlib.suppress(kafka_errors.KafkaError):
            producer.close(timeout=0)

    def _fenced(self) -> LedgerFenced:
        return LedgerFenced(
            f"{self.place}: another releaser has taken over the ledger; this one released nothing. Run one service on "
            "a ledger"
        )

    def _outcome_unknown(self) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"{self.place}: the broker did not say whether the entries were appended; nothing is drawn again before "
            "the ledger is opened anew and read"
        )

    def _explained(self, error: kafka_errors.KafkaError, outcome: str = "") -> LedgerError:
        tail = f". {outcome}" if outcome else ""
        if isinstance(error, _FENCED):
            return self._fenced()
        if isinstance(error, kafka_errors.TransactionalIdAuthorizationFailedError):
            return LedgerError(
                f"{self.place}: user {self._settings.username!r} may not write under the transactional id "
                f"{self._settings.topic(TRANSACTIONAL_ID)}; give it WRITE and DESCRIBE on it{tail}"
            )
        if isinstance(error, kafka_errors.AuthorizationError):
            return LedgerError(
                f"{self.place}: user {self._settings.username!r} lacks a right; a service needs READ, WRITE, DESCRIBE "
                f"and DESCRIBE_CONFIGS on the topic{tail}"
            )
        return LedgerUnavailable(f"{self.place}: did not answer ({type(error).__name__}); try again{tail}")


_FENCED = (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)


def _within(seconds: float, call: Callable[[], object]) -> None:
    """Call, and raise KafkaTimeoutError after `seconds`: the client waits for the end of a transaction for ever."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="quietcount-ledger-commit", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise kafka_errors.KafkaTimeoutError
    if failures:
        raise failures[0]
