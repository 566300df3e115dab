"""Another program that opens a file as DuckDB does unless it is told not to: to write, and shutting everybody out."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Holder", "holding"]

_CODE = """
import sys
import duckdb
connection = duckdb.connect(sys.argv[1])
print(flush=True)
for line in sys.stdin:
    print(connection.execute(line).fetchall(), flush=True)
connection.close()
"""


class Holder:
    """The program, which runs what it is asked to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def ask(self, sql: str) -> str:
        """Run `sql`, of one line, in the other program, and return its rows as text."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{sql}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """End it as kill -9 does, so that what it wrote beside the file stays there."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def holding(path: Path, sql: str = "") -> Iterator[Holder]:
    """Hold the file open in another process, in which `sql` is run first; it must end without an error."""
    with subprocess.Popen(
        [sys.executable, "-c", _CODE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            holder = Holder(process)
            if sql:
                holder.ask(sql)
            yield holder
        except BaseException:
            process.kill()
            raise
    assert process.returncode in (0, -9)
