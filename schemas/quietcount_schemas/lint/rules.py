"""The lint: what an event schema may carry. A schema that cannot carry a name leaks none.

It reads the JSON as written, before any Avro library does: a recursive or deeply nested schema is refused here, where
it costs nothing, and what passes is one flat record of enums, booleans, bounded ints and bounded dates.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from quietcount_schemas.event_types import (
    BAD_LINE_NOTES,
    EMITTED_KEYS,
    ENVELOPE,
    EPOCH_ORDINAL,
    INT32_MAXIMUM,
    INT32_MINIMUM,
    KEY_BYTES,
    MAX_EVENT_BYTES,
    Role,
)
from quietcount_schemas.finding import Finding
from quietcount_schemas.framing import SINGLE_OBJECT_BYTES
from quietcount_schemas.lint.reason import FORBIDDEN, LintReason

__all__ = ["MAX_FREE_BITS", "MAX_INT_VALUES", "MAX_SYMBOLS", "RESERVED_NAMES", "LintReason", "lint"]

MAX_SYMBOLS = 250
"""The fold keeps a symbol's index in one byte, and a few values apart for null and unknown."""

MAX_INT_VALUES = 10_000
"""How many values an int may take: enough for any number that is counted by, too few for an identifier."""

MAX_FREE_BITS = 64
"""What the ints, dates and booleans of one event may tell together, in bits (log2 of the combinations)."""

MAX_NAME = 63
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, half surrogate pairs, line separators
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DATE_MINIMUM = dt.date.min.toordinal() - EPOCH_ORDINAL
_DATE_MAXIMUM = dt.date.max.toordinal() - EPOCH_ORDINAL
_LAST_DAY = dt.date(2099, 12, 31).toordinal() - EPOCH_ORDINAL

_PUBLISHED_COLUMNS = (
    *("statistic", "period", "period_start", "period_end", "cell"),
    *("estimate", "lower", "upper", "noisy", "noise_scale", "epsilon", "max_contributions", "reliability"),
    *("release_id", "released_at"),
)

RESERVED_NAMES = frozenset({"self", *EMITTED_KEYS, *BAD_LINE_NOTES, *ENVELOPE, *_PUBLISHED_COLUMNS})
"""In lower case: what an emitted line, a file of bad lines and a publisher's arguments are called, the envelope, and
the columns that statistics are published with."""

_ENVELOPE_TYPES: dict[str, dict[str, object]] = {
    "case_key": {"type": "fixed", "name": "CaseKey", "size": 16},
    "event_id": {"type": "fixed", "name": "EventId", "size": 16},
    "revision": {"type": "int", "minimum": 0, "maximum": 65535},
    "occurred_on": {"type": "int", "logicalType": "date", "minimum": 0, "maximum": _LAST_DAY},
}
_ENVELOPE_DEFAULTS = {"revision": 0}
_ENVELOPE_SIZES = {"case_key": KEY_BYTES, "event_id": KEY_BYTES, "revision": 3, "occurred_on": 3}

_RECORD_KEYS = {"type", "name", "namespace", "doc", "quietcount.role", "fields"}
_FIELD_KEYS = {"name", "type", "default", "doc"}
_TYPE_NAMES = {*FORBIDDEN, "int", "boolean", "enum", "fixed"}
_TYPE_KEYS = {
    "enum": {"type", "name", "symbols", "default", "doc"},
    "int": {"type", "logicalType", "minimum", "maximum"},
    "boolean": {"type"},
    "fixed": {"type", "name", "size", "doc"},
}


def lint(definition: Any, source: str) -> list[Finding]:
    """Return everything that makes a definition (the JSON value of one .avsc) unfit as an event schema."""
    return list(_Lint(source).record(definition))


class _Lint:
    """One pass over one definition: it collects what fields refer to, and how large an event can become."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._path = ""
        self._record_name = ""
        self._namespace = ""
        self._named: dict[str, Any] = {}  # by full name: the enums and fixed types defined so far
        self._size = SINGLE_OBJECT_BYTES
        self._values = 1  # how many the ints, dates and booleans take together

    def _found(self, reason: LintReason, message: str) -> Finding:
        return Finding(self._source, self._path, reason, message)

    def record(self, definition: Any) -> Iterator[Finding]:
        if not isinstance(definition, dict) or definition.get("type") != "record":
            yield self._found(LintReason.NOT_A_RECORD, 'an event schema is one object with "type": "record"')
            return
        yield from self._keys(definition, _RECORD_KEYS)
        yield from self._name(definition.get("name"))
        namespace = definition.get("namespace")
        if not isinstance(namespace, str) or not all(map(_NAME.fullmatch, namespace.split("."))):
            yield self._found(LintReason.NAME_INVALID, 'a "namespace" is needed: names joined by dots, as org.example')
        else:
            self._namespace = namespace
        self._record_name = self._full(definition.get("name"))
        yield from self._doc(definition)
        role = definition.get("quietcount.role", Role.EVENT.value)
        if role not in [each.value for each in Role]:
            roles = " or ".join(f'"{each.value}"' for each in Role)
            yield self._found(LintReason.ROLE_INVALID, f'"quietcount.role" must be {roles}')
        fields = definition.get("fields")
        if not isinstance(fields, list) or not all(isinstance(field, dict) for field in fields):
            yield self._found(LintReason.FIELDS_INVALID, '"fields" must be a list of objects')
            return
        yield from self._envelope(fields)
        seen: set[str] = set()
        for field in fields:
            name = field.get("name")
            self._path = _shown(name) if isinstance(name, str) else "(a field without a name)"
            if isinstance(name, str):
                if name.lower() in seen:
                    yield self._found(
                        LintReason.NAME_CLASH, "two fields have this name; rename one (upper and lower case are alike)"
                    )
                seen.add(name.lower())
            if name in ENVELOPE:
                yield from self._keys(field, _FIELD_KEYS)
                yield from self._doc(field)
                self._size += _ENVELOPE_SIZES[name]
                self._define(field.get("type"))
            else:
                yield from self._field(field)
        self._path = ""
        if role == Role.WITHDRAWAL.value and len(fields) > len(ENVELOPE):
            yield self._found(
                LintReason.WITHDRAWAL_WITH_ATTRIBUTES, "a withdrawal has the envelope alone; remove its other fields"
            )
        if self._size > MAX_EVENT_BYTES:
            yield self._found(
                LintReason.TOO_LARGE,
                f"an event can take {self._size} bytes, and {MAX_EVENT_BYTES} are the most; remove fields",
            )
        if self._values > 2**MAX_FREE_BITS:
            yield self._found(
                LintReason.TOO_MUCH_INFORMATION,
                f"the ints, dates and booleans hold {math.log2(self._values):.0f} bits, and {MAX_FREE_BITS} are the"
                " most: an identifier would fit into them; remove fields, or narrow their bounds",
            )

    def _envelope(self, fields: list[Any]) -> Iterator[Finding]:
        for position, wanted in enumerate(ENVELOPE):
            field = fields[position] if position < len(fields) else {}
            self._path = wanted
            if field.get("name") != wanted:
                yield self._found(
                    LintReason.ENVELOPE, f"every event begins with the fields {', '.join(ENVELOPE)}, in this order"
                )
                break
            written = field.get("type")
            if isinstance(written, dict):
                written = {key: value for key, value in written.items() if key != "doc"}
            if not _same(written, _ENVELOPE_TYPES[wanted]):
                yield self._found(LintReason.ENVELOPE, f"its type must be {_ENVELOPE_TYPES[wanted]}")
            if ("default" in field) != (wanted in _ENVELOPE_DEFAULTS) or not _same(
                field.get("default"), _ENVELOPE_DEFAULTS.get(wanted)
            ):
                default = _ENVELOPE_DEFAULTS.get(wanted)
                must = "it has no default" if default is None else f"its default is {default}"
                yield self._found(LintReason.ENVELOPE, must)
        self._path = ""

    def _field(self, field: dict[str, Any]) -> Iterator[Finding]:
        yield from self._keys(field, _FIELD_KEYS)
        yield from self._name(field.get("name"))
        if isinstance(field.get("name"), str) and field["name"].lower() in RESERVED_NAMES:
            yield self._found(LintReason.NAME_RESERVED, "the name means something else in quietcount; choose another")
        yield from self._doc(field)
        if "type" not in field:
            yield self._found(LintReason.UNKNOWN_TYPE, 'a "type" is needed')
            return
        written = field["type"]
        nullable = isinstance(written, list)
        if isinstance(written, list):
            if len(written) != 2 or written[0] != "null" or isinstance(written[1], list):
                yield self._found(LintReason.UNION, 'the only union is ["null", T], null first')
                return
            written = written[1]
            self._size += 1
        faults = list(self._type(written))
        yield from faults
        if not faults:
            self._values *= self._combinations(written, nullable=nullable)
        if "default" not in field:
            yield self._found(
                LintReason.DEFAULT_MISSING, 'a "default" is needed, or no version can ever add or remove the field'
            )
        elif not faults and not self._default_fits(field["default"], written, nullable):
            what = "null, as the union's first branch is" if nullable else "a value the field may take"
            yield self._found(LintReason.DEFAULT_INVALID, f"the default must be {what}")

    def _type(self, written: Any) -> Iterator[Finding]:
        if isinstance(written, str):
            yield from self._reference(written)
            return
        if not isinstance(written, dict) or not isinstance(written.get("type"), str):
            yield self._found(LintReason.UNKNOWN_TYPE, "a type is a name, an object with a type's name, or a union")
            return
        base: str = written["type"]
        if base in FORBIDDEN:
            reason, message = FORBIDDEN[base]
            yield self._found(reason, message)
            return
        if base not in _TYPE_KEYS:
            yield self._found(LintReason.UNKNOWN_TYPE, "no type of that name; use enum, boolean or int")
            return
        logical = written.get("logicalType")
        if logical is not None and (base, logical) != ("int", "date"):
            yield self._found(LintReason.LOGICAL_TYPE, "the only logical type is date, on an int")
            return
        yield from self._keys(written, _TYPE_KEYS[base])
        match base:
            case "enum":
                yield from self._enum(written)
            case "int":
                yield from self._int(written, is_date=logical == "date")
            case "fixed":
                yield self._found(
                    LintReason.FIXED, "fixed bytes belong to case_key and event_id alone: others could carry a name"
                )
            case _:
                self._size += 1

    def _reference(self, name: str) -> Iterator[Finding]:
        if name in FORBIDDEN and name not in ("record", "error", "array", "map"):
            reason, message = FORBIDDEN[name]
            yield self._found(reason, message)
        elif name == "boolean":
            self._size += 1
        elif name == "int":
            yield self._found(LintReason.INT_UNBOUNDED, _BOUNDS_NEEDED)
        elif self._full(name) == self._record_name:
            yield self._found(LintReason.RECURSION, "an event cannot contain itself")
        elif self._full(name) not in self._named:
            yield self._found(LintReason.UNKNOWN_TYPE, "no type of that name is defined above; define the enum here")
        elif self._named[self._full(name)].get("type") == "fixed":
            yield self._found(LintReason.FIXED, "a second key in an event would link two cases; remove the field")
        else:
            self._size += _varint_size(len(self._named[self._full(name)]["symbols"]) - 1)

    def _enum(self, written: dict[str, Any]) -> Iterator[Finding]:
        yield from self._name(written.get("name"))
        if self._full(written.get("name")) in (*self._named, self._record_name):
            yield self._found(LintReason.NAME_CLASH, "a type of that name is defined above; refer to it by its name")
        yield from self._doc(written, "its enum: ")
        symbols = written.get("symbols")
        if (
            not isinstance(symbols, list)
            or not symbols
            or not all(
                isinstance(symbol, str) and _NAME.fullmatch(symbol) and len(symbol) <= MAX_NAME for symbol in symbols
            )
        ):
            yield self._found(
                LintReason.SYMBOLS_INVALID,
                f'"symbols" must be a list of names: letters, digits and _, {MAX_NAME} characters at most',
            )
            return
        if len({symbol.lower() for symbol in symbols}) < len(symbols):
            yield self._found(
                LintReason.NAME_CLASH, "two symbols are the same name; rename one (upper and lower case are alike)"
            )
        if len(symbols) > MAX_SYMBOLS:
            yield self._found(LintReason.TOO_MANY_SYMBOLS, f"an enum may have {MAX_SYMBOLS} symbols at most")
        if "default" not in written:
            yield self._found(
                LintReason.ENUM_DEFAULT_MISSING,
                'the enum needs a "default" symbol, which older readers take for a symbol they do not know',
            )
        elif written["default"] not in symbols:
            yield self._found(LintReason.DEFAULT_INVALID, 'the enum\'s "default" must be one of its symbols')
        self._define(written)
        self._size += _varint_size(len(symbols) - 1)

    def _int(self, written: dict[str, Any], *, is_date: bool) -> Iterator[Finding]:
        minimum, maximum = written.get("minimum"), written.get("maximum")
        if minimum is None or maximum is None:
            yield self._found(LintReason.INT_UNBOUNDED, _BOUNDS_NEEDED)
            return
        lowest, highest = (_DATE_MINIMUM, _DATE_MAXIMUM) if is_date else (INT32_MINIMUM, INT32_MAXIMUM)
        if type(minimum) is not int or type(maximum) is not int or not lowest <= minimum <= maximum <= highest:
            unit = "days since 1970-01-01 " if is_date else ""
            yield self._found(
                LintReason.BOUNDS_INVALID,
                f'"minimum" and "maximum" must be whole numbers {unit}from {lowest} to {highest}, the lower one first',
            )
            return
        if not is_date and maximum - minimum >= MAX_INT_VALUES:
            yield self._found(
                LintReason.INT_TOO_WIDE,
                f"an int may take {MAX_INT_VALUES} values at most: an identifier would fit into more; narrow its"
                " bounds, or make it an enum of ranges",
            )
        self._size += max(_varint_size(minimum), _varint_size(maximum))

    def _combinations(self, written: Any, *, nullable: bool) -> int:
        """Return how many values a sound type takes; an enum's are named in the schema for all to judge: 1."""
        if isinstance(written, str):
            written = {"type": written}
        match written["type"]:
            case "boolean":
                return 2 + nullable
            case "int":
                return int(written["maximum"]) - int(written["minimum"]) + 1 + nullable
            case _:
                return 1

    def _default_fits(self, default: Any, written: Any, nullable: bool) -> bool:
        if nullable:
            return default is None
        if isinstance(written, str):
            written = self._named.get(self._full(written), {"type": written})
        match written["type"]:
            case "enum":
                return default in written["symbols"]
            case "boolean":
                return isinstance(default, bool)
            case _:
                return type(default) is int and written["minimum"] <= default <= written["maximum"]

    def _define(self, written: Any) -> None:
        if isinstance(written, dict) and isinstance(written.get("name"), str):
            self._named.setdefault(self._full(written["name"]), written)

    def _full(self, name: Any) -> str:
        return str(name) if "." in str(name) else f"{self._namespace}.{name}"

    def _keys(self, written: dict[str, Any], known: set[str]) -> Iterator[Finding]:
        if "aliases" in written:
            yield self._found(LintReason.ALIASES, "aliases are not supported; add a new field or event type instead")
        unknown = sorted(written.keys() - known - {"aliases"})
        if unknown:
            yield self._found(
                LintReason.UNKNOWN_ATTRIBUTE,
                f"unknown attribute {unknown[0][:40]!a}; known here: {', '.join(sorted(known))}",
            )

    def _name(self, name: Any) -> Iterator[Finding]:
        if (
            not isinstance(name, str)
            or not _NAME.fullmatch(name)
            or name.startswith("_")
            or len(name) > MAX_NAME
            or name in _TYPE_NAMES
        ):
            yield self._found(
                LintReason.NAME_INVALID,
                f"a name has letters, digits and _, begins with a letter and has {MAX_NAME} characters at most; the"
                " names of Avro's own types are taken",
            )

    def _doc(self, written: dict[str, Any], what: str = "") -> Iterator[Finding]:
        doc = written.get("doc")
        if not isinstance(doc, str) or not doc.strip():
            yield self._found(LintReason.DOC_MISSING, f'{what}a "doc" is needed: one sentence that says what it is')
        elif any(unicodedata.category(character) in _UNPRINTABLE for character in doc):
            yield self._found(
                LintReason.DOC_INVALID, f'{what}the "doc" has control characters or broken ones; write one plain line'
            )


_BOUNDS_NEEDED = 'an int needs "minimum" and "maximum", so that it has no room for an identifier'


def _shown(name: str) -> str:
    """Return a field's name for messages: as it is, or escaped when it is none and might do things to a terminal."""
    return name if _NAME.fullmatch(name) else ascii(name[:MAX_NAME])


def _varint_size(number: int) -> int:
    """Return how many bytes a zigzag integer takes."""
    return max(1, -(-((number << 1) ^ (number >> 31)).bit_length() // 7))


def _same(written: Any, wanted: object) -> bool:
    """Compare two JSON values as JSON does: true is not 1, and 1.0 is not 1."""
    if isinstance(written, dict) and isinstance(wanted, dict):
        return written.keys() == wanted.keys() and all(_same(written[key], wanted[key]) for key in written)
    return type(written) is type(wanted) and bool(written == wanted)
