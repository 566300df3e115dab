"""Why the lint refuses a schema, and the types of Avro's that no event may carry, each with its reason."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FORBIDDEN", "LintReason"]


class LintReason(StrEnum):
    """Why a schema is refused."""

    NOT_A_RECORD = "not_a_record"
    NAME_INVALID = "name_invalid"
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


FORBIDDEN = {
    "string": (LintReason.STRING, "a free string can carry a name; use an enum"),
    "bytes": (LintReason.BYTES, "free bytes can carry anything; use an enum"),
    "float": (LintReason.FLOAT, "a float is not counted by; use an int with bounds"),
    "double": (LintReason.DOUBLE, "a double is not counted by; use an int with bounds"),
    "long": (LintReason.LONG, "a long has room for an identifier; use an int with bounds"),
    "null": (LintReason.NULL, "null alone carries nothing; remove the field"),
    "array": (LintReason.ARRAY, "an array has no bounded size; emit one event for each item"),
    "map": (LintReason.MAP, "a map has no bounded size and free keys; use fields"),
    "record": (LintReason.NESTED_RECORD, "a record within an event is not supported; use fields of the event"),
    "error": (LintReason.NESTED_RECORD, "a record within an event is not supported; use fields of the event"),
}
"""By type: the reason, and what to do instead."""
