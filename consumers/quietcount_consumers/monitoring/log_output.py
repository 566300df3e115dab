"""The log's output: events become lines on stderr, at the moments that the service's loop chooses.

Whoever reads the lines stamps them with the time at which they come (journald does). What was said within a tick is
therefore kept, and written at the next point of the grid: the line of a release that came as soon as it was done would
tell how long the release took.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable
from typing import Final, TextIO

from quietcount_consumers.monitoring.log_events import CATALOGUE, LINES_LEFT_OUT, Level, LogEvent
from quietcount_consumers.monitoring_settings import LogFormat

__all__ = ["MOST_LINES", "LogOutput"]

MOST_LINES: Final = 10_000
"""How many events are kept until they are written: more than any tick has (a few for each statistic), some MB."""

_ORDER: Final = tuple(Level)

# The numbers of ECMA-48 (SGR), which every terminal knows.
_BOLD, _DIM, _RED, _GREEN, _YELLOW, _MAGENTA, _CYAN = 1, 2, 31, 32, 33, 35, 36
_COLOURS: Final = {Level.INFO: _GREEN, Level.WARNING: _YELLOW, Level.ERROR: _RED}
_LEVEL_WIDTH: Final = max(len(level.value) for level in Level)
_NAME_WIDTH: Final = max(len(event.name) for event in CATALOGUE)


class LogOutput:
    """Keeps events and writes them later, on request; `say` and `flush` may be called from any thread.

    In a with statement it is all that the process says: what libraries log, which Python would write to stderr at the
    moment and in their words, goes nowhere. Leaving it writes what is left, also before an error that ends the process.
    Events below `least` are dropped. A stream that cannot be written ends nothing: the lines are lost and the service
    goes on.
    """

    def __init__(self, stream: TextIO, form: LogFormat = LogFormat.AUTO, *, least: Level = Level.INFO) -> None:
        self._stream = stream
        self._least = _ORDER.index(least)
        self._nobody = logging.NullHandler()
        self._lock = threading.RLock()  # a destructor may say something while a line is kept
        self._kept: list[LogEvent] = []
        self._left_out = False
        self.use(form)

    def __enter__(self) -> LogOutput:
        logging.getLogger().addHandler(self._nobody)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self._nobody)
        self.flush()

    def use(self, form: LogFormat) -> None:
        """Write in this form from the next flush on."""
        colours = self._stream.isatty()
        self._line: Callable[[LogEvent], str] = (
            _console(colours) if form is LogFormat.CONSOLE or (form is LogFormat.AUTO and colours) else _json
        )

    def say(self, event: LogEvent) -> None:
        """Keep `event` until the next flush. Raises TypeError when it is none of the catalogue."""
        if event.kind not in CATALOGUE:
            raise TypeError(f"`{event.name}` is no event of the catalogue: see log_events")
        if _ORDER.index(event.level) < self._least:
            return
        with self._lock:
            if len(self._kept) < MOST_LINES:
                self._kept.append(event)
            elif not self._left_out:
                self._left_out = True
                self._kept.append(LINES_LEFT_OUT.at(event.tick))

    def flush(self) -> None:
        """Write what was said since the last flush, all at once: at a point of the grid, and at the end."""
        with self._lock:
            kept, self._kept, self._left_out = self._kept, [], False
            if not kept:
                return
            text = "".join(f"{self._line(event)}\n" for event in kept)
            with contextlib.suppress(OSError):
                self._stream.write(text)
                self._stream.flush()


def _json(event: LogEvent) -> str:
    return json.dumps(_head(event) | event.own_fields())


def _console(colours: bool) -> Callable[[LogEvent], str]:
    """Return what writes an event for people: tick, [level], name, then key=value; the parts in `colours` or plain."""

    def painted(text: str, *codes: int) -> str:
        return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m" if colours else text

    def line(event: LogEvent) -> str:
        # What a broker or a file name says must not begin a line of its own, or move the cursor.
        own = {name: _printable(value) for name, value in event.own_fields().items()}
        parts = [
            painted(event.tick.isoformat(), _DIM),
            f"[{painted(f'{event.level.value:<{_LEVEL_WIDTH}}', _BOLD, _COLOURS[event.level])}]",
            painted(f"{event.name:<{_NAME_WIDTH}}" if own else event.name, _BOLD),
            *(f"{painted(name, _CYAN)}={painted(value, _MAGENTA)}" for name, value in own.items()),
        ]
        return " ".join(parts)

    return line


def _head(event: LogEvent) -> dict[str, str]:
    return {"tick": event.tick.isoformat(), "level": event.level.value, "event": event.name}


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
