"""The way to the brokers, which writers, readers, the ledger and the commands share.

kafka-python tries again for ever what no trying will mend: a wrong password, an untrusted certificate, a topic that is
not there all end as one timeout that names none of them. So `reach` goes the way once by itself, step by step, before a
client is made, and after one has failed: whatever is wrong is told in one sentence, with the key that names it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka_handshake import ANSWER_SECONDS, CONNECT_SECONDS, refused_login, shake_hands, unusable
from quietcount_producers.kafka_settings import KafkaSettings

__all__ = ["REQUEST_SECONDS", "TopicFacts", "client_options", "explained", "reach"]

REQUEST_SECONDS: Final = 10.0
"""For one answer to a client that works: a busy broker may need longer than one that is asked who it is."""
BACKOFF_SECONDS: Final = 1.0
"""Between attempts at most: the library's 30 s would leave a broker unnoticed that came back long ago."""
METADATA_SECONDS: Final = 60.0
"""How old the client's picture of the cluster may be: within it added partitions are noticed."""

_LEVELS: Final = {"kafka": logging.WARNING, "kafka.protocol.parser": logging.CRITICAL}
"""The library's debug log shows whole records and passwords, and its parser what it cannot read, as an error."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What the brokers say of a topic: its identity (32 hexadecimal digits), and the number of its partitions."""

    identity: str
    partitions: int


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Return the options for a KafkaProducer, KafkaConsumer or KafkaAdminClient. Raises LogError for a file's fault.

    The library's loggers are set to tell no record, unless somebody has set their levels: a level of the root that an
    embedding program chose for its own lines must not bring case keys into its log.
    """
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
    return settings.client(client_id) | {
        "kafka_client": _client,
        "bootstrap_timeout_ms": int(REQUEST_SECONDS * 1000),
        "request_timeout_ms": int(REQUEST_SECONDS * 1000),
        "reconnect_backoff_max_ms": int(BACKOFF_SECONDS * 1000),
        "metadata_max_age_ms": int(METADATA_SECONDS * 1000),
    }


def reach(
    settings: KafkaSettings, client_id: str, topics: Iterable[str] = (), *, write: bool = False
) -> dict[str, TopicFacts]:
    """Go the way to the brokers once, within seconds, and return what they say of `topics` (plain names).

    Raises LogUnavailable when no broker answers, and LogError for what waiting will not mend: TLS, the password, a
    topic that is missing, not to be seen or (with `write`) not to be written. Either names a key of the configuration.
    """
    options = client_options(settings, client_id)
    plain = {settings.topic(topic): topic for topic in topics}
    failures: list[LogError] = []
    for broker in settings.brokers:
        try:
            metadata = shake_hands(settings, broker, options, list(plain))
            found: dict[str, TopicFacts] = {}
            for each in metadata.topics:
                name = plain.get(each.name)
                if name is None:
                    continue  # some that speak the protocol tell of every topic when they are asked for none
                if each.error_code:
                    raise explained(kafka_errors.for_code(each.error_code)(), settings, "see", name)
                if each.topic_id is None:
                    raise LogError(
                        f"{settings.place('log')}: broker {broker} gives topics no identity, so that one that was "
                        "made again would be taken for the old one: it is too old a broker, or none of Apache Kafka. "
                        "Name one of Apache Kafka 4."
                    )
                # None: it does not tell what is allowed. The append does.
                if write and each.authorized_operations is not None and _WRITE not in each.authorized_operations:
                    raise explained(kafka_errors.TopicAuthorizationFailedError(), settings, "append to", name)
                found[name] = TopicFacts(each.topic_id.hex, len(each.partitions))
            _check_advertised(settings, broker, [(each.host, each.port) for each in metadata.brokers])
            return found
        except LogUnavailable as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    raise LogUnavailable(" ".join(str(failure) for failure in failures))


def explained(error: BaseException, settings: KafkaSettings, act: str, topic: str = "") -> LogError:
    """Return what a person is told of the library's `error` while it was to `act` ("append to", "read").

    `topic` is the plain name. It is a LogUnavailable where trying again later may do.
    """
    if isinstance(error, LogError):
        return error
    where = f"topic {settings.topic(topic)}" if topic else "Kafka"
    told = f"Cannot {act} {where} at {settings.servers}"
    if isinstance(error, kafka_errors.AuthorizationError):
        kind = "" if isinstance(error, kafka_errors.TopicAuthorizationFailedError) else f" ({_name(error)})"
        return LogError(f"{told}: {_who(settings)} may not{kind}. {_MAY}")
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError | kafka_errors.UnsupportedSaslMechanismError):
        return refused_login(settings, error)
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError | kafka_errors.UnknownTopicIdError):
        if not topic:
            return LogError(f"{told}: a topic is missing. {_CREATE}")
        prefix = " Check kafka.topic_prefix, too." if settings.topic_prefix else ""
        return LogError(f"There is no topic {settings.topic(topic)} at {settings.servers}. {_CREATE}{prefix}")
    if isinstance(error, kafka_errors.InvalidTopicError):
        return LogError(f"{told}: that is no name for a topic. Correct kafka.topic_prefix.")
    if isinstance(error, kafka_errors.MessageSizeTooLargeError | kafka_errors.RecordListTooLargeError):
        return LogError(f"{told}: the batch is larger than its max.message.bytes. {_CHECK}")
    if isinstance(error, kafka_errors.InvalidTimestampError | kafka_errors.InvalidRecordError):
        return LogError(
            f"{told}: the broker refuses the records, as a rule for their dates: see its message.timestamp.type, "
            f"message.timestamp.before.max.ms and message.timestamp.after.max.ms. {_CHECK}"
        )
    if isinstance(error, kafka_errors.NotEnoughReplicasError | kafka_errors.NotEnoughReplicasAfterAppendError):
        return LogUnavailable(
            f"{told}: fewer replicas are in step than its min.insync.replicas asks for. Start the brokers that are "
            f"down; if none is, min.insync.replicas is above the number of replicas. {_CHECK}"
        )
    if isinstance(error, kafka_errors.KafkaConnectionError | kafka_errors.NodeNotReadyError):
        return LogUnavailable(f"{told}: the connection was lost. Check that the brokers of `log` run.")
    # A leader that has just died is in no list of brokers: to the library that is an unknown one, for good.
    gone = kafka_errors.UnknownBrokerIdError | kafka_errors.BrokerNotAvailableError
    if isinstance(error, kafka_errors.RetriableError | gone | OSError):
        return LogUnavailable(f"{told}: no answer in time ({_name(error)}). Check that the brokers of `log` run.")
    return LogError(f"{told}: {_name(error)}.")


_WRITE: Final = 4  # among the rights at a topic (KIP-430); a broker without access rules names them all
_CREATE: Final = "Create it with `quietcount topics create`."
_CHECK: Final = "`quietcount topics check` names the values that it should have."
_MAY: Final = "Grant what compose/security.md lists for this role, or correct kafka.username."


def _client(**options: Any) -> KafkaNetClient:
    """Make the library's network client, which must not create the topics that it asks for."""
    client = KafkaNetClient(**options)
    client.cluster.config["allow_auto_create_topics"] = False  # the option of that name does not get there
    return client


def _check_advertised(settings: KafkaSettings, broker: str, addresses: list[tuple[str, int]]) -> None:
    """Clients go on to the addresses that a broker gives; behind a container's port these are often others."""
    until = time.monotonic() + ANSWER_SECONDS
    for host, port in addresses:
        left = until - time.monotonic()
        if left <= 0:
            break
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), min(CONNECT_SECONDS, left)).close()
            return
    told = ", ".join(f"{host}:{port}" for host, port in addresses) or "none"
    raise unusable(
        settings,
        broker,
        f"it answers, and names as the brokers' addresses {told}, of which none can be reached from here (see "
        "advertised.listeners of the brokers)",
    )


def _who(settings: KafkaSettings) -> str:
    if settings.username is not None:
        return f"kafka.username {settings.username!a}"
    return "the owner of kafka.certificate_file" if settings.certificate_file else "a client without a name"


def _name(error: BaseException) -> str:
    return type(error).__name__  # the text may show a record
