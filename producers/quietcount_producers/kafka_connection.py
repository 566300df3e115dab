"""The way to the brokers, which writers, readers, the ledger and the commands share.

kafka-python tries again for ever what no trying will mend: a wrong password, an untrusted certificate, a topic that is
not there all end as one timeout that names none of them. So `reach` goes the way once by itself, step by step, before a
client is made, and after one has failed: whatever is wrong is told in one sentence, with the key that names it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.protocol.metadata import MetadataRequest

from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka_settings import KafkaSettings

__all__ = ["TopicFacts", "client_options", "explained", "reach"]

CONNECT_SECONDS: Final = 3.0
"""For a connection to one broker: a packet filter that drops everything must not hold a command for minutes."""
ANSWER_SECONDS: Final = 5.0
"""For one answer of a broker that took the connection: one that is stopped or full keeps silent."""
REQUEST_SECONDS: Final = 10.0
"""For one answer to a client that works: a busy broker may need longer than one that is asked who it is."""
BACKOFF_SECONDS: Final = 1.0
"""Between attempts at most: the library's 30 s would leave a broker unnoticed that came back long ago."""
METADATA_SECONDS: Final = 60.0
"""How old the client's picture of the cluster may be: within it added partitions are noticed."""

_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # ApiVersions, version 0, of a client without a name
_TLS_ALERT: Final = (b"\x15\x03", b"\x16\x03")


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What the brokers say of a topic: its identity, and the number of its partitions."""

    identity: str
    partitions: int


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Return the options for a KafkaProducer, KafkaConsumer or KafkaAdminClient. Raises LogError for a file's fault."""
    # The library writes whole records, keys included, and passwords into its debug log. Who wants that sets the level
    # of this logger; a level of the root that was meant for another program's own lines does not bring it about.
    logger = logging.getLogger("kafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
    return settings.client(client_id) | {
        "kafka_client": _client,
        "bootstrap_timeout_ms": int(REQUEST_SECONDS * 1000),
        "request_timeout_ms": int(REQUEST_SECONDS * 1000),
        "reconnect_backoff_max_ms": int(BACKOFF_SECONDS * 1000),
        "metadata_max_age_ms": int(METADATA_SECONDS * 1000),
    }


def reach(settings: KafkaSettings, client_id: str, topics: Iterable[str] = ()) -> dict[str, TopicFacts]:
    """Go the way to the brokers once, within seconds, and return what they say of `topics` (plain names).

    Raises LogUnavailable when no broker answers, and LogError for what waiting will not mend: TLS, the password, a
    topic that is missing or not to be seen. Either names the key of the configuration.
    """
    options = client_options(settings, client_id)
    failures: list[LogError] = []
    for broker in settings.brokers:
        try:
            _shake_hands(settings, broker, options)
            return _asked(settings, broker, options, topics)
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
    if isinstance(error, kafka_errors.TopicAuthorizationFailedError):
        return LogError(f"{told}: {_who(settings)} may not. {_MAY}")
    if isinstance(error, kafka_errors.AuthorizationError):
        return LogError(f"{told}: {_who(settings)} may not ({_name(error)}). {_MAY}")
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError | kafka_errors.UnsupportedSaslMechanismError):
        return _refused_login(settings, error)
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError | kafka_errors.UnknownTopicIdError):
        return _missing(settings, topic) if topic else LogError(f"{told}: a topic is missing. {_CREATE}")
    if isinstance(error, kafka_errors.MessageSizeTooLargeError | kafka_errors.RecordListTooLargeError):
        return LogError(
            f"{told}: the batch is larger than the topic takes. Raise its max.message.bytes; "
            "`quietcount topics check` names the value."
        )
    if isinstance(error, kafka_errors.InvalidTimestampError | kafka_errors.InvalidRecordError):
        return LogError(
            f"{told}: the broker refuses the records, as a rule for their dates. Let `quietcount topics check` look at "
            "message.timestamp.type, message.timestamp.before.max.ms and message.timestamp.after.max.ms."
        )
    if isinstance(error, kafka_errors.NotEnoughReplicasError | kafka_errors.NotEnoughReplicasAfterAppendError):
        return LogUnavailable(
            f"{told}: fewer brokers hold it than its min.insync.replicas asks for. Start the brokers that are down; if "
            "none is, min.insync.replicas is above the number of replicas: see `quietcount topics check`."
        )
    if isinstance(error, kafka_errors.KafkaConnectionError | kafka_errors.NodeNotReadyError):
        return LogUnavailable(f"{told}: the connection was lost. Check that the brokers of `log` run.")
    if isinstance(error, kafka_errors.RetriableError | OSError):
        return LogUnavailable(f"{told}: no answer in time ({_name(error)}). Check that the brokers of `log` run.")
    return LogError(f"{told}: {_name(error)}.")


_CREATE: Final = "Create it with `quietcount topics create`."
_MAY: Final = "Grant it what the page in compose/ lists for its role, or correct kafka.username."


def _client(**options: Any) -> KafkaNetClient:
    """Make the library's network client, which must not create the topics that it asks for."""
    client = KafkaNetClient(**options)
    client.cluster.config["allow_auto_create_topics"] = False  # the option of that name does not get there
    return client


def _shake_hands(settings: KafkaSettings, broker: str, options: Mapping[str, Any]) -> None:
    """Connect, speak TLS if it is to be spoken, and ask who is there: each failure has a cause of its own."""
    host, _, port = broker.rpartition(":")
    host = host.strip("[]")
    try:
        connection = socket.create_connection((host, int(port)), CONNECT_SECONDS)
    except socket.gaierror:
        raise LogUnavailable(
            f"{settings.config}: key 'log': the name {host} of broker {broker} cannot be resolved. Check it."
        ) from None
    except OSError as error:
        raise _unreachable(settings, broker, _reason(error)) from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(connection)
        connection.settimeout(ANSWER_SECONDS)
        if settings.tls:
            try:
                connection = stack.enter_context(options["ssl_context"].wrap_socket(connection, server_hostname=host))
            except OSError as error:
                raise _refused_tls(settings, broker, error) from None
        try:
            connection.sendall(_API_VERSIONS)
            answer = connection.recv(8)
        except ssl.SSLError as error:
            raise _refused_certificate(settings, broker, error) from None
        except TimeoutError:
            raise _unreachable(settings, broker, "it takes connections and does not answer") from None
        except OSError:
            answer = b""
    if answer.startswith(_TLS_ALERT):
        raise LogError(f"{settings.config}: key 'kafka.tls': broker {broker} speaks TLS. Set kafka.tls to true.")
    if not answer:
        if settings.tls and settings.certificate_file is None:
            raise LogError(
                f"{settings.config}: broker {broker} ends the connection after TLS; if it asks for a client's "
                "certificate, give kafka.certificate_file and kafka.key_file."
            )
        hint = "" if settings.tls else "; if it speaks TLS there, set kafka.tls to true"
        raise _unreachable(settings, broker, f"it ends the connection{hint}")
    if answer[4:8] != b"\0\0\0\1":
        raise LogError(f"{settings.config}: key 'log': what listens at {broker} is not Kafka. Check host and port.")


def _asked(
    settings: KafkaSettings, broker: str, options: Mapping[str, Any], topics: Iterable[str]
) -> dict[str, TopicFacts]:
    """Log in at `broker` and ask it for the topics."""
    wanted = list(topics)
    logged_in = False

    async def ask() -> Any:
        nonlocal logged_in
        connection = await manager.get_connection("bootstrap-0", timeout_ms=ANSWER_SECONDS * 1000)
        logged_in = True
        names = [MetadataRequest.MetadataRequestTopic(name=settings.topic(topic)) for topic in wanted]
        request = MetadataRequest(
            topics=names or MetadataRequest.NO_TOPICS,
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )
        return await connection.send_request(request, request_timeout_ms=ANSWER_SECONDS * 1000)

    client: Any = _client(**{**options, "bootstrap_servers": [broker]})
    manager = client._manager
    try:
        response = manager.run(ask)
    except (kafka_errors.SaslAuthenticationFailedError, kafka_errors.UnsupportedSaslMechanismError) as error:
        raise _refused_login(settings, error) from None
    except kafka_errors.IllegalSaslStateError:
        raise LogError(
            f"{settings.config}: key 'kafka.username': broker {broker} asks for no password there. Leave out "
            "kafka.username and kafka.password_file, or name the port that takes them."
        ) from None
    except ValueError:  # the library's own check of the server's proof
        raise LogError(
            f"{settings.config}: key 'kafka.password_file': broker {broker} does not prove that it knows the password "
            f"of {settings.username!a}. Check that `log` names your brokers."
        ) from None
    except kafka_errors.KafkaConnectionError:
        if logged_in and settings.username is None:
            raise LogError(
                f"{settings.config}: broker {broker} ends the connection of a client that has no password. "
                "Give kafka.username and kafka.password_file, or name the port that takes none."
            ) from None
        raise _unreachable(settings, broker, "it ended the connection") from None
    except kafka_errors.KafkaError as error:
        raise explained(error, settings, "use") from None
    finally:
        with contextlib.suppress(Exception):  # what a broken connection says in closing adds nothing
            client.close()
    return _facts(settings, broker, response, wanted)


def _facts(settings: KafkaSettings, broker: str, response: Any, topics: list[str]) -> dict[str, TopicFacts]:
    plain = {settings.topic(topic): topic for topic in topics}
    found: dict[str, TopicFacts] = {}
    for each in response.topics:
        name = plain[each.name]
        if each.error_code:
            raise explained(kafka_errors.for_code(each.error_code)(), settings, "see", name)
        found[name] = TopicFacts(each.topic_id.hex, len(each.partitions))
    _check_advertised(settings, broker, [(each.host, each.port) for each in response.brokers])
    return found


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
    raise _unreachable(
        settings,
        broker,
        f"it answers, and names as the brokers' addresses {told}, of which none can be reached from here; see "
        "advertised.listeners of the brokers",
    )


def _unreachable(settings: KafkaSettings, broker: str, reason: str) -> LogUnavailable:
    return LogUnavailable(
        f"{settings.config}: key 'log': broker {broker} cannot be used: {reason}. Start Kafka, or correct the address."
    )


def _refused_tls(settings: KafkaSettings, broker: str, error: OSError) -> LogError:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAMES:
            return LogError(
                f"{settings.config}: key 'log': the certificate of broker {broker} is for another host name. Name the "
                "broker as its certificate does."
            )
        if error.verify_code in _OUT_OF_DATE:
            return LogError(
                f"{settings.config}: the certificate of broker {broker} is out of date, or this machine's clock is."
            )
        whose = "the system's authorities" if settings.ca_file is None else str(settings.ca_file)
        return LogError(
            f"{settings.config}: key 'kafka.ca_file': the certificate of broker {broker} is not signed by {whose}. "
            "Name the file of the authority that signed it."
        )
    if isinstance(error, TimeoutError):
        return _unreachable(settings, broker, "it does not answer in TLS; if it speaks none, set kafka.tls to false")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return _refused_certificate(settings, broker, error)
    return LogError(
        f"{settings.config}: key 'kafka.tls': broker {broker} does not speak TLS. Name its TLS port in log, or leave "
        "out kafka.tls and its files."
    )


_WRONG_NAMES: Final = frozenset({62, 63, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_, _IP_ADDRESS_
_OUT_OF_DATE: Final = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED


def _refused_certificate(settings: KafkaSettings, broker: str, error: ssl.SSLError) -> LogError:
    if settings.certificate_file is None:
        return LogError(
            f"{settings.config}: broker {broker} asks for a client's certificate. Give kafka.certificate_file and "
            "kafka.key_file."
        )
    return LogError(
        f"{settings.config}: key 'kafka.certificate_file': broker {broker} refuses the certificate in "
        f"{settings.certificate_file} ({(error.reason or 'no reason given').lower().replace('_', ' ')})."
    )


def _refused_login(settings: KafkaSettings, error: BaseException) -> LogError:
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        return LogError(
            f"{settings.config}: key 'kafka.sasl_mechanism': the brokers at {settings.servers} do not take "
            f"{settings.sasl_mechanism}. Write the one that they do."
        )
    return LogError(
        f"{settings.config}: key 'kafka.password_file': the brokers at {settings.servers} refuse the password in "
        f"{settings.password_file}, or do not know kafka.username {settings.username!a} for {settings.sasl_mechanism}."
    )


def _missing(settings: KafkaSettings, topic: str) -> LogError:
    prefix = " Check kafka.topic_prefix, too." if settings.topic_prefix else ""
    return LogError(f"There is no topic {settings.topic(topic)} at {settings.servers}. {_CREATE}{prefix}")


def _who(settings: KafkaSettings) -> str:
    if settings.username is not None:
        return f"kafka.username {settings.username!a}"
    return "the owner of kafka.certificate_file" if settings.certificate_file else "a client without a name"


def _name(error: BaseException) -> str:
    return type(error).__name__  # the text may show a record


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    return (error.strerror or type(error).__name__).lower()
