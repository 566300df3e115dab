"""How far a command is with a file: a bar on stderr at a terminal, nothing in a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

import click

from quietcount_producers.files.emission import plain_file

__all__ = ["Steps", "progress", "size_of"]

_ROWS_A_STEP: Final = 2000
"""A progress bar that moves at each row costs more than the row."""


def size_of(stream: BinaryIO) -> int | None:
    """Return the bytes of a plain file, and None for what has no end yet."""
    status = plain_file(stream)
    return None if status is None else status.st_size


@contextlib.contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr at a terminal, nothing in a pipe or without a `total`; yields what to call with each advance."""
    if total is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label=what, file=sys.stderr, show_eta=False) as bar:
        yield bar.update


class Steps:
    """Turns "another row was read" into bytes for a progress bar, seldom enough to cost nothing."""

    def __init__(self, bar: Callable[[int], None], stream: BinaryIO) -> None:
        self._bar = bar
        self._stream = stream
        self._rows = 0
        self._at = 0

    def __call__(self) -> None:
        self._rows += 1
        if self._rows % _ROWS_A_STEP == 0 and self._stream.seekable():
            at = self._stream.tell()
            self._bar(at - self._at)
            self._at = at
