"""What the topics on Kafka have to be, why, and what is wrong with the ones that are there: no broker is asked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from quietcount_consumers.kafka.topic_descriptions import TRANSACTIONS, ClusterDescription, TopicDescription
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, RELEASES

__all__ = [
    "PARTITIONS",
    "TOPICS",
    "Finding",
    "Severity",
    "Wanted",
    "findings",
    "wanted_settings",
]

TOPICS: Final = (CASE_EVENTS, DEAD_LETTERS, RELEASES)

PARTITIONS: Final[Mapping[str, int]] = {CASE_EVENTS: 4, DEAD_LETTERS: 1, RELEASES: 1}
"""How many partitions a topic is made with. One process folds all of them, so a few for case events are plenty, and
each more is one more newest segment in which purged events wait for the disk to be freed of them."""

MOST_REPLICAS: Final = 3

_MEBIBYTE: Final = 1 << 20
_FOREVER: Final = (1 << 63) - 1
_A_BATCH: Final = 1_048_588  # Kafka's own default: a batch of a mebibyte and its header
_A_DAY: Final = 86_400_000  # ms


@dataclass(frozen=True, slots=True)
class Wanted:
    """A setting of a topic: the value that `topics create` writes, the others that are as good, and why no other is.

    Without bounds the value is the only one. `why` says what another value does, as a sentence.
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
        """What a topic may be set to, for a table."""
        if self.least is None and self.most is None:
            return self.value
        if self.least is None or self.least == self.most:
            return f"{self.most} at most" if self.least is None else str(self.least)
        return f"{self.least} at least" if self.most is None else f"{self.least} to {self.most}"


class Severity(StrEnum):
    """Whether a finding has to be mended, or is to be known."""

    WRONG = "wrong"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about the topics: what was found and wanted, why it matters, and what to do."""

    severity: Severity
    topic: str
    setting: str
    found: str
    wanted: str
    why: str
    remedy: str


def wanted_settings(topic: str, replicas: int) -> dict[str, Wanted]:
    """Return the settings of the topic with the plain name `topic`, each partition of which has `replicas` copies."""
    settings = {
        "cleanup.policy": Wanted("delete", "Compaction drops all but the last record of a key: events are lost."),
        "retention.ms": Wanted("-1", "The broker deletes by age what was not folded yet; purging is the service's."),
        "retention.bytes": Wanted(
            "-1", "The broker deletes by size what was not folded yet; purging is the service's."
        ),
        "min.insync.replicas": (
            Wanted(
                "1",
                "It asks for more copies than there are: older brokers then refuse every record, newer take it for 1.",
                most=1,
                least=1,
            )
            if replicas < 2
            else Wanted(
                "2",
                "With less than 2 what is acknowledged is lost with one broker; with all, one that stops stops all.",
                least=2,
                most=max(2, replicas - 1),
            )
        ),
        "unclean.leader.election.enable": Wanted(
            "false", "A broker that lacks the newest records may become leader: acknowledged ones are lost."
        ),
        "message.timestamp.type": Wanted(
            "CreateTime", "The broker writes the moment of arrival to each record, which tells when somebody came."
        ),
        "message.timestamp.before.max.ms": Wanted(
            str(_FOREVER), "Events of longer ago are refused: their timestamp is the coarsened date."
        ),
        "message.timestamp.after.max.ms": Wanted(
            str(_FOREVER), "Records are refused whose timestamp is ahead of the broker's clock."
        ),
        "compression.type": Wanted(
            "uncompressed",
            "One emitter that compresses as the service cannot read (lz4, snappy, zstd) would stop it for all.",
        ),
        "remote.storage.enable": Wanted("false", "Copies go to a storage from which nothing purges them for certain."),
        **_SIZES[topic],
    }
    if replicas < 2:
        settings["flush.messages"] = Wanted(
            "1", "The only copy is acknowledged before it is on the disk: a power cut loses it."
        )
    if topic == RELEASES:
        settings["retention.ms"] = settings["retention.bytes"] = Wanted(
            "-1", "The broker deletes the ledger, which is the truth for all that was published."
        )
        settings["cleanup.policy"] = Wanted("delete", "Compaction tears entries out of the ledger.")
    return settings


_SEGMENTS: Final = "Purged records stay on the disk until the segment that holds them is closed."
_SIZES: Final[Mapping[str, Mapping[str, Wanted]]] = {
    CASE_EVENTS: {
        "max.message.bytes": Wanted(
            str(_A_BATCH),
            "With less a batch of events is refused; with more, one batch fills the memory of the service.",
            least=_A_BATCH,
            most=16 * _MEBIBYTE,
        ),
        # Time goes by the records' own timestamps, which are whole days: the first event of a later date closes the
        # segment if the date is further away than this.
        "segment.ms": Wanted("3600000", _SEGMENTS, least=1, most=_A_DAY - 1),
        "segment.bytes": Wanted(str(16 * _MEBIBYTE), _SEGMENTS, least=_A_BATCH, most=64 * _MEBIBYTE),
    },
    DEAD_LETTERS: {
        "max.message.bytes": Wanted(
            str(_A_BATCH),
            "With less a dead letter is refused, and the service stands still; with more, it may fill the memory.",
            least=_A_BATCH,
            most=16 * _MEBIBYTE,
        ),
        # Dead letters have no date, so time goes by when the segment was begun.
        "segment.ms": Wanted("3600000", _SEGMENTS, least=1, most=_A_DAY - 1),
        "segment.bytes": Wanted(str(2 * _MEBIBYTE), _SEGMENTS, least=_A_BATCH, most=16 * _MEBIBYTE),
    },
    RELEASES: {
        "max.message.bytes": Wanted(
            str(16 * _MEBIBYTE), "A release with many cells is refused by the broker.", least=16 * _MEBIBYTE
        ),
        "segment.bytes": Wanted(
            str(128 * _MEBIBYTE), "A release that is larger than a segment is refused.", least=16 * _MEBIBYTE
        ),
    },
}


def findings(description: ClusterDescription, settings: KafkaSettings) -> list[Finding]:
    """Return what is wrong with the topics, and what is to be known of them."""
    found: list[Finding] = []
    for topic in TOPICS:
        described = description.topics.get(topic)
        if described is None:
            found.append(
                Finding(
                    Severity.WRONG,
                    settings.topic(topic),
                    "topic",
                    "missing",
                    "there",
                    "Nothing can be written to it or read from it.",
                    "quietcount topics create",
                )
            )
        elif described.hidden:
            found.append(
                Finding(
                    Severity.WRONG,
                    settings.topic(topic),
                    "topic",
                    "hidden",
                    "described",
                    "This user may not see it, if it is there.",
                    f"allow DESCRIBE on it to the user of {settings.config}",
                )
            )
        else:
            found += _of_topic(topic, described, description, settings)
    return [*found, *_of_cluster(description)]


def _of_topic(
    topic: str, described: TopicDescription, description: ClusterDescription, settings: KafkaSettings
) -> Iterator[Finding]:
    yield from _of_partitions(topic, described)
    yield from _of_replicas(described, description)
    if described.settings is None:
        yield Finding(
            Severity.WARNING,
            described.name,
            "settings",
            "hidden",
            "readable",
            "Its settings could not be checked: this user lacks DESCRIBE_CONFIGS on the topic.",
            "allow DESCRIBE_CONFIGS on it, or check as a user who may",
        )
        return
    # Kafka's own tools take TLS, names and passwords from a file of theirs.
    login = " --command-config client.properties" if settings.tls or settings.username else ""
    for key, wanted in wanted_settings(topic, described.replicas).items():
        value = described.settings.get(key)
        # A broker that does not know a setting, as an older one, does not do what it governs.
        if value is not None and not wanted.accepts(value):
            yield Finding(
                Severity.WRONG,
                described.name,
                key,
                value,
                wanted.allowed,
                wanted.why,
                f"kafka-configs.sh --bootstrap-server {settings.brokers[0]}{login} --alter --entity-type topics "
                f"--entity-name {described.name} --add-config {key}={wanted.value}",
            )


def _of_partitions(topic: str, described: TopicDescription) -> Iterator[Finding]:
    number = len(described.partitions)
    if topic == RELEASES and number != 1:
        yield Finding(
            Severity.WRONG,
            described.name,
            "partitions",
            str(number),
            "1",
            "Entries of a ledger have one order, and only a partition has one.",
            "partitions cannot be taken away: if the topic is empty, delete it and run quietcount topics create",
        )
    if topic == DEAD_LETTERS and number != PARTITIONS[topic]:
        yield Finding(
            Severity.WARNING,
            described.name,
            "partitions",
            str(number),
            str(PARTITIONS[topic]),
            "Dead letters have no key, so all of them go to the first partition; the others stay empty.",
            "leave it; or, if no dead letter is wanted any more, delete the topic and run quietcount topics create",
        )
    leaderless = [partition.number for partition in described.partitions if partition.leader is None]
    if leaderless:
        yield Finding(
            Severity.WRONG,
            described.name,
            "leader",
            _listed(leaderless, "none for partition"),
            "one each",
            "These partitions are offline: they can be neither written nor read.",
            "start the brokers that hold them",
        )
    behind = [
        partition.number
        for partition in described.partitions
        if partition.leader is not None and len(partition.in_sync) < len(partition.replicas)
    ]
    if behind:
        yield Finding(
            Severity.WRONG,
            described.name,
            "in-sync replicas",
            _listed(behind, "too few for partition"),
            "all",
            "Brokers lack records of these partitions: one more that fails stops writing, or loses them.",
            "start the brokers that are down; wait for those that catch up",
        )


def _of_replicas(described: TopicDescription, description: ClusterDescription) -> Iterator[Finding]:
    possible = min(MOST_REPLICAS, description.brokers)
    if not described.partitions:
        return
    if described.replicas < possible:
        yield Finding(
            Severity.WRONG,
            described.name,
            "replication factor",
            str(described.replicas),
            str(possible),
            "There are brokers for more copies: what one holds alone is lost with it.",
            "kafka-reassign-partitions.sh; or, if the topic is empty, delete it and run quietcount topics create",
        )


def _of_cluster(description: ClusterDescription) -> Iterator[Finding]:
    if description.brokers == 1 and any(topic.replicas == 1 for topic in description.topics.values()):
        yield Finding(
            Severity.WARNING,
            "",
            "replication factor",
            "1",
            str(MOST_REPLICAS),
            "One broker holds the only copy: flush.messages=1 lets it survive a power cut; it goes with its disk.",
            "run three brokers where losing a disk must not lose events",
        )
    possible = min(MOST_REPLICAS, description.brokers)
    if description.transaction_replicas is not None and description.transaction_replicas < possible:
        yield Finding(
            Severity.WARNING,
            TRANSACTIONS,
            "replication factor",
            str(description.transaction_replicas),
            str(possible),
            "Nothing can be appended to the ledger, and so nothing released, while a broker with the only copy of a "
            "partition is away.",
            f"kafka-reassign-partitions.sh, and transaction.state.log.replication.factor={possible} in "
            "server.properties of every broker",
        )
    if description.auto_create is None:
        yield Finding(
            Severity.WARNING,
            "",
            "auto.create.topics.enable",
            "hidden",
            "false",
            "It could not be checked: this user lacks DESCRIBE_CONFIGS on the cluster.",
            "allow it, or check as a user who may",
        )
    elif description.auto_create:
        yield Finding(
            Severity.WRONG,
            "",
            "auto.create.topics.enable",
            "true",
            "false",
            "A topic that is misspelt or gone is made by whoever asks for it, with settings that lose events.",
            "set auto.create.topics.enable=false in server.properties of every broker, and restart them",
        )
    for host in description.open_hosts:
        yield Finding(
            Severity.WARNING,
            "",
            "kafka.tls",
            f"{host} without TLS",
            "TLS",
            "Whoever is on the network between reads every event, and may write others.",
            "give the brokers a TLS listener and set kafka.tls = true",
        )


def _listed(numbers: Sequence[int], what: str) -> str:
    return f"{what} " + ", ".join(map(str, sorted(numbers)))
