"""Fetching over HTTP: from witnesses and from web servers that carry published copies.

Nothing that answers is trusted: sizes and times are bounded, certificates are verified by the system's authorities, no
redirect leads to another host, and no proxy of the environment is used. What is fetched is judged by its signatures.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final
from urllib.parse import urlsplit

__all__ = ["Reply", "Unanswered", "exchange"]

_STEP_SECONDS: Final = 10.0
"""How long a step may take: to connect, to receive something."""

_CHUNK: Final = 1 << 16


class Unanswered(Exception):
    """Nothing answered, or nothing that can be used; `what` says why, as the end of a sentence."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and the beginning of a body, or all of it if nothing took it meanwhile."""

    status: int
    body: bytes = b""


class _Cut:
    """Ends what is exchanged over some sockets once its time is over: a timeout alone begins again with each byte."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Cut:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def add(self, connected: socket.socket) -> None:
        with self._lock:
            self._sockets.append(connected)
        if self.over:
            self._end()

    def _end(self) -> None:
        self.over = True
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # not TLS's own, which another thread reads


class _Cuttable(http.client.HTTPConnection):
    """A connection that a `cut` ends."""

    def __init__(self, cut: _Cut, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cut = cut

    def connect(self) -> None:
        super().connect()
        self._cut.add(self.sock)


class _CuttableTls(_Cuttable, http.client.HTTPSConnection):
    """The same over TLS."""


class _Timed(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens what a `cut` ends."""

    def __init__(self, cut: _Cut, context: ssl.SSLContext) -> None:
        urllib.request.HTTPSHandler.__init__(self, context=context)
        self._cut, self._tls = cut, context

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_Cuttable, self._cut), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_CuttableTls, self._cut), req, context=self._tls)


class _OnHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to the same host, and not from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if req.data is not None or (before.scheme, before.netloc) != (after.scheme, after.netloc):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def exchange(
    url: str,
    body: bytes | None = None,
    *,
    most: int,
    seconds: float,
    take: Callable[[bytes], object] | None = None,
    context: ssl.SSLContext | None = None,
) -> Reply:
    """Send `body`, or ask for what is at `url`, and return the answer, at most `most` bytes within `seconds`.

    The pieces of an answer with status 200 go to `take`, if it is given. `context` is for trials. Raises Unanswered.
    """
    headers: Mapping[str, str] = {"User-Agent": "quietcount", "Content-Type": "text/plain; charset=utf-8"}
    request = urllib.request.Request(url, body, dict(headers))  # noqa: S310 (the configuration takes http alone)
    with _Cut(seconds) as cut:
        opener = urllib.request.build_opener(
            _OnHost(), urllib.request.ProxyHandler({}), _Timed(cut, context or ssl.create_default_context())
        )
        try:
            try:
                answer = opener.open(request, timeout=_STEP_SECONDS)
            except urllib.error.HTTPError as error:
                with error:
                    reply = Reply(error.code, _received(error, most, None))
            else:
                with answer:
                    reply = Reply(answer.status, _received(answer, most, take))
            if cut.over:  # an answer that was cut looks whole
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            raise _explained(TimeoutError() if cut.over else getattr(error, "reason", error)) from None
    return reply


def _received(answer: Any, most: int, take: Callable[[bytes], object] | None) -> bytes:
    """Return the body, unless it is too large."""
    raw, size = bytearray(), 0
    while chunk := answer.read1(_CHUNK):
        size += len(chunk)
        if size > most:
            raise Unanswered("it sends more than it should")
        if take is None:
            raw += chunk
        else:
            take(chunk)
    return bytes(raw)


def _explained(reason: object) -> Unanswered:
    match reason:
        case ssl.SSLCertVerificationError():
            return Unanswered(f"this system does not vouch for its certificate ({reason.verify_message})")
        case ssl.SSLError():
            return Unanswered("it does not speak TLS, which https:// asks for")
        case TimeoutError():
            return Unanswered("it did not answer in time")
        case OSError() if reason.errno is not None and reason.errno > 0:
            return Unanswered(f"it cannot be reached ({os.strerror(reason.errno).lower()})")
        case OSError():
            return Unanswered("it cannot be reached")
        case _:
            return Unanswered("it does not speak HTTP")
