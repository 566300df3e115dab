"""What can be seen of a running service without a right to its private folder or its secrets, at one moment."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.e2e.projects import TIMEOUT, Project

__all__ = ["Observation", "WatchedService", "differences", "free_port"]

Observation = dict[str, object]
"""What was seen at one moment, by the place at which it can be seen."""

PAGES = ("/metrics", "/healthz", "/readyz")
NOISED = re.compile(r"^(quietcount_statistic_(?:estimate|lower|upper)\{.*\}) -?[0-9.e+]+$", re.MULTILINE)
"""The values that differ because they are drawn. NaN, for what is not released, is not among them."""

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


class WatchedService:
    """`quietcount run` in a process, driven tick by tick (clocked_service). `seen` is what was observed, by moment."""

    def __init__(self, project: Project, start: dt.datetime, port: int, mutants: Iterable[str] = ()) -> None:
        self.project = project
        self.seen: dict[str, Observation] = {}
        self._now = start
        self._port = port
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        address = project.folder.with_name(f"{project.folder.name}.notify")
        self._notified.bind(str(address))
        self._arguments = [str(project.config), start.isoformat(), *(f"--mutant={mutant}" for mutant in mutants)]
        self._environment = {"QUIETCOUNT_METRICS__LISTEN": f"127.0.0.1:{port}", "NOTIFY_SOCKET": str(address)}
        self._files: dict[str, tuple[int, ...]] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WatchedService:
        self._process = subprocess.Popen(
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
        code = self._process.wait(TIMEOUT)
        self.seen["at the end"] = {"exit code": code, **self._outside()}

    def _settle(self) -> None:
        """Observe twice: where the first batch is in hand, or none came, and when the tick is done."""
        amid = False
        while (where := self._told()) != "resting":
            assert where == "folding", (where, self._said())
            if not amid:
                self._observe("amid")
                amid = True
            self._tell("go")
        if not amid:
            self._observe("amid")
        self._observe("after")

    def _observe(self, moment: str) -> None:
        self.seen[f"{self._now:%Y-%m-%d %H:%M}, {moment} the tick"] = {
            **{f"GET {page}": self._got(page) for page in PAGES},
            "GET /nothing": self._got("/nothing"),
            "listening": self._listening(),
            **self._outside(),
        }

    def _outside(self) -> Observation:
        """What does not need the process."""
        return {"log": self._said(), "told to systemd": self._notifications(), **dict(self._public_files())}

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
        """Yield each file and folder that others may look at, and whether it was touched since the last look."""
        private, secrets = self.project.data / "private", self.project.folder / "secrets"
        for folder, folders, files in os.walk(self.project.folder):
            folders[:] = [name for name in folders if Path(folder, name) not in (private, secrets)]
            for path in (Path(folder, name) for name in (".", *files)):
                yield self._looked_at(path)
        if private.exists():
            yield self._looked_at(private)
        yield "file secrets", oct(secrets.stat().st_mode)

    def _looked_at(self, path: Path) -> tuple[str, object]:
        facts = path.stat()
        name = str(path.relative_to(self.project.folder))
        stamps = (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_size)
        touched = self._files.get(name) not in (None, stamps)
        self._files[name] = stamps
        return f"file {name}", (oct(facts.st_mode), touched, *self._size_and_time(path, facts))

    def _size_and_time(self, path: Path, facts: os.stat_result) -> tuple[float, ...]:
        # What the service did not write has the time at which the test did, and a folder that of its last change.
        if self.project.data in path.parents and path.is_file():
            return facts.st_size, facts.st_mtime
        return (facts.st_size,) if path.is_file() else ()

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
                found.append(self._notified.recv(4096).decode())
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
            assert byte, f"the service ended: {self._said()}"
            line += byte
        return line.decode().strip()
