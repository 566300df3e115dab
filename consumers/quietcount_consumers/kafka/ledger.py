"""The ledger on Kafka: the topic `releases`, one partition, read to its end and appended to in transactions.

Beside it is the topic `settlements` with the private log of places. It is read as the ledger is, by whoever holds the
fence, and written in the ledger's transactions.

Reading is `read_committed` up to the high watermark: if an open transaction hides the rest, the reader waits for it to
end, and never takes that place for the ledger's end. `kafka.fence` takes the fence and appends.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, OffsetSpec
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import TopicPartition

from quietcount_aggregates.errors import (
    RESTORE_LEDGER,
    RESTORE_PLACES,
    LedgerBehind,
    LedgerBroken,
    LedgerError,
    LedgerUnavailable,
)
from quietcount_consumers.kafka import fence as kafka_fence
from quietcount_consumers.kafka import records as fetched
from quietcount_consumers.kafka.fence import CLIENT_ID, Fence, Places, as_ledger_error, explained
from quietcount_consumers.kafka.records import Epochs, Unpacked, Volume
from quietcount_producers.errors import LogError
from quietcount_producers.kafka.connection import way_in
from quietcount_producers.kafka.internals import unpack_by
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import RELEASES, SETTLEMENTS, Record

__all__ = ["KafkaLedger"]

ANSWER_SECONDS: Final = 10.0
"""For one question with its repetitions. A leader's election takes seconds, and a service that waited longer for a
broker that is gone would not end soon after a signal."""
PAUSE_SECONDS: Final = 0.1
"""Between two attempts at a question."""
OPEN_TRANSACTION_SECONDS: Final = 15.0
"""For the next record, which may lie behind somebody's open transaction. Ours end within milliseconds. A dead
releaser's ends with the next fence or, for readers, when the broker ends it after a minute."""
STEP_MS: Final = 25
"""For one poll: the end of a transaction is no record, so it moves the position and does not end a poll."""
FETCH_WAIT_MS: Final = 50
"""How long a broker waits for more to send. The client asks ahead, so at the ledger's end its next question waits
this long."""
CLOSE_SECONDS: Final = 1.0
"""For the end of a connection, which has nothing to settle."""

_ONE_PARTITION: Final = (
    "Partitions cannot be taken away. Keep a copy of the newest published file, and bring the ledger back from it into "
    'a new topic: docs/recovery.md has the steps, under "The ledger is lost"'
)
T = TypeVar("T")


class _Compacted(Unpacked):
    """Unpacked records of a topic that somebody may have had compacted."""

    def _passed_over(self, batch: Any) -> bool:
        # What compacting may leave of the mark that ends a transaction; the client fails at it.
        return (batch.is_control_batch and not batch.records_count) or super()._passed_over(batch)


class KafkaLedger:
    """A LedgerLog in a Kafka topic.

    Nothing here makes the topic: `quietcount topics create` does, with the settings that a ledger needs.
    """

    def __init__(
        self, settings: KafkaSettings, *, clock: Callable[[], float] = time.monotonic, topic: str = RELEASES
    ) -> None:
        """Open the ledger; `clock` says how long a reader has waited, in seconds.

        With another `topic`, the private log of places, only its reading is of use.
        """
        self._settings = settings
        self._clock = clock
        self._plain = topic
        self._topic = settings.topic(topic)
        self._remedy = RESTORE_LEDGER if topic == RELEASES else RESTORE_PLACES
        self._places: KafkaLedger | None = None
        self._partition = TopicPartition(self._topic, 0)
        self._stack = contextlib.ExitStack()
        self._fence: Fence | None = None
        self._epoch: int | None = None
        self._unknown = False
        # The offset of each entry read so far, and the offset after all that was read.
        self._offsets: list[int] = []
        self._end = 0
        self._least_in_step = 1
        try:
            # First, because it says what is wrong with the way to the brokers; the clients only retry.
            self._broker, _ = self._asked(lambda: way_in(settings, CLIENT_ID, [topic]))
            self._admin: Any = self._asked(lambda: KafkaAdminClient(**kafka_fence.client(settings, self._broker)))
            self._stack.callback(self._admin.close)
            self._topic_id = self._described()["topic_id"]
            self._consumer: Any = self._asked(lambda: KafkaConsumer(**_reading(settings, self._broker)))
            self._stack.callback(self._consumer.close, autocommit=False, timeout_ms=int(CLOSE_SECONDS * 1000))
            shared = {"epochs": Epochs(), "volume": Volume()}
            self._asked(lambda: unpack_by(self._consumer, type("_", (_Compacted,), shared)))
            self._consumer.assign([self._partition])
        except BaseException:
            self.close()
            raise

    @property
    def place(self) -> str:
        """Return where the ledger is, for a message."""
        return kafka_fence.place(self._settings, self._plain)

    def __enter__(self) -> KafkaLedger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fence(self) -> int:
        """Take the fence: the broker aborts the holder's open transaction, and refuses what it sends from now on.

        Raises LedgerBroken if the topic's settings would lose entries.
        """
        self._check_outcome()
        self._drop_fence()
        limit = self._check_settings()
        places = self._opened_places()
        places._check_settings()
        # Before the fence: while too few copies are in sync, the broker can neither end what the last holder left open
        # nor a transaction of ours, and does not say so.
        self._asked(self._check_in_step, "append to")
        places._asked(places._check_in_step, "append to")
        self._fence = self._asked(lambda: Fence(self._settings, limit, self._broker), "fence")
        # The broker knows which holder is which. This number only shows which epoch a caller holds.
        self._epoch = secrets.randbits(62)
        return self._epoch

    def read(self, start: int = 0) -> list[bytes]:
        """Return every committed entry from index `start` on; wait for an open transaction to end."""
        index = min(start, len(self._offsets))
        position = self._offsets[index] if index < len(self._offsets) else self._end
        entries = []
        self._consumer.seek(self._partition, position)
        deadline = self._clock() + OPEN_TRANSACTION_SECONDS
        # Ask again at each end: a transaction may have ended since, and an append that does not know its mark would
        # miss its place.
        end = self._checked_end()
        while position < end or position < (end := self._checked_end()):
            if self._clock() > deadline:
                raise self._stuck(position)
            for record in self._polled():
                self._keep(index, record)
                if index >= start:
                    entries.append(record.value)
                index += 1
            before, position = position, self._asked(lambda: self._consumer.position(self._partition))
            if position > before:  # a long ledger on a slow link takes its time
                deadline = self._clock() + OPEN_TRANSACTION_SECONDS
        self._end = max(self._end, position)
        return entries

    def read_places(self, start: int = 0) -> list[bytes]:
        """Return every committed place from the `start`-th on, as `read` does."""
        return self._opened_places().read(start)

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        """Append `entries` and `places` in one transaction, directly behind those before them.

        Raises LedgerFenced if another releaser took over, LedgerError for an entry that is too large, and
        LedgerUnavailable if the broker does not answer. After an unknown outcome this object never appends again.
        """
        self._check_outcome()
        if self._fence is None or epoch != self._epoch:
            raise kafka_fence.fenced(self._settings)
        self.read(len(self._offsets))
        if len(self._offsets) != expected:
            raise kafka_fence.fenced(self._settings)
        self._fence.check_size(entries, expected)
        if not entries and not places:
            return
        self._asked(self._check_in_step, "append to")
        following = self._placed(places) if places else ()
        try:
            self._fence.send(entries, self._end, expected, *following)
            self._unknown = True
            self._fence.commit()
            self._unknown = False
        except BaseException as error:
            self._drop_fence()
            if isinstance(error, LedgerUnavailable) and not self._unknown:
                self._say_if_out_of_step(error)
            raise

    def _opened_places(self) -> KafkaLedger:
        """Return the private log of places: not before it is asked for, because not every reader may read it."""
        if self._places is None:
            self._places = KafkaLedger(self._settings, clock=self._clock, topic=SETTLEMENTS)
            self._stack.callback(self._places.close)
        return self._places

    def _placed(self, data: Sequence[bytes]) -> list[Places]:
        """Return places as they are to be sent, behind those that are there."""
        log = self._opened_places()
        log.read(len(log._offsets))
        log._asked(log._check_in_step, "append to")
        return [Places(data, log._end, len(log._offsets))]

    def close(self) -> None:
        """Close the connections. The broker aborts a transaction that is open."""
        self._drop_fence()
        self._stack.close()

    def _drop_fence(self) -> None:
        fence, self._fence, self._epoch = self._fence, None, None
        if fence is not None:
            fence.close()

    def _keep(self, index: int, record: Record) -> None:
        """Remember where entry `index` lies; one that is known must lie where it lay."""
        key = kafka_fence.key_of(index)
        if record.key is None or len(record.key) != len(key):
            raise LedgerBroken(
                f"{self.place}, offset {record.offset}: holds a record that is not an entry of a ledger",
                f"Only quietcount may write to this topic. {self._remedy}",
            )
        if record.key != key:
            raise LedgerBroken(
                f"{self.place}, offset {record.offset}: does not hold entry {index} of the ledger, which has to stand "
                "there: entries are missing, or others were put between them",
                f"{self._remedy}. See also: quietcount topics check",
            )
        if index == len(self._offsets):
            self._offsets.append(record.offset)
            self._end = record.offset + 1
        elif self._offsets[index] != record.offset:
            raise LedgerBroken(
                f"{self.place}: the ledger was replaced, or entries were taken out of it, while it was in use",
                f"{self._remedy}. See also: quietcount topics check",
            )

    def _polled(self) -> list[Record]:
        found = self._asked(lambda: self._consumer.poll(timeout_ms=STEP_MS))
        return [record for records in found.values() for record in records]

    def _checked_end(self) -> int:
        """Return the high watermark, which open transactions do not hold back; check that all before it is there."""
        if self._described()["topic_id"] != self._topic_id:
            raise LedgerBroken(
                f"{self.place}: somebody deleted it and created it again while it was in use",
                "Put the ledger's entries back: quietcount ledger restore" if self._plain == RELEASES else self._remedy,
            )
        first, end = (self._offset(spec) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
        if first:
            raise LedgerBroken(
                f"{self.place}: its first entries were deleted, and a ledger is never purged",
                f"{self._remedy}. quietcount topics check says which setting deleted them",
            )
        if end < self._end:
            raise self._behind()
        return end

    def _stuck(self, position: int) -> LedgerError:
        """Return the error if nothing comes at `position`, before the end."""
        if self._offset(OffsetSpec.LATEST, IsolationLevel.READ_COMMITTED) <= position:
            return LedgerUnavailable(
                f"{self.place}: a transaction is open in it, and what lies behind cannot be read until it ends",
                "Try again in a minute; only quietcount may write to this topic",
            )
        return LedgerUnavailable(
            f"{self.place}: what it holds from offset {position} on does not come. Its leader is slow or does not "
            "answer, or entries are missing there",
            "See `quietcount topics check`",
        )

    def _offset(self, spec: int, level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED) -> int:
        found = self._asked(lambda: self._admin.list_partition_offsets({self._partition: spec}, isolation_level=level))
        return int(found[self._partition].offset)

    def _check_in_step(self) -> None:
        """Raise NotEnoughReplicasError while the broker would refuse an append; the client would retry for long."""
        for partition in self._described()["partitions"]:
            # If it asks for more copies than there are, that means all of them (KIP-966).
            if len(partition["isr_nodes"]) < min(self._least_in_step, len(partition["replica_nodes"])):
                raise kafka_errors.NotEnoughReplicasError()

    def _say_if_out_of_step(self, error: LedgerUnavailable) -> None:
        """Raise what kept an append waiting, if it is that brokers fell out of sync meanwhile."""
        try:
            self._check_in_step()
        except kafka_errors.NotEnoughReplicasError as found:
            raise explained(found, self._settings, "append to", "; nothing was appended") from error
        except (LedgerError, kafka_errors.KafkaError, OSError):
            return

    def _described(self) -> dict[str, Any]:
        """Return what the brokers say of the topic; raise LedgerError unless it is there, with one partition."""
        found = self._asked(lambda: self._admin.describe_topics([self._topic]))
        topic = next((each for each in found if each["name"] == self._topic), None)
        if topic is None:
            raise explained(kafka_errors.UnknownTopicOrPartitionError(), self._settings, "read", topic=self._plain)
        if topic["error_code"]:
            error = kafka_errors.for_code(topic["error_code"])()
            raise explained(error, self._settings, "read", topic=self._plain)
        if len(topic["partitions"]) > 1:
            raise LedgerBroken(
                f"{self.place}: has more than one partition. What it holds has one order, which one partition keeps",
                _ONE_PARTITION if self._plain == RELEASES else self._remedy,
            )
        return dict(topic)

    def _check_settings(self) -> int:
        """Raise LedgerBroken if the topic would lose entries; return the most bytes that a batch may have."""
        resource = ConfigResource(ConfigResourceType.TOPIC, self._topic)
        found = self._asked(lambda: self._admin.describe_configs([resource], config_filter="all"))
        values = {key: entry["value"] for key, entry in found.get("topic", {}).get(self._topic, {}).items()}
        if not values:  # this user may not read them
            raise LedgerError(
                f"{self.place}: kafka.username {self._settings.username!a} may not read its settings",
                "Grant it DESCRIBE_CONFIGS on the topic",
            )
        policy = str(values.get("cleanup.policy"))
        wrong = ["cleanup.policy"] if "compact" in policy else []
        if "delete" in policy:
            wrong += [key for key in ("retention.ms", "retention.bytes") if values.get(key) != "-1"]
        if wrong:
            raise LedgerBroken(
                f"{self.place}: its setting {wrong[0]} would delete entries of the ledger, and nothing is released "
                "until somebody corrects it",
                "`quietcount topics check` says how",
            )
        self._least_in_step = int(values.get("min.insync.replicas") or 1)
        return int(values["max.message.bytes"])

    def _check_outcome(self) -> None:
        if self._unknown:
            raise kafka_fence.outcome_unknown(self._settings)

    def _asked(self, call: Callable[[], T], act: str = "read") -> T:
        """Call until there is an answer: for ANSWER_SECONDS ask again if a broker restarts or a leader is elected."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return call()
            except (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError) as error:
                raise self._behind() from error
            except (kafka_errors.CorruptRecordError, kafka_errors.UnsupportedCodecError) as error:
                raise as_ledger_error(fetched.explained(error, self._settings, act, self._plain)) from error
            except (kafka_errors.KafkaError, OSError) as error:
                told = explained(error, self._settings, act, topic=self._plain)
                if not isinstance(told, LedgerUnavailable) or time.monotonic() > deadline:
                    raise told from error
                time.sleep(PAUSE_SECONDS)
            except LogError as error:
                raise as_ledger_error(error) from error

    def _behind(self) -> LedgerBehind:
        return LedgerBehind(
            f"{self.place}: it has lost entries that were read from it. A broker was restored from an older copy, or "
            "elected although it was not in sync",
            "Put the newest ledger back",
        )


def _reading(settings: KafkaSettings, broker: str) -> dict[str, Any]:
    return kafka_fence.client(settings, broker) | {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "allow_auto_create_topics": False,
    }
