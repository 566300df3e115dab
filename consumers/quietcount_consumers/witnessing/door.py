"""The door of a witness: `POST /add-checkpoint` and what it holds, over HTTP (after c2sp.org/tlog-witness).

Anybody may ask: what is signed has to be signed by the ledger's owner first, and what is answered is public. No request
is logged, because the time and the address of one would say when an organisation publishes, and from where.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from quietcount_aggregates.ledger.signed_heads import origin_of
from quietcount_consumers.access import server_context
from quietcount_consumers.errors import WitnessError, WitnessRefused
from quietcount_consumers.witnessing.partner import Partner
from quietcount_consumers.witnessing.requests import MOST_BYTES, Request
from quietcount_producers.receiving.application import HEADER_BYTES, Receive, Send
from quietcount_producers.receiving.places import BODY_SECONDS, IDLE_SECONDS, STORE_SECONDS, Places
from quietcount_producers.receiving.server import run
from quietcount_schemas.configuration.readers import Address, is_this_machine
from quietcount_schemas.serving.certificates import load_certificate
from quietcount_schemas.serving.listening import listening, written

__all__ = ["Application", "serve"]

_MOST_HELD: Final = 3 * MOST_BYTES
"""How many bytes of bodies may be in memory together."""

_LEDGER: Final = re.compile(rb"/([0-9a-f]{32})(/checkpoint)?")
_ADD: Final = b"/add-checkpoint"
_TEXT: Final = b"text/plain; charset=utf-8"
_SIZE: Final = b"text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    content: bytes = _TEXT


class Application:
    """Answers for one witness; the clients have `places`."""

    def __init__(self, partner: Partner, places: Places) -> None:
        self._partner = partner
        self._places = places
        self._signing = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._held = 0

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Take one request and answer it."""
        answer = await self._answer(scope, receive)
        if answer is None:
            return  # the client has gone
        headers = [
            (b"content-type", answer.content),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if answer.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.SERVICE_UNAVAILABLE):
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        self._places.begin(scope, STORE_SECONDS, asked=True)
        await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
        self._places.begin(scope, IDLE_SECONDS, asked=False)

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> _Answer | None:
        line = len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"])
        if line + sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return _Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        path = scope["raw_path"]
        if path == _ADD and scope["method"] == "POST":
            return await self._add(scope, receive)
        found = _LEDGER.fullmatch(path)
        if found is None:
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED if path == _ADD else HTTPStatus.NOT_FOUND)
        if scope["method"] not in ("GET", "HEAD"):
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED)
        self._places.begin(scope, STORE_SECONDS, asked=True)
        origin = origin_of(bytes.fromhex(found[1].decode()))
        if found[2] is not None:
            return await asyncio.to_thread(self._checkpoint, origin)
        async with self._reading:  # one at a time: each has a whole ledger in memory
            return await asyncio.to_thread(self._whole, origin)

    def _checkpoint(self, origin: str) -> _Answer:
        try:
            note = self._partner.checkpoint(origin)
        except WitnessError:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE)
        return _Answer(HTTPStatus.NOT_FOUND) if note is None else _Answer(HTTPStatus.OK, note.data.encode())

    def _whole(self, origin: str) -> _Answer:
        try:
            newest = self._partner.newest(origin)
        except WitnessError:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE)
        return _Answer(HTTPStatus.NOT_FOUND) if newest is None else _Answer(HTTPStatus.OK, newest.data)

    async def _add(self, scope: Mapping[str, Any], receive: Receive) -> _Answer | None:
        announced = next((int(value[:20]) for name, value in scope["headers"] if name == b"content-length"), 0)
        if announced > MOST_BYTES:
            return _Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._places.begin(scope, BODY_SECONDS, asked=True)
        body = bytearray()
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                piece = message.get("body", b"")
                body += piece
                self._held += len(piece)
                if len(body) > MOST_BYTES:
                    return _Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                if self._held > _MOST_HELD:
                    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE)
                if not message.get("more_body", False):
                    break
            self._places.begin(scope, STORE_SECONDS, asked=True)
            async with self._signing:  # one at a time: the memory would let them wait for each other in threads
                return await asyncio.to_thread(self._cosigned, bytes(body))
        finally:
            self._held -= len(body)

    def _cosigned(self, body: bytes) -> _Answer:
        """Return the answer to a body. Its words name entries by number, and what is wrong with them; nothing else."""
        try:
            request = Request.parse(body)
        except WitnessError as error:
            return _Answer(HTTPStatus.BAD_REQUEST, f"{error.what}\n".encode())
        try:
            note = self._partner.cosign(request, exact=True)
        except WitnessRefused as error:
            if error.status == HTTPStatus.CONFLICT:
                return _Answer(error.status, f"{error.length}\n".encode(), _SIZE)
            return _Answer(error.status, f"{error.what}\n".encode())
        except WitnessError:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE)
        return _Answer(HTTPStatus.OK, note.signatures[-1].line.encode())


def serve(
    partner: Partner,
    address: Address,
    certificate: tuple[Path, Path] | None,
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `say` hears where. Raises WitnessError if address or certificate are not in order.

    Without a `certificate` (its file, and that of its key) it serves on this machine alone.
    """

    def refused(what: str, remedy: str) -> WitnessError:
        return WitnessError(f"--listen: {what}", remedy)

    def wrong(key: str, what: str, remedy: str) -> WitnessError:
        option = {"certificate_file": "--certificate", "key_file": "--key-file"}[key]
        return WitnessError(f"{option}: {what}", remedy)

    host = address.host or ""
    if certificate is None and not is_this_machine(host):
        raise refused(
            f"{host} can be reached from other machines and needs TLS",
            "Give --certificate and --key-file, or listen on 127.0.0.1 behind a web server that speaks TLS",
        )
    tls: ssl.SSLContext | None = None
    if certificate is not None:
        tls = server_context()
        load_certificate(tls, *certificate, wrong)
    with listening(host, address.port, refused) as listener:
        scheme = "http" if tls is None else "https"
        say(f"Listening on {scheme}://{written(*listener.getsockname()[:2])} as {partner.verifier_key.text}")
        run(listener, lambda places: Application(partner, places), tls)
    say("Stopped.")
