"""The signed head and the cosignature are those that other programs read: tests/clients/notes.go has checked them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.aggregates_world import signing_key

from quietcount_aggregates.ledger.signed_heads import read_head, signer_of
from quietcount_aggregates.ledger.signed_notes import COSIGNATURE, SignedNote, VerifierKey, cosign, sign

pytestmark = [pytest.mark.quick, pytest.mark.promise("signed-heads")]


def test_the_note_that_other_programs_have_verified_is_made_and_read_here(root: Path) -> None:
    vector = json.loads((root / "tests" / "clients" / "notes.json").read_text(encoding="utf-8"))
    owner, partner = signing_key(1), signing_key(2)
    key, witness = signer_of(owner.public), VerifierKey("partner.example/w1", COSIGNATURE, partner.public)
    assert (key.text, witness.text) == (vector["owner"], vector["witness"])
    note = sign(vector["text"], owner, key.name)
    assert note.with_signatures(cosign(note, partner, witness.name, vector["timestamp"])).data == vector["note"]
    read = SignedNote.parse(vector["note"])
    found = read.verified(witness)
    assert found is not None
    assert found.timestamp == vector["timestamp"]
    assert read.verified(key) is not None
    assert read_head(read)[1].length == 3
