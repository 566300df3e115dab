"""Signed heads: only the owner of a ledger signs for it, and only for what the ledger holds."""

from __future__ import annotations

import base64
import math
from dataclasses import replace

import pytest
from tests.aggregates_world import SIGNING_KEY, MemoryLedger, signing_key
from tests.unit.aggregates.ledger.ledgers import END, NOW, ONE, TrialLedger, of, opened, read, release, settlement

from quietcount_aggregates.errors import LedgerBroken, NoteError, SigningKeyError
from quietcount_aggregates.ledger import chain as chain_module
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Entry, Head, Rekeyed, Released, Settled, ledger_id_of
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.signed_heads import (
    check_key,
    check_signed,
    origin_of,
    read_head,
    sign_head,
    signer_of,
    text_of,
)
from quietcount_aggregates.ledger.signed_notes import SignedNote, Verification, VerifierKey, sign

pytestmark = [pytest.mark.quick, pytest.mark.promise("signed-heads")]

THIEF = signing_key(666)


@pytest.fixture
def released() -> Ledger:
    ledger = opened()
    ledger.declare([of("one")], ONE, NOW, end=END)
    ledger.append(settlement(of("one"), 1), NOW)
    return ledger


def rebuilt(chain: Chain) -> Chain:
    """Return what anybody can make of a published chain: other values, in entries that follow every rule."""
    made = Chain()
    for entry in chain.entries:
        body = entry.body
        if isinstance(body, Released):
            body = replace(body, values=(body.values[0] + 100, *body.values[1:]))
        made.extend(Entry.make(len(made.entries), made.head.digest, entry.recorded_at, body).data)
    return made


def test_the_text_has_the_three_lines_of_a_checkpoint() -> None:
    head = Head(41, bytes(range(32)))
    assert text_of(bytes(16), head) == (
        "quietcount.ledger/00000000000000000000000000000000\n41\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    )
    assert read_head(sign(text_of(bytes(16), head), SIGNING_KEY, "any")) == (origin_of(bytes(16)), head)


def test_the_owner_signs_the_head_and_the_same_bytes_each_time(released: Ledger) -> None:
    note = sign_head(released.chain, SIGNING_KEY)
    check_signed(released.chain, SignedNote.parse(note.data))
    again = read([entry.data for entry in released.chain.entries])
    assert sign_head(again, SIGNING_KEY).data == note.data
    assert again.signer == signer_of(SIGNING_KEY.public)
    assert again.signer.name == origin_of(again.opened.ledger_id) == origin_of(ledger_id_of(SIGNING_KEY.public))


def test_a_chain_that_others_rebuilt_is_not_signed(released: Ledger) -> None:
    """It follows every rule of a ledger; they cannot sign it, and what the owner signed is not its head."""
    forged = rebuilt(released.chain)
    assert forged.head.length == released.chain.head.length
    with pytest.raises(SigningKeyError, match="is not the key that the ledger names"):
        sign_head(forged, THIEF)
    text = text_of(forged.opened.ledger_id, forged.head)
    with pytest.raises(NoteError, match="is not signed with the key that the ledger names"):
        check_signed(forged, sign(text, THIEF, forged.signer.name))
    owners = sign_head(released.chain, SIGNING_KEY)
    with pytest.raises(NoteError, match="is not the head of these"):
        check_signed(forged, owners)
    with pytest.raises(NoteError, match="does not hold"):
        check_signed(forged, SignedNote(text, owners.signatures))


def test_a_twin_that_looks_at_the_text_alone_takes_the_rebuilt_chain(
    released: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = rebuilt(released.chain)
    monkeypatch.setattr(SignedNote, "verified", lambda _, key: Verification(key))
    check_signed(forged, sign(text_of(forged.opened.ledger_id, forged.head), THIEF, forged.signer.name))


def test_a_head_vouches_for_no_shorter_and_no_longer_ledger(released: Ledger) -> None:
    note = sign_head(released.chain, SIGNING_KEY)
    shorter = read([entry.data for entry in released.chain.entries[:-2]])
    with pytest.raises(NoteError, match="is not the head of these"):
        check_signed(shorter, note)
    released.append(settlement(of("one"), 2), NOW)
    with pytest.raises(NoteError, match="is not the head of these"):
        check_signed(released.chain, note)


def test_another_ledger_is_another_name() -> None:
    one, other = opened(), TrialLedger(MemoryLedger(), THIEF.public)
    other.fence()
    other.declare([], ONE, NOW, end=END)
    with pytest.raises(NoteError, match="that of another ledger"):
        check_signed(one.chain, sign_head(other.chain, THIEF))
    check_key(other.chain, THIEF)
    with pytest.raises(SigningKeyError):
        check_key(other.chain, SIGNING_KEY)


def digest(length: int = 32) -> str:
    return base64.b64encode(bytes(length)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "text\n",
        f"example.com/log\n3\n{digest()}\n",
        f"quietcount.ledger/{'0' * 31}g\n3\n{digest()}\n",
        f"quietcount.ledger/{'0' * 32}\n03\n{digest()}\n",
        f"quietcount.ledger/{'0' * 32}\n0\n{digest()}\n",
        f"quietcount.ledger/{'0' * 32}\n-3\n{digest()}\n",
        f"quietcount.ledger/{'0' * 32}\n{'9' * 40}\n{digest()}\n",
        f"quietcount.ledger/{'0' * 32}\n٣\n{digest()}\n",
        f"quietcount.ledger/{'0' * 32}\n3\n{digest(31)}\n",
        f"quietcount.ledger/{'0' * 32}\n3\n{digest()[:-2]}B=\n",
        f"quietcount.ledger/{'0' * 32}\n3\n{digest()}\nmore\n",
    ],
)
def test_what_is_no_head_of_a_ledger_is_refused(text: str) -> None:
    with pytest.raises(NoteError, match="is not the head of a ledger"):
        read_head(sign(text, SIGNING_KEY, "any"))


# A new key


def test_with_a_new_key_the_ledger_keeps_its_name_and_the_old_key_signs_no_more(released: Ledger) -> None:
    new = signing_key(1)
    before = released.chain.signer
    note = sign_head(released.chain, SIGNING_KEY)
    released.append([Rekeyed(new.public)], NOW)
    assert released.chain.signer == VerifierKey(before.name, before.kind, new.public)
    with pytest.raises(SigningKeyError):
        sign_head(released.chain, SIGNING_KEY)
    check_signed(released.chain, sign_head(released.chain, new))
    text = text_of(released.chain.opened.ledger_id, released.chain.head)
    with pytest.raises(NoteError, match="is not signed with the key"):
        check_signed(released.chain, sign(text, SIGNING_KEY, before.name))
    assert note.verified(before) is not None, "what it signed before stays signed"


@pytest.mark.parametrize("again", [0, 1, 2])
def test_a_key_that_was_given_up_is_never_used_again(released: Ledger, again: int) -> None:
    keys = [SIGNING_KEY, signing_key(1), signing_key(2)]
    for key in keys[1:]:
        released.append([Rekeyed(key.public)], NOW)
    with pytest.raises(LedgerBroken, match="named this key before"):
        released.append([Rekeyed(keys[again].public)], NOW)
    assert released.chain.signer.public == keys[-1].public


def test_a_new_key_does_not_come_between_a_settlement_and_its_releases(released: Ledger) -> None:
    with pytest.raises(LedgerBroken, match="followed by its releases"):
        released.append([Settled(), Rekeyed(signing_key(1).public), release(of("one"), 2)], NOW)


# The scale of the noise


SCALE = 2.0  # of one contribution at epsilon 0.5


def raised(digits: int) -> float:
    scale = SCALE
    for _ in range(abs(digits)):
        scale = math.nextafter(scale, math.inf if digits > 0 else 0)
    return scale


@pytest.mark.promise("ledger-chain")
@pytest.mark.parametrize("scale", [raised(-1), raised(8), 0.0, 1.0, 2.5, 1e300, math.inf, math.nan, -2.0])
def test_a_release_with_another_scale_than_its_epsilon_asks_for_breaks_the_chain(
    released: Ledger, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = [release(of("one"), 2, noise_scale=scale)]
    with pytest.raises(LedgerBroken, match="noise scale"):
        released.append(forged, NOW)
    monkeypatch.setattr(chain_module, "_fits", lambda *_: True)  # a chain that does not look takes it
    released.append(forged, NOW)


@pytest.mark.promise("ledger-chain")
@pytest.mark.parametrize("digits", [0, 1, 7])
def test_a_scale_may_be_raised_by_as_many_last_digits_as_the_mechanism_raises_it(released: Ledger, digits: int) -> None:
    released.append([release(of("one"), 2, noise_scale=raised(digits))], NOW)
