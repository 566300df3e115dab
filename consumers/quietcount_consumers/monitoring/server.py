"""The server of /metrics, /healthz and /readyz: a process of its own, which this one starts, feeds and watches.

An answer that came from this process would come later while it folds, because both share one interpreter, and
Prometheus keeps for years how long each scrape took. So this process answers nobody. At each turn of the board it
leaves finished pages in a file that both have open. It never waits for the other: a thread watches that one, and puts
another in its place if it ends or hangs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from quietcount_consumers.errors import ServiceError
from quietcount_consumers.monitoring.log_events import NOT_SERVING, SERVING, Say, unheard
from quietcount_consumers.monitoring.metrics import pages
from quietcount_consumers.monitoring.pages import PagesFile
from quietcount_consumers.monitoring.status import Board
from quietcount_consumers.monitoring_settings import MonitoringSettings
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.serving.listening import listening, written

__all__ = ["MonitoringServer"]

MODULE: Final = "quietcount_consumers.monitoring.server_process"

END_SECONDS: Final = 3.0
"""How long the process may take to end when it is asked to; it gives answers in hand one second."""

SILENCE_SECONDS: Final = 30.0
"""How long the process may give no sign of life, its own start included; if it is silent for longer, it is ended."""

SETTLED_SECONDS: Final = 10.0
"""A process that lived for so long had a good start: what happens to it later is another trouble than the last."""

RESTART_SECONDS: Final = 1.0
"""From the end of a process to the start of the next. Each bad start doubles it, up to LONGEST_PAUSE."""

LONGEST_PAUSE: Final = 60.0
"""Seconds. What is mended by hand, a key that was lost for example, is served again within so long."""

_SIGNS: Final = 4096
_SCARCE: Final = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH")


class _Child:
    """The process that serves: `pages` to those whom `door` lets in. Making it raises OSError."""

    def __init__(self, listener: socket.socket, pages: PagesFile, door: dict[str, Any]) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(SILENCE_SECONDS)
        descriptors = (listener.fileno(), pages.descriptor)
        # The new process inherits what is blocked. A signal to the whole group would else end it while it starts.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 (our own module)
                [sys.executable, "-P", "-m", MODULE, *map(str, descriptors)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=descriptors,
                env=_environment(),
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self._started = time.monotonic()
        self.dismissed = False
        """Whether another has taken its place, or will."""
        with contextlib.suppress(OSError):  # it has ended already, which is noticed soon
            self._socket.sendall(json.dumps(door).encode() + b"\n")  # one line, for which there is always room

    @property
    def pid(self) -> int:
        return self._process.pid

    def outlives(self, seconds: float) -> bool:
        """Return whether the process lives for so long, as soon as that is known; end one that is silent."""
        try:
            while self._socket.recv(_SIGNS):
                if time.monotonic() - self._started > seconds:
                    return self._process.poll() is None  # else these are signs that a dead one left
        except TimeoutError:
            self._process.kill()
        except OSError:
            pass  # it has ended
        return False

    def wait(self) -> str:
        """Wait for the end of the process, and return how it ended."""
        self.outlives(math.inf)
        code = self._process.wait()
        self._socket.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def end(self) -> None:
        """Ask the process to end, and see to it."""
        self.dismissed = True
        with contextlib.suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_WR)
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

    Entering it reads certificate and password (ConfigurationError) and listens (ServiceError). `left` returns the
    seconds to the next point of the board's grid; it is None if the board's clock stands. `say` hears when nobody
    answers any more, and when somebody does again.
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
        self._lock = threading.Lock()
        """Held while the process is replaced."""
        self._child: _Child | None = None
        self._listener: socket.socket
        self._pages: PagesFile
        self._keeper: threading.Thread
        self._resources: contextlib.ExitStack
        self._ending = threading.Event()
        self._woken = threading.Event()
        """Set when the keeper has to look again: at a reload and at the end."""
        self.address: tuple[str, int] | None = None
        """Host and port that are listened on; None if nothing is served, and before."""

    def __enter__(self) -> MonitoringServer:
        if self._settings.address is None:
            return self
        door = self._door()
        with contextlib.ExitStack() as resources:
            self._listener = resources.enter_context(
                listening(self._settings.address, self._settings.port, self._unheard)
            )
            try:
                self._pages = resources.enter_context(PagesFile())
            except OSError as error:
                raise self._refused(error) from None
            self._show()
            self._child = self._started(door)
            self._resources = resources.pop_all()
        self.address = self._listener.getsockname()[:2]
        self._board.watch(self._show)
        self._ending.clear()
        self._woken.clear()
        self._keeper = threading.Thread(target=self._keep, args=(self._child,), name="quietcount-http", daemon=True)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is None:
            return
        self._board.watch(None)
        self._ending.set()
        self._woken.set()
        with self._lock:
            self._child.end()
        self._keeper.join()
        self._resources.close()
        self._child = self.address = None

    def reload(self) -> None:
        """Read certificate and password again, for a new process; the old one ends with what it has in hand.

        Raises ConfigurationError if a file is not in order, and ServiceError if no process can be started. Then
        everything stays as it was.
        """
        if self._child is None:
            return
        door = self._door()
        with self._lock:
            # The new one first: the old one stays if there is no room for another.
            before, self._child = self._child, self._started(door)
            before.end()
        self._woken.set()

    def _show(self) -> None:
        left = None if self._left is None else self._left()
        with contextlib.suppress(OSError):  # no memory: the old pages stay, and say how old they are
            self._pages.write(pages(self._board.view(), left))

    def _door(self) -> dict[str, Any]:
        """Read what a client meets: the files of the certificate, and who may read."""
        settings = self._settings
        settings.tls_context()  # so that a file that is not in order is found here, and has words for a person
        files = (settings.certificate_file, settings.key_file)
        certificate, key = (None if file is None else str(file.absolute()) for file in files)
        guard = settings.credentials()
        credentials = None if guard is None else (guard.key.hex(), guard.digest.hex())
        return {"certificate": certificate, "key": key, "credentials": credentials}

    def _started(self, door: dict[str, Any]) -> _Child:
        try:
            return _Child(self._listener, self._pages, door)
        except OSError as error:
            raise self._refused(error) from None

    def _unheard(self, what: str, remedy: str) -> ServiceError:
        return ServiceError(f"{self._settings.place('listen')}: {what}", remedy)

    def _refused(self, error: OSError) -> ServiceError:
        """Return the error for a process, or a file for its pages, that the system does not give."""
        scarce = error.errno in _SCARCE
        return ServiceError(
            f"{self._settings.place('listen')}: metrics cannot be served, because the system refuses another process "
            f"({os.strerror(error.errno or 0).lower()})",
            "Give it more files, processes or memory (ulimit -n, ulimit -u)"
            if scarce
            else f"See whether {sys.executable} can be run",
        )

    # In a thread

    def _keep(self, child: _Child) -> None:
        """Put a new process in the place of one that ended by itself; say once what is wrong, until one lives on."""
        pause, told = RESTART_SECONDS, ""
        while not self._ending.is_set():
            if child.outlives(SETTLED_SECONDS):
                if told and self.address is not None:
                    self._say(SERVING.at(self._board.now(), address=written(*self.address)))
                pause, told = RESTART_SECONDS, ""
            trouble = f"the process that serves metrics and health ended: {child.wait()}"
            while not (child.dismissed or self._ending.is_set()):
                if trouble != told:
                    self._say(NOT_SERVING.at(self._board.now(), meaning=trouble))
                told = trouble
                self._woken.wait(pause)
                self._woken.clear()
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    self._replace(child)
                except QuietcountError as error:
                    trouble = str(error)
            child = self._child or child

    def _replace(self, child: _Child) -> None:
        """Start a process in the place of `child`, which has ended, unless it was asked to."""
        door = self._door()
        with self._lock:
            if not (child.dismissed or self._ending.is_set()):
                self._child, child.dismissed = self._started(door), True
