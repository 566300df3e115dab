"""The evolution check against real resolution: whenever it says yes, every version reads every other."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import fastavro
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.strategies import event_type_of, field_values, histories

from quietcount_schemas import Codec, SchemaRegistry
from quietcount_schemas.events.definition import schema_version
from quietcount_schemas.events.event_types import EPOCH_ORDINAL, FieldKind, SchemaVersion
from quietcount_schemas.lint.evolution import check_evolution

pytestmark = pytest.mark.quick


def plain(value: Any) -> Any:
    """A date as its days: fastavro gives a date that was read as a date, and one from a default as its number."""
    return value.toordinal() - EPOCH_ORDINAL if isinstance(value, dt.date) else value


def resolution_faults(writer: SchemaVersion, reader: SchemaVersion, datum: dict[str, Any]) -> list[str]:
    """What is wrong with how fastavro reads a datum of `writer` as `reader`: nothing, if the two are compatible."""
    written = io.BytesIO()
    fastavro.schemaless_writer(written, writer.parsed, datum)
    written.seek(0)
    try:
        read: Any = fastavro.schemaless_reader(written, writer.parsed, reader.parsed)
    except Exception as error:
        return [f"not read: {type(error).__name__}"]
    faults = []
    writers = {field.name: field for field in writer.fields}
    for field in reader.fields:
        if field.name not in writers:
            expected = field.default
        elif field.kind is FieldKind.ENUM and datum[field.name] not in (*field.symbols, None):
            expected = field.default_symbol
        else:
            expected = datum[field.name]
        if plain(read[field.name]) != plain(expected):
            faults.append(f"{field.name} changed")
        elif field.kind in (FieldKind.INT, FieldKind.DATE) and read[field.name] is not None:
            number = plain(read[field.name])
            if not field.minimum <= number <= field.maximum:
                faults.append(f"{field.name} out of bounds")
    return faults


def draw_datum(data: st.DataObject, version: SchemaVersion) -> dict[str, Any]:
    return {field.name: data.draw(field_values(field)) for field in version.fields}


def every_pair_resolves(data: st.DataObject, versions: Sequence[SchemaVersion]) -> list[str]:
    return [
        fault
        for writer, reader in permutations(versions, 2)
        for fault in resolution_faults(writer, reader, draw_datum(data, writer))
    ]


@pytest.mark.promise("evolution")
@given(histories(compatible=False), st.data())
def test_whatever_the_check_passes_resolves_in_every_direction(
    versions: list[SchemaVersion], data: st.DataObject
) -> None:
    assume(not check_evolution(versions))
    assert every_pair_resolves(data, versions) == []


@pytest.mark.check
@given(histories(compatible=True), st.data())
def test_compatible_edits_pass_the_check_unless_a_field_came_back_changed(
    versions: list[SchemaVersion], data: st.DataObject
) -> None:
    shapes: dict[str, set[tuple[object, ...]]] = {}
    for version in versions:
        for field in version.attributes:
            shape = (field.kind, field.nullable, field.minimum, field.maximum)
            shapes.setdefault(field.name, set()).add(shape)
    assume(all(len(each) == 1 for each in shapes.values()))
    # Enums of the strategies have symbols S0, S1, ...: one that comes back is always longer or shorter, never another,
    # but shorter than before is not appended to.
    sizes: dict[str, int] = {}
    for version in versions:
        for field in version.attributes:
            assume(len(field.symbols) >= sizes.get(field.name, 0))
            sizes[field.name] = len(field.symbols)
    assert check_evolution(versions) == []
    assert every_pair_resolves(data, versions) == []


@pytest.mark.check
@given(histories(compatible=False), st.data())
def test_the_codec_resolves_older_versions_as_fastavro_does(versions: list[SchemaVersion], data: st.DataObject) -> None:
    assume(not check_evolution(versions))
    codec = Codec(SchemaRegistry([event_type_of(versions)]))
    for version in versions:
        datum = draw_datum(data, version)
        written = io.BytesIO()
        fastavro.schemaless_writer(written, version.parsed, datum)
        theirs: Any = fastavro.schemaless_reader(io.BytesIO(written.getvalue()), version.parsed, versions[-1].parsed)
        event = codec.decode(b"\xc3\x01" + version.fingerprint + written.getvalue())
        envelope = {name: theirs.pop(name) for name in ("case_key", "event_id", "revision", "occurred_on")}
        assert {name: getattr(event, name) for name in envelope} == envelope
        assert {name: plain(value) for name, value in event.attributes.items()} == {
            name: plain(value) for name, value in theirs.items()
        }
        # and what came from a default is of the type that a value read would have
        assert codec.decode(codec.encode(event)) == event


def _version(*fields: dict[str, Any]) -> SchemaVersion:
    record = {"type": "record", "name": "Trial", "namespace": "example.trial", "doc": "x", "fields": list(fields)}
    return schema_version(record, 1, "1.avsc")


@pytest.mark.parametrize(
    "writer, reader, datum",
    [
        # a field without a default
        (_version(), _version({"name": "f", "type": "boolean", "doc": "x"}), {}),
        # null where there is none
        (
            _version({"name": "f", "type": ["null", "boolean"], "default": None, "doc": "x"}),
            _version({"name": "f", "type": "boolean", "default": False, "doc": "x"}),
            {"f": None},
        ),
        # a symbol that the reader lacks, and no default
        (
            _version({"name": "f", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}, "doc": "x"}),
            _version({"name": "f", "type": {"type": "enum", "name": "E", "symbols": ["A"]}, "doc": "x"}),
            {"f": "B"},
        ),
        # narrower bounds
        (
            _version({"name": "f", "type": {"type": "int", "minimum": 0, "maximum": 9}, "doc": "x"}),
            _version({"name": "f", "type": {"type": "int", "minimum": 0, "maximum": 5}, "doc": "x"}),
            {"f": 7},
        ),
    ],
)
def test_the_comparison_with_real_resolution_finds_what_a_lenient_check_would_pass(
    writer: SchemaVersion, reader: SchemaVersion, datum: dict[str, Any]
) -> None:
    assert resolution_faults(writer, reader, datum)
    assert check_evolution([writer, reader])
