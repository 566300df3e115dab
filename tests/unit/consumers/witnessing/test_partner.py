"""A witness signs what continues what it signed before, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.aggregates_world import signing_key
from tests.witness_world import Owner, partner_in

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Rekeyed
from quietcount_aggregates.ledger.signed_heads import origin_of, read_head, text_of
from quietcount_aggregates.ledger.signed_notes import COSIGNATURE, SignedNote, VerifierKey, cosign, sign
from quietcount_consumers.commands.witness import witness_command
from quietcount_consumers.errors import WitnessError, WitnessRefused
from quietcount_consumers.witnessing import memory
from quietcount_consumers.witnessing.partner import Partner
from quietcount_consumers.witnessing.requests import Request

pytestmark = [pytest.mark.quick, pytest.mark.promise("witnessed")]

NOON = 1_700_000_000


def refused(partner: Partner, request: Request, told: VerifierKey | None = None, *, exact: bool = False) -> int:
    before = partner.ledgers()
    with pytest.raises(WitnessRefused) as caught:
        partner.cosign(request, told, exact=exact)
    assert caught.value.remedy
    assert partner.ledgers() == before, "a refusal is not remembered"
    return caught.value.status


def test_a_witness_signs_each_head_that_continues_the_last_with_the_time_at_which_it_looked(tmp_path: Path) -> None:
    owner = Owner()
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    partner._clock = lambda: NOON
    for old in (0, 2, 2, 3):
        if old == 3:
            owner.grow(4)
        elif old == 2 and owner.chain.head.length == 2:
            owner.grow()
        note = partner.cosign(owner.request(old), exact=old != 2)
        found = note.verified(partner.verifier_key)
        assert found is not None
        assert found.timestamp == NOON
        assert note.verified(owner.chain.signer) is not None
        assert read_head(note) == (owner.chain.signer.name, owner.chain.head)


def test_what_a_witness_signs_is_what_it_gives_back(tmp_path: Path) -> None:
    owner = Owner(grown=3)
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    assert partner.newest(owner.chain.signer.name) is None
    note = partner.cosign(owner.request())
    newest = partner.newest(owner.chain.signer.name)
    assert newest is not None
    assert newest.entries == owner.request().entries
    assert newest.note == note
    assert Request.parse(newest.data) == newest
    assert Partner(tmp_path / "w").newest(owner.chain.signer.name) == newest, "also after a restart"


def test_a_witness_of_two_projects_keeps_them_apart(tmp_path: Path) -> None:
    one, other = Owner(1, grown=2), Owner(2, grown=5)
    partner = partner_in(tmp_path / "w", "partner.example/w1", one, other)
    partner.cosign(one.request())
    partner.cosign(other.request())
    mixed = replace(one.request(), note=other.note)
    assert refused(partner, mixed) == 422
    partner.cosign(one.grow().request(4), exact=True)
    assert {seen.origin: seen.length for seen in partner.ledgers()} == {
        one.chain.signer.name: 5,
        other.chain.signer.name: 7,
    }


def forked(owner: Owner) -> Request:
    """Return a request for another history of the same length, signed by the owner himself."""
    return Owner(1).grow(owner.chain.head.length - 2, "other").request()


def longer_fork(owner: Owner) -> Request:
    return Owner(1).grow(owner.chain.head.length + 3, "other").request()


def older(owner: Owner) -> Request:
    return Owner(1).grow(1).request()


def by_another_key(owner: Owner) -> Request:
    request = owner.grow().request()
    return replace(request, note=sign(request.note.text, signing_key(9), owner.chain.signer.name))


def altered_signature(owner: Owner) -> Request:
    request = owner.grow().request()
    own = request.note.signatures[0]
    return replace(request, note=SignedNote(request.note.text, (replace(own, content=bytes(64)),)))


def without_an_entry(owner: Owner) -> Request:
    request = owner.grow(2).request()
    return replace(request, entries=(*request.entries[:-2], request.entries[-1]))


def altered_entry(owner: Owner) -> Request:
    request = owner.grow(2).request()
    last = bytearray(request.entries[-1])
    last[-1] ^= 1
    return replace(request, entries=(*request.entries[:-1], bytes(last)))


def of_a_gap(owner: Owner) -> Request:
    return owner.grow(3).request(7)


def unproven(owner: Owner) -> Request:
    """Return the head of another history of the same length, with no entry at all: there is nothing to prove."""
    return replace(forked(owner), old=owner.chain.head.length, entries=())


@pytest.mark.parametrize(
    "wrong, status",
    [
        (forked, 422),
        (longer_fork, 422),
        (unproven, 422),
        (older, 409),
        (of_a_gap, 409),
        (by_another_key, 403),
        (altered_signature, 403),
        (without_an_entry, 422),
        (altered_entry, 422),
    ],
)
def test_what_does_not_continue_the_ledger_under_its_key_is_refused(
    wrong: Callable[[Owner], Request], status: int, tmp_path: Path
) -> None:
    owner = Owner(1, grown=4)
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    partner.cosign(owner.request())
    assert refused(partner, wrong(owner)) == status
    assert refused(partner, wrong(owner), owner.chain.signer) == status, "nor if the key is confirmed again"


def test_a_ledger_is_signed_only_once_its_key_is_known_or_told(tmp_path: Path) -> None:
    owner = Owner()
    partner = partner_in(tmp_path / "w")
    assert refused(partner, owner.request()) == 404
    assert refused(partner, owner.request(), Owner(2).chain.signer) == 403
    assert partner.unconfirmed(owner.request()) == owner.chain.signer
    partner.cosign(owner.request(), owner.chain.signer)
    assert partner.unconfirmed(owner.grow().request()) is None
    assert not partner.trust(owner.chain.signer)


def test_a_new_key_of_the_owner_is_taken_by_hand_alone(tmp_path: Path) -> None:
    owner = Owner()
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    partner.cosign(owner.request())
    owner.key = signing_key(7)
    owner.ledger.append([Rekeyed(owner.key.public)], owner.chain.latest)
    assert refused(partner, owner.request(2), exact=True) == 403
    assert partner.unconfirmed(owner.request()) == owner.chain.signer
    assert refused(partner, owner.request(), VerifierKey(owner.chain.signer.name, 1, signing_key(8).public)) == 403
    partner.cosign(owner.request(), owner.chain.signer)
    partner.cosign(owner.grow().request(3), exact=True)
    with pytest.raises(WitnessError, match="another key"):
        partner.trust(Owner(1).chain.signer)


def test_over_http_a_request_begins_where_the_witness_ends(tmp_path: Path) -> None:
    owner = Owner(grown=3)
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    with pytest.raises(WitnessRefused) as caught:
        partner.cosign(owner.request(2), exact=True)
    assert (caught.value.status, caught.value.length) == (409, 0)
    partner.cosign(owner.request(), exact=True)
    assert refused(partner, owner.request(), exact=True) == 409
    assert refused(partner, replace(owner.request(), old=9, entries=()), exact=True) == 400


def test_the_time_of_a_cosignature_never_goes_back(tmp_path: Path) -> None:
    owner = Owner()
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    partner._clock = lambda: NOON
    partner.cosign(owner.request())
    partner._clock = lambda: NOON - 1000
    found = partner.cosign(owner.grow().request()).verified(partner.verifier_key)
    assert found is not None
    assert found.timestamp == NOON


def test_a_head_is_on_the_disk_before_its_cosignature_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    seen: list[int] = []

    def looked(*given: object) -> object:
        with sqlite3.connect(tmp_path / "w" / "memory.sqlite") as other:
            seen.extend(length for (length,) in other.execute("SELECT length FROM ledgers"))
        return cosign(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("quietcount_consumers.witnessing.partner.cosign", looked)
    partner.cosign(owner.request())
    assert seen == [2]


@pytest.mark.parametrize("wrong", [forked, older])
def test_a_mutant_that_does_not_compare_with_what_it_saw_signs_two_histories(
    wrong: Callable[[Owner], Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner(1, grown=4)
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    partner.cosign(owner.request())
    monkeypatch.setattr(memory.Writing, "seen", lambda *_: None)
    monkeypatch.setattr(memory.Writing, "keep", lambda *_: None)
    monkeypatch.setattr(Partner, "_chain", lambda *_: Chain())
    note = partner.cosign(wrong(owner), owner.chain.signer)
    assert note.verified(partner.verifier_key) is not None


def test_a_witness_is_made_once_and_its_files_are_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "of" / "witness"
    partner = Partner.create(folder, "partner.example/w1")
    assert partner.verifier_key.kind == COSIGNATURE
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "key": 0o600,
        "memory.sqlite": 0o600,
    }
    with pytest.raises(WitnessError, match="already"):
        Partner.create(folder, "partner.example/w1")
    (folder / "key").unlink()  # as an interrupted start leaves it
    Partner.create(folder, "partner.example/w2")
    for name in ("", "with space", "with+plus"):
        with pytest.raises(WitnessError):
            Partner.create(tmp_path / "other", name)


def test_a_lost_memory_is_not_taken_for_one_that_saw_nothing(tmp_path: Path) -> None:
    partner = partner_in(tmp_path / "w")
    (tmp_path / "w" / "memory.sqlite").unlink()
    with pytest.raises(WitnessError, match="no witness"):
        partner.ledgers()
    with pytest.raises(WitnessError, match="no witness"):
        Partner(tmp_path / "w")
    assert not (tmp_path / "w" / "memory.sqlite").exists()


def test_the_key_of_a_witness_is_no_key_of_a_ledger(tmp_path: Path) -> None:
    partner = partner_in(tmp_path / "w")
    with pytest.raises(WitnessError, match="not the key of a ledger"):
        partner.trust(partner.verifier_key)


@pytest.mark.parametrize("arguments", [["trust"], ["cosign", "statistics.duckdb", "--key"]])
def test_text_that_is_no_key_is_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    partner_in(tmp_path / "w")
    result = CliRunner().invoke(witness_command, [*arguments, "quietcount", "--dir", str(tmp_path / "w")])
    assert result.exit_code == 2
    assert "a verifier key has three parts" in result.output


def test_the_entries_have_to_be_those_of_the_ledger_that_the_head_names(tmp_path: Path) -> None:
    """Its owner may sign a head under another name; nobody may open a ledger whose name is that of another key."""
    owner = Owner(1)
    key = VerifierKey(origin_of(bytes(16)), 1, owner.key.public)
    note = sign(text_of(bytes(16), owner.chain.head), owner.key, key.name)
    partner = partner_in(tmp_path / "w")
    assert refused(partner, replace(owner.request(), note=note), key) == 422
