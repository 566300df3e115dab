"""How operators watch the service: where it serves metrics and health, what guards that, and how its log is written."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from quietcount_consumers.errors import ConfigurationError
from quietcount_schemas.configuration import Fault, RawConfiguration, place
from quietcount_schemas.private_files import Refusal, read_file, read_password, read_secret

__all__ = ["DEFAULT_LISTEN", "Credentials", "LogFormat", "MonitoringSettings"]

DEFAULT_LISTEN: Final = "127.0.0.1:9464"

_OFF: Final = "off"
_LISTEN: Final = re.compile(r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+)\]|(?P<plain>[0-9.]+|localhost)):(?P<port>[0-9]{1,5})")
_THIS_MACHINE: Final = {"localhost": "127.0.0.1"}  # no name is looked up: what it means could change
_PAIRS: Final = (("certificate_file", "key_file"), ("username", "password_file"))
# For TLS 1.2; of TLS 1.3 every cipher is as good.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


class LogFormat(StrEnum):
    """How a line of the log is written: for people, for programs, or by whether a terminal reads it."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class Credentials:
    """A user and a password, kept as a digest under a key of this object; comparing takes the same time for any."""

    def __init__(self, username: str, password: str) -> None:
        self._key = secrets.token_bytes(32)
        self._digest = self._of(f"{username}:{password}".encode())

    def accepts(self, given: bytes) -> bool:
        """Return whether `given` is "user:password" in UTF-8."""
        return hmac.compare_digest(self._digest, self._of(given))

    def _of(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, hashlib.sha256)


@dataclass(frozen=True, slots=True)
class MonitoringSettings:
    """The address that is listened on, and the files of certificate and password.

    `config` is the configuration file, for messages. Nothing here is secret: key and password are read from their files
    when the service begins to listen, and anew when it reloads.
    """

    address: str | None = "127.0.0.1"
    """An IPv4 or IPv6 address of this machine; None where nothing is served."""
    port: int = 9464
    certificate_file: Path | None = None
    key_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    config: Path = field(default=Path("quietcount.toml"), compare=False)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """By key, the variable that its value comes from, for messages."""

    @classmethod
    def of(cls, raw: RawConfiguration, faults: list[Fault]) -> MonitoringSettings:
        """Return the settings that `raw` holds; what is wrong is added to `faults`."""
        wrong = {fault.key for fault in raw.faults}
        if "metrics" in wrong:
            return cls(config=raw.path)
        given: dict[str, str] = {
            key: raw.value_of(f"metrics.{key}")
            for key in ("listen", "certificate_file", "key_file", "username", "password_file")
            if raw.value_of(f"metrics.{key}") is not None and f"metrics.{key}" not in wrong
        }
        paths = {key: raw.folder / value for key, value in given.items() if key.endswith("_file")}
        for pair in _PAIRS:
            for key, other in (pair, pair[::-1]):
                if key in given and other not in given and f"metrics.{other}" not in wrong:
                    faults.append(raw.fault(f"metrics.{key}", f"goes with metrics.{other}, which is missing"))
        username = given.get("username")
        if username is not None and (":" in username or not username.isprintable()):
            faults.append(raw.fault("metrics.username", "a name that is sent over HTTP has no ':' in it"))
        found = _listen(given.get("listen", DEFAULT_LISTEN))
        if found is None:
            faults.append(raw.fault("metrics.listen"))
            return cls(config=raw.path)
        address, port = found
        guarded = all(key in given for pair in _PAIRS for key in pair)
        if address is not None and not ipaddress.ip_address(address).is_loopback and not guarded:
            message = (
                f"{address} can be reached from other machines and needs TLS and a password: certificate_file, "
                "key_file, username and password_file of [metrics]; or listen on 127.0.0.1"
            )
            faults.append(raw.fault("metrics.listen", message))
        return cls(
            address=address,
            port=port,
            certificate_file=paths.get("certificate_file"),
            key_file=paths.get("key_file"),
            username=username,
            password_file=paths.get("password_file"),
            config=raw.path,
            origins=dict(raw.origins),
        )

    def place(self, key: str) -> str:
        """Return where `key` of the section is given, for a message: the file, and the key or the variable."""
        return f"{self.config}: {place(f'metrics.{key}', self.origins)}"

    def credentials(self) -> Credentials | None:
        """Read who may read the metrics; None where everybody may who reaches the address.

        Raises ConfigurationError when the password's file is not in order.
        """
        if self.username is None or self.password_file is None:
            return None
        return Credentials(self.username, read_password(self.password_file, self._fault("password_file")))

    def tls_context(self) -> ssl.SSLContext | None:
        """Read certificate and key, and return what TLS is spoken with; None without TLS.

        Raises ConfigurationError naming the key whose file is not in order.
        """
        if self.certificate_file is None or self.key_file is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        context.options |= ssl.OP_NO_RENEGOTIATION  # a client could have the handshake computed again and again
        self._load(context, self.certificate_file, self.key_file)
        return context

    def _load(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        read_file(certificate, self._fault("certificate_file"))
        read_secret(key, self._fault("key_file"))
        asked = False

        def password() -> str:
            # Without a callback OpenSSL would ask at the terminal, and a service would wait there for ever.
            nonlocal asked
            asked = True
            return ""

        try:
            context.load_cert_chain(certificate, key, password)
        except (OSError, ValueError) as error:
            if asked:
                raise self._wrong("key_file", f"{key} is encrypted; write the key into it as it is") from None
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                raise self._wrong("key_file", f"{key} is not the key of the certificate {certificate}") from None
            try:
                ssl.create_default_context(cafile=certificate)
            except (OSError, ValueError):
                raise self._wrong("certificate_file", f"{certificate} holds no certificate in PEM form") from None
            raise self._wrong("key_file", f"{key} holds no private key in PEM form") from None

    def _wrong(self, key: str, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self.place(key)}: {what}.")

    def _fault(self, key: str) -> Refusal:
        return lambda fault: ConfigurationError(f"{self.place(key)}: {fault.what}", fault.remedy)


def _listen(text: str) -> tuple[str | None, int] | None:
    """Return the address (None for "off") and the port that `text` names, or None where it names none."""
    if text.strip() == _OFF:
        return None, 0
    match = _LISTEN.fullmatch(text.strip())
    if match is None or int(match["port"]) > 65_535:
        return None
    host = match["bracketed"] or match["plain"]
    try:
        address = ipaddress.ip_address(_THIS_MACHINE.get(host, host))
    except ValueError:
        return None
    return (str(address), int(match["port"])) if (address.version == 6) is bool(match["bracketed"]) else None
