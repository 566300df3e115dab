"""Strict decoding of a whole batch into columns.

The event schemas allow so little (enums, booleans, bounded ints, dates, two 16-byte fields) that a batch of Avro
datums can be walked field by field for all records at once, with one cursor a record. Every check of the strict codec
is made here too: a record that this decoder takes, the codec takes. What it declines goes to the codec, which decides
and names the reason; so this module can be fast and never has the last word on a rejection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quietcount_schemas.codec import MAX_EVENT_BYTES, CaseEvent, Codec
from quietcount_schemas.events.event_types import INT32_MINIMUM, Field, FieldKind, SchemaVersion
from quietcount_schemas.framing import CONFLUENT_BYTES, CONFLUENT_MAGIC, SINGLE_OBJECT_BYTES, SINGLE_OBJECT_MARKER
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import Rejected, RejectReason

__all__ = ["NO_NUMBER", "NULL_CODE", "ColumnDecoder", "EventColumns", "Rejection"]

NULL_CODE = 255
"""The code of null in a dimension's column; a lint rule keeps enums below it."""

NO_NUMBER = INT32_MINIMUM - 1
"""What stands for null in the column of a number."""

_EPOCH = 719163  # date(1970, 1, 1).toordinal()

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """The records of one event type in a batch; every array has one entry (or row) a record.

    `rows` are indices into the batch, increasing. `occurred_on` is in days since 1970-01-01. `codes` holds, for each
    dimension, the index of the symbol in the current version of the schema (booleans 0 or 1, null NULL_CODE), and
    `numbers` the value of each other whole number (null NO_NUMBER).
    """

    event: str
    rows: Ints
    case_keys: Bytes  # (n, 16)
    event_ids: Bytes  # (n, 16)
    revisions: Ints
    occurred_on: Ints
    codes: dict[str, Bytes]
    numbers: dict[str, Ints]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that the strict codec does not accept; `row` is its index in the batch."""

    row: int
    reason: RejectReason


class _Cursor:
    """One read position a record, over the concatenated bytes of a batch."""

    def __init__(self, buffer: Bytes, position: Ints, end: Ints) -> None:
        self.buffer = buffer
        self.position = position
        self.end = end
        self.ok: Mask = np.ones(len(position), dtype=np.bool_)

    def fixed(self, size: int) -> Bytes:
        self.ok &= self.position + size <= self.end
        start = np.minimum(self.position, len(self.buffer) - size)
        self.position = self.position + size
        rows: Bytes = self.buffer[start[:, None] + np.arange(size)]
        return rows

    def byte(self, where: Mask | None = None) -> Ints:
        inside = self.position < self.end
        self.ok &= inside if where is None else inside | ~where
        value = self.buffer[np.minimum(self.position, len(self.buffer) - 1)].astype(np.int64)
        self.position = self.position + (1 if where is None else where)
        return value

    def varint(self, where: Mask | None = None) -> Ints:
        """Read an Avro int where `where` holds (everywhere by default), minimal and of 32 bits, zigzag undone."""
        value = self.byte(where)
        more = value >= 0x80 if where is None else (value >= 0x80) & where
        value &= 0x7F
        for shift in (7, 14, 21, 28):
            if not more.any():
                break
            byte = self.byte(more)
            # A last byte of zero adds nothing (not minimal); bits past the 32nd do not belong to an int.
            self.ok &= ~(more & ((byte == 0) | ((byte > 0x0F) & (shift == 28))))
            value = np.where(more, value | ((byte & 0x7F) << shift), value)
            more = more & (byte >= 0x80)
        self.ok &= ~more
        return (value >> 1) ^ -(value & 1)


class ColumnDecoder:
    """Decode batches of framed events for one registry."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._codec = Codec(registry)
        # By what stands in a header: a fingerprint as a little-endian number, or a registry's id.
        self._versions = {
            int.from_bytes(version.fingerprint, "little"): version
            for event_type in registry.event_types.values()
            for version in event_type.versions
        }
        self._confluent = {
            number: version
            for number, fingerprint in registry.confluent_ids.items()
            if (version := registry.by_fingerprint(fingerprint)) is not None
        }

    def decode(self, values: Sequence[bytes]) -> tuple[list[EventColumns], list[Rejection]]:
        """Return the columns of each event type present and the rejections, both in order of the batch."""
        n = len(values)
        lengths = np.fromiter(map(len, values), dtype=np.int64, count=n)
        # The padding lets a clamped gather of 16 bytes stay inside the buffer after any last record.
        buffer = np.frombuffer(b"".join(values) + bytes(32), dtype=np.uint8)
        starts = np.cumsum(lengths) - lengths
        declined = np.ones(n, dtype=np.bool_)
        parts: list[EventColumns] = []
        for version, header, rows in self._written(buffer, starts, lengths):
            begins, ends = starts[rows] + header, starts[rows] + lengths[rows]
            columns, ok = self._walk(version, buffer, begins, ends, rows)
            declined[rows[ok]] = False
            if len(columns.rows):
                parts.append(columns)
        rejections: list[Rejection] = []
        for row in np.flatnonzero(declined).tolist():
            try:
                parts.append(self._single(row, self._codec.decode(values[row])))
            except Rejected as rejected:
                rejections.append(Rejection(row, rejected.reason))
        return _merged(parts), rejections

    def _written(self, buffer: Bytes, starts: Ints, lengths: Ints) -> Iterator[tuple[SchemaVersion, int, Ints]]:
        """Yield each version that wrote records of the batch, with the size of their header and their rows."""
        sized = lengths <= MAX_EVENT_BYTES
        first, second = buffer[starts], buffer[starts + 1]
        framed = sized & (lengths >= SINGLE_OBJECT_BYTES)
        framed &= (first == SINGLE_OBJECT_MARKER[0]) & (second == SINGLE_OBJECT_MARKER[1])
        yield from _grouped(framed, _gathered(buffer, starts, 2, "<u8"), self._versions, SINGLE_OBJECT_BYTES)
        if self._confluent:
            framed = sized & (lengths >= CONFLUENT_BYTES) & (first == CONFLUENT_MAGIC)
            yield from _grouped(framed, _gathered(buffer, starts, 1, ">u4"), self._confluent, CONFLUENT_BYTES)

    def _walk(
        self, version: SchemaVersion, buffer: Bytes, begins: Ints, ends: Ints, rows: Ints
    ) -> tuple[EventColumns, Mask]:
        cursor = _Cursor(buffer, begins, ends)
        event_type = self._registry.event_type(version.event)
        current = {field.name: field for field in event_type.dimensions}
        fixed: dict[FieldKind, Bytes] = {}
        values: dict[str, Ints] = {}
        codes: dict[str, Bytes] = {}
        for field in version.fields:
            if field.kind in (FieldKind.CASE_KEY, FieldKind.EVENT_ID):
                fixed[field.kind] = cursor.fixed(16)
                continue
            present = None
            if field.nullable:
                branch = cursor.varint()
                cursor.ok &= (branch == 0) | (branch == 1)
                present = branch == 1
            value = _value(field, cursor, present)
            if field.name in current:
                codes[field.name] = _codes(field, current[field.name], value, present)
            values[field.name] = value if present is None else np.where(present, value, NO_NUMBER)
        cursor.ok &= cursor.position == ends
        ids = fixed[FieldKind.EVENT_ID]
        cursor.ok &= (ids[:, 6] >> 4 == 4) & (ids[:, 8] >> 6 == 2)
        ok = cursor.ok
        for name, field in current.items():
            if name not in codes:
                codes[name] = np.full(len(rows), _default_code(field), dtype=np.uint8)
        numbers = {
            field.name: values[field.name]
            if field.name in values
            else np.full(len(rows), _number(field.default), dtype=np.int64)
            for field in event_type.numbers
        }
        columns = EventColumns(
            event=version.event,
            rows=rows[ok],
            case_keys=fixed[FieldKind.CASE_KEY][ok],
            event_ids=ids[ok],
            revisions=values["revision"][ok],
            occurred_on=values["occurred_on"][ok],
            codes={name: column[ok] for name, column in codes.items()},
            numbers={name: column[ok] for name, column in numbers.items()},
        )
        return columns, ok

    def _single(self, row: int, event: CaseEvent) -> EventColumns:
        """Turn one event that the codec took into columns of length one."""
        event_type = self._registry.event_type(event.event)
        codes = {
            field.name: np.array([_code(field, event.attributes[field.name])], dtype=np.uint8)
            for field in event_type.dimensions
        }
        numbers = {
            field.name: np.array([_number(event.attributes[field.name])], dtype=np.int64)
            for field in event_type.numbers
        }
        return EventColumns(
            event=event.event,
            rows=np.array([row], dtype=np.int64),
            case_keys=np.frombuffer(event.case_key, dtype=np.uint8).reshape(1, 16),
            event_ids=np.frombuffer(event.event_id, dtype=np.uint8).reshape(1, 16),
            revisions=np.array([event.revision], dtype=np.int64),
            occurred_on=np.array([event.occurred_on.toordinal() - _EPOCH], dtype=np.int64),
            codes=codes,
            numbers=numbers,
        )


def _gathered(buffer: Bytes, starts: Ints, skipped: int, number: str) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return, a record, the number of dtype `number` that lies `skipped` bytes after its start."""
    dtype = np.dtype(number)
    taken = np.ascontiguousarray(buffer[starts[:, None] + np.arange(skipped, skipped + dtype.itemsize)])
    return taken.view(dtype).reshape(-1)


def _grouped(
    framed: Mask, names: npt.NDArray[np.unsignedinteger[Any]], versions: Mapping[int, SchemaVersion], header: int
) -> Iterator[tuple[SchemaVersion, int, Ints]]:
    for name in np.unique(names[framed]).tolist():
        version = versions.get(name)
        if version is not None:
            yield version, header, np.flatnonzero(framed & (names == name))


def _value(field: Field, cursor: _Cursor, present: Mask | None) -> Ints:
    if field.kind is FieldKind.BOOLEAN:
        value, low, high = cursor.byte(present), 0, 1
    elif field.kind is FieldKind.ENUM:
        value, low, high = cursor.varint(present), 0, len(field.symbols) - 1
    else:
        value, low, high = cursor.varint(present), field.minimum, field.maximum
    within = (value >= low) & (value <= high)
    cursor.ok &= within if present is None else within | ~present
    return value


def _codes(written: Field, read: Field, value: Ints, present: Mask | None) -> Bytes:
    """Map the writer's symbol indices to the reader's, as Avro's schema resolution does by name."""
    if written.kind is FieldKind.ENUM:
        table = np.array([_code(read, symbol) for symbol in written.symbols], dtype=np.uint8)
        codes = table[np.clip(value, 0, len(table) - 1)]
    else:
        codes = np.clip(value, 0, 1).astype(np.uint8)
    return codes if present is None else np.where(present, codes, NULL_CODE).astype(np.uint8)


def _code(field: Field, value: object) -> int:
    if value is None:
        return NULL_CODE
    if field.kind is FieldKind.BOOLEAN:
        return int(bool(value))
    known = value if value in field.symbols else field.default_symbol
    return field.symbols.index(str(known))


def _default_code(field: Field) -> int:
    return _code(field, field.default)


def _number(value: object) -> int:
    return value if isinstance(value, int) else NO_NUMBER


def _merged(parts: Sequence[EventColumns]) -> list[EventColumns]:
    """Join the parts of each event type and restore the order of the batch."""
    merged = []
    for event in sorted({part.event for part in parts}):
        same = [part for part in parts if part.event == event]
        if len(same) == 1:
            merged.append(same[0])
            continue
        rows = np.concatenate([part.rows for part in same])
        order = np.argsort(rows, kind="stable")
        merged.append(
            EventColumns(
                event=event,
                rows=rows[order],
                case_keys=np.concatenate([part.case_keys for part in same])[order],
                event_ids=np.concatenate([part.event_ids for part in same])[order],
                revisions=np.concatenate([part.revisions for part in same])[order],
                occurred_on=np.concatenate([part.occurred_on for part in same])[order],
                codes={name: np.concatenate([part.codes[name] for part in same])[order] for name in same[0].codes},
                numbers={
                    name: np.concatenate([part.numbers[name] for part in same])[order] for name in same[0].numbers
                },
            )
        )
    return merged
