"""Pages: what one turn of the board shows, made ready for the process that serves it.

That process knows no status. It gets finished text, and the few numbers that it needs to say how old the text is when
somebody asks. This module uses the standard library alone, because both processes load it.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["AGE", "BEHIND", "LATE", "READY", "FrameReader", "Pages", "frame", "running", "ticks_behind"]

LATE: Final = 2
"""How many points of the grid may pass without a tick before the service is not ready: one long tick is no fault."""

AGE: Final = "\0age"
BEHIND: Final = "\0behind"
READY: Final = "\0ready"
"""What stands in the text of the metrics in the place of three values that follow from the time of a scrape. No metric
holds a zero byte."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LENGTH: Final = 4


def running() -> float:
    """Return for how many seconds the machine has been running, sleep included: both processes read the same clock."""
    return time.clock_gettime(_CLOCK)


def ticks_behind(age: dt.timedelta, interval: dt.timedelta) -> int:
    """Return how many points of the grid passed without a tick that was done by the next one."""
    return max(0, age // interval - 1)


@dataclass(frozen=True, slots=True)
class Pages:
    """The text of /metrics in both formats, and what /readyz depends on, as they were at `made` (see `running`)."""

    text: str
    """In Prometheus' text format, with AGE, BEHIND and READY in the place of values."""
    open_metrics: str
    """The same in OpenMetrics."""
    reasons: tuple[str, ...]
    """Why the service is not ready, but for ticks that are late."""
    interval: dt.timedelta
    """From one point of the tick's grid to the next."""
    age: dt.timedelta
    """How old the newest tick was."""
    left: dt.timedelta | None
    """From `made` to the next point of the grid, when that tick is older by an interval; None if the clock stands."""
    made: float

    def aged(self, now: float) -> dt.timedelta:
        """Return how old the newest tick is at `now`, even if the fold's process has sent nothing since."""
        passed = dt.timedelta(seconds=now - self.made)
        if self.left is None or passed < self.left:
            return self.age
        return self.age + (1 + (passed - self.left) // self.interval) * self.interval

    def not_ready(self, now: float) -> list[str]:
        """Return why the service is not ready at `now`, a plain sentence for each reason; empty if it is ready."""
        late = ticks_behind(self.aged(now), self.interval) > LATE
        return [*self.reasons, "Ticks are late."] if late else [*self.reasons]

    def metrics(self, now: float, *, openly: bool) -> bytes:
        """Return what /metrics says at `now`: OpenMetrics if `openly`, else Prometheus' text format."""
        age = self.aged(now)
        values = {
            AGE: age.total_seconds(),
            BEHIND: float(ticks_behind(age, self.interval)),
            READY: float(not self.not_ready(now)),
        }
        body = self.open_metrics if openly else self.text
        for marker, value in values.items():
            body = body.replace(marker, str(value))
        return body.encode()

    def document(self) -> dict[str, Any]:
        """Return the pages as values that JSON knows; `of` reads them."""
        return {
            "text": self.text,
            "open_metrics": self.open_metrics,
            "reasons": self.reasons,
            "interval": self.interval.total_seconds(),
            "age": self.age.total_seconds(),
            "left": None if self.left is None else self.left.total_seconds(),
            "made": self.made,
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> Pages:
        """Return the pages that `document` made a document of."""
        left = document["left"]
        return cls(
            text=document["text"],
            open_metrics=document["open_metrics"],
            reasons=tuple(document["reasons"]),
            interval=dt.timedelta(seconds=document["interval"]),
            age=dt.timedelta(seconds=document["age"]),
            left=None if left is None else dt.timedelta(seconds=left),
            made=document["made"],
        )


def frame(document: dict[str, Any]) -> bytes:
    """Return `document` as it goes over the pipe: the length of its JSON in four bytes, and the JSON."""
    data = json.dumps(document).encode()
    return len(data).to_bytes(_LENGTH) + data


class FrameReader:
    """Puts frames together again from pieces of any size."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """Take the next piece, and return the documents that are complete now."""
        self._data += piece
        documents = []
        while len(self._data) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._data[:_LENGTH])
            if len(self._data) < end:
                break
            documents.append(json.loads(self._data[_LENGTH:end]))
            del self._data[:end]
        return documents
