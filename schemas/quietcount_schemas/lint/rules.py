"""The lint: what an event schema may carry. A schema that cannot carry a name leaks none.

It reads the JSON as written, before any Avro library does. So a recursive or deeply nested schema is refused here,
where it costs nothing, and what passes is one flat record of enums, booleans, bounded ints and bounded dates.
"""

from __future__ import annotations

import datetime as dt
import math
import unicodedata
from typing import Any

from quietcount_schemas.events.event_types import (
    BAD_LINE_NOTES,
    EMITTED_KEYS,
    ENVELOPE,
    EPOCH_ORDINAL,
    INT32_MAXIMUM,
    INT32_MINIMUM,
    KEY_BYTES,
    LATEST,
    MAX_EVENT_BYTES,
    PUBLISHED_COLUMNS,
    Role,
)
from quietcount_schemas.finding import Finding, place
from quietcount_schemas.framing import SINGLE_OBJECT_BYTES
from quietcount_schemas.lint.labels import LABEL_KEYS, UNPRINTABLE, label_problems
from quietcount_schemas.lint.reason import FORBIDDEN, LintReason, finding
from quietcount_schemas.lint.symbols import MAX_NAME, NAME, clashes, is_symbol, symbol_problem

__all__ = ["MAX_FREE_BITS", "MAX_INT_VALUES", "MAX_SYMBOLS", "RESERVED_NAMES", "LintReason", "lint"]

MAX_SYMBOLS = 250
"""The fold keeps the index of a symbol in one byte, and needs a few values for null and unknown."""

MAX_INT_VALUES = 10_000
"""How many values an int may take: enough for any number that is counted by, too few for an identifier."""

MAX_FREE_BITS = 64
"""How much the ints, dates and booleans of one event may say together, in bits (log2 of the combinations)."""

RESERVED_NAMES = frozenset({"self", "timeout", *EMITTED_KEYS, *BAD_LINE_NOTES, *ENVELOPE, *PUBLISHED_COLUMNS})
"""In lower case: names in an emitted line, in a file of bad lines, in a publisher's arguments and in the envelope, and
the columns that statistics are published with."""

_DATE_MINIMUM = dt.date.min.toordinal() - EPOCH_ORDINAL
_DATE_MAXIMUM = dt.date.max.toordinal() - EPOCH_ORDINAL
_LAST_DAY = LATEST.toordinal() - EPOCH_ORDINAL

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
    one_pass = _Lint(source)
    one_pass.record(definition)
    return one_pass.findings


class _Lint:
    """One pass over one definition: it collects what fields refer to, and how large an event can become."""

    def __init__(self, source: str) -> None:
        self.findings: list[Finding] = []
        self._source = source
        self._path = ""
        self._record_name = ""
        self._namespace = ""
        self._named: dict[str, Any] = {}  # by full name: the enums and fixed types defined so far
        self._size = SINGLE_OBJECT_BYTES
        self._values = 1  # how many the ints, dates and booleans take together

    def _found(self, reason: LintReason, **facts: object) -> None:
        self.findings.append(finding(reason, place(self._source, self._path), **facts))

    def record(self, definition: Any) -> None:
        if not isinstance(definition, dict) or definition.get("type") != "record":
            self._found(LintReason.NOT_A_RECORD)
            return
        self._keys(definition, _RECORD_KEYS)
        self._name(definition.get("name"), "the name of the record")
        namespace = definition.get("namespace")
        if not isinstance(namespace, str) or not all(map(NAME.fullmatch, namespace.split("."))):
            self._found(LintReason.NAMESPACE_INVALID)
        else:
            self._namespace = namespace
        self._record_name = self._full(definition.get("name"))
        self._doc(definition, "the record")
        role = definition.get("quietcount.role", Role.EVENT.value)
        if role not in [each.value for each in Role]:
            self._found(LintReason.ROLE_INVALID, roles=" or ".join(f'"{each.value}"' for each in Role))
        fields = definition.get("fields")
        if not isinstance(fields, list) or not all(isinstance(field, dict) for field in fields):
            self._found(LintReason.FIELDS_INVALID)
            return
        self._envelope(fields)
        seen: set[str] = set()
        for field in fields:
            name = field.get("name")
            self._path = _shown(name) if isinstance(name, str) else "(a field without a name)"
            if isinstance(name, str):
                if name.lower() in seen:
                    self._found(LintReason.NAME_CLASH, things="fields", name="this name")
                seen.add(name.lower())
            if name in ENVELOPE:
                self._keys(field, _FIELD_KEYS)
                self._doc(field, "the field")
                self._size += _ENVELOPE_SIZES[name]
                self._define(field.get("type"))
            else:
                self._field(field)
        self._path = ""
        if role == Role.WITHDRAWAL.value and len(fields) > len(ENVELOPE):
            self._found(LintReason.WITHDRAWAL_WITH_ATTRIBUTES)
        if self._size > MAX_EVENT_BYTES:
            self._found(LintReason.TOO_LARGE, size=self._size, most=MAX_EVENT_BYTES)
        if self._values > 2**MAX_FREE_BITS:
            bits = f"{math.log2(self._values):.0f}"
            self._found(LintReason.TOO_MUCH_INFORMATION, bits=bits, most=MAX_FREE_BITS)

    def _envelope(self, fields: list[Any]) -> None:
        for position, wanted in enumerate(ENVELOPE):
            field = fields[position] if position < len(fields) else {}
            self._path = wanted
            if field.get("name") != wanted:
                order = f"every event begins with the fields {', '.join(ENVELOPE)}, in this order"
                self._found(LintReason.ENVELOPE, problem=order)
                break
            written = field.get("type")
            if isinstance(written, dict):
                written = {key: value for key, value in written.items() if key != "doc"}
            if not _same(written, _ENVELOPE_TYPES[wanted]):
                self._found(LintReason.ENVELOPE, problem=f"its type must be {_ENVELOPE_TYPES[wanted]}")
            default = _ENVELOPE_DEFAULTS.get(wanted)
            if ("default" in field) != (wanted in _ENVELOPE_DEFAULTS) or not _same(field.get("default"), default):
                must = "it must have no default" if default is None else f"its default must be {default}"
                self._found(LintReason.ENVELOPE, problem=must)
        self._path = ""

    def _field(self, field: dict[str, Any]) -> None:
        self._keys(field, _FIELD_KEYS | LABEL_KEYS)
        self._name(field.get("name"), "the name of the field")
        if isinstance(field.get("name"), str) and field["name"].lower() in RESERVED_NAMES:
            self._found(LintReason.NAME_RESERVED)
        self._doc(field, "the field")
        if "type" not in field:
            self._found(LintReason.UNKNOWN_TYPE, problem="the field has no type")
            return
        written = field["type"]
        nullable = isinstance(written, list)
        if isinstance(written, list):
            if len(written) != 2 or written[0] != "null" or isinstance(written[1], list):
                self._found(LintReason.UNION)
                return
            written = written[1]
            self._size += 1
        before = len(self.findings)
        self._type(written)
        sound = len(self.findings) == before
        if sound:
            self._values *= self._combinations(written, nullable=nullable)
            is_number = isinstance(written, dict) and written["type"] == "int" and "logicalType" not in written
            for problem, remedy in label_problems(field, self._symbols(written), is_number=is_number):
                self._found(LintReason.LABELS_INVALID, problem=problem, remedy=remedy)
        if "default" not in field:
            self._found(LintReason.DEFAULT_MISSING)
        elif sound and not self._default_fits(field["default"], written, nullable):
            wanted = "null, as the first branch of the union is" if nullable else "a value that the field may take"
            self._found(LintReason.DEFAULT_INVALID, wanted=wanted)

    def _type(self, written: Any) -> None:
        if isinstance(written, str):
            self._reference(written)
            return
        if not isinstance(written, dict) or not isinstance(written.get("type"), str):
            self._found(LintReason.UNKNOWN_TYPE, problem="the type is no name, no object with a type, and no union")
            return
        base: str = written["type"]
        if base in FORBIDDEN:
            self._found(FORBIDDEN[base])
            return
        if base not in _TYPE_KEYS:
            self._found(LintReason.UNKNOWN_TYPE, problem="there is no type of that name")
            return
        logical = written.get("logicalType")
        if logical is not None and (base, logical) != ("int", "date"):
            self._found(LintReason.LOGICAL_TYPE)
            return
        self._keys(written, _TYPE_KEYS[base])
        match base:
            case "enum":
                self._enum(written)
            case "int":
                self._int(written, is_date=logical == "date")
            case "fixed":
                only = "only case_key and event_id may have fixed bytes: others could carry a name"
                self._found(LintReason.FIXED, problem=only)
            case _:
                self._size += 1

    def _reference(self, name: str) -> None:
        if name in FORBIDDEN and name not in ("record", "error", "array", "map"):
            self._found(FORBIDDEN[name])
        elif name == "boolean":
            self._size += 1
        elif name == "int":
            self._found(LintReason.INT_UNBOUNDED)
        elif self._full(name) == self._record_name:
            self._found(LintReason.RECURSION)
        elif self._full(name) not in self._named:
            self._found(LintReason.UNKNOWN_TYPE, problem="no type of that name is defined above")
        elif self._named[self._full(name)].get("type") == "fixed":
            self._found(LintReason.FIXED, problem="a second key in an event would link two cases")
        else:
            self._size += _varint_size(len(self._named[self._full(name)]["symbols"]) - 1)

    def _enum(self, written: dict[str, Any]) -> None:
        self._name(written.get("name"), "the name of the enum")
        if self._full(written.get("name")) in (*self._named, self._record_name):
            self._found(LintReason.NAME_CLASH, things="types", name="this name")
        self._doc(written, "the enum")
        symbols: Any = written.get("symbols")
        problem = symbol_problem(symbols)
        if problem is not None:
            self._found(LintReason.SYMBOLS_INVALID, problem=problem[0], remedy=problem[1])
            return
        for symbol in clashes(symbols):
            self._found(LintReason.NAME_CLASH, things="symbols", name=f"the name {symbol}")
        if len(symbols) > MAX_SYMBOLS:
            self._found(LintReason.TOO_MANY_SYMBOLS, most=MAX_SYMBOLS)
        if "default" not in written:
            self._found(LintReason.ENUM_DEFAULT_MISSING)
        elif written["default"] not in symbols:
            self._found(LintReason.DEFAULT_INVALID, wanted="one of the enum's symbols")
        self._define(written)
        self._size += _varint_size(len(symbols) - 1)

    def _int(self, written: dict[str, Any], *, is_date: bool) -> None:
        minimum, maximum = written.get("minimum"), written.get("maximum")
        if minimum is None or maximum is None:
            self._found(LintReason.INT_UNBOUNDED)
            return
        lowest, highest = (_DATE_MINIMUM, _DATE_MAXIMUM) if is_date else (INT32_MINIMUM, INT32_MAXIMUM)
        if type(minimum) is not int or type(maximum) is not int or not lowest <= minimum <= maximum <= highest:
            unit = "(days since 1970-01-01) " if is_date else ""
            self._found(LintReason.BOUNDS_INVALID, unit=unit, lowest=lowest, highest=highest)
            return
        if not is_date and maximum - minimum >= MAX_INT_VALUES:
            self._found(LintReason.INT_TOO_WIDE, most=MAX_INT_VALUES)
        self._size += max(_varint_size(minimum), _varint_size(maximum))

    def _combinations(self, written: Any, *, nullable: bool) -> int:
        """Return how many values a sound type takes: 1 for an enum, because the schema names them for all to judge."""
        if isinstance(written, str):
            written = {"type": written}
        match written["type"]:
            case "boolean":
                return 2 + nullable
            case "int":
                return int(written["maximum"]) - int(written["minimum"]) + 1 + nullable
            case _:
                return 1

    def _symbols(self, written: Any) -> list[str]:
        """Return what a sound type can be labelled by: the symbols of an enum, true and false, or nothing."""
        if isinstance(written, str):
            written = self._named.get(self._full(written), {"type": written})
        return ["false", "true"] if written["type"] == "boolean" else list(written.get("symbols", ()))

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

    def _keys(self, written: dict[str, Any], known: set[str]) -> None:
        if "aliases" in written:
            self._found(LintReason.ALIASES)
        unknown = sorted(written.keys() - known - {"aliases"})
        if unknown:
            shown = f"{unknown[0][:40]!a}"
            self._found(LintReason.UNKNOWN_ATTRIBUTE, unknown=shown, known=", ".join(sorted(known)))

    def _name(self, name: Any, what: str) -> None:
        if not is_symbol(name) or name.startswith("_") or name in _TYPE_NAMES:
            self._found(LintReason.NAME_INVALID, name=what, longest=MAX_NAME)

    def _doc(self, written: dict[str, Any], owner: str) -> None:
        doc = written.get("doc")
        if not isinstance(doc, str) or not doc.strip():
            self._found(LintReason.DOC_MISSING, owner=owner)
        elif any(unicodedata.category(character) in UNPRINTABLE for character in doc):
            self._found(LintReason.DOC_INVALID, owner=owner)


def _shown(name: str) -> str:
    """Return the name of a field for messages; escape it if it is not a name, because it might act on a terminal."""
    return name if NAME.fullmatch(name) else ascii(name[:MAX_NAME])


def _varint_size(number: int) -> int:
    """Return how many bytes a zigzag integer takes."""
    return max(1, -(-((number << 1) ^ (number >> 31)).bit_length() // 7))


def _same(written: Any, wanted: object) -> bool:
    """Compare two JSON values as JSON does: true is not 1, and 1.0 is not 1."""
    if isinstance(written, dict) and isinstance(wanted, dict):
        return written.keys() == wanted.keys() and all(_same(written[key], wanted[key]) for key in written)
    return type(written) is type(wanted) and bool(written == wanted)
