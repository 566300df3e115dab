"""The web frameworks and workers that the recipes are run with, installed once a machine into a folder of their own.

`python -m tests.recipes.frameworks` installs them ahead of the tests.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from tests.readers.programs import installed

__all__ = ["Server", "children", "frameworks", "recipe"]

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_BLOCK = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)


def frameworks() -> Path:
    """The folder with the packages."""
    return installed(_REQUIREMENTS)


def recipe(root: Path, name: str) -> str:
    """The text of a file of the page."""
    page = (root / "docs" / "recipes.md").read_text(encoding="utf-8")
    blocks: dict[str, str] = dict(_BLOCK.findall(page))
    return blocks[name]


def children(pid: int) -> list[int]:
    """The processes that a process has started and not reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


class Server:
    """`python -m ...` in `place`, with the frameworks on its path and a socket on which it is to listen."""

    def __init__(self, place: Path, *command: str, environment: dict[str, str] | None = None) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.output = place / "output"
        number = str(self.socket.fileno())
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *(word.replace("FD", number) for word in command)],
                cwd=place,
                env={**os.environ, "PYTHONPATH": str(frameworks()), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[self.socket.fileno()],
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            for pid in [*children(self.process.pid), self.process.pid]:
                os.kill(pid, 9)
        self.process.wait()
        self.socket.close()

    def stop(self) -> str:
        """End it as an operator does; return what it wrote."""
        self.process.terminate()
        self.process.wait(60)
        return self.output.read_text(errors="replace")


if __name__ == "__main__":
    frameworks()
