"""The registry: every event type there is, from the built-in casework schemas and from folders of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from quietcount_schemas.definition import read_definition, role_of, schema_version
from quietcount_schemas.errors import SchemasError
from quietcount_schemas.event_types import EventType, SchemaVersion

__all__ = ["CASEWORK", "SchemaRegistry"]

CASEWORK = Path(__file__).resolve().parent / "casework"
"""The folder of the built-in schemas."""


class SchemaRegistry:
    """The known event types, by name and by fingerprint."""

    def __init__(self, event_types: Sequence[EventType]) -> None:
        self.event_types: Mapping[str, EventType] = MappingProxyType(
            {event_type.name: event_type for event_type in sorted(event_types, key=lambda each: each.name)}
        )
        self._by_fingerprint = {
            version.fingerprint: version for event_type in event_types for version in event_type.versions
        }

    @classmethod
    def load(cls, folders: Sequence[Path] = ()) -> SchemaRegistry:
        """Return the built-in event types and those of `folders`.

        Raises SchemasError when a schema is refused by the lint, by the evolution check or by its history.
        """
        found = []
        for root in (CASEWORK, *folders):
            for folder in sorted(root.iterdir()):
                if not folder.is_dir():
                    continue
                definitions = [
                    read_definition(path, str(path))
                    for path in sorted(folder.glob("*.avsc"), key=lambda path: int(path.stem))
                ]
                versions = tuple(
                    schema_version(each, number, f"{folder.name}/{number}.avsc")
                    for number, each in enumerate(definitions, 1)
                )
                found.append(EventType(folder.name, role_of(definitions[-1]), versions, definitions[-1]["doc"]))
        return cls(found)

    def event_type(self, name: str) -> EventType:
        """Return the event type `name`. Raises SchemasError naming the known ones."""
        try:
            return self.event_types[name]
        except KeyError:
            known = ", ".join(self.event_types)
            raise SchemasError(f"no event type of that name; the known ones are: {known}") from None

    def by_fingerprint(self, fingerprint: bytes) -> SchemaVersion | None:
        """Return the version with that fingerprint (8 bytes), or None."""
        return self._by_fingerprint.get(fingerprint)
