"""Requests for help by the million: a hundred thousand a second and more, which the codec could not write.

All that a request is made of has one width here, so its bytes are put together as columns of a matrix.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import numpy as np

from quietcount_schemas.codec import Codec, varint
from quietcount_schemas.log import NewRecord
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["SINCE", "requests"]

SINCE = dt.date(2024, 1, 1)
_DAYS = 180
_EPOCH = (SINCE - dt.date(1970, 1, 1)).days


def requests(count: int, cases: int, batch: int, registry: SchemaRegistry) -> Iterator[list[NewRecord]]:
    """Yield `count` requests for help of `cases` cases, in any order, in batches; one in twenty says that it corrects.

    The day is drawn from the half year that begins with `SINCE`.
    """
    rng = np.random.default_rng(1)
    form = Codec(registry).form("HelpRequested")
    heading = form.beginning()
    days = np.frombuffer(b"".join(varint(_EPOCH + day) for day in range(_DAYS)), np.uint8).reshape(_DAYS, -1)
    symbols = [len(field.symbols) for field in registry.event_type("HelpRequested").dimensions]
    keys = np.frombuffer(rng.bytes(16 * cases), np.uint8).reshape(-1, 16)
    for start in range(0, count, batch):
        n = min(batch, count - start)
        key, day = keys[rng.integers(0, cases, n)], rng.integers(0, _DAYS, n)
        identity = rng.integers(0, 256, (n, 16), np.uint8)
        identity[:, 6], identity[:, 8] = identity[:, 6] & 0x0F | 0x40, identity[:, 8] & 0x3F | 0x80
        revision = (rng.random(n) < 0.05).astype(np.uint8)[:, None] << 1
        codes = np.stack([rng.integers(0, each, n, np.uint8) << 1 for each in symbols], axis=1)
        beginning = np.broadcast_to(np.frombuffer(heading, np.uint8), (n, len(heading)))
        rows = np.concatenate([beginning, key, identity, revision, days[day], codes], axis=1)
        width, data, claimed = rows.shape[1], rows.tobytes(), key.tobytes()
        stamps = ((_EPOCH + day) * 86_400_000).tolist()
        yield [
            NewRecord(claimed[16 * i : 16 * i + 16], data[width * i : width * i + width], stamps[i]) for i in range(n)
        ]
