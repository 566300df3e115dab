"""Getting in: one connection to one broker, step by step, so that each failure is told apart and names its key.

Connect; speak TLS; ask what is there; log in; ask for topics. The library does the same and keeps what went wrong to
itself: a broker that refuses a password answers and hangs up at once, and it loses the answer over the hanging up.
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
"""For a connection to one broker: a packet filter that drops everything must not hold a command for minutes."""
ANSWER_SECONDS: Final = 5.0
"""For one answer of a broker that took the connection: one that is stopped or full keeps silent."""

_MOST_BYTES: Final = 16_000_000  # an answer about a few topics takes kilobytes; what is no Kafka may promise anything
_METADATA_VERSION: Final = 10  # the first that tells a topic's identity: Kafka 2.8
_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")  # an alert and a handshake, of any version (RFC 8446, section 5.1)
_WRONG_NAMES: Final = frozenset({62, 64})  # OpenSSL: X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_OUT_OF_DATE: Final = frozenset({9, 10})  # OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,255}")  # a name or an address, which a message may show

_Picked = TypeVar("_Picked")


class LoginRefused(LogError):
    """Brokers that work refuse the password; those of one cluster know the same ones, so the next would do it, too."""


@dataclass(frozen=True, slots=True)
class ToldTopic:
    """What a broker tells of a topic (its name on the broker): an error's code or 0, and what it is."""

    name: str | None
    error_code: int
    identity: uuid.UUID | None
    partitions: int
    operations: frozenset[int] | None
    """What this client may do with it (KIP-430); None where the broker does not tell."""


@dataclass(frozen=True, slots=True)
class ToldCluster:
    """What a broker tells: the addresses at which clients find the brokers, and the topics."""

    brokers: tuple[tuple[str, int], ...]
    topics: tuple[ToldTopic, ...]

    @classmethod
    def of(cls, metadata: Any) -> ToldCluster:
        """Pick it from the library's MetadataResponse, which may hold nothing where something belongs: raises then."""
        brokers = tuple((each.host, each.port) for each in metadata.brokers)
        if not all(_HOST.fullmatch(host) and 0 < port < 65_536 for host, port in brokers):
            raise ValueError("an address of a broker is none")
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
    """Return what `broker` tells of itself and `topics` (names on the broker), after getting in.

    `options` are those of a client. Raises LogUnavailable when it does not answer, LogError when it refuses.
    """
    host, _, port = broker.rpartition(":")
    host = host.strip("[]")
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(_connected(settings, broker, host, int(port)))
        if settings.tls:
            try:
                connection = stack.enter_context(options["ssl_context"].wrap_socket(connection, server_hostname=host))
            except OSError as error:
                raise _refused_tls(settings, broker, error) from None
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
            hint = "; if it wants a password there, give kafka.username and kafka.password_file"
        return conversation.ask(request, ToldCluster.of, hint)


def unusable(settings: KafkaSettings, broker: str, reason: str) -> LogUnavailable:
    """Return the error for a broker that cannot be used now."""
    return LogUnavailable(
        f"{settings.place('log')}: broker {broker} cannot be used: {reason}. Start Kafka, or correct the address."
    )


def refused_login(settings: KafkaSettings, error: BaseException) -> LogError:
    """Return the error for a login that the brokers refuse."""
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        return LogError(
            f"{settings.place('kafka.sasl_mechanism')}: the brokers at {settings.servers} do not take "
            f"{settings.sasl_mechanism}. Write the one that they do."
        )
    return LoginRefused(
        f"{settings.place('kafka.password_file')}: the brokers at {settings.servers} refuse the password in "
        f"{settings.password_file}, or do not know kafka.username {settings.username!a} for {settings.sasl_mechanism}."
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
        """Ask which requests there are; this first answer shows what it is that listens there."""
        request = ApiVersionsRequest(version=0)
        request.API_VERSION = 0  # every broker answers this version
        hint = "" if self._settings.tls else "; if it speaks TLS there, set kafka.tls to true"
        offered = self._exchange(
            request,
            lambda answer: {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys},
            hint,
        )
        self._versions = BrokerVersionData(api_versions=offered)

    def ask(self, request: Any, pick: Callable[[Any], _Picked], hint: str = "") -> _Picked:
        """Send `request` and return what `pick` takes from the answer; `hint` says why the broker may hang up."""
        try:
            request.API_VERSION = self._versions.api_version(request)
        except kafka_errors.IncompatibleBrokerVersion:
            raise LogError(
                f"{self._settings.place('log')}: what listens at {self._broker} is a controller of Kafka, or too "
                "old. Name the port that clients use."
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
                raise _refused_certificate(self._settings, self._broker, error) from None
            head, body, ended = b"", b"", True
        if head.startswith(_TLS_RECORDS) and not self._settings.tls:
            raise LogError(
                f"{self._settings.place('kafka.tls')}: broker {self._broker} speaks TLS there. Set kafka.tls to "
                "true, and kafka.ca_file if its authority is your own."
            )
        if ended:
            raise unusable(self._settings, self._broker, f"it ends the connection{hint}")
        try:
            ((_, answer),) = self._protocol.receive_bytes(head + body)
            return pick(answer)
        except Exception:  # bytes of anybody's: the library's parser raises whatever they lead it to
            raise LogError(
                f"{self._settings.place('log')}: what listens at {self._broker} is not Kafka. Check host and port."
            ) from None

    def _read(self, size: int) -> bytes:
        """Return `size` bytes, or less where the broker hung up."""
        found = b""
        while len(found) < size and (more := self._connection.recv(size - len(found))):
            found += more
        return found


def _connected(settings: KafkaSettings, broker: str, host: str, port: int) -> socket.socket:
    try:
        connection = socket.create_connection((host, port), CONNECT_SECONDS)
    except (socket.gaierror, UnicodeError):
        raise LogUnavailable(
            f"{settings.place('log')}: the name {host} of broker {broker} cannot be resolved. Check it."
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
            f"{settings.place('kafka.username')}: the brokers at {settings.servers} ask for no password there. "
            "Leave out kafka.username and kafka.password_file, or name the port that takes them."
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
        except Exception:  # bytes of anybody's, as above
            raise LogError(
                f"{settings.place('log')}: the brokers at {settings.servers} do not prove that they know the "
                f"password of kafka.username {settings.username!a}, so they may not be yours. Check the address."
            ) from None


def _refused_tls(settings: KafkaSettings, broker: str, error: OSError) -> LogError:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAMES:
            return LogError(
                f"{settings.place('log')}: the certificate of broker {broker} is for another host name. Name the "
                "broker as its certificate does."
            )
        if error.verify_code in _OUT_OF_DATE:
            return LogError(
                f"{settings.place('log')}: the certificate of broker {broker} is out of date. Let it be renewed, "
                "or set the clock of this machine."
            )
        whose = "an authority that this system knows" if settings.ca_file is None else f"that of {settings.ca_file}"
        return LogError(
            f"{settings.place('kafka.ca_file')}: the authority that signed the certificate of broker {broker} is "
            f"not {whose}. Name the file of the right one."
        )
    if _is_alert(error):
        return _refused_certificate(settings, broker, error)
    if isinstance(error, TimeoutError):
        return unusable(settings, broker, f"it does not answer in TLS; {_NO_TLS}")
    # A balancer whose brokers are away for a moment hangs up like a broker that takes TLS for an endless request.
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        return unusable(settings, broker, f"it ends the connection before TLS is agreed on; {_NO_TLS}")
    return LogError(
        f"{settings.place('kafka.tls')}: broker {broker} does not speak TLS there. Name its TLS port in log, or "
        "leave out kafka.tls and its files."
    )


_NO_TLS: Final = "if it speaks no TLS there, name its TLS port, or leave out kafka.tls and its files"


def _is_alert(error: OSError) -> TypeGuard[ssl.SSLError]:
    """Whether the broker said in TLS why it ends the connection."""
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")


def _refused_certificate(settings: KafkaSettings, broker: str, error: ssl.SSLError) -> LogError:
    if settings.certificate_file is None:
        return LogError(
            f"{settings.place('kafka.certificate_file')}: broker {broker} asks for a client's certificate. Give "
            "kafka.certificate_file and kafka.key_file."
        )
    return LogError(
        f"{settings.place('kafka.certificate_file')}: broker {broker} refuses the certificate in "
        f"{settings.certificate_file} ({(error.reason or 'no reason given').lower().replace('_', ' ')})."
    )
