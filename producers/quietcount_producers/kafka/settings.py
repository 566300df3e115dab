"""Where Kafka is and how to get in: the [kafka] section, as emitters and the service both read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quietcount_producers.errors import LogError
from quietcount_schemas.configuration import GivenConfiguration, place
from quietcount_schemas.configuration.readers import brokers_of
from quietcount_schemas.private_files import Refusal, read_file, read_password, read_secret

if TYPE_CHECKING:
    import ssl

__all__ = ["KafkaSettings"]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The brokers, the prefix of every topic's name, and the files and the name to log in with.

    `config` is the configuration file, for messages. Nothing here is secret: passwords and keys are read from their
    files when a client is made.
    """

    brokers: tuple[str, ...]
    """As "host:port"; an IPv6 address is in square brackets."""
    config: Path = Path("quietcount.toml")
    topic_prefix: str = ""
    tls: bool = False
    ca_file: Path | None = None
    """The authority that signed the brokers' certificates; if it is not given, the system's authorities count."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    sasl_mechanism: str = "SCRAM-SHA-512"
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """By key, the environment variable that its value comes from, for messages."""

    @classmethod
    def of(cls, given: GivenConfiguration) -> KafkaSettings | None:
        """Return the settings of a configuration without faults, or None for the embedded log."""
        brokers = brokers_of(given.values["log"])
        if not brokers:
            return None
        section = dict(given.values["kafka"])
        if section["tls"] is None:
            section["tls"] = any(section[name] for name in ("ca_file", "certificate_file", "key_file"))
        section["topic_prefix"] = section["topic_prefix"] or ""
        return cls(brokers, given.path, origins=given.origins, **section)

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

        Raises LogError if a named file cannot be read, does not hold what it should, or is a secret that others can
        read.
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
        """Return the context for TLS: the authority and the certificate of the settings, host names checked.

        Raises LogError that names the key if its file is not in order.
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
            # Without a callback OpenSSL would ask at the terminal, and a service would wait there permanently.
            nonlocal asked
            asked = True
            return given or ""

        try:
            context.load_cert_chain(certificate, key, password)
        except (OSError, ValueError) as error:
            if asked and given is None:
                raise self._wrong(
                    "key_file", key, "is encrypted", "Name the file of its password as kafka.key_password_file"
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

    def _wrong(self, key: str, path: Path, what: str, remedy: str = "") -> LogError:
        return LogError(f"{self.place(f'kafka.{key}')}: {path} {what}", remedy)

    def _fault(self, key: str) -> Refusal:
        return lambda fault: LogError(f"{self.place(f'kafka.{key}')}: {fault.what}", fault.remedy)
