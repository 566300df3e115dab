"""The decoder of whole batches against the strict codec: it accepts what the codec accepts, with the same values and
the same reasons, and what its vectorised part takes by itself the codec takes.

`QUIETCOUNT_MUTATIONS` sets how many tampered messages; `QUIETCOUNT_SEED` repeats a run.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import case_events, envelope, event_type_of, histories, mutate

from quietcount_aggregates.counting import columns
from quietcount_aggregates.counting.columns import NULL_CODE, ColumnDecoder, EventColumns
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.event_types import Field, FieldKind
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import Rejected, RejectReason

pytestmark = pytest.mark.quick

EPOCH = dt.date(1970, 1, 1)
CASEWORK = SchemaRegistry.load()

Decoded = list[tuple[int, str, bytes, bytes, int, int, dict[str, int]]]


def expected_codes(registry: SchemaRegistry, event: CaseEvent) -> dict[str, int]:
    """Return the codes of an event's dimensions, from the values that the codec gave."""
    codes = {}
    for field in registry.event_type(event.event).dimensions:
        value = event.attributes[field.name]
        if value is None:
            codes[field.name] = NULL_CODE
        else:
            codes[field.name] = field.symbols.index(str(value)) if field.kind is FieldKind.ENUM else int(bool(value))
    return codes


def by_codec(registry: SchemaRegistry, values: Sequence[bytes]) -> tuple[Decoded, list[tuple[int, RejectReason]]]:
    codec, accepted, rejected = Codec(registry), [], []
    for row, value in enumerate(values):
        try:
            event = codec.decode(value)
        except Rejected as error:
            rejected.append((row, error.reason))
            continue
        days = (event.occurred_on - EPOCH).days
        codes = expected_codes(registry, event)
        accepted.append((row, event.event, event.case_key, event.event_id, event.revision, days, codes))
    return accepted, rejected


def plain(parts: Sequence[EventColumns]) -> Decoded:
    """Return columns as one tuple a record, in the order of the batch."""
    rows: Decoded = []
    for part in parts:
        assert (np.diff(part.rows) > 0).all(), "the rows of an event type keep the order of the batch"
        rows.extend(
            (
                int(part.rows[i]),
                part.event,
                part.case_keys[i].tobytes(),
                part.event_ids[i].tobytes(),
                int(part.revisions[i]),
                int(part.occurred_on[i]),
                {name: int(column[i]) for name, column in part.codes.items()},
            )
            for i in range(len(part.rows))
        )
    return sorted(rows)


def check(registry: SchemaRegistry, values: Sequence[bytes]) -> None:
    parts, rejections = ColumnDecoder(registry).decode(values)
    accepted, rejected = by_codec(registry, values)
    assert plain(parts) == accepted
    assert [(rejection.row, rejection.reason) for rejection in rejections] == rejected
    assert len({part.event for part in parts}) == len(parts)


@given(st.data())
@settings(max_examples=100)
def test_it_decodes_what_the_codec_encodes(data: st.DataObject) -> None:
    events = data.draw(st.lists(case_events(CASEWORK), max_size=12))
    codec = Codec(CASEWORK)
    check(CASEWORK, [codec.encode(event) for event in events])


@pytest.mark.check
@given(st.data())
@settings(max_examples=100)
def test_it_agrees_with_the_codec_on_every_version_of_every_schema(data: st.DataObject) -> None:
    versions = data.draw(histories(compatible=True))
    registry = SchemaRegistry([event_type_of(versions)])
    values = []
    for number in range(1, len(versions) + 1):
        # An emitter that knows the first versions only writes in the last of those.
        old = SchemaRegistry([event_type_of(versions[:number])])
        codec = Codec(old)
        values += [codec.encode(event) for event in data.draw(st.lists(case_events(old), min_size=1, max_size=4))]
    values = data.draw(st.permutations(values))
    check(registry, values)
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    check(registry, [mutate(value, values, rng) for value in values for _ in range(4)])


def _older_and_newer(folder: Path) -> SchemaRegistry:
    """A folder with two versions: the later one has a symbol and a field more."""

    def definition(symbols: list[str], more: list[dict[str, Any]]) -> dict[str, Any]:
        enum = {"type": "enum", "name": "Colour", "symbols": symbols, "default": "NONE", "doc": "Colours."}
        optional = ["null", {"type": "int", "minimum": 65000, "maximum": 70000}]
        return {
            "type": "record",
            "name": "Trial",
            "namespace": "example.trial",
            "doc": "A trial.",
            "quietcount.role": "event",
            "fields": [
                *envelope(),
                {"name": "colour", "type": enum, "default": "NONE", "doc": "A colour."},
                {"name": "urgent", "type": ["null", "boolean"], "default": None, "doc": "Urgent."},
                {"name": "number", "type": optional, "default": None, "doc": "A number."},
                *more,
            ],
        }

    (folder / "Trial").mkdir(parents=True)
    more = [{"name": "repeated", "type": "boolean", "default": True, "doc": "Whether it was asked before."}]
    for version, written in ((1, definition(["RED", "NONE"], [])), (2, definition(["RED", "NONE", "BLUE"], more))):
        (folder / "Trial" / f"{version}.avsc").write_text(json.dumps(written), encoding="utf-8")
    return SchemaRegistry.load([folder])


def test_an_older_version_takes_the_defaults_of_what_it_lacks(tmp_path: Path) -> None:
    registry = _older_and_newer(tmp_path / "schemas")
    versions = registry.event_type("Trial").versions
    assert len(versions) == 2
    old = Codec(SchemaRegistry([event_type_of(versions[:1])]))
    key, event = bytes(16), bytes(6) + b"\x40\0\x80" + bytes(7)
    day = dt.date(2024, 2, 29)
    values = []
    for attributes in (
        {"colour": "RED", "urgent": None, "number": None},
        {"colour": "NONE", "urgent": True, "number": 70000},
        {"colour": "NONE", "urgent": False, "number": 65000},
    ):
        values.append(old.encode(CaseEvent("Trial", key, event, 65535, day, attributes)))
        values.append(Codec(registry).encode(CaseEvent("Trial", key, event, 0, day, {**attributes, "colour": "BLUE"})))
    check(registry, values)
    (part,), rejections = ColumnDecoder(registry).decode(values)
    assert not rejections
    assert part.codes["repeated"].tolist() == [1] * 6
    assert part.codes["colour"].tolist() == [0, 2, 1, 2, 1, 2]
    assert part.codes["urgent"].tolist() == [NULL_CODE, NULL_CODE, 1, 1, 0, 0]


def _tampered(count: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    codec = Codec(CASEWORK)
    originals = []
    for name, event_type in CASEWORK.event_types.items():
        for _ in range(20):
            attributes = {f.name: rng.choice(f.symbols) for f in event_type.attributes if f.kind is FieldKind.ENUM}
            event_id = rng.randbytes(6) + b"\x4a" + rng.randbytes(1) + b"\xb1" + rng.randbytes(7)
            day = dt.date.fromordinal(EPOCH.toordinal() + rng.randrange(47000))
            event = CaseEvent(name, rng.randbytes(16), event_id, rng.choice((0, 1, 63, 64, 65535)), day, attributes)
            originals.append(codec.encode(event))
    return [mutate(rng.choice(originals), originals, rng) for _ in range(count)] + originals


def _seed() -> int:
    return int(os.environ.get("QUIETCOUNT_SEED") or secrets.randbelow(2**32))


@pytest.mark.promise("strict-decode")
@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_it_agrees_with_the_codec_on_tampered_messages(count: int) -> None:
    count, seed = int(os.environ.get("QUIETCOUNT_MUTATIONS") or count), _seed()
    print(f"QUIETCOUNT_SEED={seed}")
    rng = random.Random(seed)
    values = _tampered(count, seed)
    reasons = set()
    while values:
        size = rng.choice((1, 2, 17, 1000, 5000))
        batch = [values.pop() for _ in range(min(size, len(values)))]
        check(CASEWORK, batch)
        reasons |= {rejection.reason for rejection in ColumnDecoder(CASEWORK).decode(batch)[1]}
    assert len(reasons) >= 8, "the tampering meets few of the reasons"


def vectorised(registry: SchemaRegistry, values: Sequence[bytes], monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the rows that the decoder takes without ever asking the codec."""
    decoder = ColumnDecoder(registry)

    class Silent:
        def decode(self, data: bytes) -> CaseEvent:
            raise Rejected(RejectReason.EMPTY)

    monkeypatch.setattr(decoder, "_codec", Silent())
    return {row for part in decoder.decode(values)[0] for row in part.rows.tolist()}


def test_the_vectorised_part_alone_never_takes_what_the_codec_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = _seed()
    print(f"QUIETCOUNT_SEED={seed}")
    values = _tampered(20_000, seed)
    codec = Codec(CASEWORK)
    taken = vectorised(CASEWORK, values, monkeypatch)
    wrong = [row for row in taken if codec.check(values[row]) is not None]
    assert not wrong, f"seed {seed}: {len(wrong)} messages taken that the codec refuses"
    right = {row for row, value in enumerate(values) if codec.check(value) is None}
    assert taken == right, f"seed {seed}: the fast path leaves valid messages to the codec"


def test_a_decoder_that_takes_an_enum_index_of_minus_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def mutant(field: Field, cursor: columns._Cursor, present: columns.Mask | None) -> columns.Ints:
        return np.maximum(cursor.varint(present), 0)

    monkeypatch.setattr(columns, "_value", mutant)
    with pytest.raises(AssertionError):
        check(CASEWORK, _tampered(2_000, 1))


def test_a_decoder_that_reads_past_the_end_of_a_record_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ColumnDecoder._walk

    def mutant(self: ColumnDecoder, version: Any, buffer: Any, starts: Any, ends: Any, rows: Any) -> Any:
        return real(self, version, buffer, starts, ends - 1, rows)  # a last byte too few, so each has one trailing

    monkeypatch.setattr(ColumnDecoder, "_walk", mutant)
    values = _tampered(2_000, 1)
    codec = Codec(CASEWORK)
    taken = vectorised(CASEWORK, values, monkeypatch)
    assert any(codec.check(values[row]) is not None for row in taken)


def test_an_empty_batch_and_empty_messages_are_no_trouble() -> None:
    assert ColumnDecoder(CASEWORK).decode([]) == ([], [])
    check(CASEWORK, [b""])
    check(CASEWORK, [b"", b"\xc3", b"\xc3\x01", b"\xc3\x01" + bytes(8), bytes(513)])
