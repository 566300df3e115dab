"""Reading the public file, also while another program holds it open to write.

DuckDB opens a file to write unless it is told not to, and then lets nobody else open it. So somebody who only looks at
the statistics shuts everybody else out. A file that is held is read from a copy of its bytes, which needs no lock.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO, Final, NamedTuple

import duckdb

from quietcount_aggregates.errors import PublicationHeld

__all__ = ["Holder", "Settings", "changes_beside", "holder_of", "opened"]

Settings = dict[str, str | bool | int | float | list[str]]
"""DuckDB's settings for a connection."""

_LOCKED: Final = "Could not set lock"
_BY = re.compile(r"Conflicting lock is held in (?:(?P<program>.+?) \()?PID (?P<process>\d+)")

_ATTEMPTS: Final = 5
"""How often a file that changes meanwhile is copied: a program that closes it writes to it for a moment."""

_CHUNK: Final = 1 << 20


class Holder(NamedTuple):
    """The program that holds a file open to write, as far as DuckDB knows it."""

    program: str | None
    process: int | None

    def __str__(self) -> str:
        known = [part for part in (self.program, self.process and f"process {self.process}") if part]
        return f"another program ({', '.join(known)})" if known else "another program"


def opened(path: Path, settings: Settings | None = None) -> duckdb.DuckDBPyConnection:
    """Open what was published at `path`, for reading only; a file that another program holds is read all the same.

    What other programs wrote beside the file, into a write-ahead log, is left out: nothing of it was published. Raises
    PublicationHeld if a held file cannot be copied, and duckdb.Error for what is damaged, or no database.
    """
    if changes_beside(path) is None:
        try:
            return duckdb.connect(str(path), read_only=True, config=settings or {})
        except duckdb.IOException as error:
            if _LOCKED not in str(error):
                raise
    return _opened_copy(path, settings or {})


def holder_of(path: Path) -> Holder | None:
    """Return the program that holds the file at `path` open to write, if there is one."""
    try:
        duckdb.connect(str(path), read_only=True).close()
    except duckdb.Error as error:
        text = str(error)
        if _LOCKED in text:
            by = _BY.search(text)
            if by is None:
                return Holder(None, None)
            return Holder(by["program"] and Path(by["program"]).name, int(by["process"]))
    return None


def changes_beside(path: Path) -> Path | None:
    """Return the write-ahead log beside the file at `path`, if there is one.

    Publishing leaves none: it holds what another program wrote. DuckDB puts that on top of whatever file lies there.
    """
    beside = path.with_name(f"{path.name}.wal")
    return beside if os.path.lexists(beside) else None


def _opened_copy(path: Path, settings: Settings) -> duckdb.DuckDBPyConnection:
    # Here: a query that needs no copy starts faster without it. The copy is as public as the file.
    from tempfile import TemporaryDirectory

    try:
        with TemporaryDirectory(prefix="quietcount-read-") as folder:
            copy = Path(folder) / path.name
            _copy(path, copy)
            # DuckDB keeps the file that it opened, so that the name may go at once, however this process ends.
            return duckdb.connect(str(copy), read_only=True, config=settings)
    except OSError as error:
        raise PublicationHeld(
            f"{path}: another program has it open to write, and no copy of it can be made ({error.strerror})",
            "Make room for temporary files or mend the rights, or end that program; then run again",
        ) from None


def _copy(path: Path, copy: Path) -> None:
    """Copy the bytes of the file as they were at one moment."""
    for _ in range(_ATTEMPTS):
        with path.open("rb") as file, copy.open("w+b") as written:
            while chunk := file.read(_CHUNK):
                written.write(chunk)
            if _same(file, written):
                return
    raise PublicationHeld(
        f"{path}: another program has it open, and writes to it without pause", "End that program, then run again"
    )


def _same(file: IO[bytes], written: IO[bytes]) -> bool:
    """Return whether the file still holds what was copied; then it held just that when the copy was done.

    A clock could not tell: a system gives all writes of a few milliseconds one time.
    """
    file.seek(0)
    written.seek(0)
    while chunk := file.read(_CHUNK):
        if chunk != written.read(len(chunk)):
            return False
    return not written.read(1)
