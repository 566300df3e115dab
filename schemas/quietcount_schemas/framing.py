"""Framing: the header that says which schema wrote a message, and knows nothing of what the message means.

Avro single-object encoding (Avro 1.12 specification, "Single-object encoding") is written: C3 01, then the
CRC-64-AVRO fingerprint of the schema, little-endian. Confluent framing (00, then the schema id of a registry,
big-endian) is written and read for the ids whose fingerprint is known here. Nobody asks the registry about an id.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quietcount_schemas.rejection import Rejected, RejectReason

__all__ = [
    "CONFLUENT_BYTES",
    "CONFLUENT_MAGIC",
    "FINGERPRINT_BYTES",
    "MAX_CONFLUENT_ID",
    "SINGLE_OBJECT_BYTES",
    "SINGLE_OBJECT_MARKER",
    "FramingReader",
    "confluent",
    "single_object",
]

SINGLE_OBJECT_MARKER = b"\xc3\x01"
FINGERPRINT_BYTES = 8
SINGLE_OBJECT_BYTES = len(SINGLE_OBJECT_MARKER) + FINGERPRINT_BYTES

CONFLUENT_MAGIC = 0x00
CONFLUENT_BYTES = 5
MAX_CONFLUENT_ID = 2**31 - 1
"""The ids of a registry are Java ints from 1."""


def single_object(fingerprint: bytes) -> bytes:
    """Return the 10-byte single-object header of the schema with `fingerprint` (8 bytes)."""
    if len(fingerprint) != FINGERPRINT_BYTES:
        raise ValueError("a fingerprint has 8 bytes")
    return SINGLE_OBJECT_MARKER + fingerprint


def confluent(schema_id: int) -> bytes:
    """Return the 5-byte Confluent header of the schema that a registry calls `schema_id`."""
    if not 1 <= schema_id <= MAX_CONFLUENT_ID:
        raise ValueError("the id of a registry is a whole number from 1 to 2147483647")
    return bytes([CONFLUENT_MAGIC]) + schema_id.to_bytes(CONFLUENT_BYTES - 1, "big")


class FramingReader:
    """Reads headers: single objects, and Confluent framing for the ids in `confluent_ids` (id to fingerprint)."""

    def __init__(self, confluent_ids: Mapping[int, bytes] | None = None) -> None:
        self._confluent_ids: Mapping[int, bytes] = MappingProxyType(dict(confluent_ids or {}))

    def read(self, data: bytes) -> tuple[bytes, int]:
        """Return the fingerprint of the schema that wrote `data`, and where its datum begins.

        Raises Rejected: EMPTY, UNKNOWN_FRAMING, TRUNCATED, or UNKNOWN_FINGERPRINT for an unknown Confluent id.
        """
        if not data:
            raise Rejected(RejectReason.EMPTY)
        if data.startswith(SINGLE_OBJECT_MARKER):
            if len(data) < SINGLE_OBJECT_BYTES:
                raise Rejected(RejectReason.TRUNCATED)
            return data[len(SINGLE_OBJECT_MARKER) : SINGLE_OBJECT_BYTES], SINGLE_OBJECT_BYTES
        if data[0] == CONFLUENT_MAGIC and self._confluent_ids:
            if len(data) < CONFLUENT_BYTES:
                raise Rejected(RejectReason.TRUNCATED)
            fingerprint = self._confluent_ids.get(int.from_bytes(data[1:CONFLUENT_BYTES], "big"))
            if fingerprint is None:
                raise Rejected(RejectReason.UNKNOWN_FINGERPRINT)
            return fingerprint, CONFLUENT_BYTES
        if data == SINGLE_OBJECT_MARKER[:1]:
            raise Rejected(RejectReason.TRUNCATED)
        raise Rejected(RejectReason.UNKNOWN_FRAMING)
