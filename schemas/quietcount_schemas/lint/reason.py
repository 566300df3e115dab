"""Why the lint refuses a schema: its reasons, what it says for each, and the Avro types that no event may carry."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from quietcount_schemas.finding import Finding

__all__ = ["FORBIDDEN", "LintReason", "finding"]


class LintReason(StrEnum):
    """Why a schema is refused."""

    NOT_A_RECORD = "not_a_record"
    NAME_INVALID = "name_invalid"
    NAMESPACE_INVALID = "namespace_invalid"
    NAME_RESERVED = "name_reserved"
    NAME_CLASH = "name_clash"
    NAME_MISMATCH = "name_mismatch"
    UNKNOWN_ATTRIBUTE = "unknown_attribute"
    UNKNOWN_TYPE = "unknown_type"
    ALIASES = "aliases"
    ROLE_INVALID = "role_invalid"
    WITHDRAWAL_WITH_ATTRIBUTES = "withdrawal_with_attributes"
    ENVELOPE = "envelope"
    FIELDS_INVALID = "fields_invalid"
    DOC_MISSING = "doc_missing"
    DOC_INVALID = "doc_invalid"
    DEFAULT_MISSING = "default_missing"
    DEFAULT_INVALID = "default_invalid"
    STRING = "string"
    BYTES = "bytes"
    FLOAT = "float"
    DOUBLE = "double"
    LONG = "long"
    NULL = "null"
    ARRAY = "array"
    MAP = "map"
    NESTED_RECORD = "nested_record"
    RECURSION = "recursion"
    FIXED = "fixed"
    UNION = "union"
    LOGICAL_TYPE = "logical_type"
    INT_UNBOUNDED = "int_unbounded"
    BOUNDS_INVALID = "bounds_invalid"
    INT_TOO_WIDE = "int_too_wide"
    TOO_MUCH_INFORMATION = "too_much_information"
    ENUM_DEFAULT_MISSING = "enum_default_missing"
    SYMBOLS_INVALID = "symbols_invalid"
    TOO_MANY_SYMBOLS = "too_many_symbols"
    TOO_LARGE = "too_large"
    LABELS_INVALID = "labels_invalid"


_RESTRICT = "Narrow its bounds, or make it an enum of ranges"
_USE_INT = "Use an int with bounds"
_USE_ENUM = "Use an enum"
_MESSAGES: Mapping[LintReason, tuple[str, str]] = {
    LintReason.NOT_A_RECORD: ("it is not a record", 'Write one object with "type": "record"'),
    LintReason.NAME_INVALID: (
        "{name} is missing or not a valid name",
        "Write letters, digits and _, a letter first, {longest} characters at most, and no name of Avro's own types",
    ),
    LintReason.NAMESPACE_INVALID: ("the namespace is missing or not valid", "Join names by dots, as in org.example"),
    LintReason.NAME_RESERVED: ("the name means something else in quietcount", "Choose another"),
    LintReason.NAME_CLASH: (
        "two {things} have {name}; upper and lower case are alike",
        "Rename one; refer to a type that is defined above by its name alone",
    ),
    LintReason.NAME_MISMATCH: ("the record has another name than its file or folder", "Call the record {event}"),
    LintReason.UNKNOWN_ATTRIBUTE: ("the attribute {unknown} is unknown", "Use only these here: {known}"),
    LintReason.UNKNOWN_TYPE: ("{problem}", "Use enum, boolean or int; define an enum before you refer to it"),
    LintReason.ALIASES: ("aliases are not supported", "Add a new field or a new event type instead"),
    LintReason.ROLE_INVALID: ('the "quietcount.role" is unknown', "Write {roles}"),
    LintReason.WITHDRAWAL_WITH_ATTRIBUTES: ("a withdrawal has the envelope alone", "Remove its other fields"),
    LintReason.ENVELOPE: ("{problem}", "Copy the first fields of a built-in schema"),
    LintReason.FIELDS_INVALID: ('the "fields" are not a list of objects', "Write such a list"),
    LintReason.DOC_MISSING: ('{owner} has no "doc"', "Write one sentence that says what it is"),
    LintReason.DOC_INVALID: ('the "doc" of {owner} has control characters or broken ones', "Write one plain line"),
    LintReason.DEFAULT_MISSING: ("it has no default, so no version can ever add or remove it", 'Add a "default"'),
    LintReason.DEFAULT_INVALID: ("the default is not {wanted}", "Change the default"),
    LintReason.STRING: ("a free string can carry a name", _USE_ENUM),
    LintReason.BYTES: ("free bytes can carry anything", _USE_ENUM),
    LintReason.FLOAT: ("nothing is counted by a float", _USE_INT),
    LintReason.DOUBLE: ("nothing is counted by a double", _USE_INT),
    LintReason.LONG: ("a long has room for an identifier", _USE_INT),
    LintReason.NULL: ("null alone carries nothing", "Remove the field"),
    LintReason.ARRAY: ("the size of an array has no bound", "Emit one event for each item"),
    LintReason.MAP: ("the size of a map has no bound, and its keys are free text", "Use fields"),
    LintReason.NESTED_RECORD: ("a record within an event is not supported", "Use fields of the event"),
    LintReason.RECURSION: ("an event cannot contain itself", "Remove the field"),
    LintReason.FIXED: ("{problem}", "Remove the field, or use an enum"),
    LintReason.UNION: ("the only union is null and one type", 'Write ["null", T], null first'),
    LintReason.LOGICAL_TYPE: ("the only logical type is date, on an int", "Remove the logicalType"),
    LintReason.INT_UNBOUNDED: (
        "without bounds, an int has room for an identifier",
        'Give it a "minimum" and a "maximum"',
    ),
    LintReason.BOUNDS_INVALID: (
        "the bounds are not valid",
        'Write "minimum" and "maximum" as whole numbers {unit}from {lowest} to {highest}, the lower one first',
    ),
    LintReason.INT_TOO_WIDE: (
        "it takes more than {most} values: an identifier would fit into it",
        _RESTRICT,
    ),
    LintReason.TOO_MUCH_INFORMATION: (
        "the ints, dates and booleans hold {bits} bits, and {most} are allowed: an identifier would fit into them",
        "Remove fields, or narrow their bounds",
    ),
    LintReason.ENUM_DEFAULT_MISSING: (
        "the enum has no default, so older readers cannot read a symbol that is added later",
        'Add a "default" symbol',
    ),
    LintReason.SYMBOLS_INVALID: ("{problem}", "{remedy}"),
    LintReason.TOO_MANY_SYMBOLS: ("the enum has more than {most} symbols", "Merge some of them"),
    LintReason.LABELS_INVALID: ("{problem}", "{remedy}"),
    LintReason.TOO_LARGE: ("an event can take {size} bytes, and {most} are allowed", "Remove fields"),
}
"""By reason: what is wrong, and what to do. The lint fills in the words in braces."""


def finding(reason: LintReason, where: str, **facts: object) -> Finding:
    """Return the finding for `reason`; `facts` are the words that its message needs."""
    what, remedy = _MESSAGES[reason]
    return Finding(where, what.format(**facts), remedy.format(**facts), reason)


FORBIDDEN: Mapping[str, LintReason] = {
    "string": LintReason.STRING,
    "bytes": LintReason.BYTES,
    "float": LintReason.FLOAT,
    "double": LintReason.DOUBLE,
    "long": LintReason.LONG,
    "null": LintReason.NULL,
    "array": LintReason.ARRAY,
    "map": LintReason.MAP,
    "record": LintReason.NESTED_RECORD,
    "error": LintReason.NESTED_RECORD,
}
"""By type of Avro's: why no field may have it."""
