"""The server of /metrics, /healthz and /readyz: a process of its own, which this one starts, feeds and watches.

An answer that came from this process would come later while it folds, because both share one interpreter, and
Prometheus keeps for years how long each scrape took. So this process answers nobody. It hands finished pages over at
each turn of the board.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from quietcount_consumers.access import QUEUE, Credentials
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring.log_events import DEFECT, Say, unheard
from quietcount_consumers.monitoring.metrics import pages
from quietcount_consumers.monitoring.pages import frame
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings

__all__ = ["MonitoringServer"]

MODULE: Final = "quietcount_consumers.monitoring.server_process"

END_SECONDS: Final = 3.0
"""How long the process may take to end when it is asked to; it gives answers in hand one second."""

HAND_OVER_SECONDS: Final = 30.0
"""How long the process may take to read pages, its own start included; if it takes longer, another takes its place."""

SETTLED_SECONDS: Final = 10.0
"""A process that lived for so long had a good start: the next one is not counted with it."""

STARTS: Final = 4
"""How many processes in a row may have a bad start: what ails them is not mended by one more."""

LISTEN_SECONDS: Final = 2.0
"""For how long a taken address is tried: the process of a service that was killed lets go of it in a moment."""

RESTART_SECONDS: Final = 1.0
"""From the end of one process to the start of the next."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class _Door:
    """What a client meets: the files of the certificate, and who may read."""

    certificate: str | None = None
    key: str | None = None
    credentials: Credentials | None = None

    def document(self) -> dict[str, Any]:
        guard = self.credentials
        return {
            "certificate": self.certificate,
            "key": self.key,
            "credentials": None if guard is None else (guard.key.hex(), guard.digest.hex()),
        }


class _Child:
    """The process that serves, and this process's end of the socket to it. Making it raises OSError."""

    def __init__(self, listener: socket.socket, door: _Door) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(HAND_OVER_SECONDS)
        # The new process inherits what is blocked. A signal to the whole group would else end it while it starts.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 (our own module)
                [sys.executable, "-P", "-m", MODULE, str(listener.fileno())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(listener.fileno(),),
                env=_environment(),
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.started = time.monotonic()
        self.send(door.document())

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, document: dict[str, Any]) -> None:
        """Hand a frame over. If the process has ended or hangs, end it: the thread that waits for it then notices."""
        try:
            self._socket.sendall(frame(document))
        except OSError:
            self._process.kill()

    def wait(self) -> int:
        """Wait for the end of the process; return its exit code, negative for a signal."""
        return self._process.wait()

    def end(self) -> None:
        """Ask the process to end, and see to it."""
        self._socket.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _environment() -> dict[str, str]:
    """Return what a Python needs of the environment: the rest may hold passwords."""
    return {name: value for name, value in os.environ.items() if name.startswith("PYTHON") or name in _KEPT}


class MonitoringServer:
    """Serves `board` at the address of `settings` within a with statement; nothing if the settings say "off".

    Making it reads certificate and password (ConfigurationError); entering it listens (ServiceError). `left` returns
    the seconds to the next point of the board's grid; it is None if the board's clock stands. `say` hears when the
    process that serves ends by itself; another takes its place.
    """

    def __init__(
        self,
        settings: MonitoringSettings,
        board: Board,
        *,
        left: Callable[[], float] | None = None,
        say: Say = unheard,
    ) -> None:
        self._settings = settings
        self._board = board
        self._left = left
        self._say = say
        self._door = self._read()
        self._lock = threading.Lock()
        """Held while the process is fed or replaced."""
        self._listener: socket.socket | None = None
        self._child: _Child | None = None
        self._keeper: threading.Thread | None = None
        self._ending = threading.Event()
        self.address: tuple[str, int] | None = None
        """Host and port that are listened on; None if nothing is served, and before."""

    def __enter__(self) -> MonitoringServer:
        if self._settings.address is None:
            return self
        self._listener = _listening(self._settings, self._settings.address)
        try:
            self._child = self._started(self._listener, self._door)
        except OSError:
            self._listener.close()
            raise ServiceError(
                f"{self._settings.place('listen')}: metrics cannot be served, because the system refuses another "
                "process: it gives too few files or processes, or too little memory",
                "Give it more (ulimit -n, ulimit -u), and start it again",
            ) from None
        host, port = self._listener.getsockname()[:2]
        self.address = (host, port)
        self._board.watch(self._show)
        self._ending.clear()
        self._keeper = threading.Thread(target=self._keep, args=(self._listener,), name="quietcount-http", daemon=True)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._keeper is None or self._listener is None:
            return
        self._board.watch(None)
        self._ending.set()
        with self._lock:
            if self._child is not None:
                self._child.end()
        self._keeper.join()
        self._listener.close()
        self._child = self._keeper = self.address = None

    @property
    def lives(self) -> bool:
        """Return whether what is to be served is being served, or will be in a moment."""
        return self._keeper is None or self._keeper.is_alive()

    def reload(self) -> None:
        """Read certificate and password again, for a new process; the old one ends with what it has in hand.

        Raises ConfigurationError if a file is not in order; then everything stays as it was.
        """
        door = self._read()
        if self._child is None or self._listener is None:
            return
        with self._lock:
            try:
                # Before the old one ends, which stays if there is no room for another.
                child = self._started(self._listener, door)
            except OSError:
                raise ServiceError(
                    f"{self._settings.place('listen')}: the system refuses another process, so the old certificate and "
                    "password stay",
                    "Give the service more files or memory, and reload it again",
                ) from None
            before, self._child, self._door = self._child, child, door
            before.end()

    def _read(self) -> _Door:
        settings = self._settings
        if settings.address is None:
            return _Door()
        settings.tls_context()  # so that a file that is not in order is found here, and has words for a person
        files = (settings.certificate_file, settings.key_file)
        certificate, key = (None if file is None else str(file.absolute()) for file in files)
        return _Door(certificate, key, settings.credentials())

    def _started(self, listener: socket.socket, door: _Door) -> _Child:
        child = _Child(listener, door)
        child.send(self._pages())
        return child

    def _pages(self) -> dict[str, Any]:
        left = None if self._left is None else dt.timedelta(seconds=self._left())
        return pages(self._board.view(), left).document()

    def _show(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.send(self._pages())

    # In a thread

    def _keep(self, listener: socket.socket) -> None:
        """Put a new process in the place of one that ended by itself; give up if none has a good start."""
        bad = 0
        while (child := self._child) is not None:
            code = child.wait()
            with self._lock:
                if self._child is not child:  # a reload has replaced it
                    continue
            if self._ending.is_set():
                return
            end = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._say(DEFECT.at(self._board.now(), meaning=f"the process that serves metrics and health ended: {end}"))
            bad = 1 if time.monotonic() - child.started > SETTLED_SECONDS else bad + 1
            if bad >= STARTS or self._ending.wait(RESTART_SECONDS):
                return
            with self._lock:
                if self._child is child and not self._ending.is_set():
                    # If the system refuses it now, the old one is found to be at an end again.
                    with contextlib.suppress(OSError):
                        self._child = self._started(listener, self._door)
                        child.end()  # it has ended; this closes the socket to it


def _bind(listener: socket.socket, address: str, port: int) -> None:
    until = time.monotonic() + LISTEN_SECONDS
    while True:
        try:
            listener.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
            time.sleep(LISTEN_SECONDS / 20)
        else:
            return


def _listening(settings: MonitoringSettings, address: str) -> socket.socket:
    """Return a socket that listens on the address of `settings`. Raises ServiceError when it cannot be had."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY on no other
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a restart need not wait
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the address that was said and no other
        _bind(listener, address, settings.port)
        listener.listen(QUEUE)
    except OSError as error:
        listener.close()
        where = f"[{address}]:{settings.port}" if family is socket.AF_INET6 else f"{address}:{settings.port}"
        match error.errno:
            case errno.EADDRINUSE:
                why, remedy = f"another program listens on {where} already", "Stop it, or choose another port"
            case errno.EACCES:
                why, remedy = f"this user may not listen on {where}", "Choose a port above 1023"
            case errno.EADDRNOTAVAIL:
                why, remedy = f"this machine has no address {address}", "Choose one that it has, or 127.0.0.1"
            case _:
                what = os.strerror(error.errno or 0).lower()
                why, remedy = f"cannot listen on {where}: {what}", "Choose another address"
        raise ServiceError(f"{settings.place('listen')}: {why}", remedy) from None
    return listener
