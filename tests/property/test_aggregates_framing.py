"""Both framings: the column decoder takes, of any bytes, what the strict codec takes, whichever header they carry."""

from __future__ import annotations

import datetime as dt
import inspect
import random
import types
import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import case_events, mutate, rng_seeds

from quietcount_aggregates.counting import columns
from quietcount_aggregates.counting.columns import ColumnDecoder
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.framing import CONFLUENT_BYTES, SINGLE_OBJECT_BYTES
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import Rejected, RejectReason

pytestmark = pytest.mark.quick

PLAIN = SchemaRegistry.load()
VERSIONS = [version for event_type in PLAIN.event_types.values() for version in event_type.versions]
# Two ids of one schema, an id of a schema that nobody here has, and the highest id there is.
OTHERS = {7: VERSIONS[0].fingerprint, 8: bytes(8), 2**31 - 1: VERSIONS[1].fingerprint}
IDS = OTHERS | {100 + number: version.fingerprint for number, version in enumerate(VERSIONS)}
PINNED = SchemaRegistry(list(PLAIN.event_types.values()), IDS)
FRAMED, SINGLE = Codec(PINNED), Codec(PLAIN)


def agreed(decoder: ColumnDecoder, values: list[bytes]) -> None:
    """The decoder and the codec take the same rows for the same cases, and reject the others for the same reason."""
    accepted: dict[int, CaseEvent] = {}
    rejected: dict[int, RejectReason] = {}
    for row, value in enumerate(values):
        try:
            accepted[row] = FRAMED.decode(value)
        except Rejected as error:
            rejected[row] = error.reason
    parts, rejections = decoder.decode(values)
    assert {rejection.row: rejection.reason for rejection in rejections} == rejected
    found = {
        row: (part.event, part.case_keys[index].tobytes(), part.event_ids[index].tobytes())
        for part in parts
        for index, row in enumerate(part.rows.tolist())
    }
    assert found == {row: (event.event, event.case_key, event.event_id) for row, event in accepted.items()}


@pytest.mark.check
@given(st.lists(st.tuples(case_events(PLAIN), st.booleans()), max_size=20))
def test_a_batch_in_both_framings_is_read_whole(written: list[tuple[CaseEvent, bool]]) -> None:
    values = [(FRAMED if confluent else SINGLE).encode(event) for event, confluent in written]
    parts, rejections = ColumnDecoder(PINNED).decode(values)
    assert rejections == []
    assert Counter(part.event for part in parts for _ in part.rows) == Counter(event.event for event, _ in written)
    agreed(ColumnDecoder(PINNED), values)


@given(st.lists(case_events(PLAIN), min_size=1, max_size=8), rng_seeds())
def test_what_somebody_tampered_with_is_judged_as_the_codec_judges_it(written: list[CaseEvent], seed: int) -> None:
    rng = random.Random(seed)
    values = [codec.encode(event) for event in written for codec in (FRAMED, SINGLE)]
    agreed(ColumnDecoder(PINNED), [mutate(rng.choice(values), values, rng) for _ in range(20)] + values)


@pytest.mark.parametrize("number", [0, 8, 9, 2**32 - 1], ids=str)
def test_an_id_that_stands_for_no_known_schema_is_an_unknown_fingerprint(number: int) -> None:
    message = b"\x00" + number.to_bytes(4, "big") + FRAMED.encode(withdrawn())[CONFLUENT_BYTES:]
    (rejection,) = ColumnDecoder(PINNED).decode([message])[1]
    assert rejection.reason is RejectReason.UNKNOWN_FINGERPRINT


def withdrawn() -> CaseEvent:
    return CaseEvent("CaseWithdrawn", bytes(16), uuid.UUID(int=1, version=4).bytes, 0, dt.date(2023, 10, 1), {})


def test_the_framings_differ_in_the_header_alone() -> None:
    framed, single = FRAMED.encode(withdrawn()), SINGLE.encode(withdrawn())
    assert framed[:CONFLUENT_BYTES] == b"\x00" + (101).to_bytes(4, "big")  # the lower of its two ids
    assert framed[CONFLUENT_BYTES:] == single[SINGLE_OBJECT_BYTES:]
    assert FRAMED.decode(single) == FRAMED.decode(framed) == SINGLE.decode(single)


def test_without_ids_confluent_framing_is_unknown() -> None:
    rejections = ColumnDecoder(PLAIN).decode([FRAMED.encode(withdrawn())])[1]
    assert [each.reason for each in rejections] == [RejectReason.UNKNOWN_FRAMING]


def read_well(decoder: ColumnDecoder) -> None:
    """A framed record is decoded in columns, and not one by one, which is several times slower; others are rejected."""
    asked: list[int] = []
    single = decoder._single

    def counted(row: int, event: CaseEvent) -> columns.EventColumns:
        asked.append(row)
        return single(row, event)

    decoder._single = counted  # type: ignore[method-assign]
    message = FRAMED.encode(withdrawn())
    agreed(decoder, [message, b"\x09" + message[1:], message[:4], message[:-1], message + b"\x00"])
    assert asked == []


def test_framed_records_are_decoded_in_columns_and_not_one_by_one() -> None:
    read_well(ColumnDecoder(PINNED))


@pytest.mark.parametrize(
    "right, wrong",
    [
        pytest.param('">u4"', '"<u4"', id="the bytes of an id reversed"),
        pytest.param("self._confluent, CONFLUENT_BYTES)", "self._confluent, SINGLE_OBJECT_BYTES)", id="header's size"),
        pytest.param("(first == CONFLUENT_MAGIC)", "(first >= CONFLUENT_MAGIC)", id="any first byte"),
    ],
)
def test_a_decoder_that_reads_the_header_wrongly_is_found(right: str, wrong: str) -> None:
    source = inspect.getsource(columns)
    assert source.count(right) == 1, f"the decoder no longer has exactly one {right!r}: adapt this mutant"
    module = types.ModuleType("faulty_columns")
    module.__dict__["__name__"] = columns.__name__  # a dataclass looks its module up by name while it is made
    module.__dict__["__package__"] = "quietcount_aggregates"
    exec(compile(source.replace(right, wrong), "faulty_columns.py", "exec"), module.__dict__)  # noqa: S102
    with pytest.raises(AssertionError):
        read_well(module.ColumnDecoder(PINNED))
