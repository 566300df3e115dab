"""How fast the embedded log appends and polls. Prints rates; judges none."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from quietcount_producers import EmbeddedLog
from quietcount_schemas.log import NewRecord

pytestmark = pytest.mark.bench

RECORDS = 300_000


def rate(what: str, count: int, started: float) -> None:
    print(f"{what:<40} {count / (time.perf_counter() - started):>12,.0f} a second")


@pytest.mark.parametrize("partitions", [1, 4])
def test_embedded_log(tmp_path: Path, partitions: int) -> None:
    chance = random.Random(1)
    records = [NewRecord(chance.randbytes(16), chance.randbytes(50), 0) for _ in range(RECORDS)]
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.create_topic("t", partitions)
        started = time.perf_counter()
        for start in range(0, RECORDS, 1000):
            log.append("t", records[start : start + 1000])
        rate(f"append, {partitions} partition(s), by 1,000", RECORDS, started)
        ends = log.end_offsets("t")
        at = dict.fromkeys(ends, 0)
        started = time.perf_counter()
        read = 0
        while batch := log.poll("t", at, ends, 20_000):
            read += len(batch)
            at |= {record.partition: record.offset + 1 for record in batch}
        rate(f"poll, {partitions} partition(s), by 20,000", read, started)
        assert read == RECORDS
        started = time.perf_counter()
        log.purge("t", {p: end // 2 for p, end in ends.items()})
        rate("purge of one half, records held before", RECORDS, started)
