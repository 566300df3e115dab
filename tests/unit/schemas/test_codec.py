"""The codec, one promise at a time: what it writes, what it refuses and why, and that other Avro readers agree."""

from __future__ import annotations

import datetime as dt
import io
import json
import pickle
import uuid
from dataclasses import replace
from typing import Any

import avro.io
import avro.schema
import pytest
from fastavro.schema import fingerprint
from tests.strategies import envelope, event_type_of

from quietcount_schemas import MAX_EVENT_BYTES, CaseEvent, Codec, Rejected, RejectReason, SchemaRegistry, SchemasError
from quietcount_schemas.events.definition import schema_version
from quietcount_schemas.framing import FramingReader

pytestmark = pytest.mark.quick

EVENT_ID = uuid.UUID("00112233-4455-4677-8899-aabbccddeeff").bytes
FIRST_ATTRIBUTE = 10 + 16 + 16 + 1 + 3


def trial(*fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "Trial",
        "namespace": "example.trial",
        "doc": "A trial.",
        "fields": [*envelope(), *fields],
    }


KIND = {"type": "enum", "name": "Kind", "symbols": ["A", "B", "C"], "default": "A", "doc": "Kinds."}
WIDE = trial(
    {"name": "kind", "type": KIND, "default": "A", "doc": "A kind."},
    {"name": "urgent", "type": "boolean", "default": False, "doc": "Whether it hurries."},
    {"name": "people", "type": {"type": "int", "minimum": 1, "maximum": 20}, "default": 1, "doc": "How many."},
    {"name": "maybe", "type": ["null", "boolean"], "default": None, "doc": "Perhaps."},
    {
        "name": "due",
        "type": {"type": "int", "logicalType": "date", "minimum": 0, "maximum": 40000},
        "default": 0,
        "doc": "When.",
    },
)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(SchemaRegistry([event_type_of([schema_version(WIDE, 1, "Trial/1.avsc")])]))


@pytest.fixture(scope="module")
def casework() -> Codec:
    return Codec(SchemaRegistry.load())


@pytest.fixture
def event() -> CaseEvent:
    values = {"kind": "B", "urgent": True, "people": 3, "maybe": None, "due": dt.date(1970, 1, 5)}
    return CaseEvent("Trial", b"\x07" * 16, EVENT_ID, 1, dt.date(2023, 4, 1), values)


def test_an_event_comes_back_as_it_was(codec: Codec, event: CaseEvent) -> None:
    assert codec.decode(codec.encode(event)) == event


def test_a_message_is_the_marker_the_fingerprint_and_the_fields_in_order(codec: Codec, event: CaseEvent) -> None:
    data = codec.encode(event)
    version = codec.registry.event_type("Trial").current
    assert data[:2] == b"\xc3\x01"
    assert data[2:10] == version.fingerprint
    assert data[10:42] == event.case_key + event.event_id
    #                  revision 1, 19448 days, B, true, 3, null, 4 days
    assert data[42:] == bytes([2]) + b"\xf0\xaf\x02" + bytes([2, 1, 6, 0, 8])


def test_fingerprints_are_those_of_the_specification() -> None:
    # Avro's own test vectors for CRC-64-AVRO, here as the 8 little-endian bytes of a single-object header.
    assert bytes.fromhex(fingerprint('"null"', "CRC-64-AVRO")) == 0x63DD24E7CC258F8A.to_bytes(8, "little")
    assert bytes.fromhex(fingerprint('"int"', "CRC-64-AVRO")) == 0x7275D51A3F395C8F.to_bytes(8, "little")


def test_an_attribute_left_out_takes_its_default(codec: Codec, event: CaseEvent) -> None:
    decoded = codec.decode(codec.encode(replace(event, attributes={})))
    assert decoded.attributes == {"kind": "A", "urgent": False, "people": 1, "maybe": None, "due": dt.date(1970, 1, 1)}


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        ("kind", "SECRET-VALUE", "must be one of A, B, C"),
        ("kind", None, "may not be null: it must be one of"),
        ("kind", 1, "must be one of"),
        ("urgent", 1, "must be true or false"),
        ("people", 0, "must be a whole number from 1 to 20"),
        ("people", 21, "must be a whole number from 1 to 20"),
        ("people", True, "must be a whole number"),
        ("maybe", "SECRET-VALUE", "must be true or false, or null"),
        ("due", dt.date(1969, 12, 31), "must be a date from 1970-01-01"),
        ("due", dt.datetime(1970, 1, 1, tzinfo=dt.UTC), "must be a date"),
        ("due", 5, "must be a date"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_field_and_never_shown(
    codec: Codec, event: CaseEvent, field: str, value: object, allowed: str
) -> None:
    with pytest.raises(SchemasError) as refused:
        codec.encode(replace(event, attributes={**event.attributes, field: value}))
    assert f"Trial, field {field}: {allowed}" in str(refused.value)
    assert "SECRET-VALUE" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"case_key": b"short"},
        {"event_id": b"\xff" * 16},
        {"revision": -1},
        {"revision": 65536},
        {"occurred_on": dt.date(1969, 12, 31)},
        {"occurred_on": dt.date(2100, 1, 1)},
    ],
)
def test_an_envelope_that_does_not_fit_is_refused_by_field(
    codec: Codec, event: CaseEvent, change: dict[str, Any]
) -> None:
    with pytest.raises(SchemasError, match=f"Trial, field {next(iter(change))}: must be"):
        codec.encode(replace(event, **change))


def test_a_field_that_the_event_does_not_have_is_refused_and_not_repeated(codec: Codec, event: CaseEvent) -> None:
    with pytest.raises(SchemasError, match="Its attributes are: kind, urgent") as refused:
        codec.encode(replace(event, attributes={"Ivan Ivanov": "x"}))
    assert "Ivan" not in str(refused.value)


def test_an_unknown_event_type_is_refused_with_the_known_ones(casework: Codec, event: CaseEvent) -> None:
    with pytest.raises(SchemasError, match="The known ones are: CaptivityRecorded"):
        casework.encode(event)


def put(data: bytes, place: int, new: bytes, length: int = 1) -> bytes:
    return data[:place] + new + data[place + length :]


KIND_AT, URGENT_AT, PEOPLE_AT, MAYBE_AT, DUE_AT = (FIRST_ATTRIBUTE + offset for offset in range(5))
REVISION_AT, DAY_AT = 42, 43


@pytest.mark.parametrize(
    "reason, field, tamper",
    [
        (RejectReason.TOO_LARGE, None, lambda data: data + bytes(MAX_EVENT_BYTES)),
        (RejectReason.EMPTY, None, lambda _: b""),
        (RejectReason.UNKNOWN_FRAMING, None, lambda data: b"{" + data[1:]),
        (RejectReason.UNKNOWN_FRAMING, None, lambda data: b"\x00" + data[1:]),
        (RejectReason.UNKNOWN_FRAMING, None, lambda data: b"\xc3\x02" + data[2:]),
        (RejectReason.UNKNOWN_FINGERPRINT, None, lambda data: put(data, 2, b"\x00" * 8, 8)),
        (RejectReason.TRUNCATED, None, lambda data: data[:1]),
        (RejectReason.TRUNCATED, None, lambda data: data[:9]),
        (RejectReason.TRUNCATED, "case_key", lambda data: data[:12]),
        (RejectReason.TRUNCATED, "event_id", lambda data: data[:40]),
        (RejectReason.TRUNCATED, "revision", lambda data: data[:42]),
        (RejectReason.TRUNCATED, "occurred_on", lambda data: data[: DAY_AT + 2]),
        (RejectReason.TRUNCATED, "due", lambda data: data[:-1]),
        (RejectReason.TRAILING_BYTES, None, lambda data: data + b"\x00"),
        (RejectReason.ENUM_OUT_OF_RANGE, "kind", lambda data: put(data, KIND_AT, b"\x01")),  # index -1
        (RejectReason.ENUM_OUT_OF_RANGE, "kind", lambda data: put(data, KIND_AT, b"\x06")),  # index 3 of 3
        (RejectReason.ENUM_OUT_OF_RANGE, "kind", lambda data: put(data, KIND_AT, b"\xfe\xff\xff\xff\x0f")),
        (RejectReason.UNION_OUT_OF_RANGE, "maybe", lambda data: put(data, MAYBE_AT, b"\x01")),  # index -1
        (RejectReason.UNION_OUT_OF_RANGE, "maybe", lambda data: put(data, MAYBE_AT, b"\x04")),  # index 2 of 2
        (RejectReason.BOOLEAN_INVALID, "urgent", lambda data: put(data, URGENT_AT, b"\x02")),
        (RejectReason.BOOLEAN_INVALID, "urgent", lambda data: put(data, URGENT_AT, b"\xff")),
        (RejectReason.VARINT_TOO_LONG, "kind", lambda data: put(data, KIND_AT, b"\x80" * 40 + b"\x00")),  # 41 bytes
        (RejectReason.VARINT_TOO_LONG, "people", lambda data: put(data, PEOPLE_AT, b"\x86\x80\x80\x80\x80\x00")),
        (RejectReason.VARINT_TOO_LONG, "revision", lambda data: put(data, REVISION_AT, b"\xff" * 9 + b"\x01")),
        (RejectReason.VARINT_NOT_CANONICAL, "kind", lambda data: put(data, KIND_AT, b"\x82\x00")),
        (RejectReason.VARINT_NOT_CANONICAL, "maybe", lambda data: put(data, MAYBE_AT, b"\x80\x00")),
        (RejectReason.VARINT_NOT_CANONICAL, "revision", lambda data: put(data, REVISION_AT, b"\x82\x80\x00")),
        (RejectReason.INT_OUT_OF_BOUNDS, "people", lambda data: put(data, PEOPLE_AT, b"\x00")),
        (RejectReason.INT_OUT_OF_BOUNDS, "people", lambda data: put(data, PEOPLE_AT, b"\x2a")),  # 21 of 20
        (RejectReason.INT_OUT_OF_BOUNDS, "people", lambda data: put(data, PEOPLE_AT, b"\x01")),  # -1
        (RejectReason.INT_OUT_OF_BOUNDS, "people", lambda data: put(data, PEOPLE_AT, b"\xff\xff\xff\xff\x7f")),
        (RejectReason.INT_OUT_OF_BOUNDS, "revision", lambda data: put(data, REVISION_AT, b"\x01")),
        (RejectReason.DATE_OUT_OF_BOUNDS, "occurred_on", lambda data: put(data, DAY_AT, b"\x01", 3)),
        (RejectReason.DATE_OUT_OF_BOUNDS, "occurred_on", lambda data: put(data, DAY_AT, b"\xfe\xff\xff\xff\x0f", 3)),
        (RejectReason.DATE_OUT_OF_BOUNDS, "due", lambda data: put(data, DUE_AT, b"\x01")),
        (RejectReason.EVENT_ID_NOT_V4, "event_id", lambda data: put(data, 32, b"\x76")),  # version 7 tells the time
        (RejectReason.EVENT_ID_NOT_V4, "event_id", lambda data: put(data, 34, b"\x08")),
    ],
)
def test_each_malformed_message_is_rejected_for_its_own_reason(
    codec: Codec, event: CaseEvent, reason: RejectReason, field: str | None, tamper: Any
) -> None:
    data = tamper(codec.encode(event))
    assert codec.check(data) is reason
    with pytest.raises(Rejected) as rejected:
        codec.decode(data)
    assert rejected.value.reason is reason
    assert rejected.value.field == field
    assert reason.value in str(rejected.value)


def test_a_message_of_exactly_the_limit_is_read_and_one_byte_more_is_not(codec: Codec, event: CaseEvent) -> None:
    data = codec.encode(event)
    assert codec.check(data + bytes(MAX_EVENT_BYTES - len(data))) is RejectReason.TRAILING_BYTES
    assert codec.check(data + bytes(MAX_EVENT_BYTES - len(data) + 1)) is RejectReason.TOO_LARGE


def test_a_rejection_names_no_byte_of_the_message(codec: Codec, event: CaseEvent) -> None:
    with pytest.raises(Rejected) as rejected:
        codec.decode(put(codec.encode(event), KIND_AT, b"\x2e"))
    assert str(rejected.value) == (
        "message of Trial at field kind rejected (enum_out_of_range): an enum index names no symbol"
    )


def test_a_rejection_passes_between_processes() -> None:
    rejected = Rejected(RejectReason.TRUNCATED, "Trial", "kind")
    again = pickle.loads(pickle.dumps(rejected))  # noqa: S301
    assert (str(again), again.reason, again.event, again.field) == (str(rejected), "truncated", "Trial", "kind")


def test_every_reason_is_explained() -> None:
    assert all(reason.explanation for reason in RejectReason)
    assert len({reason.explanation for reason in RejectReason}) == len(RejectReason)


def test_confluent_framing_is_read_when_the_ids_are_known(codec: Codec, event: CaseEvent) -> None:
    version = codec.registry.event_type("Trial").current
    both = Codec(codec.registry, FramingReader({7: version.fingerprint}))
    single = codec.encode(event)
    confluent = b"\x00" + (7).to_bytes(4, "big") + single[10:]
    assert both.decode(confluent) == both.decode(single) == event
    assert both.check(b"\x00" + (8).to_bytes(4, "big") + single[10:]) is RejectReason.UNKNOWN_FINGERPRINT
    assert both.check(confluent[:4]) is RejectReason.TRUNCATED
    assert codec.check(confluent) is RejectReason.UNKNOWN_FRAMING


def test_an_older_version_is_read_as_the_current_one(event: CaseEvent) -> None:
    newer = trial(
        {"name": "added", "type": "boolean", "default": True, "doc": "New."},
        {"name": "kind", "type": {**KIND, "symbols": ["A", "B", "C", "D"]}, "default": "A", "doc": "A kind."},
    )
    old, new = schema_version(WIDE, 1, "Trial/1.avsc"), schema_version(newer, 2, "Trial/2.avsc")
    data = Codec(SchemaRegistry([event_type_of([old])])).encode(event)
    decoded = Codec(SchemaRegistry([event_type_of([old, new])])).decode(data)
    assert decoded.attributes == {"added": True, "kind": "B"}


@pytest.mark.parametrize("name", ["HelpRequested", "OutcomeRecorded", "CaseWithdrawn", "SentencePassed"])
def test_the_avro_reference_library_reads_ours_and_ours_reads_its(casework: Codec, name: str) -> None:
    version = casework.registry.event_type(name).current
    theirs = avro.schema.parse(json.dumps(version.definition))
    last = {field.name: field.symbols[-1] for field in version.attributes}
    event = CaseEvent(name, b"\x01" * 16, EVENT_ID, 65535, dt.date(2099, 12, 31), last)
    data = casework.encode(event)
    envelope_values = {field: getattr(event, field) for field in ("case_key", "event_id", "revision", "occurred_on")}
    read: Any = avro.io.DatumReader(theirs).read(avro.io.BinaryDecoder(io.BytesIO(data[10:])))
    assert read == {**envelope_values, **last}
    written = io.BytesIO()
    avro.io.DatumWriter(theirs).write({**envelope_values, **last}, avro.io.BinaryEncoder(written))
    assert casework.decode(data[:10] + written.getvalue()) == event
