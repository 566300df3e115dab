"""Getting in: one connection to one broker, step by step, so that each failure names its own key.

It connects, speaks TLS, asks what listens there, logs in, and asks for topics. The library does the same but does not
say what went wrong: a wrong password, a wrong authority, a missing client certificate and plain text on a TLS port all
end as one KafkaTimeoutError without a cause.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, TypeVar

from kafka import errors as kafka_errors

from quietcount_producers.errors import LogError, LogUnavailable
from quietcount_producers.kafka.internals import (
    ApiVersionsRequest,
    BrokerVersionData,
    KafkaProtocol,
    MetadataRequest,
    SaslAuthenticateRequest,
    SaslHandshakeRequest,
    get_sasl_mechanism,
)
from quietcount_producers.kafka.settings import KafkaSettings

__all__ = [
    "ANSWER_SECONDS",
    "CONNECT_SECONDS",
    "LoginRefused",
    "ToldCluster",
    "ToldTopic",
    "refused_login",
    "shake_hands",
    "unusable",
]

CONNECT_SECONDS: Final = 3.0
"""For connecting to one broker: a packet filter that drops everything must not hold a command for minutes."""
ANSWER_SECONDS: Final = 5.0
"""For one answer of a broker that took the connection: a broker that is stopped or full keeps silent."""

_MOST_BYTES: Final = 16_000_000
"""Of one answer: one about a few topics takes kilobytes, and a server that is not Kafka may announce any size."""
_METADATA_VERSION: Final = 10
"""The first version that gives a topic's identity: Kafka 2.8."""
_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")
"""How an alert and a handshake begin, in any version (RFC 8446, section 5.1)."""
_WRONG_NAMES: Final = frozenset({62, 64})
"""OpenSSL: X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""
_OUT_OF_DATE: Final = frozenset({9, 10})
"""OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,255}")
"""A name or an address that a message may show."""
_NO_TLS: Final = "If it speaks no TLS there, name its TLS port, or leave out kafka.tls and its files"

_Picked = TypeVar("_Picked")


class LoginRefused(LogError):
    """The password is wrong. All brokers of a cluster share passwords, so do not try the next."""


@dataclass(frozen=True, slots=True)
class ToldTopic:
    """What a broker says of a topic (its name on the broker): an error's code or 0, and what the topic is."""

    name: str | None
    error_code: int
    identity: uuid.UUID | None
    partitions: int
    operations: frozenset[int] | None
    """What this client may do with it (KIP-430); None if the broker does not say."""


@dataclass(frozen=True, slots=True)
class ToldCluster:
    """What a broker says: the addresses at which clients find the brokers, and the topics."""

    brokers: tuple[tuple[str, int], ...]
    topics: tuple[ToldTopic, ...]

    @classmethod
    def of(cls, metadata: Any) -> ToldCluster:
        """Pick it from the library's MetadataResponse. Raises anything if a field does not hold what belongs there."""
        brokers = tuple((each.host, each.port) for each in metadata.brokers)
        if not all(_HOST.fullmatch(host) and 0 < port < 65_536 for host, port in brokers):
            raise ValueError("a broker has an address that no broker can have")
        topics = tuple(
            ToldTopic(
                each.name,
                each.error_code,
                each.topic_id,
                len(each.partitions),
                None if each.authorized_operations is None else frozenset(each.authorized_operations),
            )
            for each in metadata.topics
        )
        return cls(brokers, topics)


def shake_hands(settings: KafkaSettings, broker: str, options: Mapping[str, Any], topics: Sequence[str]) -> ToldCluster:
    """Log in to `broker`, and return what it says of itself and `topics` (names on the broker).

    `options` are those of a client. Raises LogUnavailable if it does not answer, LogError if it refuses.
    """
    host, _, port = broker.rpartition(":")
    host = host.strip("[]")
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(_connected(settings, broker, host, int(port)))
        if settings.tls:
            try:
                connection = stack.enter_context(options["ssl_context"].wrap_socket(connection, server_hostname=host))
            except OSError as error:
                raise _explained_tls(settings, broker, error) from None
        conversation = _Conversation(settings, broker, connection, options["client_id"])
        conversation.begin()
        if settings.username is not None:
            _log_in(settings, conversation, host, options)
        request = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics] or MetadataRequest.NO_TOPICS,
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=True,
            min_version=_METADATA_VERSION,
        )
        hint = ""
        if settings.username is None:
            hint = "If it wants a password there, give kafka.username and kafka.password_file"
        return conversation.ask(request, ToldCluster.of, hint)


def unusable(settings: KafkaSettings, broker: str, reason: str, hint: str = "") -> LogUnavailable:
    """Return the error for a broker that cannot be used now; `hint` is what to do besides starting it."""
    remedy = "Start Kafka, or correct the address"
    return LogUnavailable(
        f"{settings.place('log')}: broker {broker} cannot be used: {reason}", f"{remedy}. {hint}" if hint else remedy
    )


def refused_login(settings: KafkaSettings, error: BaseException) -> LogError:
    """Return the error for a login that the brokers refuse."""
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        return LogError(
            f"{settings.place('kafka.sasl_mechanism')}: the brokers at {settings.servers} do not take "
            f"{settings.sasl_mechanism}",
            "Write the one that they take",
        )
    return LoginRefused(
        f"{settings.place('kafka.password_file')}: the brokers at {settings.servers} refuse the password in "
        f"{settings.password_file}, or do not know kafka.username {settings.username!a} for {settings.sasl_mechanism}",
        "Correct the one that is wrong",
    )


class _Conversation:
    """Questions to one broker and its answers, one at a time."""

    def __init__(self, settings: KafkaSettings, broker: str, connection: socket.socket, client_id: str) -> None:
        self._settings = settings
        self._broker = broker
        self._connection = connection
        self._protocol = KafkaProtocol(client_id=client_id)
        self._versions: Any = None

    def begin(self) -> None:
        """Ask which requests it takes; this first answer shows whether a broker listens there."""
        request = ApiVersionsRequest(version=0)
        request.API_VERSION = 0  # every broker answers this version
        hint = "" if self._settings.tls else "If it speaks TLS there, set kafka.tls to true"
        offered = self._exchange(
            request,
            lambda answer: {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys},
            hint,
        )
        self._versions = BrokerVersionData(api_versions=offered)

    def ask(self, request: Any, pick: Callable[[Any], _Picked], hint: str = "") -> _Picked:
        """Send `request` and return what `pick` takes from the answer; `hint` is what to do if the broker hangs up."""
        try:
            request.API_VERSION = self._versions.api_version(request)
        except kafka_errors.IncompatibleBrokerVersion:
            raise LogError(
                f"{self._settings.place('log')}: {self._broker} is the port of a controller of Kafka, or of a broker "
                "that is too old",
                "Name the port that clients use",
            ) from None
        return self._exchange(request, pick, hint)

    def _exchange(self, request: Any, pick: Callable[[Any], _Picked], hint: str) -> _Picked:
        try:
            self._protocol.send_request(request)
            self._connection.sendall(self._protocol.send_bytes())
            head = self._read(4)
            size = struct.unpack(">i", head)[0] if len(head) == 4 else 0
            body = self._read(size) if 0 < size <= _MOST_BYTES else b""
            ended = len(head) < 4 or len(body) < size <= _MOST_BYTES
        except TimeoutError:
            raise unusable(self._settings, self._broker, "it takes connections and does not answer") from None
        except OSError as error:
            if _is_alert(error):
                raise _explained_alert(self._settings, self._broker, error) from None
            head, body, ended = b"", b"", True
        if head.startswith(_TLS_RECORDS) and not self._settings.tls:
            raise LogError(
                f"{self._settings.place('kafka.tls')}: broker {self._broker} speaks TLS there",
                "Set kafka.tls to true, and kafka.ca_file if its authority is your own",
            )
        if ended:
            raise unusable(self._settings, self._broker, "it ends the connection", hint)
        try:
            ((_, answer),) = self._protocol.receive_bytes(head + body)
            return pick(answer)
        except Exception:  # the bytes may be anybody's, and the library's parser may raise anything over them
            raise LogError(
                f"{self._settings.place('log')}: what listens at {self._broker} is not Kafka", "Check host and port"
            ) from None

    def _read(self, size: int) -> bytes:
        """Return `size` bytes, or less if the broker hung up."""
        found = b""
        while len(found) < size and (more := self._connection.recv(size - len(found))):
            found += more
        return found


def _connected(settings: KafkaSettings, broker: str, host: str, port: int) -> socket.socket:
    try:
        connection = socket.create_connection((host, port), CONNECT_SECONDS)
    except (socket.gaierror, UnicodeError):
        raise LogUnavailable(
            f"{settings.place('log')}: the name {host} of broker {broker} cannot be resolved",
            "Correct the name, or look at the DNS of this machine",
        ) from None
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else (error.strerror or type(error).__name__).lower()
        raise unusable(settings, broker, reason) from None
    connection.settimeout(ANSWER_SECONDS)
    return connection


def _log_in(settings: KafkaSettings, conversation: _Conversation, host: str, options: Mapping[str, Any]) -> None:
    """Prove the password, and let the broker prove that it knows it (RFC 5802)."""
    code = conversation.ask(SaslHandshakeRequest(mechanism=settings.sasl_mechanism), lambda answer: answer.error_code)
    refused = kafka_errors.for_code(code)
    if refused is kafka_errors.UnsupportedSaslMechanismError:
        raise refused_login(settings, refused())
    if refused is not kafka_errors.NoError:  # IllegalSaslState: the listener takes none
        raise LogError(
            f"{settings.place('kafka.username')}: the brokers at {settings.servers} ask for no password there",
            "Leave out kafka.username and kafka.password_file. Or, if the brokers ask for a password at another port, "
            "put that port into the key 'log', which names the brokers",
        )
    mechanism = get_sasl_mechanism(settings.sasl_mechanism)(host=host, **options)
    while not mechanism.is_done():
        code, proof = conversation.ask(
            SaslAuthenticateRequest(mechanism.auth_bytes()), lambda answer: (answer.error_code, answer.auth_bytes)
        )
        if code:
            raise refused_login(settings, kafka_errors.for_code(code)())
        try:
            mechanism.receive(proof)
        except Exception:  # the bytes may be anybody's, as above
            raise LogError(
                f"{settings.place('log')}: the brokers at {settings.servers} do not prove that they know the "
                f"password of kafka.username {settings.username!a}, so they may not be yours",
                "Check the address",
            ) from None


def _explained_tls(settings: KafkaSettings, broker: str, error: OSError) -> LogError:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAMES:
            return LogError(
                f"{settings.place('log')}: the certificate of broker {broker} is for another host name",
                "Name the broker as its certificate does",
            )
        if error.verify_code in _OUT_OF_DATE:
            return LogError(
                f"{settings.place('log')}: the certificate of broker {broker} is out of date",
                "Have it renewed, or set the clock of this machine",
            )
        whose = "an authority that this system knows" if settings.ca_file is None else f"that of {settings.ca_file}"
        return LogError(
            f"{settings.place('kafka.ca_file')}: the authority that signed the certificate of broker {broker} is "
            f"not {whose}",
            "Name the file of the right one",
        )
    if _is_alert(error):
        return _explained_alert(settings, broker, error)
    if isinstance(error, TimeoutError):
        return unusable(settings, broker, "it does not answer in TLS", _NO_TLS)
    # A load balancer hangs up while its brokers are away. So does a broker that takes TLS for an endless request.
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        return unusable(settings, broker, "it ends the connection before TLS is agreed on", _NO_TLS)
    return LogError(
        f"{settings.place('kafka.tls')}: broker {broker} does not speak TLS there",
        "Name its TLS port in log, or leave out kafka.tls and its files",
    )


def _is_alert(error: OSError) -> TypeGuard[ssl.SSLError]:
    """Return whether the broker said in TLS why it ends the connection."""
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")


def _explained_alert(settings: KafkaSettings, broker: str, error: ssl.SSLError) -> LogError:
    if settings.certificate_file is None:
        return LogError(
            f"{settings.place('kafka.certificate_file')}: broker {broker} asks for a client's certificate",
            "Give kafka.certificate_file and kafka.key_file",
        )
    return LogError(
        f"{settings.place('kafka.certificate_file')}: broker {broker} refuses the certificate in "
        f"{settings.certificate_file} ({(error.reason or 'no reason given').lower().replace('_', ' ')})",
        "Give one that its authority signed",
    )
