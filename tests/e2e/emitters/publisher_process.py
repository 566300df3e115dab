"""An emitter in a process of its own: what it was told to send, and what was acknowledged to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests import forking

__all__ = ["PublisherProcess"]

LONGEST = 150.0  # seconds after which an emitter that does not end is a failure; it gives what is left 120


class PublisherProcess:
    """A process with a CaseEventPublisher: see steady_emitter."""

    def __init__(self, config: Path, lines: Path, *arguments: str) -> None:
        self.acknowledged: list[int] = []
        self._process = forking.Popen(
            [sys.executable, str(Path(__file__).with_name("steady_emitter.py")), str(config), str(lines), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.acknowledged.extend(int(line) for line in self._process.stdout)

    def feed(self, numbers: Sequence[int]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{number}\n" for number in numbers))
        self._process.stdin.flush()

    def end(self) -> None:
        """Let it come to its end; it must have nothing to complain of."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and says why
            self._process.stdin.close()
        code = self._process.wait(LONGEST)
        complaints = self._process.stderr.read()
        assert (code, complaints) == (0, ""), (code, complaints)
        self.close()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # what it did not read
                stream.close()
