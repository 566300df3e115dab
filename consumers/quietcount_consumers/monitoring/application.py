"""The three pages for operators, as ASGI: /metrics, /healthz and /readyz.

It runs in the process that serves, answers from the newest pages, and writes no log, because its clients would write
it. This module uses the standard library alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from quietcount_consumers.access import Credentials, given
from quietcount_consumers.monitoring.pages import Pages, running

__all__ = ["HEADER_BYTES", "OPEN_METRICS", "TEXT", "Application", "Message", "Receive", "Send", "prefers_open_metrics"]

HEADER_BYTES: Final = 16_384
"""The most that a request's line and header may have; Prometheus sends a few hundred."""

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_PLAIN: Final = "text/plain; charset=utf-8"
_METHODS: Final = ("GET", "HEAD")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status code, a body, and headers besides its length."""

    status: int
    body: bytes
    content_type: str = _PLAIN
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Application:
    """Answers requests from what `pages` returns then.

    `credentials` says who may read /metrics and /readyz, None for everybody; `clock` is the one by which `pages` age.
    """

    def __init__(
        self,
        pages: Callable[[], Pages],
        credentials: Credentials | None = None,
        clock: Callable[[], float] = running,
    ) -> None:
        self._pages = pages
        self._credentials = credentials
        self._clock = clock

    async def __call__(self, scope: Mapping[str, Any], _receive: Receive, send: Send) -> None:
        """Answer one request; its body is never read."""
        try:
            answer = self._answer(scope)
        except Exception as error:
            # A fault of ours. Its text could hold anything, and its kind says where to look.
            answer = Answer(500, f"internal error: {type(error).__name__}\n".encode())
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _answer(self, scope: Mapping[str, Any]) -> Answer:
        if _size(scope) > HEADER_BYTES:
            return Answer(431, b"the request's header is too long\n", headers=(_CLOSE,))
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if scope["method"] not in _METHODS:
            return Answer(405, b"only GET and HEAD\n", headers=((b"allow", b"GET, HEAD"), _CLOSE))
        if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
            return Answer(413, b"a request has no body here\n", headers=(_CLOSE,))
        match scope["raw_path"]:
            case b"/healthz":
                return Answer(200, b"ok\n")
            case b"/readyz":
                return self._ready() if self._may_read(headers) else _UNAUTHORISED
            case b"/metrics":
                return self._metrics(scope) if self._may_read(headers) else _UNAUTHORISED
            case _:
                return Answer(404, b"there are /metrics, /healthz and /readyz\n")

    def _ready(self) -> Answer:
        reasons = self._pages().not_ready(self._clock())
        if not reasons:
            return Answer(200, b"ready\n")
        return Answer(503, "".join(f"{reason}\n" for reason in reasons).encode())

    def _metrics(self, scope: Mapping[str, Any]) -> Answer:
        accept = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")
        openly = prefers_open_metrics(accept)
        return Answer(200, self._pages().metrics(self._clock(), openly=openly), OPEN_METRICS if openly else TEXT)

    def _may_read(self, headers: Mapping[bytes, bytes]) -> bool:
        return self._credentials is None or self._credentials.accepts(given(headers.get(b"authorization", b"")))


_CLOSE: Final = (b"connection", b"close")
_UNAUTHORISED: Final = Answer(
    401,
    b"a user and a password are needed\n",
    headers=((b"www-authenticate", b'Basic realm="quietcount", charset="UTF-8"'),),
)


def _size(scope: Mapping[str, Any]) -> int:
    """Return how many bytes the request's line and header have: h11 bounds only what comes in several pieces."""
    line = len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"])
    return line + sum(len(name) + len(value) for name, value in scope["headers"])


def prefers_open_metrics(accept: str) -> bool:
    """Return whether the header Accept asks for OpenMetrics rather than for the text format (RFC 9110, 12.5.1).

    A client that names both as equally good gets OpenMetrics; one that names neither gets text. Of a type's parameters
    only `q` is heard, because each format is served in one version.
    """
    open_quality, named = _quality(accept, "application/openmetrics-text")
    text_quality, _ = _quality(accept, "text/plain")
    return open_quality > text_quality or (named and open_quality == text_quality > 0)


def _quality(accept: str, wanted: str) -> tuple[float, bool]:
    """Return the q of `wanted` by the range that is nearest to it, and whether that range names it; 0 if none does."""
    ranges = (wanted, wanted.partition("/")[0] + "/*", "*/*")
    found: dict[str, float] = {}
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        if kind in ranges:
            found[kind] = max(found.get(kind, 0.0), _q(parameters))
    for kind in ranges:
        if kind in found:
            return found[kind], kind == wanted
    return 0.0, False


def _q(parameters: list[str]) -> float:
    """Return the parameter `q`: 1 if there is none, 0 if it is no number from 0 to 1."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0
