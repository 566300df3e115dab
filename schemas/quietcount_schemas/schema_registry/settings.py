"""Where the Schema Registry is: the [schema_registry] section, as emitters, the service and `schemas register` read it.

Only `quietcount schemas register` asks a Schema Registry. It pins the answers in the file `ids_file`, and everybody
else reads that file. So a registry that is down, or that gives another answer later, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from quietcount_schemas.configuration import DEFAULT_IDS_FILE, GivenConfiguration, place
from quietcount_schemas.errors import SchemasError

if TYPE_CHECKING:
    from quietcount_schemas.registry import SchemaRegistry

__all__ = ["RegistrySettings"]


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
    def of(cls, given: GivenConfiguration) -> RegistrySettings:
        """Return the settings of a configuration without faults."""
        return cls(**given.values["schema_registry"], config=given.path, origins=given.origins)

    def place(self, key: str) -> str:
        """Return where `key` (dotted) is given, for a message: the file, and the key or the variable."""
        return f"{self.config}: {place(key, self.origins)}"

    def registry(self, folders: Sequence[Path] = ()) -> SchemaRegistry:
        """Load the event types of `folders` and the built-in ones, with the pinned ids if there is a registry.

        Raises SchemasError if a schema or the file of the ids cannot be used.
        """
        # Reading schemas takes fastavro, which most commands that read the configuration do not need.
        from quietcount_schemas.registry import SchemaRegistry

        return SchemaRegistry.load(folders, self.ids())

    def ids(self) -> Mapping[int, bytes]:
        """Return the pinned ids, each with the fingerprint (8 bytes) it stands for; none if there is no registry.

        Raises SchemasError if the file is missing or cannot be used.
        """
        if self.url is None:
            return {}
        from quietcount_schemas.schema_registry import ids as registry_ids

        return registry_ids.load(self.ids_file)

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
