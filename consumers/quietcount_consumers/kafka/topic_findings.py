"""What is wrong with the topics on Kafka, why it matters and what to do: the judgement of a description.

Nothing here asks a broker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from quietcount_consumers.kafka.topic_descriptions import TRANSACTIONS, ClusterDescription, TopicDescription
from quietcount_consumers.kafka.topic_settings import MOST_REPLICAS, PARTITIONS, TOPICS, wanted_settings
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.finding import Finding, Severity
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, RELEASES, SETTLEMENTS

__all__ = ["topic_findings"]


class _Rule(NamedTuple):
    """What is said of one fault; words in braces are filled in."""

    code: str
    severity: Severity
    what: str
    remedy: str


_BROKERS: Final = "brokers"
_WRONG, _WARNING = Severity.WRONG, Severity.WARNING
_DELETE: Final = "if the topic is empty, delete it and run: quietcount topics create"
_RULES: Final[Mapping[str, _Rule]] = {
    "missing": _Rule("topic", _WRONG, "it is missing, so nothing can use it", "Run: quietcount topics create"),
    "hidden": _Rule(
        "topic",
        _WRONG,
        "it is hidden: this user may not see whether it is there",
        "Allow DESCRIBE on it to the user of {config}",
    ),
    "settings hidden": _Rule(
        "settings",
        _WARNING,
        "its settings are hidden: this user lacks DESCRIBE_CONFIGS on the topic",
        "Allow it, or check as a user who has it",
    ),
    "setting": _Rule(
        "{setting}",
        _WRONG,
        "{setting} is {found}, not {wanted}. {why}",
        "Run: kafka-configs.sh --bootstrap-server {broker}{login} --alter --entity-type topics --entity-name {topic} "
        "--add-config {setting}={value}",
    ),
    "event partitions": _Rule(
        "partitions",
        _WRONG,
        "it has {found} partitions, and the ledger was opened with {wanted}. The events of a case would lie in several "
        "partitions, where they have no order, so the service folds nothing",
        'Stop the emitters, and do what docs/kafka.md says under "If partitions were added"',
    ),
    "ledger partitions": _Rule(
        "partitions",
        _WRONG,
        "it has {found} partitions, not 1. What a ledger holds has one order, which only one partition keeps",
        f"Partitions cannot be taken away: {_DELETE}",
    ),
    "dead letter partitions": _Rule(
        "partitions",
        _WARNING,
        "it has {found} partitions, not {wanted}. Dead letters have no key and go to the first one: the others stay "
        "empty",
        "Leave it; or, if you need none of the dead letters, delete the topic and run: quietcount topics create",
    ),
    "leader": _Rule(
        "leader",
        _WRONG,
        "partition {numbers} has no leader: it is offline, and nobody can write or read it",
        "Start the brokers that hold it",
    ),
    "in sync": _Rule(
        "in-sync replicas",
        _WRONG,
        "too few replicas of partition {numbers} are in sync. If one more broker fails, writing stops or records are "
        "lost",
        "Start the brokers that are down, and wait until all have caught up",
    ),
    "replication": _Rule(
        "replication factor",
        _WRONG,
        "the replication factor is {found}, not {wanted}. If a broker holds the only copy, it is lost with the broker",
        f"Use kafka-reassign-partitions.sh; or, {_DELETE}",
    ),
    "one broker": _Rule(
        "replication factor",
        _WARNING,
        f"the replication factor is 1, not {MOST_REPLICAS}. One broker holds the only copy: with flush.messages=1 it "
        "survives a power cut, but not the loss of its disk",
        "Run three brokers if the loss of a disk must not lose events",
    ),
    "transactions": _Rule(
        "replication factor",
        _WARNING,
        "the replication factor is {found}, not {wanted}. While a broker with the only copy of a partition is away, "
        "the ledger takes no entry and nothing is released",
        "Use kafka-reassign-partitions.sh, and set transaction.state.log.replication.factor={wanted} in "
        "server.properties of every broker",
    ),
    "auto create hidden": _Rule(
        "auto.create.topics.enable",
        _WARNING,
        "auto.create.topics.enable is hidden: this user lacks DESCRIBE_CONFIGS on the cluster",
        "Allow it, or check as a user who has it",
    ),
    "auto create": _Rule(
        "auto.create.topics.enable",
        _WRONG,
        "auto.create.topics.enable is true, not false. A client that asks for a misspelt or deleted topic then makes "
        "it, with settings that lose events",
        "Set auto.create.topics.enable=false in server.properties of every broker, and restart them",
    ),
    "tls": _Rule(
        "kafka.tls",
        _WARNING,
        "{host} is used without TLS. Anybody on the network between can read every event and may write others",
        "Give the brokers a TLS listener and set kafka.tls = true",
    ),
}


def topic_findings(
    description: ClusterDescription, settings: KafkaSettings, *, partitions: int | None = None
) -> list[Finding]:
    """Return what is wrong with the topics and the brokers, and what people should know about them.

    `partitions` is the number with which the ledger was opened; None if nobody knows it here. The `code` of a finding
    names the setting, and `where` the topic, or "brokers" for all of them.
    """
    found: list[Finding] = []
    for topic in TOPICS:
        described = description.topics.get(topic)
        if described is None:
            found.append(_found("missing", settings.topic(topic)))
        elif described.hidden:
            found.append(_found("hidden", settings.topic(topic), config=settings.config))
        else:
            found += _of_topic(topic, described, description, settings)
            if topic == CASE_EVENTS:
                found += _of_event_partitions(described, partitions)
    return [*found, *_of_cluster(description)]


def _found(rule: str, where: str, **facts: object) -> Finding:
    code, severity, what, remedy = _RULES[rule]
    return Finding(where, what.format(**facts), remedy.format(**facts), code.format(**facts), severity)


def _of_topic(
    topic: str, described: TopicDescription, description: ClusterDescription, settings: KafkaSettings
) -> Iterator[Finding]:
    yield from _of_partitions(topic, described)
    possible = min(MOST_REPLICAS, description.brokers)
    if described.partitions and described.replicas < possible:
        yield _found("replication", described.name, found=described.replicas, wanted=possible)
    if described.settings is None:
        yield _found("settings hidden", described.name)
        return
    # Kafka's own tools take TLS, names and passwords from a file of theirs.
    login = " --command-config client.properties" if settings.tls or settings.username else ""
    for key, wanted in wanted_settings(topic, described.replicas).items():
        value = described.settings.get(key)
        # A broker that does not know a setting, as an older one, does not do what it governs.
        if value is not None and not wanted.accepts(value):
            yield _found(
                "setting",
                described.name,
                setting=key,
                found=value,
                wanted=wanted.allowed,
                why=wanted.why,
                broker=settings.brokers[0],
                login=login,
                topic=described.name,
                value=wanted.value,
            )


def _of_event_partitions(described: TopicDescription, partitions: int | None) -> Iterator[Finding]:
    if partitions is not None and partitions != len(described.partitions):
        yield _found("event partitions", described.name, found=len(described.partitions), wanted=partitions)


def _of_partitions(topic: str, described: TopicDescription) -> Iterator[Finding]:
    number, name = len(described.partitions), described.name
    if topic in (RELEASES, SETTLEMENTS) and number != 1:
        yield _found("ledger partitions", name, found=number)
    if topic == DEAD_LETTERS and number != PARTITIONS[topic]:
        yield _found("dead letter partitions", name, found=number, wanted=PARTITIONS[topic])
    leaderless = [each.number for each in described.partitions if each.leader is None]
    if leaderless:
        yield _found("leader", name, numbers=_listed(leaderless))
    behind = [
        each.number
        for each in described.partitions
        if each.leader is not None and len(each.in_sync) < len(each.replicas)
    ]
    if behind:
        yield _found("in sync", name, numbers=_listed(behind))


def _of_cluster(description: ClusterDescription) -> Iterator[Finding]:
    if description.brokers == 1 and any(topic.replicas == 1 for topic in description.topics.values()):
        yield _found("one broker", _BROKERS)
    possible = min(MOST_REPLICAS, description.brokers)
    if description.transaction_replicas is not None and description.transaction_replicas < possible:
        yield _found("transactions", TRANSACTIONS, found=description.transaction_replicas, wanted=possible)
    if description.auto_create is None:
        yield _found("auto create hidden", _BROKERS)
    elif description.auto_create:
        yield _found("auto create", _BROKERS)
    for host in description.open_hosts:
        yield _found("tls", _BROKERS, host=host)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
