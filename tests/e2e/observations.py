"""What can be seen of a running service without a right to its private folder or its secrets, at one moment."""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import datetime as dt
import http.client
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests import forking
from tests.e2e.projects import TIMEOUT, Project

__all__ = ["Observation", "WatchedService", "differences", "free_port"]

Observation = dict[str, object]
"""What was seen at one moment, by the place at which it can be seen."""

PAGES = ("/metrics", "/healthz", "/readyz")
NOISED = re.compile(r"^(quietcount_statistic_(?:estimate|lower|upper)\{.*\}) -?[0-9.e+]+$", re.MULTILINE)
"""The values that differ because they are drawn. NaN, for what is not released, is not among them."""

_AT_FDCWD, _STATX_BTIME = -100, 0x800
_SERVICE = Path(__file__).with_name("clocked_service.py")
_PORTS = range(20_000, 30_000)  # below those that systems hand out


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


def differences(one: Mapping[str, Observation], other: Mapping[str, Observation]) -> list[str]:
    """Return where and when two services could be told apart, and by what."""
    return [
        f"{moment}: {place}: {_apart(one.get(moment, {}).get(place), other.get(moment, {}).get(place))}"
        for moment in dict.fromkeys((*one, *other))
        for place in dict.fromkeys((*one.get(moment, {}), *other.get(moment, {})))
        if one.get(moment, {}).get(place) != other.get(moment, {}).get(place)
    ]


def _apart(one: object, other: object) -> str:
    """Return the lines that only one of two has."""
    lines, others = (str(each).replace("\\n", "\n").splitlines() for each in (one, other))
    return f"{[each for each in lines if each not in others]} and {[each for each in others if each not in lines]}"


def birth_ns(path: Path) -> int:
    """Return when the file was made, in ns since the epoch: statx(2), which `os.stat` does not ask; 0 if not told."""
    facts = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None).statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, facts):
        raise FileNotFoundError(path)
    seconds, nanoseconds = struct.unpack_from("=qI", facts, 0x50)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


class WatchedService:
    """`quietcount run` in a process, driven tick by tick (clocked_service). `seen` is what was observed, by moment."""

    def __init__(self, project: Project, start: dt.datetime, port: int, mutants: Iterable[str] = ()) -> None:
        self.project = project
        self.seen: dict[str, Observation] = {}
        self.hang_up_amid = False
        """Whether SIGHUP is sent amid the next tick."""
        self._now = start
        self._port = port
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        address = project.folder.with_name(f"{project.folder.name}.notify")
        self._notified.bind(str(address))
        self._arguments = [str(project.config), start.isoformat(), *(f"--mutant={mutant}" for mutant in mutants)]
        self._environment = {
            "QUIETCOUNT_METRICS__LISTEN": f"127.0.0.1:{port}",
            "NOTIFY_SOCKET": str(address),
            "WATCHDOG_USEC": "60000000",
        }
        self._looks: list[int] = []
        """When it was looked: between which looks a file was touched is what is compared, and not the very moment."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False

    def __enter__(self) -> WatchedService:
        self._process = forking.Popen(
            [sys.executable, str(_SERVICE), *self._arguments],
            cwd=self.project.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._notified.close()

    def begin(self) -> None:
        """Let the service open and do its first tick."""
        self._settle()

    def advance(self, step: dt.timedelta) -> None:
        """Let the clock go on, and the service do the tick at which it then is."""
        self._now += step
        self._tell(self._now.isoformat())
        self._settle()

    def stop(self) -> None:
        """Send SIGTERM and observe the end."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._end()

    def stop_amid(self, step: dt.timedelta) -> None:
        """Let the clock go on, send SIGTERM where the first batch is in hand, or none came, and observe the end."""
        assert self._process is not None
        self._now += step
        self._tell(self._now.isoformat())
        where = self._told()
        self._observe("amid")
        self._ending = True
        self._process.send_signal(signal.SIGTERM)
        while where == "folding":
            self._tell("go")
            where = self._told()
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        code = self._process.wait(TIMEOUT)
        self.seen["at the end"] = {"exit code": code, **self._outside(), **self._supervised()}

    def _settle(self) -> None:
        """Observe twice: where the first batch is in hand, or none came, and when the tick is done."""
        amid = False
        while (where := self._told()) != "resting":
            assert where == "folding", (where, self._said())
            if not amid:
                self._amid()
                amid = True
            self._tell("go")
        if not amid:
            self._amid()
        self._observe("after", **self._supervised())

    def _amid(self) -> None:
        self._observe("amid")
        if self.hang_up_amid:
            assert self._process is not None
            self._process.send_signal(signal.SIGHUP)
            self.hang_up_amid = False

    def _observe(self, moment: str, **further: object) -> None:
        self.seen[f"{self._now:%Y-%m-%d %H:%M}, {moment} the tick"] = {
            **{f"GET {page}": self._got(page) for page in PAGES},
            "GET /nothing": self._got("/nothing"),
            "listening": self._listening(),
            **self._outside(),
            **further,
        }

    def _outside(self) -> Observation:
        """What does not need the process."""
        self._looks.append(time.time_ns())
        # Longer than the grain of the clock by which files are stamped: what comes next is stamped later.
        time.sleep(0.012)
        return {"log": self._said(), **dict(self._public_files())}

    def _supervised(self) -> Observation:
        """What systemd heard of a tick: looked at when the tick is done, since systemd hears it at once."""
        return {"told to systemd": self._notifications()}

    def _got(self, page: str) -> tuple[int, list[tuple[str, str]], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", page)
            response = connection.getresponse()
            body = response.read()
        headers = response.getheaders()
        assert ("content-length", str(len(body))) in headers
        # The length follows from the body, which is compared: where nothing was drawn, to the letter.
        told = [header for header in headers if header[0] != "content-length"]
        return response.status, told, NOISED.sub(r"\1 drawn", body.decode())

    def _listening(self) -> list[str]:
        """Return the addresses that the process listens on, as the kernel tells them."""
        assert self._process is not None
        own: set[str] = set()
        for each in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                own.add(str(each.readlink()))
        found = []
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/{self._process.pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if f"socket:[{rest[5]}]" in own and (state == "0A" or table.startswith("udp")):
                    found.append(f"{table} {local}")
        return sorted(found)

    def _public_files(self) -> Iterator[tuple[str, object]]:
        """Yield each file and folder that others may look at, with what can be told of it."""
        private, secrets = self.project.data / "private", self.project.folder / "secrets"
        for folder, folders, files in os.walk(self.project.folder):
            folders[:] = [name for name in folders if Path(folder, name) not in (private, secrets)]
            for path in (Path(folder, name) for name in (".", *files)):
                yield from self._looked_at(path)
        for closed in (private, secrets):
            if closed.exists():
                yield from self._looked_at(closed)

    def _looked_at(self, path: Path) -> Iterator[tuple[str, object]]:
        """Yield a file's facts, and after how many looks it was made, written and changed."""
        facts = path.stat()
        name = f"file {path.relative_to(self.project.folder)}"
        yield name, (oct(facts.st_mode), facts.st_nlink, *((facts.st_size,) if path.is_file() else ()))
        yield f"{name}, made", self._after(birth_ns(path))
        yield f"{name}, changed", self._after(facts.st_ctime_ns)
        # The service gives what it publishes a time of its own; what it did not write has that of the test.
        given = self.project.data in path.parents and path.is_file()
        yield f"{name}, written", facts.st_mtime_ns if given else self._after(facts.st_mtime_ns)

    def _after(self, moment: int) -> int:
        return bisect.bisect_left(self._looks, moment)

    def _said(self) -> str:
        """Return what came on stderr since this was last asked."""
        assert self._process is not None
        assert self._process.stderr is not None
        said = b""
        while part := self._process.stderr.read(65_536):
            said += part
        return said.decode()

    def _notifications(self) -> list[str]:
        found: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                # When it was told is what systemd stamps; the test's clock is not the one that is told here.
                found.append(re.sub(r"(?<=MONOTONIC_USEC=)\d+", "now", self._notified.recv(4096).decode()))
        return found

    def _tell(self, command: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())

    def _told(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        line = b""
        deadline = time.monotonic() + TIMEOUT
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the service came to no rest: {self._said()}"
            byte = os.read(descriptor, 1)
            if not byte and self._ending:
                return "ended"
            assert byte, f"the service ended: {self._said()}"
            line += byte
        return line.decode().strip()
