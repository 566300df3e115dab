"""Why a message is not a case event, and the error that says so; and what a client got wrong about one that is."""

from __future__ import annotations

from enum import StrEnum

from quietcount_schemas.errors import SchemasError

__all__ = ["ClientFault", "RejectReason", "Rejected"]


class RejectReason(StrEnum):
    """Why a message was rejected. The value names the reason in a dead letter's headers and in metrics.

    DATED_AHEAD is in metrics only. A settlement drops such an event after it was folded, and it is no dead letter: its
    bytes are a valid event, and to keep them would keep what a settlement forgets. Nothing else remembers it, so the
    emitter may emit it again with the right date.
    """

    TOO_LARGE = "too_large"
    EMPTY = "empty"
    UNKNOWN_FRAMING = "unknown_framing"
    UNKNOWN_FINGERPRINT = "unknown_fingerprint"
    TRUNCATED = "truncated"
    TRAILING_BYTES = "trailing_bytes"
    ENUM_OUT_OF_RANGE = "enum_out_of_range"
    UNION_OUT_OF_RANGE = "union_out_of_range"
    BOOLEAN_INVALID = "boolean_invalid"
    VARINT_TOO_LONG = "varint_too_long"
    VARINT_NOT_CANONICAL = "varint_not_canonical"
    INT_OUT_OF_BOUNDS = "int_out_of_bounds"
    DATE_OUT_OF_BOUNDS = "date_out_of_bounds"
    EVENT_ID_NOT_V4 = "event_id_not_v4"
    KEY_MISMATCH = "key_mismatch"
    WRONG_PARTITION = "wrong_partition"
    DATED_AHEAD = "dated_ahead"

    @property
    def explanation(self) -> str:
        """What the reason means, as the end of a sentence about a message."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    RejectReason.TOO_LARGE: "it is larger than an event may be",
    RejectReason.EMPTY: "it holds no byte",
    RejectReason.UNKNOWN_FRAMING: "it does not begin like an Avro single-object message",
    RejectReason.UNKNOWN_FINGERPRINT: "no known schema has its fingerprint; add the emitter's schemas to this side",
    RejectReason.TRUNCATED: "it ends too early",
    RejectReason.TRAILING_BYTES: "bytes follow its last field",
    RejectReason.ENUM_OUT_OF_RANGE: "an enum index names no symbol",
    RejectReason.UNION_OUT_OF_RANGE: "a union index names no branch",
    RejectReason.BOOLEAN_INVALID: "a boolean is neither 0 nor 1",
    RejectReason.VARINT_TOO_LONG: "an integer has more bytes than an Avro int may have",
    RejectReason.VARINT_NOT_CANONICAL: "an integer is not written in its shortest form",
    RejectReason.INT_OUT_OF_BOUNDS: "an integer is outside the bounds of its field",
    RejectReason.DATE_OUT_OF_BOUNDS: "a date is outside the bounds of its field",
    RejectReason.EVENT_ID_NOT_V4: "the event id is not a UUID of version 4",
    RejectReason.KEY_MISMATCH: "the record's key is not the case key inside it",
    RejectReason.WRONG_PARTITION: "the record lies in another partition than Kafka's clients choose for its key",
    RejectReason.DATED_AHEAD: "it is dated more than two days after the settlement that met it",
}


class ClientFault(StrEnum):
    """What a client got wrong about a record that counts all the same. The value names the fault in metrics.

    Nothing else would tell: a client that is not ours hears of no fault, and the log keeps what it should not hold.
    A settlement sees CHANGED_WITHOUT_REVISION: to compare each record with those before it, the fold would have to look
    at all of them for every batch. No fault has the value of a reject: the state keeps both in one column.
    """

    TIMESTAMP = "timestamp"
    DATE_TOO_EXACT = "date_too_exact"
    HEADERS = "headers"
    CHANGED_WITHOUT_REVISION = "changed_without_revision"


class Rejected(SchemasError):
    """A message that is not a case event of ours: the reason, the event type and the field, never a value."""

    def __init__(self, reason: RejectReason, event: str | None = None, field: str | None = None) -> None:
        where = "" if event is None else f" of {event}" if field is None else f" of {event} at field {field}"
        super().__init__(f"message{where} rejected ({reason.value}): {reason.explanation}")
        self.reason = reason
        self.event = event
        self.field = field

    def __reduce__(self) -> tuple[type[Rejected], tuple[RejectReason, str | None, str | None]]:
        return type(self), (self.reason, self.event, self.field)
