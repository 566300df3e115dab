"""The codec: case events to bytes and back, strictly.

It refuses what Avro readers accept: a negative enum or union index, bytes after the datum, an integer that is longer
than it must be. So every accepted message has exactly one encoding, and a message that differs from another in any byte
is another event or none. The walk has no recursion, and the input never chooses the size of an allocation.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from quietcount_schemas.errors import SchemasError
from quietcount_schemas.events.event_types import (
    EPOCH_ORDINAL,
    KEY_BYTES,
    MAX_EVENT_BYTES,
    EventType,
    Field,
    FieldKind,
    SchemaVersion,
    is_uuid_v4,
)
from quietcount_schemas.framing import FramingReader, confluent, single_object
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import Rejected, RejectReason

__all__ = ["MAX_EVENT_BYTES", "CaseEvent", "Codec", "Form", "RejectReason", "Rejected", "varint"]

_ENUM, _INT, _DATE, _BOOLEAN = range(4)
"""The kinds of step, as ints: an int compares faster than an enum member in the loop that runs per field."""
_STEPS = {FieldKind.ENUM: _ENUM, FieldKind.INT: _INT, FieldKind.DATE: _DATE, FieldKind.BOOLEAN: _BOOLEAN}


@dataclass(frozen=True, slots=True)
class CaseEvent:
    """One event of one case, its attributes as the current version of its schema has them.

    `case_key` and `event_id` have 16 bytes. An attribute is a symbol (str), a bool, an int, a date or None.
    """

    event: str
    case_key: bytes
    event_id: bytes
    revision: int
    occurred_on: dt.date
    attributes: Mapping[str, object]


class _Step(NamedTuple):
    """How to read one attribute of the writer's schema."""

    kind: int
    nullable: bool
    symbols: tuple[str, ...]
    """By the writer's index: the symbol that the current version takes it for."""
    minimum: int
    maximum: int
    name: str


class _Plan(NamedTuple):
    """How to read one version, and how to turn it into the current one."""

    event: str
    steps: tuple[_Step, ...]
    revision: Field
    occurred_on: Field
    resolution: tuple[tuple[str, int, object], ...]
    """Per attribute of the current version: its name, its index among the steps or -1, and its default."""


class Form:
    """How the current version of an event type is written: Avro's binary encoding of the few kinds there are.

    It writes what it is handed and checks none of it: `Codec.encode` checks, and so does whoever composes events.
    """

    def __init__(self, version: SchemaVersion, header: bytes | None) -> None:
        self.version = version
        self.header = header
        """None if a Schema Registry is configured and has no id for it."""
        self.defaults: Mapping[str, object] = {field.name: field.default_value for field in version.attributes}
        """By attribute."""
        self._writers = tuple((field.name, _writer(field)) for field in version.attributes)

    def attributes(self, values: Mapping[str, object]) -> bytes:
        """Return what all attributes of one event become, in wire order."""
        return b"".join([write(values[name]) for name, write in self._writers])

    def beginning(self) -> bytes:
        """Return the header. Raises SchemasError if a Schema Registry is configured and no id is pinned."""
        if self.header is None:
            raise SchemasError(
                f"{self.version.event} version {self.version.version}: no id of the Schema Registry is pinned for it",
                "Run: quietcount schemas register",
            )
        return self.header


class Codec:
    """Encodes in the current version of each event type and decodes every version the registry knows.

    It writes Avro single objects, or Confluent framing if the registry has `confluent_ids`, and reads both.
    """

    def __init__(self, registry: SchemaRegistry, framing: FramingReader | None = None) -> None:
        self.registry = registry
        self._framing = framing or FramingReader(registry.confluent_ids)
        self._plans: dict[bytes, _Plan] = {}
        self._forms: dict[str, Form] = {}
        for event_type in registry.event_types.values():
            self._forms[event_type.name] = _form(event_type, registry)
            for version in event_type.versions:
                self._plans[version.fingerprint] = _plan(version, event_type.current)

    def encode(self, event: CaseEvent) -> bytes:
        """Return `event` in the current version; an attribute left out takes its default.

        Raises SchemasError naming the event, the field and what is allowed there, never the value.
        """
        form = self.form(event.event)
        values = _values(event, form)
        return b"".join(
            (
                form.beginning(),
                event.case_key,
                event.event_id,
                varint(event.revision),
                varint(event.occurred_on.toordinal() - EPOCH_ORDINAL),
                form.attributes(values),
            )
        )

    def form(self, event: str) -> Form:
        """Return how events of the type `event` are written. Raises SchemasError for a type that is not known."""
        return self._forms[self.registry.event_type(event).name]

    def decode(self, data: bytes) -> CaseEvent:
        """Return the event that `data` holds. Any bytes give an event or Rejected, and no other error."""
        plan, case_key, event_id, revision, day, values = self._read(data)
        attributes = {name: values[index] if index >= 0 else default for name, index, default in plan.resolution}
        return CaseEvent(plan.event, case_key, event_id, revision, dt.date.fromordinal(day + EPOCH_ORDINAL), attributes)

    def check(self, data: bytes) -> RejectReason | None:
        """Return why `data` is not an event of ours, or None if it is one; build nothing."""
        try:
            self._read(data)
        except Rejected as rejected:
            return rejected.reason
        return None

    def _read(self, data: bytes) -> tuple[_Plan, bytes, bytes, int, int, list[object]]:
        if len(data) > MAX_EVENT_BYTES:
            raise Rejected(RejectReason.TOO_LARGE)
        fingerprint, start = self._framing.read(data)
        plan = self._plans.get(fingerprint)
        if plan is None:
            raise Rejected(RejectReason.UNKNOWN_FINGERPRINT)
        event = plan.event
        name = "case_key"
        try:
            middle = start + KEY_BYTES
            position = middle + KEY_BYTES
            case_key, event_id = data[start:middle], data[middle:position]
            if len(event_id) < KEY_BYTES:
                raise Rejected(RejectReason.TRUNCATED, event, name if len(case_key) < KEY_BYTES else "event_id")
            if not is_uuid_v4(event_id):
                raise Rejected(RejectReason.EVENT_ID_NOT_V4, event, "event_id")
            name = "revision"
            revision, position = _varint(data, position, event, name)
            if not plan.revision.minimum <= revision <= plan.revision.maximum:
                raise Rejected(RejectReason.INT_OUT_OF_BOUNDS, event, name)
            name = "occurred_on"
            day, position = _varint(data, position, event, name)
            if not plan.occurred_on.minimum <= day <= plan.occurred_on.maximum:
                raise Rejected(RejectReason.DATE_OUT_OF_BOUNDS, event, name)
            values: list[object] = []
            for kind, nullable, symbols, minimum, maximum, name in plan.steps:
                if nullable:
                    branch, position = _varint(data, position, event, name)
                    if branch == 0:
                        values.append(None)
                        continue
                    if branch != 1:
                        raise Rejected(RejectReason.UNION_OUT_OF_RANGE, event, name)
                if kind == _BOOLEAN:
                    octet = data[position]
                    position += 1
                    if octet > 1:
                        raise Rejected(RejectReason.BOOLEAN_INVALID, event, name)
                    values.append(octet == 1)
                    continue
                octet = data[position]
                if octet < 0x80:  # one byte, which nearly every enum index is
                    position += 1
                    number = (octet >> 1) ^ -(octet & 1)
                else:
                    number, position = _varint(data, position, event, name)
                if kind == _ENUM:
                    if not 0 <= number < len(symbols):
                        raise Rejected(RejectReason.ENUM_OUT_OF_RANGE, event, name)
                    values.append(symbols[number])
                elif kind == _INT:
                    if not minimum <= number <= maximum:
                        raise Rejected(RejectReason.INT_OUT_OF_BOUNDS, event, name)
                    values.append(number)
                else:
                    if not minimum <= number <= maximum:
                        raise Rejected(RejectReason.DATE_OUT_OF_BOUNDS, event, name)
                    values.append(dt.date.fromordinal(number + EPOCH_ORDINAL))
        except IndexError:
            raise Rejected(RejectReason.TRUNCATED, event, name) from None
        if position != len(data):
            raise Rejected(RejectReason.TRAILING_BYTES, event)
        return plan, case_key, event_id, revision, day, values


def _varint(data: bytes, position: int, event: str, name: str) -> tuple[int, int]:
    """Return the zigzag integer at `position` and the position after it. Raises Rejected, or IndexError at the end."""
    octet = data[position]
    position += 1
    number = octet & 0x7F
    shift = 7
    while octet >= 0x80:
        if shift > 28:  # a sixth byte: 32 bits need five
            raise Rejected(RejectReason.VARINT_TOO_LONG, event, name)
        octet = data[position]
        position += 1
        number |= (octet & 0x7F) << shift
        shift += 7
    if octet == 0 and shift > 7:
        raise Rejected(RejectReason.VARINT_NOT_CANONICAL, event, name)
    return (number >> 1) ^ -(number & 1), position


def _plan(writer: SchemaVersion, reader: SchemaVersion) -> _Plan:
    steps = []
    targets = {field.name: field for field in reader.attributes}
    for field in writer.attributes:
        target = targets.get(field.name, field)
        symbols = tuple(symbol if symbol in target.symbols else str(target.default_symbol) for symbol in field.symbols)
        steps.append(_Step(_STEPS[field.kind], field.nullable, symbols, field.minimum, field.maximum, field.name))
    indexes = {field.name: index for index, field in enumerate(writer.attributes)}
    resolution = tuple((field.name, indexes.get(field.name, -1), field.default_value) for field in reader.attributes)
    return _Plan(writer.event, tuple(steps), writer.fields[2], writer.fields[3], resolution)


def varint(number: int) -> bytes:
    """Return a 32-bit integer as Avro writes it: zigzag, then seven bits a byte, the lowest first."""
    left = (number << 1) ^ (number >> 31)
    if left < 0x80:
        return _OCTETS[left]
    found = bytearray()
    while left >= 0x80:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)


_OCTETS = tuple(bytes([number]) for number in range(256))


def _writer(field: Field) -> Callable[[Any], bytes]:
    """Return what writes the values of `field`; in a union with null, behind the index of the branch."""
    branch = varint(1) if field.nullable else b""
    table: dict[object, bytes] = {None: varint(0)} if field.nullable else {}
    match field.kind:
        case FieldKind.ENUM:
            table |= {symbol: branch + varint(index) for index, symbol in enumerate(field.symbols)}
            return table.__getitem__
        case FieldKind.BOOLEAN:
            table |= {truth: branch + _OCTETS[truth] for truth in (False, True)}
            return table.__getitem__
        case FieldKind.DATE:
            return lambda day: branch + varint(day.toordinal() - EPOCH_ORDINAL) if day is not None else table[None]
        case _:
            return lambda number: branch + varint(number) if number is not None else table[None]


def _form(event_type: EventType, registry: SchemaRegistry) -> Form:
    current = event_type.current
    header: bytes | None = single_object(current.fingerprint)
    if registry.confluent_ids:
        number = registry.confluent_id(current.fingerprint)
        header = None if number is None else confluent(number)
    return Form(current, header)


def _values(event: CaseEvent, form: Form) -> dict[str, Any]:
    if not form.defaults.keys() >= event.attributes.keys():
        # The name that does not belong is not repeated: it may be data, as in a CSV file that lacks its header.
        known = ", ".join(form.defaults) or "none"
        raise SchemasError(f"{event.event}: a field that it does not have", f"Its attributes are: {known}")
    values: dict[str, Any] = {
        "case_key": event.case_key,
        "event_id": event.event_id,
        "revision": event.revision,
        "occurred_on": event.occurred_on,
        **form.defaults,
        **event.attributes,
    }
    for field in form.version.fields:
        problem = field.problem(values[field.name])
        if problem is not None:
            raise SchemasError(f"{event.event}, field {field.name}: {problem}", "Correct the value")
    return values
