"""How operators watch the service: where it serves metrics and health, what guards that, and how its log is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from quietcount_consumers.errors import ConfigurationError
from quietcount_schemas.configuration import GivenConfiguration, place
from quietcount_schemas.private_files import Refusal, read_password

if TYPE_CHECKING:
    import ssl

    from quietcount_consumers.access import Credentials


__all__ = ["LogFormat", "MonitoringSettings"]


class LogFormat(StrEnum):
    """How a line of the log is written: for people, for programs, or by whether a terminal reads it."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class MonitoringSettings:
    """The address that is listened on, and the files of certificate and password.

    `config` is the configuration file, for messages. Nothing here is secret: key and password are read from their files
    when the service begins to listen, and again when it reloads.
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
    def of(cls, given: GivenConfiguration) -> MonitoringSettings:
        """Return the settings of a configuration without faults."""
        section = dict(given.values["metrics"])
        address, port = section.pop("listen")
        return cls(address, port, **section, config=given.path, origins=given.origins)

    def place(self, key: str) -> str:
        """Return where `key` of the section is given, for a message: the file, and the key or the variable."""
        return f"{self.config}: {place(f'metrics.{key}', self.origins)}"

    def credentials(self) -> Credentials | None:
        """Read who may read the metrics; None if everybody may.

        Raises ConfigurationError if the password's file is not in order.
        """
        if self.username is None or self.password_file is None:
            return None
        from quietcount_consumers.access import Credentials

        return Credentials.of(self.username, read_password(self.password_file, self._fault("password_file")))

    def tls_context(self) -> ssl.SSLContext | None:
        """Read certificate and key, and return what speaks TLS; None without TLS.

        Raises ConfigurationError naming the key whose file is not in order.
        """
        if self.certificate_file is None or self.key_file is None:
            return None
        # This import brings OpenSSL. A command that serves nothing does not need it.
        from quietcount_consumers.access import server_context
        from quietcount_schemas.serving.certificates import load_certificate

        context = server_context()
        load_certificate(context, self.certificate_file, self.key_file, self._wrong)
        return context

    def _wrong(self, key: str, what: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"{self.place(key)}: {what}", remedy)

    def _fault(self, key: str) -> Refusal:
        return lambda fault: ConfigurationError(f"{self.place(key)}: {fault.what}", fault.remedy)
