"""A service under load on real Kafka, what systemd and Prometheus would do with it, and a disk that can be full."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.emitters.publisher_process import PublisherProcess
from tests.e2e.projects import Finished, Project, ended

__all__ = ["LONGEST", "Disk", "Load", "Unit", "Watch"]

LONGEST = 120.0  # seconds after which what does not go on by itself is a failure
GRACE = 30.0  # seconds that a service has from SIGTERM to its end
WATCHDOG = 40.0  # seconds without a sign of life after which it is ended; an outage of Kafka takes a tick half of that
RESTART = 1.0  # seconds from a failure to the next start
SCRAPE = 0.5  # seconds from one look at the metrics to the next
ENDING = 5.0  # seconds from the end of what is served to the end of the process
ANSWER = 10.0  # seconds that an answer may take on a machine this busy
_MEBIBYTE = 1 << 20
_RUNNER = Path(__file__).with_name("fault_runner.py")


class Disk:
    """A small disk on `folder`, seen by the processes that are started in it alone; it goes when this process ends.

    RuntimeError where this machine does not allow that.
    """

    def __init__(self, folder: Path, mebibytes: int) -> None:
        folder.mkdir(exist_ok=True)
        own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        mount = f'mount -t tmpfs -o size={mebibytes}m,mode=755 quietcount "$1" && echo made && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", *own, "sh", "-c", mount, "sh", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"made\n":
            self.close()
            raise RuntimeError("no disk can be made here")
        self.inside = Path(f"/proc/{self._holder.pid}/root{folder}")
        """Where others than those processes find what is on it."""
        join = ["--user", "--preserve-credentials"] if own else []
        self.enter = ["nsenter", f"--target={self._holder.pid}", *join, "--mount", "--"]
        """What stands before a command that is to see it."""

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Leave not a byte on it for as long."""
        filler = self.inside / "filler"
        try:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(_MEBIBYTE))
            with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(512))
            yield
        finally:
            filler.unlink()

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        for stream in (self._holder.stdin, self._holder.stdout):
            assert stream is not None
            stream.close()


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run of the service ended: its exit code (negative for a signal), and what had been asked of it."""

    code: int
    asked: int | None


class Unit:
    """The service, started again as systemd would whenever it fails, and by the trial when it was stopped."""

    def __init__(self, project: Project, control: Path, enter: Sequence[str], port: int) -> None:
        self._command = [*enter, sys.executable, str(_RUNNER), str(project.config), str(control)]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "QUIETCOUNT_METRICS__LISTEN": f"127.0.0.1:{port}",
        }
        self._said = project.folder / "service.said"
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = project.folder / "notify"
        self._told.bind(str(address))
        self._told.settimeout(0.2)
        self._environment |= {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": str(int(WATCHDOG * 1_000_000))}
        self._asked: int | None = None
        self._lasting = True
        self._lock = threading.Lock()
        self.ended: list[Ended] = []
        self.barked = 0
        """How often the watchdog ended the process."""
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()
        self._watchdog = threading.Thread(target=self._listen)
        self._watchdog.start()

    @property
    def pid(self) -> int | None:
        """The process that runs and was not asked to end, or None."""
        with self._lock:
            return self._process.pid if self._process.poll() is None and self._asked is None else None

    def send(self, number: signal.Signals) -> None:
        """Ask the process to end, or end it; another is started."""
        with self._lock:
            self._asked = number
            self._process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, and no other is started."""
        self._lasting = False
        self.send(signal.SIGTERM)
        self._thread.join(GRACE)
        assert not self._thread.is_alive(), "the service does not end within its grace period"

    def close(self) -> None:
        self._lasting = False
        self._process.kill()
        self._thread.join()
        self._watchdog.join()
        self._told.close()

    def run(self, *arguments: str) -> Finished:
        """Run another command to its end where the service ran."""
        process = subprocess.Popen(
            [*self._command, *arguments],
            text=True,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return ended(process)

    def said(self) -> str:
        return self._said.read_text(encoding="utf-8", errors="replace") if self._said.exists() else ""

    def _start(self) -> subprocess.Popen[bytes]:
        with self._said.open("ab") as said:
            return subprocess.Popen(
                [*self._command, "run"], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=self._environment
            )

    def _keep(self) -> None:
        while True:
            code = self._process.wait()
            self.ended.append(Ended(code, self._asked))
            if not self._lasting:
                return
            time.sleep(RESTART if code else 0.0)
            with self._lock:
                self._asked = None
                self._process = self._start()

    def _listen(self) -> None:
        """Be the watchdog: end what has said that it lives, and says so no more."""
        living: int | None = None
        at = 0.0
        while self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                if b"WATCHDOG=1" in self._told.recv(4096):
                    living, at = self.pid, time.monotonic()
            if living is not None and living == self.pid and time.monotonic() - at > WATCHDOG:
                self.barked += 1
                os.kill(living, signal.SIGABRT)
                living = None


class Watch:
    """Prometheus, which looks at the metrics, and a look at the memory of the process beside it."""

    def __init__(self, unit: Unit, port: int) -> None:
        self._unit = unit
        self._port = port
        self._stop = threading.Event()
        self._answered: int | None = None
        self.silent: list[str] = []
        """What was answered wrongly or not at all, though the process was there and had answered before."""
        self.looks = 0
        self.latest: Mapping[str, float] = {}
        self.memory: list[tuple[float, float]] = []
        """Seconds on the monotonic clock, and MiB that the process had."""
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def sees(self, **wanted: float) -> bool:
        """Return whether the newest look showed these values, given by name without `quietcount_`."""
        return bool(self.latest) and all(
            self.latest.get(f"quietcount_{name}") == value for name, value in wanted.items()
        )

    def wait(self, there: Callable[[], bool], lack: str) -> None:
        until = time.monotonic() + LONGEST
        while not there():
            assert time.monotonic() < until, f"{lack}: {dict(self.latest)}\n{self._unit.said()[-3000:]}"
            time.sleep(0.05)

    def _watch(self) -> None:
        while not self._stop.wait(SCRAPE):
            pid = self._unit.pid
            if pid is None:
                self.latest = {}
                continue
            self._weigh(pid)
            try:
                values = self._look()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.latest = {}
                if pid == self._answered and self._stays(pid):
                    self.silent.append(f"{type(error).__name__}: {error}")
                continue
            self._answered = pid
            self.looks += 1
            self.latest = values

    def _stays(self, pid: int) -> bool:
        """Return whether the process goes on, and is not about to end."""
        until = time.monotonic() + ENDING
        while self._unit.pid == pid:
            if time.monotonic() > until:
                return True
            time.sleep(0.05)
        return False

    def _look(self) -> dict[str, float]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(f"/metrics was answered with {answer.status}")
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def _weigh(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            for line in status.splitlines():
                if line.startswith("VmRSS:"):
                    self.memory.append((time.monotonic(), int(line.split()[1]) / 1024))


class Load:
    """Emitters, and a thread that lets them send lines at a steady rate: so many a second, each its part."""

    def __init__(self, configs: Sequence[Path], lines: Path, rate: int) -> None:
        self.emitters = [PublisherProcess(config, lines) for config in configs]
        self._rate = rate
        self._stop = threading.Event()
        self.fed = 0
        self._thread = threading.Thread(target=self._feed)
        self._thread.start()

    @property
    def begun(self) -> bool:
        """Whether something was acknowledged to each emitter."""
        return all(emitter.acknowledged for emitter in self.emitters)

    def end(self) -> set[int]:
        """Stop, let the emitters send what is left, and return what was acknowledged."""
        self._stop.set()
        self._thread.join()
        for emitter in self.emitters:
            emitter.end()
        return {number for emitter in self.emitters for number in emitter.acknowledged}

    def close(self) -> None:
        self._stop.set()
        self._thread.join(1.0)  # longer only where an emitter reads no more
        for emitter in self.emitters:
            emitter.close()
        self._thread.join()

    def _feed(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(0.1):
            numbers = range(self.fed, int((time.monotonic() - began) * self._rate))
            for which, emitter in enumerate(self.emitters):
                mine = [number for number in numbers if number % len(self.emitters) == which]
                with contextlib.suppress(OSError, ValueError):  # it was closed, which the trial says
                    emitter.feed(mine)
            self.fed = max(self.fed, numbers.stop)
