"""Evolution: whether every version of an event type can read every other (FULL_TRANSITIVE), offline.

The rules are Avro's schema resolution (Avro 1.12 specification, "Schema Resolution") for flat records of enums,
booleans, ints and nullable ones, and three of our own. Symbols are only ever appended to an enum, because the fold
keeps their indexes. Bounds stay. Neither the full name nor the role of an event changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import combinations

from quietcount_schemas.events.event_types import Field, FieldKind, Role, SchemaVersion
from quietcount_schemas.finding import Finding, place

__all__ = ["EvolutionReason", "check_evolution"]


class EvolutionReason(StrEnum):
    """Why two versions of an event type cannot live together."""

    SAME_FINGERPRINT = "same_fingerprint"
    NAME_CHANGED = "name_changed"
    ROLE_CHANGED = "role_changed"
    FIELD_WITHOUT_DEFAULT = "field_without_default"
    TYPE_CHANGED = "type_changed"
    ENUM_RENAMED = "enum_renamed"
    ENUM_WITHOUT_DEFAULT = "enum_without_default"
    NULL_CHANGED = "null_changed"
    BOUNDS_CHANGED = "bounds_changed"
    SYMBOLS_NOT_APPENDED = "symbols_not_appended"


_NEW_TYPE = "Make a new event type instead"
_NEW_FIELD = "Add a field of another name instead"
_MESSAGES: Mapping[EvolutionReason, tuple[str, str]] = {
    EvolutionReason.SAME_FINGERPRINT: (
        "names, types and symbols are the same, so a message cannot say which version wrote it",
        "Remove the newer file",
    ),
    EvolutionReason.NAME_CHANGED: ("the name or namespace changed", _NEW_TYPE),
    EvolutionReason.ROLE_CHANGED: ('the "quietcount.role" changed', _NEW_TYPE),
    EvolutionReason.FIELD_WITHOUT_DEFAULT: (
        "one version lacks this field, and in the other it has no default",
        "Give it a default",
    ),
    EvolutionReason.TYPE_CHANGED: ("the type changed", _NEW_FIELD),
    EvolutionReason.ENUM_RENAMED: ("the name of the enum changed", "Give it its former name"),
    EvolutionReason.ENUM_WITHOUT_DEFAULT: (
        "symbols differ, and the enum has no default symbol in one of the two versions",
        'Write "default", with one of the symbols, beside "symbols" in both files. It changes no message',
    ),
    EvolutionReason.NULL_CHANGED: ("null was added or removed", _NEW_FIELD),
    EvolutionReason.BOUNDS_CHANGED: ("the bounds changed", _NEW_FIELD),
    EvolutionReason.SYMBOLS_NOT_APPENDED: (
        "the older symbols changed, or their order",
        "Restore them, and add new ones after them",
    ),
}
"""By reason: what is wrong, and what to do."""


def check_evolution(versions: Sequence[SchemaVersion]) -> list[Finding]:
    """Return why any two of `versions` (oldest first) cannot read one another; each finding names the newer file."""
    found: list[Finding] = []
    for older, newer in combinations(versions, 2):
        for finding in _pair(older, newer):
            if finding not in found:
                found.append(finding)
    return found


def _pair(older: SchemaVersion, newer: SchemaVersion) -> Iterator[Finding]:
    def found(reason: EvolutionReason, path: str = "") -> Finding:
        what, remedy = _MESSAGES[reason]
        versions = f"version {newer.version} against version {older.version}"
        return Finding(place(newer.source, path), f"{versions}: {what}", remedy, reason)

    if older.parsed["name"] != newer.parsed["name"]:
        yield found(EvolutionReason.NAME_CHANGED)
    if _role(older) != _role(newer):
        yield found(EvolutionReason.ROLE_CHANGED)
    if older.fingerprint == newer.fingerprint:
        yield found(EvolutionReason.SAME_FINGERPRINT)
    for writer, reader in ((older, newer), (newer, older)):
        written = {field.name: field for field in writer.fields}
        for field in reader.fields:
            for reason in _resolve(field, written.get(field.name)):
                yield found(reason, field.name)
    before = {field.name: field for field in older.fields}
    for field in newer.fields:
        known = before[field.name].symbols if field.name in before else ()
        if field.symbols[: len(known)] != known:
            yield found(EvolutionReason.SYMBOLS_NOT_APPENDED, field.name)


def _resolve(reader: Field, writer: Field | None) -> Iterator[EvolutionReason]:
    """Yield why the reader cannot take its field from what the writer wrote."""
    if writer is None:
        if not reader.has_default:
            yield EvolutionReason.FIELD_WITHOUT_DEFAULT
        return
    if reader.kind is not writer.kind:
        yield EvolutionReason.TYPE_CHANGED
        return
    if reader.nullable != writer.nullable:
        # A reader that takes null could read both; full compatibility needs the other direction too.
        yield EvolutionReason.NULL_CHANGED
    if reader.minimum != writer.minimum or reader.maximum != writer.maximum:
        yield EvolutionReason.BOUNDS_CHANGED
    if reader.kind is FieldKind.ENUM:
        if _unqualified(reader) != _unqualified(writer):
            yield EvolutionReason.ENUM_RENAMED
        if reader.default_symbol is None and not set(writer.symbols) <= set(reader.symbols):
            yield EvolutionReason.ENUM_WITHOUT_DEFAULT


def _role(version: SchemaVersion) -> str:
    return str(version.parsed.get("quietcount.role", Role.EVENT.value))


def _unqualified(field: Field) -> str:
    return field.type_name.rpartition(".")[2]
