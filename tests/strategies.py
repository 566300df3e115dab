"""Hypothesis strategies for event schemas, their evolution, case events, and messages that somebody tampered with."""

from __future__ import annotations

import copy
import datetime as dt
import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.definition import role_of, schema_version
from quietcount_schemas.events.event_types import EPOCH_ORDINAL, EventType, Field, FieldKind, SchemaVersion
from quietcount_schemas.lint.rules import MAX_FREE_BITS, MAX_INT_VALUES
from quietcount_schemas.registry import CASEWORK, SchemaRegistry

__all__ = [
    "attributes",
    "case_events",
    "definitions",
    "envelope",
    "event_ids",
    "event_type_of",
    "field_values",
    "histories",
    "keys",
    "mutate",
    "mutated",
    "registry_of",
    "rng_seeds",
    "trial",
]

LAST_DAY = dt.date(2099, 12, 31).toordinal() - EPOCH_ORDINAL
NAMESPACE = "example.trial"


# ---------------------------------------------------------------- values


def keys() -> st.SearchStrategy[bytes]:
    """Case keys: 16 bytes, a few of them often, so that cases meet."""
    few = st.integers(0, 7).map(lambda number: bytes([number]) * 16)
    return st.one_of(few, st.binary(min_size=16, max_size=16))


def event_ids() -> st.SearchStrategy[bytes]:
    """Event ids: the 16 bytes of UUIDs of version 4."""
    return st.binary(min_size=16, max_size=16).map(lambda raw: uuid.UUID(bytes=raw, version=4).bytes)


def dates(field: Field) -> st.SearchStrategy[dt.date]:
    first, last = (dt.date.fromordinal(day + EPOCH_ORDINAL) for day in (field.minimum, field.maximum))
    return st.dates(min_value=first, max_value=last)


def field_values(field: Field) -> st.SearchStrategy[Any]:
    """Every value that a field may hold."""
    values: dict[FieldKind, Callable[[], st.SearchStrategy[Any]]] = {
        FieldKind.ENUM: lambda: st.sampled_from(field.symbols),
        FieldKind.BOOLEAN: st.booleans,
        FieldKind.INT: lambda: st.one_of(
            st.integers(field.minimum, field.maximum), st.sampled_from([field.minimum, field.maximum])
        ),
        FieldKind.DATE: lambda: dates(field),
        FieldKind.CASE_KEY: keys,
        FieldKind.EVENT_ID: event_ids,
    }
    strategy = values[field.kind]()
    return st.one_of(st.none(), strategy) if field.nullable else strategy


def attributes(version: SchemaVersion) -> st.SearchStrategy[dict[str, Any]]:
    """The attributes of one event of a version."""
    return st.fixed_dictionaries({field.name: field_values(field) for field in version.attributes})


@st.composite
def case_events(draw: st.DrawFn, registry: SchemaRegistry, *, names: Sequence[str] = ()) -> CaseEvent:
    """Case events of the registry's event types, or of `names` among them, in their current version."""
    name = draw(st.sampled_from(list(names) or list(registry.event_types)))
    current = registry.event_type(name).current
    envelope_values = {field.name: draw(field_values(field)) for field in current.fields[:4]}
    return CaseEvent(event=name, attributes=draw(attributes(current)), **envelope_values)


# ---------------------------------------------------------------- schemas


def envelope() -> list[dict[str, Any]]:
    """The four fields that every event schema begins with."""
    return [
        {"name": "case_key", "type": {"type": "fixed", "name": "CaseKey", "size": 16}, "doc": "The case."},
        {"name": "event_id", "type": {"type": "fixed", "name": "EventId", "size": 16}, "doc": "The event."},
        {
            "name": "revision",
            "type": {"type": "int", "minimum": 0, "maximum": 65535},
            "default": 0,
            "doc": "The revision.",
        },
        {
            "name": "occurred_on",
            "type": {"type": "int", "logicalType": "date", "minimum": 0, "maximum": LAST_DAY},
            "doc": "The day.",
        },
    ]


def trial(*fields: dict[str, Any]) -> dict[str, Any]:
    """Return a sound schema: the envelope, a kind of two symbols, a bounded number of people, and `fields`."""
    kind = {"type": "enum", "name": "Kind", "symbols": ["A", "B"], "default": "A", "doc": "Kinds."}
    return {
        "type": "record",
        "name": "Trial",
        "namespace": NAMESPACE,
        "doc": "A trial.",
        "fields": [
            *envelope(),
            {"name": "kind", "type": kind, "default": "A", "doc": "A kind."},
            {"name": "people", "type": {"type": "int", "minimum": 1, "maximum": 9}, "default": 1, "doc": "How many."},
            *fields,
        ],
    }


@st.composite
def attribute_definitions(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """One field that the lint accepts, with a default; its enum, if it has one, is called after it."""
    kind = draw(st.sampled_from(["enum", "boolean", "int", "date"]))
    written: Any
    default: Any
    if kind == "enum":
        count = draw(st.one_of(st.integers(1, 6), st.sampled_from([64, 65, 250])))
        symbols = [f"S{number}" for number in range(count)]
        written = {
            "type": "enum",
            "name": name.title(),
            "symbols": symbols,
            "default": draw(st.sampled_from(symbols)),
            "doc": "An enum.",
        }
        default = draw(st.sampled_from(symbols))
    elif kind == "boolean":
        written = "boolean"
        default = draw(st.booleans())
    else:
        lowest, highest = (-2000, 80000) if kind == "date" else (-(2**31), 2**31 - 1)
        first = draw(st.integers(lowest, highest))
        bounds = [first, min(highest, first + draw(st.integers(0, MAX_INT_VALUES - 1)))]
        written = {"type": "int", "minimum": bounds[0], "maximum": bounds[1]}
        if kind == "date":
            written["logicalType"] = "date"
        default = draw(st.integers(bounds[0], bounds[1]))
    if draw(st.integers(0, 3)) == 0:
        written, default = ["null", written], None
    return {"name": name, "type": written, "default": default, "doc": "A field."}


@st.composite
def definitions(draw: st.DrawFn, event: str = "Trial", most: int = 6) -> dict[str, Any]:
    """Event schemas that the lint accepts, with up to `most` attributes called f0, f1, ..."""
    count = draw(st.integers(0, most))
    own: list[dict[str, Any]] = []
    room = 2**MAX_FREE_BITS
    for number in range(count):
        field = draw(attribute_definitions(f"f{number}"))
        if room >= _values(field):  # a field for which there is no room any more is left out
            room //= _values(field)
            own.append(field)
    return {
        "type": "record",
        "name": event,
        "namespace": NAMESPACE,
        "doc": "A trial.",
        "fields": envelope() + own,
    }


def _inner(field: dict[str, Any]) -> Any:
    return field["type"][1] if isinstance(field["type"], list) else field["type"]


def _values(field: dict[str, Any]) -> int:
    """How many values a field takes that is no enum; 1 for an enum."""
    inner, nullable = _inner(field), isinstance(field["type"], list)
    if inner == "boolean":
        return 2 + nullable
    return int(inner["maximum"]) - int(inner["minimum"]) + 1 + nullable if inner["type"] == "int" else 1


def _is_enum(field: dict[str, Any]) -> bool:
    return isinstance(_inner(field), dict) and _inner(field)["type"] == "enum"


def _is_bounded(field: dict[str, Any]) -> bool:
    return isinstance(_inner(field), dict) and _inner(field)["type"] == "int"


@st.composite
def evolved(draw: st.DrawFn, before: dict[str, Any], *, compatible: bool) -> dict[str, Any]:
    """A later version of a definition: edits that keep compatibility, and unless `compatible` others too."""
    after = copy.deepcopy(before)
    own: list[dict[str, Any]] = after["fields"][4:]
    edits = ["add", "remove", "reorder", "append", "default"]
    if not compatible:
        edits += ["swap", "drop_symbol", "bounds", "null", "type", "rename"]
    for edit in draw(st.lists(st.sampled_from(edits), min_size=1, max_size=3)):
        chosen = draw(st.sampled_from(own)) if own else None
        match edit:
            case "add":
                name = f"g{draw(st.integers(0, 3))}"
                if name not in [field["name"] for field in own]:
                    own.append(draw(attribute_definitions(name)))
            case "reorder":
                own = draw(st.permutations(own))
            case "remove" if chosen:
                own.remove(chosen)
            case "append" if chosen and _is_enum(chosen):
                symbols = _inner(chosen)["symbols"]
                if len(symbols) < 250:
                    symbols.append(f"S{1 + max(int(symbol[1:]) for symbol in symbols)}")
            case "default" if chosen and _is_enum(chosen) and chosen["default"] is not None:
                chosen["default"] = draw(st.sampled_from(_inner(chosen)["symbols"]))
            case "swap" if chosen and _is_enum(chosen):
                _inner(chosen)["symbols"].reverse()
            case "drop_symbol" if chosen and _is_enum(chosen) and len(_inner(chosen)["symbols"]) > 1:
                symbols = _inner(chosen)["symbols"]
                symbols.pop(draw(st.integers(0, len(symbols) - 1)))
                _inner(chosen)["default"] = symbols[0]
                chosen["default"] = None if isinstance(chosen["type"], list) else symbols[0]
            case "bounds" if chosen and _is_bounded(chosen):
                _inner(chosen)["minimum"] -= 1 if _inner(chosen)["minimum"] > -(2**31) else 0
            case "null" if chosen and not isinstance(chosen["type"], list):
                chosen["type"], chosen["default"] = ["null", chosen["type"]], None
            case "type" if chosen:
                chosen["type"], chosen["default"] = "boolean", False
            case "rename" if chosen and _is_enum(chosen):
                _inner(chosen)["name"] += "Renamed"
            case _:
                pass
    after["fields"] = after["fields"][:4] + own
    return after


@st.composite
def histories(draw: st.DrawFn, *, compatible: bool, most: int = 3) -> list[SchemaVersion]:
    """Two or more versions of one event type, oldest first; `compatible` ones pass the evolution check.

    A version that the fingerprint cannot tell from an earlier one is left out.
    """
    written = [draw(definitions())]
    for _ in range(draw(st.integers(1, most - 1))):
        written.append(draw(evolved(written[-1], compatible=compatible)))
    versions: list[SchemaVersion] = []
    for definition in written:
        version = schema_version(definition, len(versions) + 1, f"Trial/{len(versions) + 1}.avsc")
        if version.fingerprint not in [each.fingerprint for each in versions]:
            versions.append(version)
    return versions


def event_type_of(versions: Sequence[SchemaVersion]) -> EventType:
    """The event type that `versions`, oldest first, are the history of."""
    last = versions[-1]
    return EventType(last.event, role_of(last.definition), tuple(versions), last.definition["doc"])


def registry_of(*definitions_: dict[str, Any]) -> SchemaRegistry:
    """A registry of one version each of some definitions."""
    return SchemaRegistry(
        [event_type_of([schema_version(definition, 1, "1.avsc")]) for definition in definitions_],
    )


# ---------------------------------------------------------------- tampering


def rng_seeds() -> st.SearchStrategy[int]:
    """Seeds for `random.Random`."""
    return st.integers(0, 2**32 - 1)


_TELLING = (0x00, 0x01, 0x02, 0x7F, 0x80, 0x81, 0xFE, 0xFF)
"""Bytes that mean something to Avro: index 0, -1 and 1, the ends of a varint's digits, and "one more byte"."""


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return `data` with one to three faults: flipped bits, set bytes, cuts, insertions, splices, or all at random."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        place = rng.randrange(len(data) + 1)
        fault = rng.randrange(8)
        if fault == 0 and data:
            flipped = bytearray(data)
            flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            data = bytes(flipped)
        elif fault == 1 and data:
            place = rng.randrange(len(data))
            data = data[:place] + bytes([rng.choice(_TELLING)]) + data[place + 1 :]
        elif fault == 2:
            data = data[:place]
        elif fault == 3:
            data = data[:place] + rng.randbytes(rng.choice((1, 1, 2, 5, 40, 500))) + data[place:]
        elif fault == 4:
            data = data[:place] + bytes([rng.choice(_TELLING)]) * rng.choice((1, 2, 5, 41)) + data[place:]
        elif fault == 5:
            other = rng.choice(others)
            data = data[:place] + other[rng.randrange(len(other) + 1) :]
        elif fault == 6:
            data += rng.choice((b"\0", b"\1", data[-1:], rng.randbytes(3)))
        elif rng.randrange(4) == 0:
            data = rng.randbytes(rng.randrange(64))
        else:
            # behind a header that is known, so that the bytes are read as fields
            data = data[:10] + rng.randbytes(rng.randrange(64))
    return data


@st.composite
def mutated(draw: st.DrawFn, originals: Sequence[bytes]) -> bytes:
    """Messages with faults in them; some may still be valid."""
    rng = random.Random(draw(rng_seeds()))
    return mutate(draw(st.sampled_from(originals)), originals, rng)


def casework_files() -> list[str]:
    """The built-in schema files, relative to their folder."""
    return sorted(path.relative_to(CASEWORK).as_posix() for path in CASEWORK.glob("*/*.avsc"))
