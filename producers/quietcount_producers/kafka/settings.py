"""Where Kafka is and how to get in: the [kafka] section, as emitters and the service both read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quietcount_producers.errors import LogError
from quietcount_schemas.configuration import DEFAULT_LOG, KAFKA_SCHEME, Fault, RawConfiguration, place
from quietcount_schemas.private_files import Refusal, read_file, read_password, read_secret

if TYPE_CHECKING:
    import ssl

__all__ = ["DEFAULT_PORT", "KafkaSettings"]

DEFAULT_PORT: Final = 9092

_BROKER: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(?P<port>[0-9]{1,5}))?"
)
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{0,200}")  # Kafka's own alphabet; a topic's name has 249 characters at most
_MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The brokers, the prefix of every topic's name, and the files and name that open the door.

    `config` is the configuration file, for messages. Nothing here is secret: passwords and keys are read from their
    files when a client is made.
    """

    brokers: tuple[str, ...]
    """As "host:port"; an IPv6 address is in square brackets."""
    config: Path = Path("quietcount.toml")
    topic_prefix: str = ""
    tls: bool = False
    ca_file: Path | None = None
    """The authority that signed the brokers' certificates; the system's authorities where it is not given."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    sasl_mechanism: str = _MECHANISMS[0]
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """By key, the variable that its value comes from, for messages."""

    @classmethod
    def of(cls, raw: RawConfiguration, faults: list[Fault]) -> KafkaSettings | None:
        """Return the settings that `raw` holds, or None for the embedded log; what is wrong is added to `faults`."""
        brokers = _brokers(raw, faults)
        section = _section(raw, faults)
        if not brokers:
            return None
        return cls(brokers=brokers, config=raw.path, origins=dict(raw.origins), **section)

    def place(self, key: str) -> str:
        """Return where `key` (dotted) is given, for a message: the file, and the key or the variable."""
        return f"{self.config}: {place(key, self.origins)}"

    @property
    def servers(self) -> str:
        """The brokers, for a message."""
        return ", ".join(self.brokers)

    def topic(self, name: str) -> str:
        """Return the name on the broker of the topic that the rest of the code calls `name`."""
        return f"{self.topic_prefix}{name}"

    def client(self, client_id: str) -> dict[str, Any]:
        """Return kafka-python's options for connecting: brokers, client id, TLS and SASL.

        Raises LogError when a file that is named cannot be read, does not hold what it should, or is a secret that
        others can read.
        """
        options: dict[str, Any] = {"bootstrap_servers": list(self.brokers), "client_id": client_id}
        options["security_protocol"] = ("SASL_" if self.username else "") + ("SSL" if self.tls else "PLAINTEXT")
        if self.tls:
            options["ssl_context"] = self.tls_context()
        if self.username and self.password_file:
            options["sasl_mechanism"] = self.sasl_mechanism
            # RFC 5802, section 5.1: these two would end the name; the library leaves the escaping to its caller.
            options["sasl_plain_username"] = self.username.replace("=", "=3D").replace(",", "=2C")
            options["sasl_plain_password"] = read_password(self.password_file, self._fault("password_file"))
        return options

    def tls_context(self) -> ssl.SSLContext:
        """Return what TLS is spoken with: the authority and the certificate of the settings, host names checked.

        Raises LogError naming the key whose file is not in order.
        """
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificates and host names are checked
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file is None:
            context.load_default_certs()
        else:
            read_file(self.ca_file, self._fault("ca_file"))
            try:
                context.load_verify_locations(self.ca_file)
            except (OSError, ValueError):
                raise self._wrong("ca_file", self.ca_file, "holds no certificates in PEM form") from None
        if self.certificate_file is not None and self.key_file is not None:
            self._load_certificate(context, self.certificate_file, self.key_file)
        return context

    def _load_certificate(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        import ssl

        read_file(certificate, self._fault("certificate_file"))
        read_secret(key, self._fault("key_file"))
        given = None
        if self.key_password_file is not None:
            given = read_password(self.key_password_file, self._fault("key_password_file"))
        asked = False

        def password() -> str:
            # Without a callback OpenSSL would ask at the terminal, and a service would wait there for ever.
            nonlocal asked
            asked = True
            return given or ""

        try:
            context.load_cert_chain(certificate, key, password)
        except (OSError, ValueError) as error:
            if asked and given is None:
                raise self._wrong(
                    "key_file", key, "is encrypted; name the file of its password as kafka.key_password_file"
                ) from None
            if asked:
                raise self._wrong("key_password_file", key, "is not opened by the password in that file") from None
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                raise self._wrong("key_file", key, f"is not the key of the certificate {certificate}") from None
            try:
                ssl.create_default_context(cafile=certificate)
            except (OSError, ValueError):
                raise self._wrong("certificate_file", certificate, "holds no certificate in PEM form") from None
            raise self._wrong("key_file", key, "holds no private key in PEM form") from None

    def _wrong(self, key: str, path: Path, what: str) -> LogError:
        return LogError(f"{self.place(f'kafka.{key}')}: {path} {what}.")

    def _fault(self, key: str) -> Refusal:
        return lambda fault: LogError(f"{self.place(f'kafka.{key}')}: {fault.what}", fault.remedy)


def _brokers(raw: RawConfiguration, faults: list[Fault]) -> tuple[str, ...]:
    """Return the brokers of `log`, or none for the embedded log."""
    if raw.log == DEFAULT_LOG or "log" in {fault.key for fault in raw.faults}:
        return ()
    if not raw.log.startswith(KAFKA_SCHEME):
        faults.append(raw.fault("log"))
        return ()
    found = []
    for each in raw.log.removeprefix(KAFKA_SCHEME).rstrip("/").split(","):
        match = _BROKER.fullmatch(each.strip())
        if match is None or not 0 < int(match["port"] or DEFAULT_PORT) < 65_536:
            faults.append(raw.fault("log"))
            return ()
        found.append(f"{match['host']}:{match['port'] or DEFAULT_PORT}")
    return tuple(found)


def _section(raw: RawConfiguration, faults: list[Fault]) -> Mapping[str, Any]:
    """Return the checked [kafka] section; what belongs together is given together."""
    wrong = {fault.key for fault in raw.faults}
    if "kafka" in wrong:
        return {}
    given: dict[str, Any] = {
        key: raw.value_of(f"kafka.{key}")
        for key in ("topic_prefix", "tls", "username", "sasl_mechanism")
        if raw.value_of(f"kafka.{key}") is not None and f"kafka.{key}" not in wrong
    }
    for key in ("ca_file", "certificate_file", "key_file", "key_password_file", "password_file"):
        path = raw.path_of(f"kafka.{key}")
        if path is not None and f"kafka.{key}" not in wrong:
            given[key] = path
    if not _PREFIX.fullmatch(given.get("topic_prefix", "")):
        faults.append(raw.fault("kafka.topic_prefix"))
    if given.get("sasl_mechanism", _MECHANISMS[0]) not in _MECHANISMS:
        faults.append(raw.fault("kafka.sasl_mechanism"))
    for one, other in (
        ("username", "password_file"),
        ("certificate_file", "key_file"),
        ("key_password_file", "key_file"),
    ):
        for key, missing in ((one, other), (other, one)):
            if key in given and missing not in given and missing != "key_password_file":
                faults.append(raw.fault(f"kafka.{key}", f"goes with kafka.{missing}, which is missing"))
    tls = [key for key in ("ca_file", "certificate_file", "key_file") if key in given]
    if tls and given.get("tls") is False:
        faults.append(raw.fault("kafka.tls", f"is false, and kafka.{tls[0]} is for TLS; leave one of them out"))
    given.setdefault("tls", bool(tls))
    return given
