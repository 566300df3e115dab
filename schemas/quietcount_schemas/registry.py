"""The registry: every event type there is, from the built-in casework schemas and from configured folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from quietcount_schemas.configuration import read_configuration
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.event_types import EventType, SchemaVersion
from quietcount_schemas.finding import Finding, refusal
from quietcount_schemas.folder import SchemaFolder, inspect_folder
from quietcount_schemas.lint.reason import LintReason

__all__ = ["CASEWORK", "SchemaRegistry", "configured_folders", "inspect"]

CASEWORK = Path(__file__).resolve().parent / "casework"
"""The folder of the built-in schemas."""


class SchemaRegistry:
    """The known event types, by name and by fingerprint.

    `confluent_ids` are the ids of a Confluent Schema Registry, each with the fingerprint of the schema that it stands
    for, which need not be known here. If there are any, messages are written in Confluent framing.
    """

    def __init__(self, event_types: Sequence[EventType], confluent_ids: Mapping[int, bytes] | None = None) -> None:
        self.event_types: Mapping[str, EventType] = MappingProxyType(
            {event_type.name: event_type for event_type in sorted(event_types, key=lambda each: each.name)}
        )
        self._by_fingerprint = {
            version.fingerprint: version for event_type in event_types for version in event_type.versions
        }
        self.confluent_ids: Mapping[int, bytes] = MappingProxyType(dict(sorted((confluent_ids or {}).items())))

    @classmethod
    def load(
        cls, folders: Sequence[str | os.PathLike[str]] = (), confluent_ids: Mapping[int, bytes] | None = None
    ) -> SchemaRegistry:
        """Return the built-in event types and those of `folders`.

        Raises SchemasError if the lint, the evolution check or the history refuses a schema.
        """
        inspected, clashes = inspect([Path(folder) for folder in folders])
        refused = [finding for folder in inspected for finding in folder.refusals] + clashes
        if refused:
            raise refusal(refused)
        return cls([event_type for folder in inspected for event_type in folder.event_types], confluent_ids)

    def event_type(self, name: str) -> EventType:
        """Return the event type `name`. Raises SchemasError naming the known ones."""
        try:
            return self.event_types[name]
        except KeyError:
            known = ", ".join(self.event_types)
            raise SchemasError("no event type of that name", f"The known ones are: {known}") from None

    def by_fingerprint(self, fingerprint: bytes) -> SchemaVersion | None:
        """Return the version with that fingerprint (8 bytes), or None."""
        return self._by_fingerprint.get(fingerprint)

    def confluent_id(self, fingerprint: bytes) -> int | None:
        """Return the id to write for the schema with that fingerprint, the lowest of several, or None."""
        return next((number for number, pinned in self.confluent_ids.items() if pinned == fingerprint), None)


def inspect(folders: Sequence[Path] = ()) -> tuple[list[SchemaFolder], list[Finding]]:
    """Return the built-in folder and `folders` as inspected (each once), and where they clash with one another."""
    inspected = [inspect_folder(CASEWORK, label=CASEWORK.name, history_required=True)]
    seen = {CASEWORK}
    for folder in folders:
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            inspected.append(inspect_folder(folder))
    return inspected, list(_clashes(inspected))


def _clashes(inspected: Sequence[SchemaFolder]) -> Iterator[Finding]:
    names: dict[str, EventType] = {}
    for folder in inspected:
        for event_type in folder.event_types:
            other = names.setdefault(event_type.name.lower(), event_type)
            if other is not event_type:
                what = f"{other.current.source} already has an event type of that name"
                yield Finding(event_type.current.source, what, "Choose another name", LintReason.NAME_CLASH)


def configured_folders(config: Path) -> tuple[Path, ...]:
    """Return the folders that `schemas = [...]` or QUIETCOUNT_SCHEMAS names, relative to the configuration file.

    Raises SchemasError if the file cannot be read, is not TOML, or has a key that is unknown or has a wrong value.
    """
    given = read_configuration(config)
    given.refuse_faults(SchemasError)
    folders: tuple[Path, ...] = given.values["schemas"]
    return folders
