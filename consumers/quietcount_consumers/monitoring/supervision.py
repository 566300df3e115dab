"""Supervision: what systemd is told of the service, and what a core dump of it would have told anybody.

The protocol is sd_notify(3): datagrams to the socket that $NOTIFY_SOCKET names. Nothing is told where there is none.
What is told carries no data, and what would be stamped with a time that follows from it waits for a point of the grid.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["Supervisor", "forbid_core_dumps"]

_PINGS: Final = 4
"""How often in the watchdog's time the service says that it lives: twice would do, and a late one must not kill."""

_LEAST_BREATH: Final = 0.01
"""Seconds: a watchdog that asks for more would have the service do nothing else."""

_PR_SET_DUMPABLE: Final = 4


class Supervisor:
    """Tells systemd how the service is. `environment` is the process's own; `passing` returns seconds that passed.

    A socket that is gone or full ends nothing: the service goes on untold.
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
        self._told = ""
        self._status = ""
        self._ready = False
        """What waits to be told: a status that is none of `_told`, and that something is done."""
        self._alive_at = passing()
        self.breath = _breath(environment)
        """For how many seconds at most the service may say nothing."""
        self._watched = self.breath < float("inf")

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def ready(self) -> None:
        """Say that the service was started or reloaded: when it settles, for opening takes as long as data make it."""
        self._ready = True

    def reloading(self) -> None:
        """Say that the service reads its configuration anew."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in a sentence without data what the service does: when it settles, and only if that is news."""
        self._status = text

    def settle(self) -> bool:
        """Send what was kept; to be called at a point of a grid. Returns False where it is kept for the next one."""
        news = [f"STATUS={self._status}"] if self._status != self._told else []  # of several, systemd takes the first
        if self._ready:
            news.append("READY=1")
        if news:
            if not self._send("\n".join(news)):
                return False
            self._told, self._ready = self._status, False
        return True

    def alive(self) -> None:
        """Say that the service lives, if that was not said just now; to be called at a point of a grid."""
        self._alive(self.breath / 2)

    def working(self) -> None:
        """Say that the service lives where a fold has kept it from a point of the grid for so long that it has to.

        Systemd tells everybody when it heard of that last, and a fold's end would tell how much there was to fold.
        """
        self._alive(2 * self.breath)

    def _alive(self, since: float) -> None:
        now = self._passing()
        if self._watched and now - self._alive_at >= since:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> bool:
        """Send `text`; return False where there is no room for it now, or nobody to hear it."""
        if self._socket is not None:
            try:
                self._socket.sendto(text.encode(), self._address)
            except OSError:
                return False
        return True


def _breath(environment: Mapping[str, str]) -> float:
    """Return the seconds between two signs of life; infinite where no watchdog asks this process for them."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return float("inf")
    try:
        seconds = int(environment.get("WATCHDOG_USEC", "")) / 1_000_000
    except ValueError:
        return float("inf")
    return max(seconds / _PINGS, _LEAST_BREATH) if seconds > 0 else float("inf")


def forbid_core_dumps() -> None:
    """Let no core dump of this process be written, and no other process of this user look into its memory.

    It holds exact counts. A limit of zero keeps a dump from a file, but not from a program that the kernel pipes dumps
    to (systemd-coredump); a process that is not dumpable is dumped to neither. Where that cannot be had, it goes on.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):  # no prctl: not Linux
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
