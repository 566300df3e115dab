"""Where the Schema Registry is: the [schema_registry] section, as emitters, the service and `schemas register` read it.

Only `quietcount schemas register` asks a Schema Registry. It pins the answers in the file `ids_file`, and everybody
else reads that file. So a registry that is down, or that gives another answer later, changes nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from quietcount_schemas.configuration import DEFAULT_IDS_FILE, Fault, RawConfiguration, place
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.schema_registry import ids as registry_ids

__all__ = ["RegistrySettings"]

_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The address of the registry and how to log in. Without a `url` there is no registry.

    `config` is the configuration file, for messages. Nothing here is secret: the password is read from its file when
    the registry is asked.
    """

    url: str | None = None
    """Up to where the paths of the Confluent Schema Registry API begin, without a slash at its end."""
    ids_file: Path = Path(DEFAULT_IDS_FILE)
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    """The authority that signed the certificate of the registry; if it is not given, the authorities of the system."""
    config: Path = field(default=Path("quietcount.toml"), compare=False)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """By key, the variable that its value comes from, for messages."""

    @classmethod
    def of(cls, raw: RawConfiguration, faults: list[Fault]) -> RegistrySettings:
        """Return the settings that `raw` holds; what is wrong is added to `faults`."""
        wrong = {fault.key for fault in raw.faults}
        if "schema_registry" in wrong:
            return cls(config=raw.path)
        given = {
            key: raw.value_of(f"schema_registry.{key}")
            for key in ("url", "username", "password_file", "ca_file", "ids_file")
            if f"schema_registry.{key}" not in wrong
        }
        paths = {key: raw.path_of(f"schema_registry.{key}") for key, value in given.items() if value is not None}
        url = None
        if given.get("url") is not None:
            url = str(given["url"]).strip().rstrip("/")
            faults += _faults(raw, url, given)
        for one, other in (("username", "password_file"), ("password_file", "username")):
            if given.get(one) is not None and given.get(other) is None and f"schema_registry.{other}" not in wrong:
                faults.append(
                    raw.fault(f"schema_registry.{one}", f"goes with schema_registry.{other}, which is missing")
                )
        username = given.get("username")
        if username is not None and (":" in username or not username.isprintable()):
            faults.append(raw.fault("schema_registry.username", "a name that is sent over HTTP has no ':' in it"))
        return cls(
            url=url,
            ids_file=paths.get("ids_file") or raw.folder / DEFAULT_IDS_FILE,
            username=username,
            password_file=paths.get("password_file"),
            ca_file=paths.get("ca_file"),
            config=raw.path,
            origins=dict(raw.origins),
        )

    def place(self, key: str) -> str:
        """Return where `key` (dotted) is given, for a message: the file, and the key or the variable."""
        return f"{self.config}: {place(key, self.origins)}"

    def registry(self, folders: Sequence[Path] = ()) -> SchemaRegistry:
        """Load the event types of `folders` and the built-in ones, with the pinned ids if there is a registry.

        Raises SchemasError if a schema or the file of the ids cannot be used.
        """
        return SchemaRegistry.load(folders, self.ids())

    def ids(self) -> Mapping[int, bytes]:
        """Return the pinned ids, each with the fingerprint (8 bytes) it stands for; none if there is no registry.

        Raises SchemasError if the file is missing or cannot be used.
        """
        return {} if self.url is None else registry_ids.load(self.ids_file)

    def check_writable(self, registry: SchemaRegistry) -> None:
        """Raise SchemasError if there is a registry, and a current version without an id."""
        if self.url is None:
            return
        lacking = [
            f"{event_type.name} version {event_type.current.version}"
            for event_type in registry.event_types.values()
            if registry.confluent_id(event_type.current.fingerprint) is None
        ]
        if lacking:
            raise SchemasError(
                f"{self.ids_file}: no id of the Schema Registry is pinned for {', '.join(lacking)}",
                "Run `quietcount schemas register`, and copy the file to where events are emitted and counted",
            )


def _faults(raw: RawConfiguration, url: str, given: Mapping[str, object]) -> list[Fault]:
    """Return what is wrong with the address, and with what goes over it."""
    key = "schema_registry.url"
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in _SCHEMES or not parts.hostname or parts.port == 0
    except ValueError:  # a port that is no number, an address in brackets that is none
        return [raw.fault(key)]
    if wrong or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        return [raw.fault(key)]
    if parts.username is not None or parts.password is not None:
        message = "write the name as schema_registry.username and the password into a file, not into the address"
        return [raw.fault(key, message)]
    if parts.scheme == "https":
        return []
    if given.get("ca_file") is not None:
        return [raw.fault("schema_registry.ca_file", "is for an address that begins with https://")]
    if given.get("password_file") is not None and not _is_this_machine(parts):
        return [raw.fault(key, "a password is sent over https:// only, or to this machine (127.0.0.1)")]
    return []


def _is_this_machine(parts: SplitResult) -> bool:
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"
