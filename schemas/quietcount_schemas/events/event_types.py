"""Event types as values: their versions, and the fields of each in wire order."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = [
    "BAD_LINE_NOTES",
    "EARLIEST",
    "EMITTED_KEYS",
    "ENVELOPE",
    "EPOCH_ORDINAL",
    "INT32_MAXIMUM",
    "INT32_MINIMUM",
    "KEY_BYTES",
    "LATEST",
    "MAX_EVENT_BYTES",
    "PUBLISHED_COLUMNS",
    "EventType",
    "Field",
    "FieldKind",
    "Role",
    "SchemaVersion",
    "is_uuid_v4",
    "listed",
]

INT32_MINIMUM = -(2**31)
INT32_MAXIMUM = 2**31 - 1

EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
"""What `date.toordinal` gives for day 0 of an Avro date."""

EARLIEST, LATEST = dt.date(1970, 1, 1), dt.date(2099, 12, 31)
"""The first and the last day on which an event may occur."""

MAX_EVENT_BYTES = 512
"""The most bytes that one message may have, framing included; checked before a byte of it is parsed."""

KEY_BYTES = 16
"""The size of a case key and of an event id."""

ENVELOPE = ("case_key", "event_id", "revision", "occurred_on")
"""The fields that every event begins with, in wire order."""

EMITTED_KEYS = ("event", "case", "occurred_on", "event_id", "revision")
"""The keys of an emitted line that are not attributes."""

BAD_LINE_NOTES = ("line", "reason", "original")
"""What a file of bad lines says of each line beside its facts. Emitters skip these, so such a file can be corrected."""

PUBLISHED_COLUMNS = frozenset(
    {
        *("population", "statistic", "period", "period_start", "period_end", "cell", "dimension", "symbol"),
        *("estimate", "shown", "lower", "upper", "noisy", "noise_scale", "epsilon", "max_contributions"),
        *("reliability", "status", "first_estimate", "release_id", "released_at", "all"),
        *("field", "sum", "sum_lower", "sum_upper", "average", "average_lower", "average_upper", "note"),
    }
)
"""The columns of published statistics. A field has none of these names, because a dimension becomes a column beside
them."""


_LONGEST_LIST = 20
"""A message that lists hundreds of symbols helps nobody."""


class FieldKind(StrEnum):
    """What a field may be on the wire."""

    ENUM = "enum"
    BOOLEAN = "boolean"
    INT = "int"
    DATE = "date"
    CASE_KEY = "case_key"
    EVENT_ID = "event_id"


class Role(StrEnum):
    """What an event does: it counts, or it withdraws its case."""

    EVENT = "event"
    WITHDRAWAL = "withdrawal"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of one version. Bounds are inclusive; those of a date are days since 1970-01-01."""

    name: str
    kind: FieldKind
    nullable: bool = False
    symbols: tuple[str, ...] = ()
    default_symbol: str | None = None
    minimum: int = INT32_MINIMUM
    maximum: int = INT32_MAXIMUM
    has_default: bool = False
    default: object = None
    doc: str = ""
    type_name: str = ""
    """The full name of an enum or fixed type, empty for the others."""
    titles: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What people call the field, by language."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict, compare=False)
    """What people call each symbol, by language; those of a boolean are true and false."""

    @property
    def default_value(self) -> object:
        """The default as an attribute has it: a date and not its number of days."""
        if self.kind is FieldKind.DATE and isinstance(self.default, int):
            return dt.date.fromordinal(self.default + EPOCH_ORDINAL)
        return self.default

    def problem(self, value: object) -> str | None:
        """Return why `value` may not stand in this field, as the end of a sentence, or None if it may.

        The text never shows the value. A bool is not an int here, and a datetime not a date.
        """
        if value is None:
            return None if self.nullable else f"may not be null: it {self.allowed}"
        fits = False
        match self.kind:
            case FieldKind.ENUM:
                fits = type(value) is str and value in self.symbols
            case FieldKind.INT:
                fits = type(value) is int and self.minimum <= value <= self.maximum
            case FieldKind.DATE:
                fits = type(value) is dt.date and self.minimum <= value.toordinal() - EPOCH_ORDINAL <= self.maximum
            case FieldKind.BOOLEAN:
                fits = type(value) is bool
            case FieldKind.CASE_KEY:
                fits = type(value) is bytes and len(value) == KEY_BYTES
            case FieldKind.EVENT_ID:
                fits = type(value) is bytes and len(value) == KEY_BYTES and is_uuid_v4(value)
        return None if fits else self.allowed

    @property
    def allowed(self) -> str:
        """What the field takes, as the end of a sentence: "must be one of A, B"."""
        return f"{self._wanted()}, or null" if self.nullable else self._wanted()

    def _wanted(self) -> str:
        match self.kind:
            case FieldKind.ENUM:
                return f"must be one of {listed(self.symbols)}"
            case FieldKind.BOOLEAN:
                return "must be true or false"
            case FieldKind.INT:
                return f"must be a whole number from {self.minimum} to {self.maximum}"
            case FieldKind.DATE:
                first, last = (dt.date.fromordinal(day + EPOCH_ORDINAL) for day in (self.minimum, self.maximum))
                return f"must be a date from {first} to {last}, without a time of day"
            case FieldKind.CASE_KEY:
                return "must be 16 bytes"
            case FieldKind.EVENT_ID:
                return "must be the 16 bytes of a UUID of version 4"


def listed(names: Iterable[str]) -> str:
    """Return names as a list to read, cut short if it is long."""
    known = list(names)
    text = ", ".join(known[:_LONGEST_LIST])
    return f"{text} and {len(known) - _LONGEST_LIST} more" if len(known) > _LONGEST_LIST else text or "none"


def is_uuid_v4(event_id: bytes) -> bool:
    """Return whether 16 bytes are a random UUID.

    RFC 9562: the version is the high nibble of byte 6, the variant the two high bits of byte 8.
    """
    return event_id[6] & 0xF0 == 0x40 and event_id[8] & 0xC0 == 0x80


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One .avsc file: version `version` of the event type `event`."""

    event: str
    version: int
    fingerprint: bytes
    """8 bytes: the CRC-64-AVRO of the canonical form, little-endian as in a single-object header."""
    fields: tuple[Field, ...]
    parsed: Any
    """The schema as fastavro parsed it."""
    source: str
    """The file's name, for messages."""
    definition: Any = None
    """The JSON value of the file."""

    @property
    def attributes(self) -> tuple[Field, ...]:
        """The fields after the envelope, in wire order."""
        return self.fields[len(ENVELOPE) :]


@dataclass(frozen=True, slots=True)
class EventType:
    """An event type and the history of its schema, oldest first."""

    name: str
    role: Role
    versions: tuple[SchemaVersion, ...]
    doc: str

    @property
    def current(self) -> SchemaVersion:
        """The last version: what is written, and what older ones are resolved to."""
        return self.versions[-1]

    @property
    def attributes(self) -> tuple[Field, ...]:
        """The fields of the current version after the envelope."""
        return self.current.attributes

    @property
    def dimensions(self) -> tuple[Field, ...]:
        """The enum and boolean fields of the current version: what statistics may filter and break down by."""
        return tuple(field for field in self.attributes if field.kind in (FieldKind.ENUM, FieldKind.BOOLEAN))

    @property
    def numbers(self) -> tuple[Field, ...]:
        """The whole numbers of the current version: statistics may sum them up, or break down by buckets of them."""
        return tuple(field for field in self.attributes if field.kind is FieldKind.INT)
