"""The test vectors that other languages check themselves by are what the code does."""

from __future__ import annotations

import json

import pytest
from tests.vectors import FILE, vectors, written

pytestmark = pytest.mark.quick


def test_the_vectors_are_what_the_code_gives() -> None:
    """If this fails by intent, the keys or bytes of every client change: `python -m tests.vectors` writes the file."""
    assert FILE.read_text(encoding="utf-8") == written()


def test_the_old_partitioner_of_kafkajs_differs_often() -> None:
    """As it did when kafkajs itself was run (tests/clients)."""
    found = json.loads(FILE.read_text(encoding="utf-8"))["partitions"]
    assert sum(each["partition"] != each["kafkajs_legacy"] for each in found) > len(found) / 2


def test_every_kind_of_refusal_and_every_event_type_has_a_vector() -> None:
    found = vectors()
    assert len({each["kind"] for each in found["refused"]}) == 7
    assert {each["event"] for each in found["events"]} == found["fingerprints"].keys()
