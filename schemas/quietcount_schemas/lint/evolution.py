"""Evolution: whether every version of an event type can read every other (FULL_TRANSITIVE), offline.

The rules are Avro's schema resolution (Avro 1.12 specification, "Schema Resolution") for flat records of enums,
booleans, ints and nullable ones, and three of our own: the symbols of an enum are only ever appended to, because the
fold keeps their indexes; bounds stay; and neither the full name nor the role of an event changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import combinations

from quietcount_schemas.event_types import Field, FieldKind, Role, SchemaVersion
from quietcount_schemas.finding import Finding

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


def check_evolution(versions: Sequence[SchemaVersion]) -> list[Finding]:
    """Return why any two of `versions` (oldest first) cannot read one another; each finding names the newer file."""
    found: list[Finding] = []
    for older, newer in combinations(versions, 2):
        for finding in _pair(older, newer):
            if finding not in found:
                found.append(finding)
    return found


def _pair(older: SchemaVersion, newer: SchemaVersion) -> Iterator[Finding]:
    def found(reason: EvolutionReason, message: str, path: str = "") -> Finding:
        return Finding(
            newer.source, path, reason, f"version {newer.version} against version {older.version}: {message}"
        )

    if older.parsed["name"] != newer.parsed["name"]:
        yield found(EvolutionReason.NAME_CHANGED, "the name or namespace changed; make a new event type instead")
    if _role(older) != _role(newer):
        yield found(EvolutionReason.ROLE_CHANGED, '"quietcount.role" changed; make a new event type instead')
    if older.fingerprint == newer.fingerprint:
        yield found(
            EvolutionReason.SAME_FINGERPRINT,
            "names, types and symbols are the same, so a message cannot tell which it is; remove the newer file",
        )
    for writer, reader in ((older, newer), (newer, older)):
        written = {field.name: field for field in writer.fields}
        for field in reader.fields:
            for reason, message in _resolve(field, written.get(field.name)):
                yield found(reason, message, field.name)
    before = {field.name: field for field in older.fields}
    for field in newer.fields:
        known = before[field.name].symbols if field.name in before else ()
        if field.symbols[: len(known)] != known:
            yield found(
                EvolutionReason.SYMBOLS_NOT_APPENDED,
                "the older symbols must stay as they are, in their order; add new ones after them",
                field.name,
            )


def _resolve(reader: Field, writer: Field | None) -> Iterator[tuple[EvolutionReason, str]]:
    """Yield why the reader's field cannot be had from what the writer wrote."""
    if writer is None:
        if not reader.has_default:
            yield EvolutionReason.FIELD_WITHOUT_DEFAULT, "a field that one version lacks needs a default in the other"
        return
    if reader.kind is not writer.kind:
        yield EvolutionReason.TYPE_CHANGED, "the type changed; add a field of another name instead"
        return
    if reader.nullable != writer.nullable:
        # One direction alone would do for the reader that takes null; full compatibility needs both.
        yield EvolutionReason.NULL_CHANGED, "null was added or removed; add a field of another name instead"
    if reader.minimum != writer.minimum or reader.maximum != writer.maximum:
        yield EvolutionReason.BOUNDS_CHANGED, "the bounds changed; add a field of another name instead"
    if reader.kind is FieldKind.ENUM:
        if _unqualified(reader) != _unqualified(writer):
            yield EvolutionReason.ENUM_RENAMED, "the enum's name changed; give it its former name"
        if reader.default_symbol is None and not set(writer.symbols) <= set(reader.symbols):
            yield EvolutionReason.ENUM_WITHOUT_DEFAULT, "symbols differ and the enum has no default symbol; add one"


def _role(version: SchemaVersion) -> str:
    return str(version.parsed.get("quietcount.role", Role.EVENT.value))


def _unqualified(field: Field) -> str:
    return field.type_name.rpartition(".")[2]
