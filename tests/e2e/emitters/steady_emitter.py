"""An emitter that sends the lines it is told to, and tells which of them were acknowledged, whatever the brokers do.

python steady_emitter.py CONFIG LINES [--once]: numbers of lines come on stdin, one a line; those that were acknowledged
go to stdout. At the end of stdin it waits for the rest. What the log did not take is sent again, unless `--once`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import queue
import select
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from quietcount_producers import CaseEventPublisher
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import Position

PAUSE = 0.001  # seconds between two events: a kill shall meet events on their way
LONGEST = 120.0  # seconds for what is left at the end


class Emitter:
    """A publisher, and what becomes of each line."""

    def __init__(self, publisher: CaseEventPublisher, lines: list[dict[str, Any]], *, once: bool) -> None:
        self._publisher = publisher
        self._lines = lines
        self._once = once
        self._waiting: set[int] = set()
        self._failed: queue.SimpleQueue[int] = queue.SimpleQueue()

    @property
    def settled(self) -> bool:
        return not self._waiting

    def emit(self, number: int) -> None:
        line = dict(self._lines[number])
        self._waiting.add(number)
        event, case, day = (line.pop(key) for key in ("event", "case", "occurred_on"))
        future = self._publisher.emit(event, case, day, **line)
        future.add_done_callback(functools.partial(self._settle, number))

    def repeat(self) -> None:
        """Emit again what the log did not take."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.emit(self._failed.get_nowait())

    def _settle(self, number: int, future: Future[Position]) -> None:
        error = future.exception()
        if error is None:
            os.write(1, f"{number}\n".encode())
        elif not isinstance(error, QuietcountError):
            os.write(2, f"{error!r}\n".encode())
        elif not self._once:
            self._failed.put(number)
            return
        self._waiting.discard(number)


def numbers() -> Iterator[list[int]]:
    """Yield what has come on stdin, every few hundredths of a second, until its end."""
    rest = b""
    while True:
        if not select.select([0], [], [], 0.02)[0]:
            yield []
            continue
        found = os.read(0, 65536)
        if not found:
            return
        *whole, rest = (rest + found).split(b"\n")
        yield [int(each) for each in whole]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("lines", type=Path)
    parser.add_argument("--once", action="store_true")
    given = parser.parse_args()
    lines = [json.loads(line) for line in given.lines.read_text(encoding="utf-8").splitlines()]
    publisher = CaseEventPublisher.from_config(given.config)
    emitter = Emitter(publisher, lines, once=given.once)
    for fresh in numbers():
        for number in fresh:
            emitter.emit(number)
            time.sleep(PAUSE)
        emitter.repeat()
    until = time.monotonic() + LONGEST
    while not emitter.settled and time.monotonic() < until:
        emitter.repeat()
        time.sleep(0.02)
    with contextlib.suppress(QuietcountError):  # tells of failures that each future told of
        publisher.flush()
    publisher.drain(LONGEST)
    publisher.close()


if __name__ == "__main__":
    main()
