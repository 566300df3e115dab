"""HTTP/1.1 with limits: how long a client may take, how much it may send, and how soon it is answered.

The protocol is uvicorn's, which bounds neither the time of a request's header nor that in which an answer is read.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

__all__ = ["HEADER_SECONDS", "BoundedProtocol", "answer_delay", "protocol_configuration"]

ANSWER_AFTER: Final = 0.2
"""Seconds from a complete request to its answer at least, whatever the answer is. Prometheus keeps for years how long a
scrape took; answered at once, that would be how busy the fold was, and a wrong password could be told by its time."""

ANSWER_NOISE: Final = 0.1
"""The mean of what is added to ANSWER_AFTER at random (exponential). A fold holds the interpreter: answers came 2 ms
later while it ran, and 16 ms where a thread never left Python. Among 100 ms of noise a scrape does not tell."""

MOST_NOISE: Final = 0.5
"""More is drawn anew: what asks for health often waits for a second only."""

HEADER_SECONDS: Final = 10.0
"""A request's header is complete by then, or the connection ends: one that dribbles holds a place for no longer."""

ANSWER_SECONDS: Final = 10.0
"""An answer is taken by then, or the connection ends: one who never reads holds a place for no longer."""

IDLE_SECONDS: Final = 75.0
"""Between two requests on one connection. Longer than any usual scrape interval: with a handshake of TLS in each, the
durations of scrapes would tell what ANSWER_AFTER keeps from telling."""

HEADER_BYTES: Final = 16_384
"""The most that a request's header may have; Prometheus sends a few hundred."""


_random = random.SystemRandom()


def answer_delay() -> float:
    """Return the seconds from a complete request to its answer, drawn anew for each and from nothing else."""
    while (noise := _random.expovariate(1 / ANSWER_NOISE)) > MOST_NOISE:
        pass
    return ANSWER_AFTER + noise


class BoundedProtocol(H11Protocol):
    """One connection. Each phase of it has its time; whoever takes longer is cut off without a word."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limit: asyncio.TimerHandle | None = None
        self._idle = False
        self._refused = False
        self.waiting_since: float | None = self.loop.time()
        """Since when (the loop's time) the client has had nothing to be answered; None while it has."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._end_in(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_in(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._idle:  # the first byte of the next request, not each one
            self._idle = False
            self._end_in(HEADER_SECONDS)
        super().data_received(data)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._idle = False
            self.waiting_since = None
            self._end_in(ANSWER_SECONDS)
            self.flow.pause_reading()  # what comes behind the header waits outside of this process

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()
        self._unset_keepalive_if_required()
        if self.cycle is not answered:
            return  # the next request was there already
        self.waiting_since = self.loop.time()
        if self.transport.is_closing():
            self._end_in(ANSWER_SECONDS)
        elif self.conn.trailing_data[0]:
            self._end_in(HEADER_SECONDS)
        else:
            self._idle = True
            self._end_in(IDLE_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as late as everything else."""
        if self._refused or self._is_answering:
            return
        self._refused = True
        self._end_in(ANSWER_SECONDS)
        self.flow.pause_reading()
        self.loop.call_later(answer_delay(), self._refuse, msg)

    def finish(self) -> None:
        """End the connection: at once, or when the request in hand is answered."""
        if self._is_answering:
            self.cycle.keep_alive = False
        else:
            self.transport.abort()

    @property
    def _is_answering(self) -> bool:
        # uvicorn's annotation leaves out that there is no cycle before the first request.
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.abort()

    def _end_in(self, seconds: float | None) -> None:
        if self._limit is not None:
            self._limit.cancel()
        # Closing would wait for what is yet to be sent, and over TLS for the other side.
        self._limit = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


def protocol_configuration(application: Any) -> Config:
    """Return what BoundedProtocol serves `application` (ASGI 3) with: no log, no header that tells of the server."""
    configuration = Config(
        application,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        workers=1,  # else the environment decides
        log_config=None,
        log_level=_SILENT,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    configuration.load()
    return configuration


_SILENT: Final = 100  # above every level: whoever reaches the port could fill the log
