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
"""For one answer to a client that works: a busy broker may need longer than one that is asked who it is."""
BACKOFF_SECONDS: Final = 1.0
"""Between attempts at most: the library's 30 s would leave a broker unnoticed that came back long ago."""
METADATA_SECONDS: Final = 60.0
"""How old the client's picture of the cluster may be: within it added partitions are noticed."""

_LOGGERS: Final = ("kafka", "kafka.protocol.parser")
"""The library's debug log shows whole records and passwords, and its parser, as an error, what it cannot read. And an
outage, of which it tells in tens of lines, would have the first event in it dated by the line that says what failed."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What the brokers say of a topic: its identity (32 hexadecimal digits), and the number of its partitions."""

    identity: str
    partitions: int


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Return the options for a KafkaProducer, KafkaConsumer or KafkaAdminClient. Raises LogError for a file's fault.

    The library's loggers are set to say nothing, unless somebody has set their levels: a level of the root that an
    embedding program chose for its own lines must not bring case keys into its log, nor the hours of events.
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
    """Go the way to the brokers once, within seconds, and return what they say of `topics` (plain names).

    One broker that lets this client in is enough. Raises LogError for what waiting will not mend: TLS, the password, a
    topic that is missing, not to be seen or (with `write`) not to be written; and LogUnavailable when a broker that
    does not answer could be the one that lets it in. Either names a key of the configuration.
    """
    return way_in(settings, client_id, topics, write=write)[1]


def way_in(
    settings: KafkaSettings, client_id: str, topics: Iterable[str] = (), *, write: bool = False
) -> tuple[str, dict[str, TopicFacts]]:
    """Do as `reach`, and return first the broker that let this client in.

    As the only one of `bootstrap_servers` it spares the library's client those that do not: it takes any of them, and
    has no time left for a second one where the first keeps silent.
    """
    options = client_options(settings, client_id)
    plain = {settings.topic(topic): topic for topic in topics}
    failures: list[LogError] = []
    for broker in settings.brokers:
        try:
            cluster = shake_hands(settings, broker, options, list(plain))
        except LoginRefused:
            raise  # as another broker would, and each try at a password counts where somebody counts them
        except LogError as error:  # of this broker alone, as a certificate that ran out
            failures.append(error)
            continue
        try:
            found = _facts(settings, broker, cluster, plain, write=write)
            _check_advertised(settings, broker, cluster.brokers)
            return broker, found
        except LogUnavailable as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    # What has to be mended comes first; and while one does not answer, waiting for it may do.
    failures.sort(key=lambda failure: isinstance(failure, LogUnavailable))
    kind = type(failures[-1])
    raise kind(" ".join(dict.fromkeys(map(str, failures))))


def _facts(
    settings: KafkaSettings, broker: str, cluster: ToldCluster, plain: Mapping[str, str], *, write: bool
) -> dict[str, TopicFacts]:
    """Return what `cluster`, which `broker` told, says of the topics in `plain`. Raises LogError for what is wrong."""
    found: dict[str, TopicFacts] = {}
    for each in cluster.topics:
        name = plain.get(each.name or "")
        if name is None:
            continue  # some that speak the protocol tell of every topic when they are asked for none
        if each.error_code:
            raise explained(kafka_errors.for_code(each.error_code)(), settings, "see", name)
        if each.identity is None:
            raise LogError(
                f"{settings.place('log')}: broker {broker} gives topics no identity, so that one that was "
                "made again would be taken for the old one: it is too old a broker, or none of Apache Kafka. "
                "Name one of Apache Kafka 4."
            )
        # None: it does not tell what is allowed. The append does.
        if write and each.operations is not None and _WRITE not in each.operations:
            raise explained(kafka_errors.TopicAuthorizationFailedError(), settings, "append to", name)
        found[name] = TopicFacts(each.identity.hex, each.partitions)
    for name in plain.values():
        if name not in found:  # asked for and not told of
            raise explained(kafka_errors.UnknownTopicOrPartitionError(), settings, "see", name)
    return found


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
            "down, and let those that lag catch up; where it asks for all replicas, one that stops stops writing. "
            f"{_CHECK}"
        )
    if isinstance(error, kafka_errors.KafkaConnectionError | kafka_errors.NodeNotReadyError):
        return LogUnavailable(f"{told}: the connection was lost. Check that the brokers of `log` run.")
    # A leader that has just died is in no list of brokers: to the library that is an unknown one, for good.
    gone = kafka_errors.UnknownBrokerIdError | kafka_errors.BrokerNotAvailableError
    if isinstance(error, kafka_errors.RetriableError | gone | OSError):
        return LogUnavailable(f"{told}: no answer in time ({_name(error)}). Check that the brokers of `log` run.")
    return LogError(f"{told}: {_name(error)}.")


_MOST_NAMED: Final = 9  # addresses in a message: who answers may tell of thousands
_WRITE: Final = 4  # among the rights at a topic (KIP-430); a broker without access rules names them all
_CREATE: Final = "Create it with `quietcount topics create`."
_CHECK: Final = "`quietcount topics check` names the values that it should have."
_MAY: Final = "Grant what compose/security.md lists for this role, or correct kafka.username."


def _check_advertised(settings: KafkaSettings, broker: str, addresses: Sequence[tuple[str, int]]) -> None:
    """Clients go on to the addresses that a broker gives; behind a container's port these are often others."""
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
        f"it answers, and names as the brokers' addresses {told}, of which none can be reached from here (see "
        "advertised.listeners of the brokers)",
    )


def _who(settings: KafkaSettings) -> str:
    if settings.username is not None:
        return f"kafka.username {settings.username!a}"
    return "the owner of kafka.certificate_file" if settings.certificate_file else "a client without a name"


def _name(error: BaseException) -> str:
    return type(error).__name__  # the text may show a record
