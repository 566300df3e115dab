"""The door, as ASGI: one delivery a request, and one answer for all that hold the right token.

The answer to a delivery says that it is on the disk, or that it is not, and nothing of what it holds. A request without
the right token gets one answer, whatever is wrong with it: nobody learns which paths there are. There is no log of
requests, because each would be the time at which somebody came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from quietcount_producers.receiving.places import BODY_SECONDS, IDLE_SECONDS, STORE_SECONDS, Places
from quietcount_producers.receiving.tokens import Tokens, given

__all__ = ["BODY_BYTES", "HEADER_BYTES", "Application", "Door", "Message", "Receive", "Send"]

HEADER_BYTES: Final = 16_384
"""The most that a request's line and header may have; the tools send some hundred."""

BODY_BYTES: Final = 1 << 20
"""The most that a delivery may have. A long form of KoboToolbox has a twentieth; its pictures are not in it."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Take = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Door:
    """A path: who may deliver there, and what takes a body and returns when it is on the disk."""

    tokens: Tokens
    take: Take


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b"{}\n"


_CLOSE: Final = (b"connection", b"close")
_TAKEN: Final = _Answer(200)
_NOT_LET_IN: Final = _Answer(401, ((b"www-authenticate", b'Basic realm="quietcount", charset="UTF-8"'), _CLOSE))
_HEADER_TOO_LONG: Final = _Answer(431, (_CLOSE,))
_TOO_LONG: Final = _Answer(413, (_CLOSE,))
_NOT_STORED: Final = _Answer(503, ((b"retry-after", b"60"),))
_NOBODY: Final = Tokens.of()


class Application:
    """Answers deliveries at `doors` (by path), whose clients have `places`."""

    def __init__(self, doors: Mapping[str, Door], places: Places) -> None:
        self._doors = {path.encode(): door for path, door in doors.items()}
        self._places = places

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Take one delivery and answer it."""
        answer = await self._answer(scope, receive)
        if answer is None:
            return  # the client has gone
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        self._places.begin(scope, IDLE_SECONDS, asked=False)

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> _Answer | None:
        if _size(scope) > HEADER_BYTES:
            return _HEADER_TOO_LONG
        door = self._doors.get(scope["raw_path"])
        tokens = [value for name, value in scope["headers"] if name == b"authorization"]
        let_in = (door.tokens if door else _NOBODY).accepts(given(tokens[0] if len(tokens) == 1 else b""))
        if door is None or not let_in or scope["method"] != "POST":
            return _NOT_LET_IN
        self._places.begin(scope, BODY_SECONDS, asked=True)
        body = bytearray()
        if _announced(scope) > BODY_BYTES:
            return _TOO_LONG
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if len(body) > BODY_BYTES:
                return _TOO_LONG
            if not message.get("more_body", False):
                break
        self._places.begin(scope, STORE_SECONDS, asked=True)
        try:
            await door.take(bytes(body))
        except Exception:
            # The log's or a fault of ours: in either case the tool is to deliver again, and no text leaves.
            return _NOT_STORED
        return _TAKEN


def _size(scope: Mapping[str, Any]) -> int:
    """Return how many bytes the request's line and header have: h11 bounds only what comes in several pieces."""
    line = len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"])
    return line + sum(len(name) + len(value) for name, value in scope["headers"])


def _announced(scope: Mapping[str, Any]) -> int:
    """Return the length that the header gives; 0 if it gives none. h11 has refused one that is no number."""
    return next((int(value[:20]) for name, value in scope["headers"] if name == b"content-length"), 0)
