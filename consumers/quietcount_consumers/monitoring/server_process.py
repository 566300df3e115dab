"""The process that serves metrics: uvicorn, in a Python of its own, beside the process that folds.

python -m quietcount_consumers.monitoring.server_process LISTENER PAGES

LISTENER is the descriptor of a socket that listens, PAGES that of a file with the newest pages (see PagesFile). The
standard input is a socket to the fold's process. A line of JSON comes from there, about TLS and the password, and signs
of life go there. This process ends when that socket ends, also if the other process was killed. It opens the files of
certificate and key and no other, and it knows no event, no count and no folder of data.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import ssl
import sys
from typing import Any, Final

from uvicorn import Config, Server

from quietcount_consumers.access import QUEUE, Credentials, server_context
from quietcount_consumers.core_dumps import forbid_core_dumps
from quietcount_consumers.monitoring.application import HEADER_BYTES, Application
from quietcount_consumers.monitoring.pages import PagesFile
from quietcount_consumers.monitoring.places import HEADER_SECONDS, IDLE_SECONDS, Places

__all__ = ["configuration", "main"]

FILES: Final = 256
"""How many files the process may have open. This bounds its memory in a flood, and handshakes that are never finished.
While there is none left, newcomers wait in the system's queue, and asyncio looks again after a second."""

SIGN_SECONDS: Final = 1
"""From one sign of life to the next, and from one look at the clients' deadlines to the next."""

STOP_SECONDS: Final = 1
"""How long answers in hand are waited for at the end."""

_SILENT: Final = 100  # above every level; what asyncio would log goes nowhere, as standard error does
_TLS_SECONDS: Final = {"ssl_handshake_timeout": float(HEADER_SECONDS), "ssl_shutdown_timeout": float(STOP_SECONDS)}


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, with less patience for TLS: uvicorn has no setting for it, and the default is a minute."""

    async def create_server(self, *arguments: Any, **settings: Any) -> Any:
        """As asyncio's."""
        more = _TLS_SECONDS if settings.get("ssl") else {}
        return await super().create_server(*arguments, **settings, **more)  # type: ignore[call-overload]


class _Parent(asyncio.Protocol):
    """The socket to the fold's process: its end ends the server."""

    def __init__(self, server: Server) -> None:
        self._server = server

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
        ssl_context_factory=None if tls is None else lambda *_: tls,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )


async def _serve(listener: socket.socket, pages: PagesFile, parent: socket.socket) -> None:
    line = parent.makefile("rb").readline()
    if not line:
        return
    door: dict[str, Any] = json.loads(line)
    key, digest = (bytes.fromhex(part) for part in door["credentials"] or ("", ""))
    application = Application(pages.read, Credentials(key, digest) if digest else None)
    tls = None
    if door["certificate"] is not None:
        tls = server_context()
        tls.load_cert_chain(door["certificate"], door["key"], lambda: "")  # else OpenSSL would ask at a terminal
    loop = asyncio.get_running_loop()
    places = Places(loop.time)
    server = Server(configuration(application, places, tls))
    parent.setblocking(False)
    transport, _ = await loop.create_unix_connection(lambda: _Parent(server), sock=parent)
    living = asyncio.create_task(_live(places, transport))
    await server.serve(sockets=[listener])
    living.cancel()


async def _live(places: Places, transport: asyncio.WriteTransport) -> None:
    """Hold clients to their deadlines and give signs of life, by a clock that nobody sets: uvicorn's own can be set."""
    while True:
        places.sweep()
        if not transport.get_write_buffer_size():  # else the other process is stopped and has enough of them
            transport.write(b"\0")
        await asyncio.sleep(SIGN_SECONDS)


def main() -> None:
    """Serve until the socket to the fold's process ends."""
    forbid_core_dumps()
    # systemd sends its signals to every process of a service. What ends this process is the other one.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    with contextlib.suppress(OSError, ValueError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, most))
    os.chdir("/")
    listener, pages = map(int, sys.argv[1:])
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(_serve(socket.socket(fileno=listener), PagesFile(pages), socket.socket(fileno=0)))


if __name__ == "__main__":
    main()
