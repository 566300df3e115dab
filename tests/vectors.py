"""The test vectors that clients of other languages check themselves by; `python -m tests.vectors` writes the file.

Everything in it is derived anew from the code but the partitions of kafkajs' old partitioner, which is not ours: its
arithmetic is repeated here with the roundings that JavaScript's numbers have.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import uuid
from pathlib import Path
from typing import Any, Final

from tests.unit.producers.test_identifiers import ODD, PLAIN

from quietcount_producers import Pepper
from quietcount_producers.composing.identifiers import OUTER_SPACE, PLACEHOLDERS, normal_identifier
from quietcount_producers.partitioner import partition_for
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["FILE", "vectors", "written"]

FILE: Final = Path(__file__).parents[1] / "schemas" / "vectors.json"
PEPPER: Final = bytes(range(32)).hex()
_ABOUT: Final = (
    "Test vectors for clients that are not ours: schemas/README.md, 'Clients that are not ours'. The pepper is text, "
    "and its bytes are the key of the HMAC. Keys, ids and values are in hexadecimal. kafkajs_legacy is what the old "
    "partitioner of kafkajs gives (LegacyPartitioner, the default before version 2): it is wrong unless it is the "
    "partition"
)
_DAY_MS: Final = 86_400_000


def vectors() -> dict[str, Any]:
    """Return all vectors, as the file has them."""
    registry, pepper, chance = SchemaRegistry.load(), Pepper(PEPPER.encode()), random.Random(13)
    spaced = [f"{each}A 17{each}" for each in OUTER_SPACE]
    keys = [pepper.case_key(f"case {number}") for number in range(24)]
    return {
        "about": _ABOUT,
        "pepper": PEPPER,
        "outer_space": [f"{ord(each):04X}" for each in OUTER_SPACE],
        "identifiers": [
            {"identifier": each, "normal": normal_identifier(each), "key": pepper.case_key(each).hex()}
            for each in [*PLAIN, *spaced, "\ufb01", "  Йозеф\n", "И\u0306озеф"]
        ],
        "refused": [{"identifier": each, "kind": kind.value} for kind, odd in ODD.items() for each in odd]
        + [{"identifier": each, "kind": None} for each in ("", "  ", "a\nb", "a\tb", "a\0")],
        "placeholders": sorted(PLACEHOLDERS),
        "fingerprints": {name: kind.current.fingerprint.hex() for name, kind in registry.event_types.items()},
        "events": [
            _event(registry, pepper, chance, name, number) for name in registry.event_types for number in (0, 1)
        ],
        "partitions": [
            {
                "key": key.hex(),
                "partitions": count,
                "partition": partition_for(key, count),
                "kafkajs_legacy": _legacy(key) % count,
            }
            for key in keys
            for count in (4, 7)
        ],
    }


def _event(registry: SchemaRegistry, pepper: Pepper, chance: random.Random, name: str, number: int) -> dict[str, Any]:
    """Return an event of the type `name`: with the defaults, and with the last symbol of each field."""
    key = pepper.case_key(f"case {number}")
    identity = uuid.UUID(bytes=chance.randbytes(16), version=4)
    day = dt.date(2023, 10, 1) if number == 0 else dt.date(2099, 12, 1)
    fields = registry.event_type(name).attributes
    attributes: dict[str, Any] = {
        field.name: field.symbols[-1] if number and field.symbols else field.default_value for field in fields
    }
    event = CaseEvent(name, key, identity.bytes, number * 300, day, attributes)
    return {
        "event": name,
        "case_key": key.hex(),
        "event_id": str(identity),
        "revision": event.revision,
        "occurred_on": day.isoformat(),
        "attributes": attributes,
        "timestamp": (day - dt.date(1970, 1, 1)).days * _DAY_MS,
        "value": Codec(registry).encode(event).hex(),
    }


def _int32(number: float) -> int:
    whole = int(number) & 0xFFFFFFFF
    return whole - 2**32 if whole >= 2**31 else whole


def _legacy(key: bytes) -> int:
    """Return what kafkajs' old murmur2 makes of a key of 16 bytes: products are floats, and lose their low bits."""
    multiplier = float(0x5BD1E995)
    found: float = _int32(0x9747B28C ^ len(key))
    for start in range(0, len(key), 4):
        block: float = _int32(int.from_bytes(key[start : start + 4], "little", signed=False) & 0xFFFFFF) + _int32(
            key[start + 3] << 24
        )
        block *= multiplier
        block = _int32(block) ^ ((_int32(block) & 0xFFFFFFFF) >> 24)
        block = _int32(block) * multiplier
        found *= multiplier
        found = _int32(found) ^ _int32(block)
    found = _int32(found) ^ ((_int32(found) & 0xFFFFFFFF) >> 13)
    found = _int32(found) * multiplier
    found = _int32(found) ^ ((_int32(found) & 0xFFFFFFFF) >> 15)
    return _int32(found) & 0x7FFFFFFF


def written() -> str:
    """Return the file's text."""
    return json.dumps(vectors(), ensure_ascii=True, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
