"""Pages: what one turn of the board shows, made ready for the process that serves it.

That process knows no status. It gets finished text, and the few numbers that it needs to say how old the text is when
somebody asks. This module uses the standard library alone, because both processes load it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Final

__all__ = ["AGE", "BEHIND", "LATE", "READY", "Pages", "PagesFile", "running"]

LATE: Final = 2
"""How many points of the grid may pass without a tick before the service is not ready: one long tick is no fault."""

AGE: Final = "\0age"
BEHIND: Final = "\0behind"
READY: Final = "\0ready"
"""What stands in the text of the metrics in the place of three values that follow from the time of a scrape. No metric
holds a zero byte."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LENGTH: Final = 4
_HEAD: Final = _LENGTH + 32


def running() -> float:
    """Return for how many seconds the machine has been running, sleep included: both processes read the same clock."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Pages:
    """The text of /metrics in both formats, and what /readyz depends on, as they were at `made` (see `running`).

    All times are seconds.
    """

    text: str
    """In Prometheus' text format, with AGE, BEHIND and READY in the place of values."""
    open_metrics: str
    """The same in OpenMetrics."""
    reasons: tuple[str, ...]
    """Why the service is not ready, but for ticks that are late."""
    interval: float
    """From one point of the tick's grid to the next."""
    age: float
    """How old the newest tick was."""
    left: float | None
    """From `made` to the next point of the grid, when that tick is older by an interval; None if the clock stands."""
    made: float

    def aged(self, now: float) -> float:
        """Return how old the newest tick is at `now`, even if the fold's process has written nothing since."""
        passed = now - self.made
        if self.left is None or passed < self.left:
            return self.age
        return self.age + (1 + (passed - self.left) // self.interval) * self.interval

    def behind(self, now: float) -> float:
        """Return how many points of the grid passed by `now` without a tick that was done by the next one."""
        return max(0.0, self.aged(now) // self.interval - 1)

    def not_ready(self, now: float) -> list[str]:
        """Return why the service is not ready at `now`, a plain sentence for each reason; empty if it is ready."""
        return [*self.reasons, "Ticks are late."] if self.behind(now) > LATE else [*self.reasons]

    def metrics(self, now: float, *, openly: bool) -> bytes:
        """Return what /metrics says at `now`: OpenMetrics if `openly`, else Prometheus' text format."""
        body = self.open_metrics if openly else self.text
        values = {AGE: self.aged(now), BEHIND: self.behind(now), READY: float(not self.not_ready(now))}
        for marker, value in values.items():
            body = body.replace(marker, str(value))
        return body.encode()


class PagesFile:
    """The newest pages, in a file without a name that both processes have open; new ones replace the old ones there.

    Neither process waits for the other. A reader that comes in the middle of a writing goes on with what it read
    before. `descriptor` is the file of another process; without one a file is made, in memory.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _file() if descriptor is None else descriptor
        self._head = b""
        self._newest = _NONE

    def __enter__(self) -> PagesFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def write(self, pages: Pages) -> None:
        """Put `pages` in the place of what was there. Raises OSError if there is no memory for them."""
        data = json.dumps(asdict(pages)).encode()
        os.pwrite(self.descriptor, _head(data) + data, 0)

    def read(self) -> Pages:
        """Return the newest pages that are whole."""
        head = os.pread(self.descriptor, _HEAD, 0)
        if head != self._head:
            data = os.pread(self.descriptor, int.from_bytes(head[:_LENGTH]), _HEAD)
            if _head(data) == head:
                document = json.loads(data)
                self._head, self._newest = head, Pages(**document | {"reasons": tuple(document["reasons"])})
        return self._newest


_NONE: Final = Pages("", "# EOF\n", ("No page was handed over yet.",), 1.0, 0.0, None, 0.0)


def _file() -> int:
    """Return a new file in memory; one on a disk, without a name, if the system has none in memory."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("quietcount-pages")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _head(data: bytes) -> bytes:
    """Return what stands before `data` in the file: its length and its hash, by which it is known to be whole."""
    return len(data).to_bytes(_LENGTH) + hashlib.sha256(data).digest()
