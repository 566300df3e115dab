"""The topics on Kafka: made with the right settings, described as they are, and deleted where a trial made them."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka_settings import KafkaSettings

from .topic_settings import (
    MOST_REPLICAS,
    PARTITIONS,
    TOPICS,
    ClusterDescription,
    PartitionDescription,
    TopicDescription,
    wanted_settings,
)

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

__all__ = ["create_topics", "delete_topics", "describe_topics"]

_CLIENT: Final = "quietcount-topics"
# Making topics waits for every broker to hear of them.
_ACT_MS: Final = 30_000

# Error codes of the protocol.
_NONE: Final = 0
_UNKNOWN_TOPIC: Final = 3
_HIDDEN: Final = 29
_THERE_ALREADY: Final = 36


def create_topics(
    settings: KafkaSettings, *, partitions: int | None = None, replication_factor: int | None = None
) -> list[str]:
    """Make the topics that are missing, with the settings they need; return their names on the broker.

    `partitions` is for case events; the other topics have one. `replication_factor` is the number of brokers, three at
    most, unless given. What is there already is left as it is. Raises LogError or LogUnavailable.
    """
    with _admin(settings, "make the topics of") as admin:
        replicas = replication_factor or min(MOST_REPLICAS, _brokers(admin))
        there = _metadata(admin, settings)
        missing = {
            settings.topic(topic): {
                "num_partitions": partitions if partitions and topic == TOPICS[0] else PARTITIONS[topic],
                "replication_factor": replicas,
                "configs": {key: wanted.value for key, wanted in wanted_settings(topic, replicas).items()},
            }
            for topic in TOPICS
            if there[topic]["error_code"] == _UNKNOWN_TOPIC
        }
        if not missing:
            return []
        answers = admin.create_topics(missing, timeout_ms=_ACT_MS, raise_errors=False)["topics"]
        made = []
        for answer in answers:
            if answer["error_code"] == _NONE:
                made.append(answer["name"])
            elif answer["error_code"] != _THERE_ALREADY:  # somebody else makes them at the same time
                raise _refused(answer, "make", settings, made)
        admin.wait_for_topics(list(missing))
        return made


def delete_topics(settings: KafkaSettings) -> list[str]:
    """Delete the topics, and with them all that they hold; return the names of those that were there."""
    with _admin(settings, "delete the topics of") as admin:
        there = [
            settings.topic(topic)
            for topic, found in _metadata(admin, settings).items()
            if found["error_code"] != _UNKNOWN_TOPIC
        ]
        if not there:
            return []
        deleted = []
        for answer in admin.delete_topics(there, timeout_ms=_ACT_MS, raise_errors=False)["topics"]:
            if answer["error_code"] == _NONE:
                deleted.append(answer["name"])
            elif answer["error_code"] != _UNKNOWN_TOPIC:
                raise _refused(answer, "delete", settings, deleted)
        return deleted


def describe_topics(settings: KafkaSettings) -> ClusterDescription:
    """Describe the brokers and the topics as this user may see them. Raises LogError or LogUnavailable."""
    from kafka.admin import ConfigResource

    with _admin(settings, "describe the topics of") as admin:
        brokers = admin.describe_cluster()["brokers"]
        metadata = _metadata(admin, settings)
        seen = [settings.topic(topic) for topic, found in metadata.items() if found["error_code"] == _NONE]
        broker = str(brokers[0]["broker_id"])
        described = admin.describe_configs(
            [
                *(ConfigResource("TOPIC", name) for name in seen),
                ConfigResource("BROKER", broker, ["auto.create.topics.enable"]),
            ],
            config_filter="all",
        )
    of_topics = described.get("topic", {})
    auto_create = described.get("broker", {}).get(broker, {}).get("auto.create.topics.enable")
    topics = {
        topic: _described(settings.topic(topic), found, of_topics.get(settings.topic(topic)))
        for topic, found in metadata.items()
        if found["error_code"] != _UNKNOWN_TOPIC
    }
    hosts = [f"{each['host']}:{each['port']}" for each in brokers if not _loopback(each["host"])]
    return ClusterDescription(
        brokers=len([each for each in brokers if not each.get("is_fenced")]),
        topics=topics,
        auto_create=None if auto_create is None else auto_create["value"] == "true",
        open_hosts=() if settings.tls else tuple(sorted(hosts)),
    )


def _described(name: str, found: Mapping[str, Any], settings: Mapping[str, Any] | None) -> TopicDescription:
    if found["error_code"] == _HIDDEN:
        return TopicDescription(name, hidden=True)
    partitions = tuple(
        PartitionDescription(
            number=each["partition_index"],
            leader=each["leader_id"] if each["leader_id"] >= 0 else None,
            replicas=tuple(each["replica_nodes"]),
            in_sync=tuple(each["isr_nodes"]),
        )
        for each in sorted(found["partitions"], key=lambda each: int(each["partition_index"]))
    )
    # A user who may not read the settings is answered with none.
    values = {key: str(entry["value"]) for key, entry in (settings or {}).items()}
    return TopicDescription(name, partitions, values or None)


def _metadata(admin: KafkaAdminClient, settings: KafkaSettings) -> dict[str, dict[str, Any]]:
    """Return what the brokers say of each topic, by its plain name."""
    found = {each["name"]: each for each in admin.describe_topics([settings.topic(topic) for topic in TOPICS])}
    answers = {topic: found[settings.topic(topic)] for topic in TOPICS}
    for topic, answer in answers.items():
        if answer["error_code"] not in (_NONE, _UNKNOWN_TOPIC, _HIDDEN) and not answer["partitions"]:
            raise LogUnavailable(f"topic {settings.topic(topic)}: the brokers cannot say what it is; try again later")
    return answers


def _brokers(admin: KafkaAdminClient) -> int:
    return len([each for each in admin.describe_cluster()["brokers"] if not each.get("is_fenced")])


def _refused(answer: Mapping[str, Any], act: str, settings: KafkaSettings, done: Sequence[str]) -> LogError:
    """Return what a person is told of an answer that refuses to make or delete a topic."""
    from kafka.errors import AuthorizationError, for_code

    from quietcount_producers.kafka_connection import explained

    error = for_code(answer["error_code"])
    so_far = f" Done so far: {', '.join(done)}." if done else ""
    if issubclass(error, AuthorizationError):
        return LogError(
            f"{explained(error(), settings, act, answer['name'].removeprefix(settings.topic_prefix))}{so_far}"
        )
    said = str(answer.get("error_message") or error.__name__).rstrip(".")
    return LogError(f"Cannot {act} topic {answer['name']} at {settings.servers}: {said}.{so_far}")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _admin(settings: KafkaSettings, act: str) -> Iterator[KafkaAdminClient]:
    """Give the body a client that has reached the brokers; tell what they refuse of what is to be done (`act`)."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    from quietcount_producers.kafka_connection import client_options, explained, reach

    # The library's own client ends in a timeout, whatever keeps it from the brokers.
    reach(settings, _CLIENT)
    try:
        admin = KafkaAdminClient(**client_options(settings, _CLIENT))
        try:
            yield admin
        finally:
            admin.close()
    except KafkaError as error:
        raise explained(error, settings, act) from error
