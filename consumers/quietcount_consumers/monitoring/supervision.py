"""Supervision: what systemd hears of the service.

The protocol is sd_notify(3): datagrams to the socket that $NOTIFY_SOCKET names. Without that variable nothing is sent.
A message holds no data. Systemd hears at once that the service is ready, reloads, waits or stops.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["Supervisor"]

_PINGS: Final = 4
"""How often in the watchdog's time the service says that it lives: twice would do, but a late one must not kill it."""

_LEAST_BREATH: Final = 0.01
"""Seconds: a service that had to say it more often would do nothing else."""

_MOST_OWED: Final = 20
"""How many messages are kept for a socket that has no room: a socket that is gone would have them kept without end."""


class Supervisor:
    """Says to systemd how the service is. `environment` is the process's own; `passing` returns seconds that passed.

    If systemd's socket is gone or full, the service goes on. It says again at the next sign of life what had no room.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, passing: Callable[[], float] = time.monotonic
    ) -> None:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        # An address that begins with @ is in Linux's abstract namespace, whose names begin with a zero byte.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self._passing = passing
        self._waited_for = True
        """Whether systemd waits to hear that the service is ready: it was started, or it reloads."""
        self._status = ""
        self._owed = deque[str](maxlen=_MOST_OWED)
        """What systemd has not heard yet, because its socket had no room."""
        self._alive_at = passing()
        self.breath = _breath(environment)
        """For how many seconds the service may be silent, at most."""
        self._watched = self.breath < float("inf")

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def ready(self) -> None:
        """Say that the service has started or has reloaded, if systemd waits to hear it."""
        if self._waited_for:
            self._waited_for = False
            self._say("READY=1")

    def reloading(self) -> None:
        """Say that the service reads its configuration again."""
        self._waited_for = True
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._say("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in a sentence without data what the service does, if that is news."""
        if text != self._status:
            self._status = text
            self._say(f"STATUS={text}")

    def alive(self) -> None:
        """Say that the service lives, unless it said so just now; to be called at points of a grid."""
        self._flush()
        self._live(self.breath / 2)

    def working(self) -> None:
        """Say that the service lives, if a fold has kept it from doing so at the points of the grid.

        Every user of the machine may ask systemd when it heard the last sign of life. One at the end of each batch
        would show how much there was to fold.
        """
        self._live(2 * self.breath)

    def _live(self, silence: float) -> None:
        now = self._passing()
        if self._watched and now - self._alive_at >= silence:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _say(self, text: str) -> None:
        """Send `text` after what is still owed; in that order, because systemd goes by the last word."""
        self._owed.append(text)
        self._flush()

    def _flush(self) -> None:
        while self._owed and self._send(self._owed[0]):
            self._owed.popleft()

    def _send(self, text: str) -> bool:
        """Send `text`; return False if there is no room for it now, or nobody to hear it."""
        if self._socket is not None:
            try:
                self._socket.sendto(text.encode(), self._address)
            except OSError:
                return False
        return True


def _breath(environment: Mapping[str, str]) -> float:
    """Return the seconds between two signs of life; infinite if no watchdog asks this process for them."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return float("inf")
    try:
        seconds = int(environment.get("WATCHDOG_USEC", "")) / 1_000_000
    except ValueError:
        return float("inf")
    return max(seconds / _PINGS, _LEAST_BREATH) if seconds > 0 else float("inf")
