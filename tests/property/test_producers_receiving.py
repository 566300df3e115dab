"""Deliveries that somebody tampered with: each is taken with one answer, and no value leaves the private file.

`QUIETCOUNT_MUTATIONS` sets how many (5,000; a soak runs 1,000,000), `QUIETCOUNT_SEED` repeats a run.
"""

from __future__ import annotations

import json
import logging
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.doors import ask, configured, delivery, inside, refused
from tests.strategies import mutate

from quietcount_producers.receiving import intake
from quietcount_producers.receiving.application import Application

pytestmark = pytest.mark.quick

MARK = "5ec2e7"
"""In each value of a delivery, so that one that leaves is seen."""

ODD = ["", None, True, -1, 1.5, 10**40, f"{MARK}\0", f"{MARK}\ud800", "2023-10-03", [], {}, [MARK], {MARK: MARK}, "n/a"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what is measured here is no disk, and each delivery syncs."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as found:
        yield Path(found)


def marked(number: int) -> dict[str, Any]:
    values = delivery(number)
    return values | {"_uuid": f"{MARK}-{number}", "person": f"{MARK} person {number}", "group/note": MARK, "l": [MARK]}


def tampered(rng: random.Random, valid: list[bytes]) -> bytes:
    """A delivery with faults: in its bytes, or in its values."""
    if rng.randrange(3):
        return mutate(rng.choice(valid), valid, rng)
    record = marked(rng.randrange(50))
    for _ in range(rng.randint(1, 3)):
        record[rng.choice([*record, MARK])] = rng.choice(ODD)
    body: object = record if rng.randrange(4) else [record, marked(rng.randrange(50)), rng.choice(ODD)]
    return json.dumps(body).encode()


def first_fault(folder: Path, seed: int, count: int) -> str | None:
    """Deliver `count` bodies and return what is wrong with the first that gets another answer, None if none does."""
    config = configured(folder)
    rng = random.Random(seed)
    valid = [json.dumps(marked(number)).encode() for number in range(10)]
    valid.append(json.dumps([marked(number) for number in range(3)]).encode())

    async def scene(application: Application) -> str | None:
        good = await ask(application, valid[0])
        for number in range(count):
            body = tampered(rng, valid)
            answer = await ask(application, body, pieces=rng.choice((1, 1, 3)))
            if answer != good:
                return f"delivery {number} was answered with {answer}"
        return None

    return inside(config, scene)


def seed_and_count() -> tuple[int, int]:
    seed = int(os.environ.get("QUIETCOUNT_SEED") or random.randrange(10**9))
    print("seed", seed)
    return seed, int(os.environ.get("QUIETCOUNT_MUTATIONS") or 5_000)


def test_a_tampered_delivery_gets_the_answer_of_a_good_one_and_no_value_of_it_leaves(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seed, count = seed_and_count()
    with caplog.at_level(logging.DEBUG):
        found = first_fault(folder, seed, count)
    assert found is None, f"{found}; repeat with QUIETCOUNT_SEED={seed}"
    assert not [record for record in caplog.records if record.name != "asyncio" or MARK in record.getMessage()]
    said = capfd.readouterr()
    assert (said.out, said.err) == (f"seed {seed}\n", "")
    print(said.out)
    kept = refused(folder)
    assert len(kept) > count / 20
    assert not [each for each in kept if MARK in str(each["reason"]) or "a fault in quietcount" in str(each["reason"])]


@pytest.mark.soak
def test_of_a_million_tampered_deliveries_none_gets_another_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("QUIETCOUNT_MUTATIONS", os.environ.get("QUIETCOUNT_MUTATIONS") or "1000000")
    test_a_tampered_delivery_gets_the_answer_of_a_good_one_and_no_value_of_it_leaves(folder, capfd, caplog)


def test_a_door_that_lets_a_fault_through_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a fault in reading a body is answered as one of the disk."""

    def broken(body: bytes, _: str | None) -> Any:
        return json.loads(body)

    monkeypatch.setattr(intake, "records_of", broken)
    assert first_fault(folder, 7, 500) is not None
