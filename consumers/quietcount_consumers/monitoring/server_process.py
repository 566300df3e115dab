"""The process that serves metrics: uvicorn, in a Python of its own, beside the process that folds.

python -m quietcount_consumers.monitoring.server_process DESCRIPTOR

DESCRIPTOR is a socket that listens. The standard input is a socket to the fold's process, which sends frames (see
`pages`): first one about TLS and the password, then pages, again and again. This process ends when that socket ends,
also if the other process was killed. It opens the files of certificate and key and no other, and it knows no event, no
count and no folder of data.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import ssl
import sys
from typing import Any, Final

from uvicorn import Config, Server

from quietcount_consumers.access import QUEUE, Credentials, server_context
from quietcount_consumers.monitoring.application import HEADER_BYTES, Application
from quietcount_consumers.monitoring.pages import FrameReader, Pages
from quietcount_consumers.monitoring.places import HEADER_SECONDS, IDLE_SECONDS, Places

__all__ = ["configuration", "main"]

FILES: Final = 256
"""How many files the process may have open. This bounds its memory in a flood, and handshakes that are never finished.
While there is none left, newcomers wait in the system's queue, and asyncio looks again after a second."""

STOP_SECONDS: Final = 1
"""How long answers in hand are waited for at the end."""

_SILENT: Final = 100  # above every level; what asyncio would log goes nowhere, as standard error does
_PIECE: Final = 65_536
_TLS_SECONDS: Final = {"ssl_handshake_timeout": float(HEADER_SECONDS), "ssl_shutdown_timeout": float(STOP_SECONDS)}


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, with less patience for TLS: uvicorn has no setting for it, and the default is a minute."""

    async def create_server(self, *arguments: Any, **settings: Any) -> Any:
        """As asyncio's."""
        more = _TLS_SECONDS if settings.get("ssl") else {}
        return await super().create_server(*arguments, **settings, **more)  # type: ignore[call-overload]


class _Handover(asyncio.Protocol):
    """The socket to the fold's process: each frame replaces the pages, and its end ends the server."""

    def __init__(self, reader: FrameReader, application: Application, server: Server) -> None:
        self._reader = reader
        self._application = application
        self._server = server

    def data_received(self, data: bytes) -> None:
        for document in self._reader.feed(data):
            self._application.pages = Pages.of(document)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        self._server.should_exit = True


def configuration(application: Application, places: Places, tls: ssl.SSLContext | None = None) -> Config:
    """Return what uvicorn serves `application` with: no log, and no header that names the server or the time."""
    return Config(
        places.noting(application),
        http=places.protocol(),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level=_SILENT,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=QUEUE,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        callback_notify=places.sweep,
        timeout_notify=0,  # at each second, which is as often as uvicorn looks
        ssl_context_factory=None if tls is None else lambda *_: tls,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )


async def _serve(listener: socket.socket, parent: socket.socket) -> None:
    reader, documents = FrameReader(), list[dict[str, Any]]()
    loop = asyncio.get_running_loop()
    while len(documents) < 2:
        piece = parent.recv(_PIECE)
        if not piece:
            return
        documents += reader.feed(piece)
    door, *_, pages = documents
    key, digest = (bytes.fromhex(part) for part in door["credentials"] or ("", ""))
    application = Application(Pages.of(pages), Credentials(key, digest) if digest else None)
    tls = None
    if door["certificate"] is not None:
        tls = server_context()
        tls.load_cert_chain(door["certificate"], door["key"], lambda: "")  # else OpenSSL would ask at a terminal
    server = Server(configuration(application, Places(loop.time), tls))
    parent.setblocking(False)
    await loop.create_unix_connection(lambda: _Handover(reader, application, server), sock=parent)
    await server.serve(sockets=[listener])


def main() -> None:
    """Serve until the socket to the fold's process ends."""
    # systemd sends its signals to every process of a service. What ends this process is the other one.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    with contextlib.suppress(OSError, ValueError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, most))
    os.chdir("/")
    listener, parent = socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=0)
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(_serve(listener, parent))


if __name__ == "__main__":
    main()
