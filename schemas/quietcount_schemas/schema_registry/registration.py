"""Registration: every version of every event type in a Schema Registry, and the ids that it gave pinned in a file.

Subject strategy: RecordNameStrategy, that is, the subject is the full name of the record, the same for every topic.
Compatibility: FULL_TRANSITIVE, set for each subject before its first version, as `quietcount schemas check` holds it.

A registry is believed once, and only as far as it can be checked. What it hands out under an id must have the
fingerprint of what was registered, and what was pinned before must still hold. Otherwise nothing is pinned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from fastavro import parse_schema
from fastavro.schema import fingerprint, to_parsing_canonical_form

from quietcount_schemas.events.definition import parse_definition
from quietcount_schemas.events.event_types import SchemaVersion
from quietcount_schemas.framing import MAX_CONFLUENT_ID
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.schema_registry.client import RegistryClient
from quietcount_schemas.schema_registry.ids import PinnedIds
from quietcount_schemas.schema_registry.settings import RegistrySettings

__all__ = ["COMPATIBILITY", "Registered", "Registration", "subject"]

COMPATIBILITY: Final = "FULL_TRANSITIVE"


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of ours that the registry holds. `new` says that its id was not pinned before."""

    subject: str
    version: int
    number: int
    new: bool


class Registration:
    """Registers with one registry; `pinned` grows with each version that it did."""

    def __init__(self, client: RegistryClient, settings: RegistrySettings, pinned: PinnedIds | None = None) -> None:
        self._client = client
        self._settings = settings
        before = pinned or PinnedIds()
        self._ids = dict(before.ids)
        self._subjects = {subject: dict(versions) for subject, versions in before.subjects.items()}

    @property
    def pinned(self) -> PinnedIds:
        """What is pinned now, what was pinned before included."""
        return PinnedIds(dict(self._ids), {subject: dict(versions) for subject, versions in self._subjects.items()})

    def register(self, registry: SchemaRegistry) -> Iterator[Registered]:
        """Register every version in order and yield each; the second time it changes nothing.

        Raises SchemasError naming the version, and the setting to look at; do not use what is pinned then.
        """
        if not isinstance(self._client.get("/subjects"), list):
            raise self._client.no_registry()
        for event_type in registry.event_types.values():
            name = subject(event_type.current)
            self._require_compatibility(name)
            for version in event_type.versions:
                yield self._version(name, version)

    def _require_compatibility(self, name: str) -> None:
        path = f"/config/{quote(name, safe='')}"
        self._client.send("PUT", path, {"compatibility": COMPATIBILITY}, name)
        found = self._client.get(path, name)
        level = found.get("compatibilityLevel") if isinstance(found, dict) else None
        if level != COMPATIBILITY:
            raise self._client.refused(
                f"it does not keep the compatibility {COMPATIBILITY} that was set",
                "Check the rights of the user and the settings of the registry",
                about=name,
            )

    def _version(self, name: str, version: SchemaVersion) -> Registered:
        place = f"{name} version {version.version}"
        known = [number for number, fingerprint in self._ids.items() if fingerprint == version.fingerprint]
        held = [number for number in known if self._holds(place, number, version)]
        confirmed = bool(held) and self._listed(name, held[0])
        number = held[0] if confirmed else self._new(name, place, version, known)
        self._ids[number] = version.fingerprint
        self._subjects.setdefault(name, {})[version.version] = number
        return Registered(name, version.version, number, new=number not in known)

    def _new(self, name: str, place: str, version: SchemaVersion, known: list[int]) -> int:
        """Register `version` and return its id, after the registry has shown what it hands out under it."""
        body = {"schema": _text(version)}
        answer = self._client.send("POST", f"/subjects/{quote(name, safe='')}/versions", body, place)
        number = answer.get("id") if isinstance(answer, dict) else None
        if type(number) is not int or not 1 <= number <= MAX_CONFLUENT_ID:
            raise self._client.no_registry(place)
        file = self._settings.ids_file
        if known and number not in known:
            raise self._client.refused(
                f"it gives the id {number}, and {file} has pinned {_listed(known)}: either the pinned ids are from "
                "another registry, or this one lost what it held",
                "Name the right one with the key 'schema_registry.url', or restore it. For a new registry remove "
                f"{file} once the log holds no record with an id of the old one",
                about=place,
            )
        if self._ids.get(number, version.fingerprint) != version.fingerprint:
            raise self._client.refused(
                f"it gives the id {number}, which {file} has pinned for the schema with the fingerprint "
                f"{self._ids[number].hex()}: either the pinned ids are from another registry, or this one must not be "
                "trusted",
                "Check the key 'schema_registry.url'",
                about=place,
            )
        if not self._holds(place, number, version):
            raise self._client.refused(
                f"it gave the id {number}, and holds nothing under it", "Check the registry and its log", about=place
            )
        return number

    def _holds(self, place: str, number: int, version: SchemaVersion) -> bool:
        """Return whether the registry hands out `version` under the id. Raises RegistryRefused for another schema."""
        found = self._client.get(f"/schemas/ids/{number}", place)
        if found is None:
            return False
        if _fingerprint(found) != version.fingerprint:
            raise self._client.refused(
                f"under the id {number} it hands out another schema than the one with the fingerprint "
                f"{version.fingerprint.hex()}. Nothing was pinned",
                "Check the key 'schema_registry.url', and who may write to that registry",
                about=place,
            )
        return True

    def _listed(self, name: str, number: int) -> bool:
        """Return whether the id is one of the subject's: a deleted subject leaves its schemas behind."""
        found = self._client.get(f"/schemas/ids/{number}/versions")
        return isinstance(found, list) and any(isinstance(each, dict) and each.get("subject") == name for each in found)


def subject(version: SchemaVersion) -> str:
    """Return the subject of a version: the full name of its record."""
    return str(version.parsed["name"])


def _text(version: SchemaVersion) -> str:
    """Return the schema as its file holds it, docs included, so that a look-up with the file finds it."""
    return json.dumps(version.definition, indent=2, ensure_ascii=False)


def _fingerprint(found: object) -> bytes | None:
    """Return the fingerprint of the schema that a registry hands out, or None if it is not an Avro schema."""
    if not isinstance(found, dict) or found.get("schemaType", "AVRO") != "AVRO" or found.get("references"):
        return None
    try:
        definition = parse_definition(found["schema"], "the registry's answer")
        return bytes.fromhex(fingerprint(to_parsing_canonical_form(parse_schema(definition)), "CRC-64-AVRO"))
    except Exception:  # fastavro raises several unrelated types, and each says the same of the registry
        return None


def _listed(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))
