"""The HTTP server of operators: /metrics, /healthz and /readyz, in a thread beside the fold.

Whoever reaches the port can neither stall the fold nor take what it needs: connections are counted, each request and
each answer has its time, and beyond the count nobody is let in until there is a place. It writes no log, because its
clients would write it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import errno
import ipaddress
import os
import select
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring.metrics import exposition, readiness
from quietcount_consumers.monitoring.protocol import (
    HEADER_SECONDS,
    BoundedProtocol,
    answer_delay,
    protocol_configuration,
)
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import Credentials, MonitoringSettings

__all__ = ["Application", "MonitoringServer"]

CONNECTIONS: Final = 64
"""How many connections there are at most, unfinished handshakes included. Others wait in the system's queue, where
they cost neither a descriptor nor a moment of the interpreter. The fold needs the rest of the usual 1024."""

PLACE_SECONDS: Final = 1.0
"""A connection's place is taken for as long at least, so that one who connects and goes away is let in no more often
than CONNECTIONS times in so many seconds."""

QUEUE: Final = 128
"""How many connections wait in the system's queue."""

_ROOM: Final = CONNECTIONS // 8

STOP_SECONDS: Final = 1.0
"""How long answers in hand are waited for at the end."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TEXT: Final = "text/plain; charset=utf-8"
_METHODS: Final = ("GET", "HEAD")

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status code, a body, and headers besides its length."""

    status: int
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class _Door:
    """What a client meets: TLS, and who may read; replaced as one."""

    tls: ssl.SSLContext | None
    credentials: Credentials | None


@dataclass(slots=True)
class _Place:
    """A connection that was let in at `since` (the loop's time); without a protocol until a handshake is done."""

    client: socket.socket
    since: float
    protocol: BoundedProtocol | None = None

    def is_taken(self, now: float) -> bool:
        # A socket that its transport has closed has no descriptor any more.
        return self.client.fileno() >= 0 or now - self.since < PLACE_SECONDS

    def waited(self, now: float) -> float:
        """Return for how many seconds the client has asked for nothing."""
        since = self.since if self.protocol is None else self.protocol.waiting_since
        return 0.0 if since is None else now - since


class Application:
    """The three pages, as ASGI. `credentials` returns who may read /metrics and /readyz, None for everybody.

    `delay` returns the seconds from a request to its answer: see answer_delay.
    """

    def __init__(
        self, board: Board, credentials: Callable[[], Credentials | None], delay: Callable[[], float] = answer_delay
    ) -> None:
        self._board = board
        self._credentials = credentials
        self._delay = delay

    async def __call__(self, scope: Mapping[str, Any], _receive: _Receive, send: _Send) -> None:
        """Answer one request, `delay` seconds after its header was complete, whatever the answer is."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._delay()
        try:
            answer = self._answer(scope)
        except Exception as error:
            # A fault of ours. Its text could hold anything, and its kind says where to look.
            answer = Answer(500, f"internal error: {type(error).__name__}\n".encode())
        await asyncio.sleep(due - loop.time())
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _answer(self, scope: Mapping[str, Any]) -> Answer:
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
                return self._metrics(headers) if self._may_read(headers) else _UNAUTHORISED
            case _:
                return Answer(404, b"there are /metrics, /healthz and /readyz\n")

    def _ready(self) -> Answer:
        reasons = readiness(self._board)
        return (
            Answer(503, "".join(f"{reason}\n" for reason in reasons).encode()) if reasons else Answer(200, b"ready\n")
        )

    def _metrics(self, headers: Mapping[bytes, bytes]) -> Answer:
        body, content_type = exposition(self._board, headers.get(b"accept", b"").decode("latin-1"))
        return Answer(200, body, content_type)

    def _may_read(self, headers: Mapping[bytes, bytes]) -> bool:
        credentials = self._credentials()
        return credentials is None or credentials.accepts(_given(headers.get(b"authorization", b"")))


_CLOSE: Final = (b"connection", b"close")
_UNAUTHORISED: Final = Answer(
    401,
    b"a user and a password are needed\n",
    headers=((b"www-authenticate", b'Basic realm="quietcount", charset="UTF-8"'),),
)


def _given(authorization: bytes) -> bytes:
    """Return "user:password" of a header, b"" where there is none (RFC 7617)."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(token.strip(), validate=True)
    except binascii.Error:
        return b""


class MonitoringServer:
    """Serves `board` at the address of `settings` within a with statement; nothing where the settings say "off".

    Making it reads certificate and password (ConfigurationError); entering it listens (ServiceError).
    """

    def __init__(self, settings: MonitoringSettings, board: Board) -> None:
        self._settings = settings
        self._door = self._read()
        self._application = Application(board, lambda: self._door.credentials)
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._failed = False
        """Whether the thread ended before it served anything."""
        self._state = ServerState()
        self._places: list[_Place] = []
        self.address: tuple[str, int] | None = None
        """Host and port that are listened on; None where nothing is served, and before."""

    def __enter__(self) -> MonitoringServer:
        if self._settings.address is None:
            return self
        self._listener = _listening(self._settings, self._settings.address)
        host, port = self._listener.getsockname()[:2]
        self.address = (host, port)
        started = threading.Event()
        self._failed = False
        self._thread = threading.Thread(
            target=self._run, args=(self._listener, started), name="quietcount-http", daemon=True
        )
        self._thread.start()
        started.wait()
        if self._failed:
            self.__exit__()
            raise ServiceError(
                f"{self._settings.place('listen')}: metrics cannot be served: the system gives the process too few "
                "files or too little memory. Give it more (ulimit -n), and start it again."
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None or self._listener is None:
            return
        self._call(self._stopping.set)
        self._thread.join(3 * STOP_SECONDS)
        self._listener.close()
        self._thread = self.address = None

    @property
    def lives(self) -> bool:
        """Return whether what is to be served is being served."""
        return self._thread is None or self._thread.is_alive()

    def reload(self) -> None:
        """Read certificate and password anew, for new connections; old ones end with what they have in hand.

        Raises ConfigurationError when a file is not in order; then everything stays as it was.
        """
        self._door = self._read()
        self._call(self._end_connections)

    def _read(self) -> _Door:
        if self._settings.address is None:
            return _Door(None, None)
        return _Door(self._settings.tls_context(), self._settings.credentials())

    def _call(self, function: Callable[[], object]) -> None:
        """Have the server's thread call `function`, if it is there."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function)

    # In the server's thread

    def _run(self, listener: socket.socket, started: threading.Event) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # they wake the main thread, which waits for them
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                self._loop = runner.get_loop()
                # What goes wrong on a connection is its client's doing, who could fill the log with it.
                self._loop.set_exception_handler(lambda _loop, _context: None)
                runner.run(self._serve(listener, started))
        except BaseException:
            if started.is_set():
                raise  # told as a defect; the service's thread finds out that this one is gone
            self._failed = True
        finally:
            started.set()
            for place in self._places:  # one that was only just let in has no transport that would close it
                place.client.close()

    async def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        accepting = asyncio.create_task(self._accept(listener, protocol_configuration(self._application)))
        stopping = asyncio.create_task(self._stopping.wait())
        started.set()
        await asyncio.wait((accepting, stopping), return_when=asyncio.FIRST_COMPLETED)
        try:
            if accepting.done():
                await accepting  # raises what ended it
        finally:
            stopping.cancel()
            accepting.cancel()
            await self._end()

    async def _end(self) -> None:
        """End what is connected, and what was being let in just now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                self._end_connections()
                await asyncio.sleep(STOP_SECONDS / 20)
                while self._state.connections:
                    self._end_connections()
                    await asyncio.sleep(STOP_SECONDS / 20)
        for connection in list(self._state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.transport.abort()

    async def _accept(self, listener: socket.socket, configuration: Config) -> None:
        loop = asyncio.get_running_loop()
        connecting: set[asyncio.Task[None]] = set()
        while True:
            self._places = [place for place in self._places if place.is_taken(loop.time())]
            if len(self._places) >= CONNECTIONS:
                if _somebody_waits(listener):
                    _make_room(self._places, loop.time())
                await asyncio.sleep(PLACE_SECONDS / 20)
                continue
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor is left, or the client was gone
                await asyncio.sleep(PLACE_SECONDS)
                continue
            place = _Place(client, loop.time())
            self._places.append(place)
            task = loop.create_task(self._connect(place, configuration))
            connecting.add(task)
            task.add_done_callback(connecting.discard)

    async def _connect(self, place: _Place, configuration: Config) -> None:
        def protocol() -> BoundedProtocol:
            place.protocol = BoundedProtocol(configuration, self._state, {})
            return place.protocol

        tls = self._door.tls
        # A handshake that is not done in time, and one that fails, ends the connection there.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                place.client,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HEADER_SECONDS,
                ssl_shutdown_timeout=None if tls is None else STOP_SECONDS,
            )

    def _end_connections(self) -> None:
        for connection in list(self._state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.finish()


def _somebody_waits(listener: socket.socket) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def _make_room(places: list[_Place], now: float) -> None:
    """End the connections that have asked for nothing for longest: they can wait outside.

    Else whoever opens CONNECTIONS of them and says nothing would shut out Prometheus, which asks at once.
    """
    patient = sorted(places, key=lambda place: place.waited(now), reverse=True)
    for place in (place for place in patient[:_ROOM] if place.waited(now) >= PLACE_SECONDS):
        with contextlib.suppress(OSError):  # it is gone already
            place.client.shutdown(socket.SHUT_RDWR)  # its transport finds that out, in a handshake too


def _listening(settings: MonitoringSettings, address: str) -> socket.socket:
    """Return a socket that listens on the address of `settings`. Raises ServiceError when it cannot be had."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY on no other
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a restart need not wait
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the address that was said and no other
        listener.bind((address, settings.port))
        listener.listen(QUEUE)
    except OSError as error:
        listener.close()
        where = f"[{address}]:{settings.port}" if family is socket.AF_INET6 else f"{address}:{settings.port}"
        match error.errno:
            case errno.EADDRINUSE:
                why = f"another program listens on {where} already. Stop it, or choose another port"
            case errno.EACCES:
                why = f"this user may not listen on {where}. Choose a port above 1023"
            case errno.EADDRNOTAVAIL:
                why = f"this machine has no address {address}. Choose one that it has, or 127.0.0.1"
            case _:
                why = f"cannot listen on {where}: {os.strerror(error.errno or 0).lower()}. Choose another address"
        raise ServiceError(f"{settings.place('listen')}: {why}.") from None
    listener.setblocking(False)
    return listener
