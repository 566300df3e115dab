"""The way to the brokers, which writers, readers, the ledger and the commands share.

kafka-python retries what no retry will mend: a wrong password, an untrusted certificate and a missing topic all end as
the same timeout after ten seconds, which names none of them. So `reach` connects once, step by step, before any client
is made, and again after one has failed. It reports what is wrong in one sentence, with the key of the configuration.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka import errors as kafka_errors

from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka.handshake import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    LoginRefused,
    ToldCluster,
    refused_login,
    shake_hands,
    unusable,
)
from quietcount_producers.kafka.internals import network_client
from quietcount_producers.kafka.settings import KafkaSettings

__all__ = ["REQUEST_SECONDS", "TopicFacts", "client_options", "explained", "reach", "way_in"]

REQUEST_SECONDS: Final = 10.0
"""For one answer to a client at work: a busy broker may need longer for a request than for saying who it is."""
BACKOFF_SECONDS: Final = 1.0
"""The most between two attempts: with the library's 30 s a broker that came back would stay unnoticed for long."""
METADATA_SECONDS: Final = 60.0
"""How old the client's picture of the cluster may be: so soon it notices added partitions."""

_LOGGERS: Final = ("kafka", "kafka.protocol.parser")
"""The library's debug log shows whole records and passwords, and its parser logs as an error what it cannot read. Its
log lines would also show when the first event after an outage arrived."""

_MOST_NAMED: Final = 9
"""Addresses in a message: a server may name thousands."""
_WRITE: Final = 4
"""The right to write among the rights at a topic (KIP-430); a broker without access rules names them all."""
_CREATE: Final = "Create it with `quietcount topics create`"
_CHECK: Final = "`quietcount topics check` names the values that it should have"
_MAY: Final = "Grant what compose/security.md lists for this role, or correct kafka.username"


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What the brokers say of a topic: its identity (32 hexadecimal digits), and the number of its partitions."""

    identity: str
    partitions: int


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Return the options for a KafkaProducer, KafkaConsumer or KafkaAdminClient. Raises LogError for a file's fault.

    It silences the library's loggers, unless somebody has set their levels: a program that embeds us sets the root's
    level for its own lines, and that must not bring case keys or the hours of events into its log.
    """
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)
    return settings.client(client_id) | {
        "kafka_client": network_client,
        "bootstrap_timeout_ms": int(REQUEST_SECONDS * 1000),
        "request_timeout_ms": int(REQUEST_SECONDS * 1000),
        "reconnect_backoff_max_ms": int(BACKOFF_SECONDS * 1000),
        "metadata_max_age_ms": int(METADATA_SECONDS * 1000),
    }


def reach(
    settings: KafkaSettings, client_id: str, topics: Iterable[str] = (), *, write: bool = False
) -> dict[str, TopicFacts]:
    """Connect to the brokers once, within seconds, and return what they say of `topics` (plain names).

    One broker that lets this client in is enough. Raises LogError for what waiting will not mend: TLS, the password, a
    topic that is missing or that this client may not see or (with `write`) write. Raises LogUnavailable if a broker
    does not answer and could be the one that lets it in. Either names a key of the configuration.
    """
    return way_in(settings, client_id, topics, write=write)[1]


def way_in(
    settings: KafkaSettings, client_id: str, topics: Iterable[str] = (), *, write: bool = False
) -> tuple[str, dict[str, TopicFacts]]:
    """Do as `reach`, and return first the broker that let this client in.

    Give it to the library's client as the only one of `bootstrap_servers`: the client takes any of them, and if that
    one keeps silent it has no time left for a second.
    """
    options = client_options(settings, client_id)
    plain = {settings.topic(topic): topic for topic in topics}
    failures: list[LogError] = []
    for broker in settings.brokers:
        try:
            cluster = shake_hands(settings, broker, options, list(plain))
        except LoginRefused:
            raise  # another broker would refuse it as well, and each try may count towards locking the account
        except LogError as error:  # of this broker alone, like a certificate that ran out
            failures.append(error)
            continue
        try:
            found = _facts(settings, broker, cluster, plain, write=write)
            _check_advertised(settings, broker, cluster.brokers)
            return broker, found
        except LogUnavailable as error:
            failures.append(error)
    # What a person has to mend comes first. But if one broker does not answer, waiting for it may do.
    failures.sort(key=lambda failure: isinstance(failure, LogUnavailable))
    *others, last = failures
    raise type(last)(". ".join([*map(str, others), last.what]), last.remedy)


def _facts(
    settings: KafkaSettings, broker: str, cluster: ToldCluster, plain: Mapping[str, str], *, write: bool
) -> dict[str, TopicFacts]:
    """Return what `broker` says of the topics in `plain`, from its answer. Raises LogError for what is wrong."""
    found: dict[str, TopicFacts] = {}
    for each in cluster.topics:
        name = plain.get(each.name or "")
        if name is None:
            continue  # some servers name every topic if they are asked for none
        if each.error_code:
            raise explained(kafka_errors.for_code(each.error_code)(), settings, "see", name)
        if each.identity is None:
            raise LogError(
                f"{settings.place('log')}: broker {broker} gives topics no identity, so a topic that was made again "
                "would pass for the old one: the broker is too old or not Apache Kafka",
                "Use Apache Kafka 4 or later",
            )
        # None: the broker does not say what is allowed. The append will.
        if write and each.operations is not None and _WRITE not in each.operations:
            raise explained(kafka_errors.TopicAuthorizationFailedError(), settings, "append to", name)
        found[name] = TopicFacts(each.identity.hex, each.partitions)
    for name in plain.values():
        if name not in found:  # the answer leaves it out
            raise explained(kafka_errors.UnknownTopicOrPartitionError(), settings, "see", name)
    return found


def explained(error: BaseException, settings: KafkaSettings, act: str, topic: str = "") -> LogError:
    """Return the error to show for the library's `error` while it was to `act` ("append to", "read").

    `topic` is the plain name. The result is a LogUnavailable if trying again later may do.
    """
    if isinstance(error, LogError):
        return error
    where = f"topic {settings.topic(topic)}" if topic else "Kafka"
    told = f"Cannot {act} {where} at {settings.servers}"
    if isinstance(error, kafka_errors.AuthorizationError):
        kind = "" if isinstance(error, kafka_errors.TopicAuthorizationFailedError) else f" ({_name(error)})"
        return LogError(f"{told}: {_who(settings)} may not{kind}", _MAY)
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError | kafka_errors.UnsupportedSaslMechanismError):
        return refused_login(settings, error)
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError | kafka_errors.UnknownTopicIdError):
        if not topic:
            return LogError(f"{told}: a topic is missing", _CREATE)
        prefix = ". Check kafka.topic_prefix, too" if settings.topic_prefix else ""
        return LogError(f"There is no topic {settings.topic(topic)} at {settings.servers}", f"{_CREATE}{prefix}")
    if isinstance(error, kafka_errors.InvalidTopicError):
        return LogError(f"{told}: Kafka allows no topic of this name", "Correct kafka.topic_prefix")
    if isinstance(error, kafka_errors.MessageSizeTooLargeError | kafka_errors.RecordListTooLargeError):
        return LogError(f"{told}: the batch is larger than its max.message.bytes", _CHECK)
    if isinstance(error, kafka_errors.InvalidTimestampError | kafka_errors.InvalidRecordError):
        return LogError(
            f"{told}: the broker refuses the records, usually for their dates: see its message.timestamp.type, "
            "message.timestamp.before.max.ms and message.timestamp.after.max.ms",
            _CHECK,
        )
    if isinstance(error, kafka_errors.NotEnoughReplicasError | kafka_errors.NotEnoughReplicasAfterAppendError):
        return LogUnavailable(
            f"{told}: fewer replicas are in sync than its min.insync.replicas asks for",
            "Start the brokers that are down, and let those that lag catch up. If it asks for all replicas, it takes "
            f"nothing while one of them is down. {_CHECK}",
        )
    if isinstance(error, kafka_errors.KafkaConnectionError | kafka_errors.NodeNotReadyError):
        return LogUnavailable(f"{told}: the connection was lost", "Check that the brokers of `log` run")
    # A leader that has just died is in no list of brokers. The library takes it for one that never was.
    gone = kafka_errors.UnknownBrokerIdError | kafka_errors.BrokerNotAvailableError
    if isinstance(error, kafka_errors.RetriableError | gone | OSError):
        return LogUnavailable(f"{told}: no answer in time ({_name(error)})", "Check that the brokers of `log` run")
    return LogError(f"{told}: {_name(error)}", "Look for it in the logs of the brokers")


def _check_advertised(settings: KafkaSettings, broker: str, addresses: Sequence[tuple[str, int]]) -> None:
    """Raise LogUnavailable if none of the addresses that the broker gave can be reached.

    Clients go on to these addresses. Behind a container's port they are often not the one that is configured.
    """
    until = time.monotonic() + ANSWER_SECONDS
    for host, port in addresses:
        left = until - time.monotonic()
        if left <= 0:
            break
        with contextlib.suppress(OSError, UnicodeError):
            socket.create_connection((host, port), min(CONNECT_SECONDS, left)).close()
            return
    told = ", ".join(f"{host}:{port}" for host, port in addresses[:_MOST_NAMED]) or "none"
    raise unusable(
        settings,
        broker,
        f"it answers, but none of the addresses that it gives for the brokers can be reached from here: {told} (see "
        "advertised.listeners of the brokers)",
    )


def _who(settings: KafkaSettings) -> str:
    if settings.username is not None:
        return f"kafka.username {settings.username!a}"
    return "the owner of kafka.certificate_file" if settings.certificate_file else "a client without a name"


def _name(error: BaseException) -> str:
    return type(error).__name__  # the text may show a record
