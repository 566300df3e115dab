"""A schema file as read: strict JSON, its canonical digest, and the SchemaVersion that a clean one stands for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from quietcount_schemas.events.event_types import INT32_MAXIMUM, INT32_MINIMUM, Field, FieldKind, Role, SchemaVersion
from quietcount_schemas.finding import Finding, Refused

__all__ = ["MAX_SCHEMA_BYTES", "digest", "parse_definition", "read_definition", "role_of", "schema_version"]

MAX_SCHEMA_BYTES = 256 * 1024
"""Far above any real schema; a larger file is a mistake or an attempt to exhaust memory."""

_TEXTS = ("doc", "quietcount.title", "quietcount.labels")

_FIXED_KINDS = {"CaseKey": FieldKind.CASE_KEY, "EventId": FieldKind.EVENT_ID}


def parse_definition(text: str, source: str) -> Any:
    """Return the JSON value of a schema text; `source` names it in messages.

    Raises Refused for broken JSON, a repeated key, a number that is not finite, or nesting too deep to read.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise Refused(Finding(source, f"the key {key[:40]!a} appears twice in one object", "Remove one"))
            found[key] = value
        return found

    def refuse(constant: str) -> Any:
        raise Refused(Finding(source, f"{constant} is not JSON", "Write a number"))

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        line = f"{source}, line {error.lineno}"
        raise Refused(Finding(line, f"not JSON: {error.msg}", "Correct the line")) from None
    except RecursionError:
        raise Refused(Finding(source, "nested too deeply", "Write an event schema as one flat record")) from None
    except ValueError:  # an integer of more digits than Python converts
        raise Refused(Finding(source, "a number has too many digits", "Bounds are 32-bit integers")) from None


def read_definition(path: Path, source: str) -> Any:
    """Return the JSON value of the schema file at `path`. Raises Refused as `parse_definition` does."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SCHEMA_BYTES + 1)
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise Refused(Finding(source, what, "Check the rights of the file")) from None
    if len(raw) > MAX_SCHEMA_BYTES:
        what = f"larger than {MAX_SCHEMA_BYTES // 1024} KiB"
        raise Refused(Finding(source, what, "Put an event schema there; one is far smaller"))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(Finding(source, "not UTF-8", "Save it as UTF-8")) from None
    return parse_definition(text, source)


def digest(definition: Any) -> str:
    """Return the SHA-256 (hex) of a definition: every attribute in canonical order, texts for people left out.

    The Avro fingerprint does not see defaults, bounds and roles; this does. A doc or a label may change at any time.
    """
    text = json.dumps(_without_texts(definition), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def role_of(definition: Any) -> Role:
    """Return the role of a lint-clean definition."""
    return Role(definition.get("quietcount.role", Role.EVENT.value))


def schema_version(definition: Any, version: int, source: str) -> SchemaVersion:
    """Return what a lint-clean definition stands for. Raises Refused if fastavro cannot parse it."""
    try:
        parsed: Any = fastavro.parse_schema(definition, named_schemas={})
        canonical = to_parsing_canonical_form(parsed)
        crc = fingerprint(canonical, "CRC-64-AVRO")
    except Exception as error:
        # fastavro raises several unrelated types for a schema it cannot take, and each is the schema's fault.
        what = f"not an Avro schema ({type(error).__name__})"
        raise Refused(Finding(source, what, "Compare it with a built-in schema")) from None
    return SchemaVersion(
        event=definition["name"],
        version=version,
        fingerprint=bytes.fromhex(crc),
        fields=_fields(parsed),
        parsed=parsed,
        source=source,
        definition=definition,
    )


def _fields(parsed: Any) -> tuple[Field, ...]:
    named: dict[str, Any] = {}
    return tuple(_field(field, named) for field in parsed["fields"])


def _field(definition: Any, named: dict[str, Any]) -> Field:
    """Return the field of a parsed definition; `named` collects the enums met so far, by full name."""
    written: Any = definition["type"]
    nullable = isinstance(written, list)
    if isinstance(written, list):
        written = written[1]
    if isinstance(written, str):
        written = named.get(written, {"type": written})
    if "name" in written:
        named[written["name"]] = written
    return Field(
        name=definition["name"],
        kind=_kind(written),
        nullable=nullable,
        symbols=tuple(written.get("symbols", ())),
        default_symbol=written.get("default"),
        minimum=written.get("minimum", INT32_MINIMUM),
        maximum=written.get("maximum", INT32_MAXIMUM),
        has_default="default" in definition,
        default=definition.get("default"),
        doc=definition.get("doc", ""),
        type_name=written.get("name", ""),
        titles=definition.get("quietcount.title", {}),
        labels=definition.get("quietcount.labels", {}),
    )


def _kind(written: Any) -> FieldKind:
    match written["type"]:
        case "enum":
            return FieldKind.ENUM
        case "boolean":
            return FieldKind.BOOLEAN
        case "int":
            return FieldKind.DATE if written.get("logicalType") == "date" else FieldKind.INT
        case _:
            return _FIXED_KINDS[written["name"].rpartition(".")[2]]


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_texts(inner) for key, inner in value.items() if key not in _TEXTS}
    if isinstance(value, list):
        return [_without_texts(inner) for inner in value]
    return value
