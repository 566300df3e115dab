"""What answers in the place of a witness counts by its signature alone, and cannot hold the service up."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.aggregates_world import signing_key
from tests.witness_world import Owner, partner_in, served

from quietcount_aggregates.ledger.signed_notes import COSIGNATURE, VerifierKey, cosign
from quietcount_consumers.witnessing.asking import AskedWitness
from quietcount_consumers.witnessing.fetching import Unanswered, exchange

pytestmark = [pytest.mark.quick, pytest.mark.promise("witnessed")]

KEY = VerifierKey("partner.example/w1", COSIGNATURE, signing_key(5).public)
NOON = 1_700_000_000

Said = tuple[int, Mapping[str, str], bytes]


@contextlib.contextmanager
def answering(said: Callable[[str], Said]) -> Iterator[str]:
    """Answer each request by its path, whatever it holds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, body = said(self.path)
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (the library's name)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 (the library's name)
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def asked(said: Callable[[str], Said]) -> str:
    """Return why a witness that answers so gives no signature."""
    owner = Owner(grown=2)
    with answering(said) as url, pytest.raises(Unanswered) as caught:
        AskedWitness(KEY, url, lambda: NOON).sign(owner.chain, owner.note)
    return caught.value.what


def signature(seconds: int = 0, by: int = 5, text: str = "") -> bytes:
    note = Owner(grown=2).note if not text else Owner(grown=3).note
    return cosign(note, signing_key(by), KEY.name, NOON + seconds).line.encode()


@pytest.mark.parametrize(
    "status, body, words",
    [
        (200, b"", "something other"),
        (200, b"nonsense", "something other"),
        (200, signature(by=6), "something other"),
        (200, signature(text="of another head"), "something other"),
        (200, signature(-3601), "a wrong time"),
        (200, signature(3601), "a wrong time"),
        (409, b"nonsense\n", "refuses our ledger"),
        (409, b"99\n", "refuses our ledger"),
        (409, b"1\n", "another number of entries"),
        (422, b"", "refuses our ledger"),
        (404, b"", "does not know this ledger"),
        (403, b"", "another key"),
        (500, b"", "status 500"),
        (302, b"", "status 302"),
        (200, bytes(1 << 17), "more than it should"),
    ],
)
def test_an_answer_that_is_no_signature_of_our_head_is_no_answer(status: int, body: bytes, words: str) -> None:
    def said(path: str) -> Said:
        return (status, {"location": "/elsewhere"}, body) if path == "/add-checkpoint" else (404, {}, b"")

    assert words in asked(said)


def test_a_signature_of_our_head_and_of_now_counts() -> None:
    owner = Owner(grown=2)
    with answering(lambda _: (200, {}, signature(60))) as url:
        found = AskedWitness(KEY, url, lambda: NOON).sign(owner.chain, owner.note)
    assert found == cosign(owner.note, signing_key(5), KEY.name, NOON + 60)


def test_a_refusal_counts_if_the_witness_shows_what_it_signed(tmp_path: Path) -> None:
    """And not if somebody shows the head of another ledger, or one that the witness did not sign."""
    ours, newer, other = Owner(1, grown=2), Owner(1, grown=3), Owner(2, grown=9)
    for shown, by, holds in ((newer, 5, True), (newer, 6, False), (other, 5, False), (ours, 5, False)):
        note = shown.note.with_signatures(cosign(shown.note, signing_key(by), KEY.name, NOON))

        def said(path: str, body: bytes = note.data.encode()) -> Said:
            return (409, {}, b"99\n") if path == "/add-checkpoint" else (200, {}, body)

        with answering(said) as url:
            witness = AskedWitness(KEY, url, lambda: NOON)
            if holds:
                assert witness.sign(ours.chain, ours.note) == newer.chain.head
            else:
                with pytest.raises(Unanswered):
                    witness.sign(ours.chain, ours.note)


def test_a_witness_that_lost_nothing_catches_up_in_as_many_steps_as_it_needs(tmp_path: Path) -> None:
    owner = Owner(grown=1)
    partner = partner_in(tmp_path / "w", "partner.example/w1", owner)
    with served(partner) as url:
        witness = AskedWitness(partner.verifier_key, url)
        for _ in range(3):
            signed = owner.note.with_signatures(witness.sign(owner.chain, owner.note))  # type: ignore[arg-type]
            assert signed.verified(partner.verifier_key) is not None
            owner.grow(2)


def test_a_redirect_leads_to_no_other_host() -> None:
    with answering(lambda _: (200, {}, b"theirs")) as other:

        def said(path: str) -> Said:
            places = {"/away": f"{other}/x", "/here": "/there"}
            return (302, {"location": places[path]}, b"") if path in places else (200, {}, b"ours")

        with answering(said) as url:
            assert exchange(f"{url}/here", most=100, seconds=10).body == b"ours"
            assert exchange(f"{url}/away", most=100, seconds=10).status == 302
            assert exchange(f"{url}/here", b"body", most=100, seconds=10).status == 302


def test_headers_that_drip_are_given_up_too() -> None:
    """Each comes well before a timeout of its own, and there is no end to them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                for _ in range(600):
                    connection.sendall(b"X-A: b\r\n")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(Unanswered, match="did not answer in time"):
            exchange(f"http://127.0.0.1:{listener.getsockname()[1]}", most=100, seconds=0.5)
        thread.join(10)
        assert not thread.is_alive()


def test_what_drips_or_does_not_end_is_given_up() -> None:
    with answering(lambda _: (200, {"content-length": "1000000"}, b"x" * 10)) as url:
        with pytest.raises(Unanswered):
            exchange(url, most=100, seconds=0)
        with pytest.raises(Unanswered):
            exchange(f"{url}/", most=5, seconds=10)
    with pytest.raises(Unanswered, match="cannot be reached"):
        exchange("http://127.0.0.1:1", most=5, seconds=1)
