"""The server of the door: uvicorn, with a bound on everything that a client may take, and no log."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import FrameType
from typing import Any, Final

from uvicorn import Config, Server

from quietcount_producers.composing.composition import utc_today
from quietcount_producers.errors import LogError
from quietcount_producers.receiving.application import HEADER_BYTES, Application, Door, Receive, Send
from quietcount_producers.receiving.places import HEADER_SECONDS, IDLE_SECONDS, Places
from quietcount_producers.receiving.reception import Reception
from quietcount_producers.receiving.settings import ReceiverSettings
from quietcount_schemas.serving.listening import QUEUE, listening, written

__all__ = ["Served", "configuration", "run", "serve"]

Say = Callable[[str], None]
Served = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]
"""An application of ASGI."""

STOP_SECONDS: Final = 10
"""How long deliveries in hand are waited for at the end. A tool that gets no answer delivers again."""

MINUTE: Final = 60.0
"""Seconds from one look at the date to the next."""

_SILENT: Final = 100  # above every level: a line of uvicorn or asyncio would date a request
_TLS_SECONDS: Final = {"ssl_handshake_timeout": float(HEADER_SECONDS), "ssl_shutdown_timeout": 1.0}


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, with less patience for TLS: uvicorn has no setting for it, and the default is a minute."""

    async def create_server(self, *arguments: Any, **settings: Any) -> Any:
        """As asyncio's."""
        more = _TLS_SECONDS if settings.get("ssl") else {}
        return await super().create_server(*arguments, **settings, **more)  # type: ignore[call-overload]


class _Server(Server):
    """uvicorn's server, which ends in order at SIGTERM and SIGINT, and does not send itself the signal afterwards."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn's names)
        self.should_exit = True


def configuration(application: Served, places: Places, tls: ssl.SSLContext | None = None) -> Config:
    """Return what uvicorn serves `application` with: no log, and no header that names the server or the time."""
    return Config(
        application,
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


def serve(settings: ReceiverSettings, reception: Reception, say: Say, today: Callable[[], dt.date] = utc_today) -> None:
    """Serve `reception` until SIGTERM or SIGINT; `say` hears where, and after each midnight how things stand.

    Raises ProducersError if the address or the certificate is not in order.
    """
    tls = settings.tls_context()
    with listening(settings.address, settings.port, settings.refused) as listener, reception:
        scheme = "http" if tls is None else "https"
        say(f"Listening on {scheme}://{written(*listener.getsockname()[:2])}. The paths: {', '.join(reception.tokens)}")
        doors = {path: Door(tokens, reception.taker(path)) for path, tokens in reception.tokens.items()}
        run(listener, lambda places: Application(doors, places), tls, lambda: _tell(reception, say, today))
    say("Stopped.")


async def _nothing() -> None:
    """Do nothing beside the server."""


def run(
    listener: socket.socket,
    made: Callable[[Places], Served],
    tls: ssl.SSLContext | None,
    beside: Callable[[], Coroutine[Any, Any, None]] = _nothing,
) -> None:
    """Serve on `listener`, until SIGTERM or SIGINT, the application that `made` makes of the places for its clients.

    `beside` runs meanwhile, and is cancelled in the end.
    """
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(_serve(listener, made, tls, beside))


async def _serve(
    listener: socket.socket,
    made: Callable[[Places], Served],
    tls: ssl.SSLContext | None,
    beside: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    logging.getLogger("asyncio").setLevel(_SILENT)
    places = Places(asyncio.get_running_loop().call_later)
    server = _Server(configuration(made(places), places, tls))
    telling = asyncio.create_task(beside())
    await server.serve(sockets=[listener])
    telling.cancel()


async def _tell(reception: Reception, say: Say, today: Callable[[], dt.date]) -> None:
    """Say how things stand, now and after each midnight."""
    told: dt.date | None = None
    while True:
        if today() != told:
            told = today()
            with contextlib.suppress(LogError):  # the disk is away: deliveries are answered with 503 meanwhile
                for line in await asyncio.to_thread(lambda: list(reception.standing())):
                    say(line)
        await asyncio.sleep(MINUTE)
