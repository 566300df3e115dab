"""The log on Kafka: the log protocol on real topics.

Positions are the caller's: they come from the private state and from nowhere else. The group's offsets are written
afterwards for people who watch a cluster, and nothing reads them.

An admin client asks what is known of a topic; a consumer, made at the first poll, fetches records. Reading is
`read_committed`. But the end that is reported is the high watermark and not the last stable offset: a release must not
close over records that were acknowledged behind a transaction that is still open.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import kafka.errors as kafka_errors
from kafka import KafkaConsumer, OffsetSpec, TopicPartition
from kafka.structs import OffsetAndMetadata

from quietcount_consumers.errors import ASK_AGAIN
from quietcount_consumers.kafka import records as fetched
from quietcount_consumers.kafka.clients import CLIENT, admin_client, record_reader
from quietcount_consumers.kafka.records import Epochs, Fetched, Volume
from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka import connection
from quietcount_producers.kafka.internals import epoch_ends, other_version, report_offsets
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import LogWriter, Mark, NewRecord, Position, Record

__all__ = ["GROUP", "KafkaLog"]

GROUP: Final = "quietcount"
"""The consumer group (behind the topics' prefix) whose offsets say how far the fold came."""

ANSWER_SECONDS: Final = 10.0
"""How long a question may take with all its repetitions. A leader that moves needs a few seconds, and a service that
waited longer for a broker that is gone would not end soon after a signal."""
REQUEST_MS: Final = 8_000
"""For purging, which waits for every replica: less than the time after which the client gives up a request."""
PATIENCE_SECONDS: Final = 2.0
"""How long records in hand wait for a partition that does not move: a transaction that somebody leaves open must hold
up its own partition and no other."""
PAUSE_SECONDS: Final = 0.2
"""Between two attempts at a question."""
STEP_MS: Final = 200
"""How long one poll waits. Markers of transactions move the position without a record, so we look at the position
between polls."""
CLOSE_SECONDS: Final = 2.0
"""How long closing waits for the group's offsets, which are only information."""

MAX_POLL: Final = 16 * 1024 * 1024
"""After so many bytes a poll asks for no more answers. 20,000 events are a sixth of it; records that are no events may
have 1 MiB each."""
ALL: Final = 1 << 31
"""All records of an answer are taken at once: if a partition is paused, the client (3.0.12) forgets the rest."""

T = TypeVar("T")


class KafkaLog:
    """A log on Kafka; a LogReader and a LogWriter. To be used from one thread.

    Raises LogUnavailable if the brokers do not answer in time, and LogError for what a person has to mend.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self._consumer: KafkaConsumer | None = None
        self._writer: LogWriter | None = None
        self._partitions: dict[str, list[int]] = {}
        self._buffers: dict[TopicPartition, Fetched] = {}
        self._epochs = Epochs()
        self._volume = Volume()
        self._marks: dict[str, dict[int, Mark]] = {}
        self._turn = 0
        self._reported: Any = None
        with self._explaining("use"):
            self._admin = admin_client(self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """Where the log is, for messages."""
        return f"kafka://{','.join(self.settings.brokers)}"

    def close(self) -> None:
        """Close the connections. Waits a moment for the group's offsets."""
        if self._reported is not None:
            until = time.monotonic() + CLOSE_SECONDS
            while not self._reported.is_done and time.monotonic() < until:
                time.sleep(0.01)
        if self._writer is not None:
            self._writer.close()
        for client in (self._consumer, self._admin):
            if client is not None:
                with contextlib.suppress(kafka_errors.KafkaError, RuntimeError):
                    client.close()

    # What is known of a topic

    def topic_id(self, topic: str) -> str:
        """Return the topic's identity, which differs after it was deleted and created again."""
        identity = self._describe(topic)["topic_id"]
        if identity is None:
            raise LogError(
                f"{self.place} gives topics no identity, so a topic that was made again would pass for the old one: "
                "its brokers are too old or not Apache Kafka",
                "Use Apache Kafka 4 or later",
            )
        return str(identity)

    def partitions(self, topic: str) -> list[int]:
        """Return the numbers of the topic's partitions, in order."""
        found = sorted(int(each["partition_index"]) for each in self._describe(topic)["partitions"])
        self._partitions[topic] = found
        return found

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """Return, per partition, the lowest offset that is still there."""
        return self._offsets(topic, OffsetSpec.EARLIEST)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return, per partition, the high watermark: the offset that the next record will have."""
        return self._offsets(topic, OffsetSpec.LATEST)

    def marks(self, topic: str) -> dict[int, Mark]:
        """Return, per partition, the mark after the last record that `poll` handed out."""
        return dict(self._marks.get(topic, {}))

    def diverged(self, topic: str, marks: Mapping[int, Mark]) -> list[int]:
        """Return the partitions whose log ends before a mark, or has other records there.

        The brokers may have elected a leader that lacked records: it goes on under a new epoch from where its copy
        ended, and gives the offsets after that to other records (KIP-320).
        """
        if not marks:
            return []

        def ask() -> list[int]:
            described = self._describe(topic)
            asked: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
            for each in described["partitions"]:
                mark = marks.get(each["partition_index"])
                if mark is not None:
                    asked[each["leader_id"]].append((each["partition_index"], each["leader_epoch"], mark.epoch))
            found = []
            for leader, partitions in asked.items():
                for answer in epoch_ends(self._admin, leader, self.settings.topic(topic), partitions):
                    error = kafka_errors.for_code(answer.error_code)
                    if error is not kafka_errors.NoError:
                        raise error()
                    # No epoch at all, or one that ended before the mark.
                    if answer.end_offset < marks[answer.partition].offset:
                        found.append(int(answer.partition))
            gone = [p for p in marks if p not in {each["partition_index"] for each in described["partitions"]}]
            return sorted(found + gone)

        return self._asked("compare with what was read of it", topic, ask)

    # Reading

    def poll(self, topic: str, positions: Mapping[int, int], ends: Mapping[int, int], limit: int) -> list[Record]:
        """Return at most `limit` records at or after `positions` and before `ends`, in order within a partition.

        A partition without an entry in `positions` or `ends` is not read. The partitions that have records left share
        the limit, and take turns to come first. There are fewer records if they are large, or if those of a partition
        do not come. Raises LogUnavailable if records do not come that must be there, or if the brokers do not know a
        partition, and LogError if a position is gone.
        """
        known = self._partitions.get(topic) or self.partitions(topic)
        order = [p for p in sorted(positions) if p in ends and positions[p] < ends[p]]
        if not order or limit < 1:
            return []
        if unknown := set(order) - set(known) and set(order) - set(self.partitions(topic)):
            raise LogUnavailable(
                f"Topic {self.settings.topic(topic)} at {self.settings.servers}: the broker that was asked does not "
                f"know partition {min(unknown)}",
                ASK_AGAIN,
            )
        self._turn = (self._turn + 1) % len(order)
        order = order[self._turn :] + order[: self._turn]
        name = self.settings.topic(topic)
        self._seek(name, {p: positions[p] for p in order})
        self._fill(topic, {TopicPartition(name, p): ends[p] for p in order}, -(-limit // len(order)))
        found: list[Record] = []
        left = {p: self._buffers[TopicPartition(name, p)].before(ends[p]) for p in order}
        marks = self._marks.setdefault(topic, {})
        while len(found) < limit and any(left.values()):
            share = -(-(limit - len(found)) // sum(1 for count in left.values() if count))
            for partition in order:
                count = min(share, left[partition], limit - len(found))
                if count:
                    taken = self._buffers[TopicPartition(name, partition)].take(count)
                    left[partition] -= count
                    found += taken
                    last = taken[-1].offset
                    marks[partition] = Mark(last + 1, self._epochs.of(TopicPartition(name, partition), last))
        return found

    # Writing

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        """Store `records` durably and return their positions in the order given; see KafkaWriter."""
        if self._writer is None:
            from quietcount_producers.kafka.writer import KafkaWriter

            self._writer = KafkaWriter(self.settings, topics=[topic], client_id=CLIENT)
        return self._writer.append(topic, records)

    # Forgetting

    def purge(self, topic: str, before: Mapping[int, int]) -> bool:
        """Let each partition begin at `before`, or at its end if that comes first; return True."""
        beginnings, ends = self.beginning_offsets(topic), self.end_offsets(topic)
        name = self.settings.topic(topic)
        cut = {}
        for partition, wanted in before.items():
            beginning = beginnings.get(partition)
            if beginning is None:
                continue
            following = min(wanted, ends[partition])
            if beginning < following:
                cut[TopicPartition(name, partition)] = following
        if cut:
            self._asked("purge", topic, lambda: self._admin.delete_records(cut, timeout_ms=REQUEST_MS))
        return True

    def scrub(self) -> bool:
        """Do nothing: the brokers give purged bytes back by themselves, segment by segment."""
        return True

    def report(self, topic: str, positions: Mapping[int, int]) -> None:
        """Write `positions` as the group's offsets, for people who watch the cluster; nothing depends on it."""
        name = self.settings.topic(topic)
        offsets = {TopicPartition(name, p): OffsetAndMetadata(at, "", -1) for p, at in positions.items()}
        with contextlib.suppress(Exception):  # information only: a failure here stops nothing
            self._reported = report_offsets(self._admin, self.settings.topic(GROUP), offsets)

    # Inside

    def _describe(self, topic: str) -> dict[str, Any]:
        name = self.settings.topic(topic)

        def ask() -> dict[str, Any]:
            described: dict[str, Any] = self._admin.describe_topics([name])[0]
            error = kafka_errors.for_code(described["error_code"])
            if error is not kafka_errors.NoError:
                raise error()
            if any(each["leader_id"] < 0 for each in described["partitions"]):
                # Else the client asks a leader that nobody knows, and gives up.
                raise kafka_errors.LeaderNotAvailableError()
            return described

        return self._asked("see", topic, ask)

    def _offsets(self, topic: str, spec: OffsetSpec) -> dict[int, int]:
        name = self.settings.topic(topic)
        wanted = {TopicPartition(name, partition): spec for partition in self.partitions(topic)}
        found = self._asked(
            "ask for the offsets of",
            topic,
            lambda: self._admin.list_partition_offsets(wanted, timeout_ms=REQUEST_MS),
        )
        return {tp.partition: int(found[tp].offset) for tp in sorted(found)}

    def _asked(self, act: str, topic: str, ask: Callable[[], T]) -> T:
        """Ask until there is an answer: a broker may be away for a moment."""
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return ask()
            except (kafka_errors.KafkaError, OSError) as error:
                told = connection.explained(error, self.settings, act, topic)
                if not isinstance(told, LogUnavailable) or time.monotonic() > until:
                    raise told from error
                time.sleep(PAUSE_SECONDS)

    @contextlib.contextmanager
    def _explaining(
        self, act: str, topic: str = "", explained: Callable[..., LogError] = connection.explained
    ) -> Iterator[None]:
        try:
            yield
        except (kafka_errors.KafkaError, OSError) as error:
            raise explained(error, self.settings, act, topic) from error

    def _reader(self) -> KafkaConsumer:
        if self._consumer is None:
            with self._explaining("use"):
                self._consumer = record_reader(self.settings, self._epochs, self._volume)
        return self._consumer

    def _seek(self, name: str, positions: Mapping[int, int]) -> None:
        """Let the consumer stand where the caller does, without fetching again what is in hand."""
        consumer = self._reader()
        wanted = {TopicPartition(name, p): at for p, at in positions.items()}
        assigned = consumer.assignment()
        if any(tp.topic != name for tp in assigned):
            self._buffers.clear()
            assigned = set()
        if not set(wanted) <= assigned:
            consumer.assign([*(tp for tp in assigned), *(tp for tp in wanted if tp not in assigned)])
        for tp, at in wanted.items():
            buffer = self._buffers.get(tp)
            if buffer is None or buffer.next != at:
                consumer.seek(tp, at)
                self._buffers[tp] = Fetched(at)

    def _fill(self, topic: str, ends: Mapping[TopicPartition, int], share: int) -> None:
        """Fetch until each partition of `ends` has `share` records in hand, or all there are before its end.

        Be content with those of some partitions if they are many bytes, or if the others do not come.
        """
        consumer = self._reader()
        hungry = set(ends)
        self._volume.bytes = 0
        moved = time.monotonic()
        seen: dict[TopicPartition, int] = {}
        with self._explaining("read", topic, fetched.explained):
            while True:
                for tp in list(hungry):
                    buffer = self._buffers[tp]
                    at = consumer.position(tp, timeout_ms=0)
                    if at != seen.get(tp):
                        seen[tp], moved = at, time.monotonic()
                    if len(buffer) >= share or (at is not None and at >= ends[tp]):
                        hungry.discard(tp)
                if not hungry:
                    return
                paused, full = consumer.paused(), consumer.assignment() - hungry
                if full - paused:
                    consumer.pause(*(full - paused))
                if hungry & paused:
                    consumer.resume(*(hungry & paused))
                waited = time.monotonic() - moved
                enough = waited > PATIENCE_SECONDS or self._volume.bytes >= MAX_POLL
                if enough and any(self._buffers[tp].before(end) for tp, end in ends.items()):
                    return
                if waited > ANSWER_SECONDS:
                    self.partitions(topic)  # raises if the topic is gone
                    # The partition is left out: it would be known to hold something.
                    raise LogUnavailable(
                        f"Topic {self.settings.topic(topic)} at {self.settings.servers}: the records up to its end did "
                        "not come in time. A leader does not answer, or a transaction of another client is still open",
                        f"{ASK_AGAIN}, and that no other client writes to the topic in transactions",
                    )
                for tp, records in consumer.poll(STEP_MS, max_records=ALL).items():
                    if records and type(records[0]) is not Record:
                        raise other_version("_fetcher.PartitionRecords")
                    self._buffers[tp].add(records)
