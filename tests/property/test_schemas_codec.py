"""The codec against fastavro, for any schema that the lint accepts and any event of it."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import replace
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import case_events, definitions, mutated, registry_of

from quietcount_schemas import CaseEvent, Codec, RejectReason, SchemaRegistry
from quietcount_schemas.events.event_types import FieldKind
from quietcount_schemas.lint.rules import lint

pytestmark = pytest.mark.quick

CASEWORK = SchemaRegistry.load()
CODEC = Codec(CASEWORK)
ORIGINALS = [
    CODEC.encode(
        CaseEvent(
            event=name,
            case_key=bytes(range(16)),
            event_id=bytes.fromhex("00112233445546778899aabbccddeeff"),
            revision=2,
            occurred_on=dt.date(2023, 4, 1),
            attributes={field.name: field.symbols[-1] for field in event_type.attributes},
        )
    )
    for name, event_type in CASEWORK.event_types.items()
]


@given(definitions())
def test_the_strategy_makes_schemas_that_the_lint_accepts(definition: dict[str, Any]) -> None:
    assert lint(definition, "1.avsc") == []


@given(st.data())
def test_fastavro_reads_what_the_codec_writes_and_the_codec_what_fastavro_writes(data: st.DataObject) -> None:
    registry = registry_of(data.draw(definitions()))
    version = registry.event_type("Trial").current
    event = data.draw(case_events(registry))
    codec = Codec(registry)
    message = codec.encode(event)
    datum = {
        "case_key": event.case_key,
        "event_id": event.event_id,
        "revision": event.revision,
        "occurred_on": event.occurred_on,
        **event.attributes,
    }
    assert fastavro.schemaless_reader(io.BytesIO(message[10:]), version.parsed, None) == datum
    written = io.BytesIO()
    fastavro.schemaless_writer(written, version.parsed, datum)
    assert message[10:] == written.getvalue()
    assert codec.decode(message) == event


@given(st.data())
def test_a_message_cut_anywhere_is_truncated_and_one_with_more_has_trailing_bytes(data: st.DataObject) -> None:
    registry = registry_of(data.draw(definitions()))
    codec = Codec(registry)
    message = codec.encode(data.draw(case_events(registry)))
    cut = data.draw(st.integers(1, len(message) - 1))
    assert codec.check(message[:cut]) is RejectReason.TRUNCATED
    assert codec.check(message + data.draw(st.binary(min_size=1, max_size=8))) is RejectReason.TRAILING_BYTES


@given(mutated(ORIGINALS))
def test_what_is_accepted_is_what_the_codec_would_write(message: bytes) -> None:
    reason = CODEC.check(message)
    if reason is None:
        assert CODEC.encode(CODEC.decode(message)) == message


@given(st.data())
def test_an_enum_index_of_no_symbol_is_rejected(data: st.DataObject) -> None:
    registry = registry_of(data.draw(definitions()))
    codec = Codec(registry)
    version = registry.event_type("Trial").current
    enums = [
        field
        for field in version.attributes
        if field.kind is FieldKind.ENUM and not field.nullable and 1 < len(field.symbols) < 64
    ]
    if not enums:
        return
    chosen = data.draw(st.sampled_from(enums))
    event = data.draw(case_events(registry))
    zero, one = (
        codec.encode(replace(event, attributes={**event.attributes, chosen.name: symbol}))
        for symbol in (chosen.symbols[0], chosen.symbols[-1])
    )
    place = next(index for index, pair in enumerate(zip(zero, one, strict=True)) if pair[0] != pair[1])
    index = data.draw(st.one_of(st.integers(len(chosen.symbols), 63), st.integers(-64, -1)))
    tampered = zero[:place] + bytes([(index << 1) ^ (index >> 63)]) + zero[place + 1 :]
    assert codec.check(tampered) is RejectReason.ENUM_OUT_OF_RANGE
