"""One Apache Kafka process, broker and controller in one, with the controls that a trial needs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.kafka.artifacts import class_archive

_STOPPING_SECONDS = 30  # an orderly stop takes one or two; after that it is killed, so that no test leaves a process
_TAIL = 40

# A small heap and the quick compiler alone: a broker of a test lives for seconds or minutes.
_JVM = (
    "-Xms128m",
    "-Xmx400m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


class Broker:
    """A node of a cluster: its folder, its ports by listener, and its process while it runs."""

    def __init__(
        self, number: int, folder: Path, ports: Mapping[str, int], properties: Mapping[str, str], java: str, jars: Path
    ) -> None:
        self.number = number
        self.folder = folder
        self.ports = dict(ports)
        self.log = folder / "broker.log"
        self._paused = False
        self._process: subprocess.Popen[bytes] | None = None
        self._java = [java, *_JVM]
        self._class_path = ["-cp", f"{jars}/*"]
        self._archive = class_archive(java, jars)
        self._record = folder / "classes.jsa"
        self._properties = folder / "server.properties"
        folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), encoding="utf-8")

    def __getstate__(self) -> dict[str, object]:
        """All but the process: what another process needs to know of a broker that is not its own."""
        return {**self.__dict__, "_process": None}

    def address(self, listener: str = "PLAINTEXT") -> str:
        """`127.0.0.1:port` of one of its listeners."""
        return f"127.0.0.1:{self.ports[listener]}"

    @property
    def pid(self) -> int:
        """The process id; a RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError(f"broker {self.number} does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is there, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def recording(self) -> bool:
        """Whether an orderly stop would leave what the next brokers start quicker from."""
        return self.answering and not self._archive.is_file()

    @property
    def answering(self) -> bool:
        """Whether its process is there and not paused."""
        return self.running and not self._paused

    def format(self, cluster_id: str, users: Mapping[str, str]) -> None:
        """Prepare its data folder, with SCRAM passwords by user name, in both sizes of the mechanism."""
        scram = [
            argument
            for name, password in users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
        tool = [*self._ready_classes(), *self._class_path, "kafka.tools.StorageTool"]
        done = subprocess.run(
            [*self._java, *tool, "format", f"--cluster-id={cluster_id}", "-c", str(self._properties), *scram],
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the data of broker {self.number} could not be prepared:\n{done.stdout}{done.stderr}")

    def launch(self) -> None:
        """Start the process, without waiting for it to answer."""
        if self.running:
            raise RuntimeError(f"broker {self.number} runs already")
        # Where the kernel can do it, the broker ends with the tests even if those are killed. It is the end of the
        # thread that counts, so a broker that a trial's own thread starts is not bound to it.
        lasting = threading.current_thread() is threading.main_thread()
        bound = ["setpriv", "--pdeathsig", "KILL"] if lasting and shutil.which("setpriv") else []
        classes = self._ready_classes() or [f"-XX:ArchiveClassesAtExit={self._record}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*bound, *self._java, *classes, *self._class_path, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            )
        self._paused = False

    def stop(self) -> None:
        """SIGTERM: the orderly end. One that does not follow within half a minute is killed."""
        if not self.running:
            return
        self.resume()
        process = self._process
        assert process is not None
        process.terminate()
        try:
            process.wait(timeout=_STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._keep_classes()

    def kill(self) -> None:
        """SIGKILL: what a crash of the process is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._paused = False

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as behind a dead network or a full disk."""
        if self.running:
            self._signal(signal.SIGSTOP)
            # On a busy machine its threads go on until one of them gets to take the signal.
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._paused = True

    def resume(self) -> None:
        """SIGCONT, after `pause`."""
        if self.running and self._paused:
            self._signal(signal.SIGCONT)
            self._paused = False

    def tail(self) -> str:
        """The end of what the broker logged."""
        if not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:])

    def wait_until_it_knows(self, others: set[int], deadline: float) -> None:
        """Wait until it answers with each of `others` among the live brokers.

        `deadline` is a time of the monotonic clock; TimeoutError after it, or as soon as the process ended.
        """
        while True:
            try:
                if others <= live_brokers(self.ports["PLAINTEXT"]):
                    return
            except OSError:
                pass  # it does not listen yet
            if not self.running or time.monotonic() > deadline:
                ended = "did not answer in time" if self.running else "ended"
                raise TimeoutError(f"broker {self.number} {ended}; its log ends with:\n{self.tail()}")
            time.sleep(0.05)

    def _ready_classes(self) -> list[str]:
        return [f"-XX:SharedArchiveFile={self._archive}"] if self._archive.is_file() else []

    def _keep_classes(self) -> None:
        if self._record.is_file() and not self._archive.is_file():
            partial = self._archive.with_name(f"{self._archive.name}.{os.getpid()}.partial")
            shutil.copyfile(self._record, partial)
            partial.replace(self._archive)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def live_brokers(port: int) -> set[int]:
    """The numbers of the brokers that the one at `port` of this machine takes for alive. OSError when it is silent.

    Kafka's Metadata request, version 1, for no topic: an int16 key and version, an int32 correlation id, a client id
    counted by an int16, topics counted by an int32; the answer has a correlation id and brokers (id, host, port, rack).
    """
    request = struct.pack(">hhihi", 3, 1, 7, -1, 0)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", _exactly(stream.read(4), 4))
            answer = _exactly(stream.read(size), size)
    _, count = struct.unpack_from(">ii", answer)
    at, found = 8, set()
    for _ in range(count):
        number, length = struct.unpack_from(">ih", answer, at)
        at += 6 + length + 4
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)
        found.add(number)
    return found


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ConnectionError("the answer was cut off")
    return data
