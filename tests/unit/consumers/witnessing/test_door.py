"""A witness over HTTP answers as c2sp.org/tlog-witness has it, also to those who ask at once, or nonsense."""

from __future__ import annotations

import http.client
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from tests.witness_world import Owner, partner_in, served

from quietcount_aggregates.ledger.signed_heads import read_head
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_consumers.witnessing import door
from quietcount_consumers.witnessing.partner import Partner
from quietcount_consumers.witnessing.requests import Request

pytestmark = [pytest.mark.quick, pytest.mark.promise("witnessed")]


class Door(NamedTuple):
    url: str
    owner: Owner
    partner: Partner


class Told(NamedTuple):
    status: int
    content: str | None
    body: bytes


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Door]:
    owner = Owner(grown=2)
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    with served(partner) as url:
        yield Door(url, owner, partner)


def told(url: str, path: str, body: bytes | None = None, method: str | None = None) -> Told:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body)
        answer = connection.getresponse()
        return Told(answer.status, answer.getheader("content-type"), answer.read())
    finally:
        connection.close()


def added(witness: Door, old: int) -> Told:
    return told(witness.url, "/add-checkpoint", witness.owner.request(old).data)


def test_a_checkpoint_is_signed_once_it_is_proven(witness: Door) -> None:
    answer = added(witness, 0)
    assert answer.status == 200
    owner_note = witness.owner.note
    signed = SignedNote.parse(f"{owner_note.text}\n".encode() + answer.body)
    assert signed.verified(witness.partner.verifier_key) is not None
    assert added(witness, 4).status == 200, "the same head again: it is signed with the time of now"
    witness.owner.grow(3)
    assert added(witness, 4).status == 200
    ledger_id = witness.owner.chain.opened.ledger_id.hex()
    mirror = Request.parse(told(witness.url, f"/{ledger_id}").body)
    assert mirror.entries == witness.owner.request().entries
    assert (
        read_head(SignedNote.parse(told(witness.url, f"/{ledger_id}/checkpoint").body))[1] == witness.owner.chain.head
    )


def test_each_refusal_has_its_status(witness: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    assert added(witness, 0).status == 200
    assert added(witness, 1) == (409, "text/x.tlog.size", b"4\n")
    other = Owner(9)
    assert told(witness.url, "/add-checkpoint", other.request().data).status == 404
    fork = Owner(1).grow(4, "other")
    assert told(witness.url, "/add-checkpoint", fork.request(4).data).status == 422
    stranger = Owner(1, grown=3)
    stranger.key = other.key
    stranger.ledger.chain.keys[-1] = other.key.public
    assert told(witness.url, "/add-checkpoint", stranger.request(4).data).status == 403
    for body in (b"", b"old 1\n", b"old 01\n\n" + witness.owner.note.data.encode(), b"old 4\n\nnonsense"):
        assert told(witness.url, "/add-checkpoint", body).status == 400
    assert told(witness.url, "/add-checkpoint").status == 405
    ledger_id = other.chain.opened.ledger_id.hex()
    for path in ("/", "/nothing", f"/{ledger_id}", f"/{ledger_id.upper()}", f"/{ledger_id}/checkpoint/"):
        assert told(witness.url, path).status == 404
    monkeypatch.setattr(door, "MOST_BYTES", 1000)
    assert told(witness.url, "/add-checkpoint", bytes(1001)).status == 413
    assert [seen.length for seen in witness.partner.ledgers()] == [4]


def test_of_many_requests_at_once_each_head_is_signed_in_its_turn(witness: Door) -> None:
    """Two histories and several lengths at once: what is signed is one chain, and its length never goes back."""
    assert added(witness, 0).status == 200
    good, bad = Owner(1, grown=2), Owner(1, grown=2)
    bodies = []
    for _ in range(6):
        bodies += [good.grow().request(4).data, bad.grow(1, "other").request(4).data]
    random.Random(5).shuffle(bodies)
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda body: told(witness.url, "/add-checkpoint", body), bodies))
    assert sorted(answer.status for answer in answers) == [200, *[409] * 11]
    (seen,) = witness.partner.ledgers()
    assert seen.note is not None
    heads = {read_head(owner.note)[1] for owner in (good, bad)}
    assert any(seen.length <= head.length for head in heads)


def test_no_body_gets_anything_signed_that_is_not_proven_nor_ends_the_witness(witness: Door) -> None:
    assert added(witness, 0).status == 200
    good = witness.owner.grow(2).request(4).data
    drawn = random.Random(20261130)
    connection = http.client.HTTPConnection(urlsplit(witness.url).netloc, timeout=60)
    for _ in range(60):
        body = bytearray(good)
        for _ in range(drawn.randint(1, 3)):
            match drawn.randint(0, 3):
                case 0:
                    body[drawn.randrange(len(body))] = drawn.randrange(256)
                case 1:
                    del body[drawn.randrange(len(body)) :]
                case 2:
                    place = drawn.randrange(len(body) + 1)
                    body[place:place] = drawn.choice([b"\n", b"\n\n", b"old 4\n", "— x y\n".encode(), b"\0", b"="])
                case _:
                    body += body[drawn.randrange(len(body) + 1) :]
            body = body or bytearray(b"\n")
        connection.request("POST", "/add-checkpoint", bytes(body))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status == 200:
            assert Request.parse(bytes(body)).note.text == witness.owner.note.text
            SignedNote.parse(f"{witness.owner.note.text}\n".encode() + content)
        else:
            assert answer.status in (400, 403, 404, 409, 422), (answer.status, bytes(body))
    connection.close()
    assert added(witness, witness.partner.ledgers()[0].length).status in (200, 409)


def test_an_address_of_other_machines_needs_a_certificate(tmp_path: Path) -> None:
    from quietcount_consumers.errors import WitnessError
    from quietcount_schemas.configuration.readers import Address

    with pytest.raises(WitnessError, match="needs TLS"):
        door.serve(partner_in(tmp_path / "w"), Address("192.0.2.1", 0), None, lambda _: None)


def test_the_door_logs_nothing(witness: Door, capfd: pytest.CaptureFixture[str]) -> None:
    added(witness, 0)
    added(witness, 1)
    told(witness.url, "/add-checkpoint", b"nonsense")
    assert capfd.readouterr() == ("", "")
