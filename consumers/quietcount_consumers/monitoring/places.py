"""Places: how many connections there are, and how long each may keep its place.

uvicorn bounds neither the time in which a header comes nor that in which an answer is read. At its own limit
(`limit_concurrency`) it refuses the newcomer, so clients that connect and say nothing shut Prometheus out while they
stay. Here the newcomer gets in, and connections that have waited longest give way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from quietcount_consumers.monitoring.application import Receive, Send

__all__ = ["ANSWER_SECONDS", "CONNECTIONS", "HEADER_SECONDS", "IDLE_SECONDS", "Places"]

Application = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]

CONNECTIONS: Final = 64
"""How many connections may wait for longer than PATIENCE_SECONDS, not counting handshakes that are not finished."""

PATIENCE_SECONDS: Final = 1
"""A connection that has waited for less gives way to none: a burst of newcomers would else end one whose request is on
its way."""

HEADER_SECONDS: Final = 10
"""A new connection's first request is complete by then, or the connection ends."""

ANSWER_SECONDS: Final = 10
"""An answer is taken by then, or the connection ends: a client that never reads holds a place for no longer."""

IDLE_SECONDS: Final = 75
"""From one answer to the next complete request. Longer than any usual scrape interval, so that Prometheus keeps its
connection."""


@dataclass(slots=True)
class _Place:
    transport: asyncio.Transport
    since: float
    """When it began to wait, for a request or for its answer to be read: seconds of the clock."""
    limit: float = HEADER_SECONDS
    """For how many seconds it may wait."""

    def is_over(self, now: float) -> bool:
        unread = self.transport.get_write_buffer_size() > 0
        return now - self.since > (ANSWER_SECONDS if unread else self.limit)


class Places:
    """The connections by the client's address and port, and how long each may wait; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._places: dict[tuple[str, int], _Place] = {}

    def protocol(self) -> type[H11Protocol]:
        """Return uvicorn's protocol with a place for each of its connections."""
        places = self

        class Placed(H11Protocol):
            # asyncio's own methods alone are overridden: nothing that is uvicorn's to change.
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
                super().connection_made(transport)
                self._placed = transport
                places.take(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                places.leave(self._placed)
                super().connection_lost(exc)

        return Placed

    def take(self, transport: asyncio.Transport) -> None:
        """Give a new connection a place."""
        peer = transport.get_extra_info("peername")
        if not peer:  # it is gone already
            transport.abort()
            return
        self._places[peer[:2]] = _Place(transport, self._clock())

    def leave(self, transport: asyncio.Transport) -> None:
        """Take back the place of a connection that has ended."""
        for address, place in self._places.items():
            if place.transport is transport:
                del self._places[address]
                return

    def noting(self, application: Application) -> Application:
        """Return `application`; what it is asked and answers is noted as it is served."""

        async def noted(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
            self._begin(scope, ANSWER_SECONDS)
            await application(scope, receive, send)
            self._begin(scope, IDLE_SECONDS)

        return noted

    def sweep(self) -> None:
        """End the connections whose time is over, and those that have waited longest if there are too many.

        To be called about once a second. They are cut off, because closing them would wait for the other side.
        """
        now = self._clock()
        patient = sorted(self._places.values(), key=lambda place: place.since, reverse=True)
        for number, place in enumerate(patient):
            gives_way = number >= CONNECTIONS and now - place.since > PATIENCE_SECONDS
            if gives_way or place.is_over(now):
                place.transport.abort()

    def _begin(self, scope: Mapping[str, Any], limit: float) -> None:
        """Begin the next phase of a connection."""
        place = self._places.get(scope["client"])
        if place is not None:  # else it has ended
            place.since, place.limit = self._clock(), limit
