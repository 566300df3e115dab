"""The topics on Kafka: makes them with the right settings, describes them as they are, and deletes those of a trial."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from quietcount_consumers.kafka.topic_descriptions import (
    TRANSACTIONS,
    ClusterDescription,
    PartitionDescription,
    TopicDescription,
)
from quietcount_consumers.kafka.topic_settings import MOST_REPLICAS, PARTITIONS, TOPICS, wanted_settings
from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka.settings import KafkaSettings
from quietcount_schemas.log import CASE_EVENTS

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

__all__ = ["create_topics", "delete_all_topics", "delete_topics", "describe_topics"]

_CLIENT: Final = "quietcount-topics"
_ACT_MS: Final = 8_000
"""A request to make topics waits until the brokers have heard of them."""
_PATIENCE_SECONDS: Final = 15.0
"""The client keeps asking a broker that just died until the others know; a new leader takes about ten seconds."""
_PAUSE_SECONDS: Final = 0.3
_KNOWN_SECONDS: Final = 5.0
"""All brokers hear of a new topic within a second. A user who may make a topic but not see it would wait in vain."""
_LOOKS: Final = 4
"""A broker that has just heard of a topic has no settings of it yet."""
_AUTO_CREATE: Final = "auto.create.topics.enable"
_TRANSACTION_REPLICAS: Final = "transaction.state.log.replication.factor"

T = TypeVar("T")

_NONE: Final = 0
_UNKNOWN_TOPIC: Final = 3
_HIDDEN: Final = 29
_THERE_ALREADY: Final = 36
"""This and the three above are error codes of the protocol."""


def create_topics(
    settings: KafkaSettings, *, partitions: int | None = None, replication_factor: int | None = None
) -> list[str]:
    """Make the topics that are missing, with the settings they need; return their names on the broker.

    `partitions` is for case events; the other topics have one. The default of `replication_factor` is the number of
    brokers, three at most. A topic that exists stays as it is. Raises LogError or LogUnavailable.
    """
    made: list[str] = []

    def make(admin: KafkaAdminClient) -> None:
        replicas = replication_factor or min(MOST_REPLICAS, _alive(admin.describe_cluster()["brokers"]))
        missing = {
            settings.topic(topic): {
                "num_partitions": partitions if partitions and topic == CASE_EVENTS else PARTITIONS[topic],
                "replication_factor": replicas,
                "configs": {key: wanted.value for key, wanted in wanted_settings(topic, replicas).items()},
            }
            for topic, found in _metadata(admin, settings).items()
            # A topic that this user may not see may be missing: the attempt to make it shows that.
            if found["error_code"] in (_UNKNOWN_TOPIC, _HIDDEN)
        }
        if not missing:
            return
        for answer in admin.create_topics(missing, timeout_ms=_ACT_MS, raise_errors=False)["topics"]:
            if answer["error_code"] == _NONE:
                made.append(answer["name"])
            elif answer["error_code"] != _THERE_ALREADY:  # somebody else may make them at the same time
                raise _refused(answer, "make", settings, made)
        admin.wait_for_topics([name for name in missing if name in made])

    _asked(settings, "make the topics of", make)
    if made:
        _wait_until_known(settings)
    return made


def _wait_until_known(settings: KafkaSettings) -> None:
    """Wait a moment until each broker that answers knows the topics: the next client may ask another one."""
    from quietcount_producers.kafka.connection import reach

    until = time.monotonic() + _KNOWN_SECONDS
    for broker in settings.brokers:
        while time.monotonic() < until:
            try:
                reach(replace(settings, brokers=(broker,)), _CLIENT, TOPICS)
                break
            except LogUnavailable:
                break  # it is down, and learns of them when it starts
            except LogError:
                time.sleep(_PAUSE_SECONDS)


def delete_topics(settings: KafkaSettings) -> list[str]:
    """Delete the topics, and with them all that they hold; return the names of those that were there."""
    deleted: list[str] = []

    def delete(admin: KafkaAdminClient) -> None:
        metadata = _metadata(admin, settings)
        there = [settings.topic(topic) for topic, found in metadata.items() if found["error_code"] != _UNKNOWN_TOPIC]
        if not there:
            return
        for answer in admin.delete_topics(there, timeout_ms=_ACT_MS, raise_errors=False)["topics"]:
            if answer["error_code"] == _NONE:
                deleted.append(answer["name"])
            elif answer["error_code"] != _UNKNOWN_TOPIC:
                raise _refused(answer, "delete", settings, deleted)

    _asked(settings, "delete the topics of", delete)
    return deleted


def delete_all_topics(settings: KafkaSettings) -> None:
    """Delete every topic whose name begins with the prefix of `settings`, which must not be empty."""
    if not settings.topic_prefix:
        raise ValueError("without a prefix these are all topics of the brokers")

    def delete(admin: KafkaAdminClient) -> None:
        there = [name for name in admin.list_topics() if name.startswith(settings.topic_prefix)]
        if there:
            admin.delete_topics(there, timeout_ms=_ACT_MS, raise_errors=False)

    _asked(settings, "delete the topics of", delete)


def describe_topics(settings: KafkaSettings) -> ClusterDescription:
    """Describe the brokers and the topics as this user may see them. Raises LogError or LogUnavailable."""
    for _ in range(_LOOKS - 1):
        description = _asked(settings, "describe the topics of", lambda admin: _description(admin, settings))
        if all(topic.settings or topic.hidden for topic in description.topics.values()):
            return description
        # Forbidden, or made a moment ago.
        time.sleep(_PAUSE_SECONDS)
    return _asked(settings, "describe the topics of", lambda admin: _description(admin, settings))


def _description(admin: KafkaAdminClient, settings: KafkaSettings) -> ClusterDescription:
    from kafka.admin import ConfigResource

    brokers = admin.describe_cluster()["brokers"]
    metadata = _metadata(admin, settings)
    seen = [settings.topic(topic) for topic, found in metadata.items() if found["error_code"] == _NONE]
    broker = str(brokers[0]["broker_id"])
    described = admin.describe_configs(
        [
            *(ConfigResource("TOPIC", name) for name in seen),
            ConfigResource("BROKER", broker, [_AUTO_CREATE, _TRANSACTION_REPLICAS]),
        ],
        config_filter="all",
    )
    of_topics = described.get("topic", {})
    of_broker = described.get("broker", {}).get(broker, {})
    auto_create = of_broker.get(_AUTO_CREATE)
    hosts = [f"{each['host']}:{each['port']}" for each in brokers if not _loopback(each["host"])]
    return ClusterDescription(
        brokers=_alive(brokers),
        topics={
            topic: _described(settings.topic(topic), found, of_topics.get(settings.topic(topic)))
            for topic, found in metadata.items()
            if found["error_code"] != _UNKNOWN_TOPIC
        },
        auto_create=None if auto_create is None else auto_create["value"] == "true",
        open_hosts=() if settings.tls else tuple(sorted(hosts)),
        transaction_replicas=_transaction_replicas(admin, of_broker),
    )


def _transaction_replicas(admin: KafkaAdminClient, of_broker: Mapping[str, Any]) -> int | None:
    """Return the copies of the brokers' topic of transactions, or how many it will have; None if neither is visible."""
    (found,) = admin.describe_topics([TRANSACTIONS])
    if found["error_code"] == _NONE and found["partitions"]:
        return min(len(each["replica_nodes"]) for each in found["partitions"])
    # It is not there yet, or this user may not see it.
    setting = of_broker.get(_TRANSACTION_REPLICAS)
    return None if setting is None else int(setting["value"])


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
    # A user who may not read the settings gets none.
    values = {key: str(entry["value"]) for key, entry in (settings or {}).items()}
    return TopicDescription(name, partitions, values or None)


def _metadata(admin: KafkaAdminClient, settings: KafkaSettings) -> dict[str, dict[str, Any]]:
    """Return what the brokers say of each topic, by its plain name."""
    found = {each["name"]: each for each in admin.describe_topics([settings.topic(topic) for topic in TOPICS])}
    answers = {topic: found[settings.topic(topic)] for topic in TOPICS}
    for topic, answer in answers.items():
        if answer["error_code"] not in (_NONE, _UNKNOWN_TOPIC, _HIDDEN) and not answer["partitions"]:
            what = f"topic {settings.topic(topic)}: the brokers cannot describe it now"
            raise LogUnavailable(what, "Run this again in a minute. If it stays so, look at the brokers")
    return answers


def _alive(brokers: Sequence[Mapping[str, Any]]) -> int:
    return len([each for each in brokers if not each.get("is_fenced")])


def _refused(answer: Mapping[str, Any], act: str, settings: KafkaSettings, done: Sequence[str]) -> LogError:
    """Return the error for an answer that refuses to make or delete a topic; `done` names the topics before it."""
    from kafka.errors import AuthorizationError, for_code

    from quietcount_producers.kafka.connection import explained

    error = for_code(answer["error_code"])
    so_far = f" (done so far: {', '.join(done)})" if done else ""
    if issubclass(error, AuthorizationError):
        told = explained(error(), settings, act, answer["name"].removeprefix(settings.topic_prefix))
        return LogError(f"{told.what}{so_far}", told.remedy)
    said = str(answer.get("error_message") or error.__name__).rstrip(".")
    what = f"Cannot {act} topic {answer['name']} at {settings.servers}: {said}{so_far}"
    return LogError(what, "Do what the broker asks for, and run this again")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _asked(settings: KafkaSettings, act: str, ask: Callable[[KafkaAdminClient], T]) -> T:
    """Return what `ask` returns for a client that has reached the brokers; ask again while one of them goes away.

    Raises LogError or LogUnavailable; the message says what we wanted to do (`act`).
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    from quietcount_producers.kafka.connection import client_options, explained, way_in

    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        # The library's own client ends in a timeout for every reason.
        broker, _ = way_in(settings, _CLIENT)
        # Of several addresses it would take any, and have no time for another if the first does not answer.
        options = client_options(settings, _CLIENT) | {"bootstrap_servers": [broker]}
        try:
            with contextlib.closing(KafkaAdminClient(**options)) as admin:
                return ask(admin)
        except KafkaError as error:
            told = explained(error, settings, act)
            if not isinstance(told, LogUnavailable) or time.monotonic() > until:
                raise told from error
        time.sleep(_PAUSE_SECONDS)
