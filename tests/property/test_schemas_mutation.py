"""Messages that somebody tampered with: the decoder rejects or accepts, and does nothing else.

`QUIETCOUNT_MUTATIONS` sets how many (50,000; a soak runs 1,000,000), `QUIETCOUNT_SEED` repeats a run.
"""

from __future__ import annotations

import datetime as dt
import inspect
import os
import random
import types
from collections.abc import Sequence
from typing import Any

import pytest
from tests.strategies import envelope, mutate, registry_of

from quietcount_schemas import MAX_EVENT_BYTES, CaseEvent, Codec, Rejected, SchemaRegistry, codec
from quietcount_schemas.events.event_types import EPOCH_ORDINAL, Field, FieldKind

pytestmark = pytest.mark.quick

EVENT_ID = bytes.fromhex("00112233445546778899aabbccddeeff")

# Every kind of field, with and without null, enums of one byte and of two.
_KIND = {"type": "enum", "name": "Kind", "symbols": ["A", "B", "C"], "default": "A", "doc": "Kinds."}
_MANY = {"type": "enum", "name": "Many", "symbols": [f"S{n}" for n in range(250)], "default": "S0", "doc": "Many."}
_SMALL = {"type": "int", "minimum": -3, "maximum": 300}
_DAY = {"type": "int", "logicalType": "date", "minimum": -5, "maximum": 20000}
_TYPES: list[tuple[str, Any, object]] = [
    ("kind", _KIND, "A"),
    ("many", _MANY, "S0"),
    ("urgent", "boolean", False),
    ("people", _SMALL, 0),
    ("due", _DAY, 0),
    ("maybe_kind", ["null", "Kind"], None),
    ("maybe_urgent", ["null", "boolean"], None),
    ("maybe_people", ["null", _SMALL], None),
    ("maybe_due", ["null", _DAY], None),
]
WIDE = {
    "type": "record",
    "name": "Wide",
    "namespace": "example.trial",
    "doc": "Every kind of field.",
    "fields": envelope() + [{"name": n, "type": t, "default": d, "doc": "A field."} for n, t, d in _TYPES],
}


def some_value(field: Field, rng: random.Random) -> object:
    if field.nullable and rng.random() < 0.3:
        return None
    match field.kind:
        case FieldKind.ENUM:
            return rng.choice(field.symbols)
        case FieldKind.BOOLEAN:
            return rng.random() < 0.5
        case FieldKind.DATE:
            return dt.date.fromordinal(rng.randint(field.minimum, field.maximum) + EPOCH_ORDINAL)
        case _:
            return rng.randint(field.minimum, field.maximum)


def originals(registry: SchemaRegistry, rng: random.Random) -> list[bytes]:
    """Twenty valid messages of each event type."""
    writer = Codec(registry)
    return [
        writer.encode(
            CaseEvent(
                event=name,
                case_key=rng.randbytes(16),
                event_id=EVENT_ID,
                revision=rng.choice((0, 1, 63, 64, 65535)),
                occurred_on=dt.date(1970, 1, 1) + dt.timedelta(days=rng.randrange(40000)),
                attributes={field.name: some_value(field, rng) for field in event_type.attributes},
            )
        )
        for name, event_type in registry.event_types.items()
        for _ in range(20)
    ]


def fault(reader: Any, reference: Codec, message: bytes) -> str | None:
    """Return what a decoder did with a message that it must not do, or None.

    It may raise Rejected and nothing else; and what it accepts is exactly what `reference` writes for it.
    """
    try:
        event = reader.decode(message)
    except Exception as error:
        # A decoder under test brings its own class of that name.
        return None if type(error).__name__ == "Rejected" else f"raised {type(error).__name__}"
    if len(message) > MAX_EVENT_BYTES:
        return "accepted a message over the limit"
    try:
        again = reference.encode(CaseEvent(**{name: getattr(event, name) for name in CaseEvent.__slots__}))
    except Exception as error:
        return f"accepted an event that cannot be written ({type(error).__name__})"
    return None if again == message else "accepted a message that is not canonical"


def first_fault(reader: Any, registry: SchemaRegistry, seed: int, count: int) -> tuple[str, int] | None:
    """Return the first fault among `count` tampered messages, with how many it took, or None."""
    rng = random.Random(seed)
    valid: Sequence[bytes] = originals(registry, rng)
    reference = Codec(registry)
    for number in range(count):
        found = fault(reader, reference, mutate(rng.choice(valid), valid, rng))
        if found is not None:
            return found, number
    return None


def a_seed() -> int:
    return int(os.environ.get("QUIETCOUNT_SEED") or random.SystemRandom().randrange(2**32))


@pytest.fixture(scope="module")
def registry() -> SchemaRegistry:
    wide = registry_of(WIDE).event_type("Wide")
    return SchemaRegistry([*SchemaRegistry.load().event_types.values(), wide])


@pytest.mark.promise("strict-decode")
def test_a_tampered_message_is_rejected_or_canonical_and_nothing_else_happens(registry: SchemaRegistry) -> None:
    seed = a_seed()
    count = int(os.environ.get("QUIETCOUNT_MUTATIONS") or 50_000)
    found = first_fault(Codec(registry), registry, seed, count)
    assert found is None, f"{found}; repeat with QUIETCOUNT_SEED={seed}"


def test_check_and_decode_agree_on_tampered_messages(registry: SchemaRegistry) -> None:
    seed = a_seed()
    rng = random.Random(seed)
    valid = originals(registry, rng)
    reader = Codec(registry)
    for _ in range(5_000):
        message = mutate(rng.choice(valid), valid, rng)
        try:
            reader.decode(message)
            decoded = None
        except Rejected as rejected:
            decoded = rejected.reason
        assert reader.check(message) is decoded, f"repeat with QUIETCOUNT_SEED={seed}"


def faulty(right: str, wrong: str) -> types.ModuleType:
    """Return the codec's module with one piece of its source replaced."""
    source = inspect.getsource(codec)
    assert source.count(right) == 1, f"the codec no longer has exactly one {right!r}: adapt this mutant"
    module = types.ModuleType("quietcount_schemas.faulty_codec")
    # A dataclass looks its module up by name while it is made.
    module.__dict__["__name__"] = codec.__name__
    exec(compile(source.replace(right, wrong), "faulty_codec.py", "exec"), module.__dict__)  # noqa: S102
    return module


@pytest.mark.parametrize(
    "right, wrong",
    [
        pytest.param("if position != len(data):", "if False:", id="trailing bytes"),
        pytest.param("if not 0 <= number < len(symbols):", "if not number < len(symbols):", id="enum index -1"),
        pytest.param("if branch != 1:", "if branch > 1:", id="union index -1"),
        pytest.param("if branch != 1:", "if branch < 0:", id="union index past the last"),
        pytest.param("if octet > 1:", "if False:", id="boolean of any byte"),
        pytest.param("if octet == 0 and shift > 7:", "if False:", id="integer longer than it must be"),
        pytest.param("except IndexError:", "except KeyError:", id="end of the message"),
        pytest.param("if not is_uuid_v4(event_id):", "if False:", id="event id of another version"),
        pytest.param("if not plan.revision.minimum <= revision", "if False and not 0 <= revision", id="revision"),
        pytest.param("if not plan.occurred_on.minimum <= day", "if False and not 0 <= day", id="day of the event"),
        pytest.param(
            "if not minimum <= number <= maximum:\n                        raise Rejected(RejectReason.INT",
            "if False:\n                        raise Rejected(RejectReason.INT",
            id="bounds of an int",
        ),
        pytest.param(
            "if not minimum <= number <= maximum:\n                        raise Rejected(RejectReason.DATE",
            "if False:\n                        raise Rejected(RejectReason.DATE",
            id="bounds of a date",
        ),
        pytest.param("if plan is None:", "if False:", id="unknown fingerprint"),
    ],
)
def test_a_decoder_without_one_of_its_checks_is_caught(registry: SchemaRegistry, right: str, wrong: str) -> None:
    seed = a_seed()
    reader = faulty(right, wrong).Codec(registry)
    assert first_fault(reader, registry, seed, 200_000) is not None, f"repeat with QUIETCOUNT_SEED={seed}"


def test_an_undisturbed_copy_of_the_decoder_is_not_caught(registry: SchemaRegistry) -> None:
    seed = a_seed()
    reader = faulty("if branch != 1:", "if not branch == 1:").Codec(registry)
    assert first_fault(reader, registry, seed, 5_000) is None, f"repeat with QUIETCOUNT_SEED={seed}"
