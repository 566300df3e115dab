"""Places: how many connections there are, and how long each may keep its place.

uvicorn bounds neither the time in which a header comes nor that in which a body does. At its own limit
(`limit_concurrency`) it refuses the newcomer, so clients that connect and say nothing shut the tools out while they
stay. Here the newcomer gets in, and the connection that has waited longest without a request gives way. A tool whose
connection is cut delivers again, and its events count once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BODY_SECONDS", "CONNECTIONS", "HEADER_SECONDS", "IDLE_SECONDS", "STORE_SECONDS", "Places"]

CONNECTIONS: Final = 64
"""How many connections there may be, not counting handshakes that are not finished. Each may hold a body."""

HEADER_SECONDS: Final = 10
"""The header of a new connection's first request is complete by then, or the connection ends."""

BODY_SECONDS: Final = 30
"""From a header to the end of its body. The tools are servers, and send the longest body in a second."""

STORE_SECONDS: Final = 120
"""From a body to its answer's end: longer than a disk takes, and than the spool takes to purge what was sent."""

IDLE_SECONDS: Final = 75
"""From one answer to the next complete header."""


@dataclass(slots=True, eq=False)
class _Place:
    transport: asyncio.Transport
    timer: asyncio.TimerHandle
    asked: bool = False
    """Whether a request with the right token is on its way."""


class Places:
    """The connections by the client's address and port, those that have waited longest first."""

    def __init__(self, later: Callable[[float, Callable[[], None]], asyncio.TimerHandle]) -> None:
        self._later = later
        """The loop's `call_later`."""
        self._places: MutableMapping[tuple[str, int], _Place] = {}

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
        """Give a new connection a place; if there is none left, the one that has waited longest gives way."""
        peer = transport.get_extra_info("peername")
        if not peer:  # it is gone already
            transport.abort()
            return
        if len(self._places) >= CONNECTIONS:
            address = next((each for each, place in self._places.items() if not place.asked), next(iter(self._places)))
            gone = self._places.pop(address)
            gone.timer.cancel()
            gone.transport.abort()
        self._places[peer[:2]] = _Place(transport, self._later(HEADER_SECONDS, transport.abort))

    def leave(self, transport: asyncio.Transport) -> None:
        """Take back the place of a connection that has ended."""
        for address, place in self._places.items():
            if place.transport is transport:
                place.timer.cancel()
                del self._places[address]
                return

    def begin(self, scope: Mapping[str, Any], seconds: float, *, asked: bool) -> None:
        """Begin the next phase of a connection, which it may stay in for so long."""
        place = self._places.pop(scope["client"], None)
        if place is not None:  # else it has ended
            place.timer.cancel()
            place.timer = self._later(seconds, place.transport.abort)
            place.asked = asked
            self._places[scope["client"]] = place
