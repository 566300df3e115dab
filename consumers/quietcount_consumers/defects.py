"""Defects: errors that nobody foresaw, told by their kind and place and never by their text.

The text of an unforeseen error may quote what was worked on (DuckDB's quotes the value that it could not store), and a
traceback on stderr ends in a journal that is kept for years. Names of files and lines of the program hold no data.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from quietcount_consumers.errors import ConsumersError
from quietcount_consumers.monitoring.log_events import DEFECT, Say
from quietcount_schemas.errors import QuietcountError

__all__ = ["Defect", "described", "hearing_threads", "telling_defects"]

_FRAMES: Final = 5
"""How many of the innermost calls are named: enough to find the place, and few enough for a line."""


class Defect(ConsumersError):
    """Something went wrong that nobody foresaw; the message says where."""


def described(error: BaseException) -> str:
    """Return the kind of `error` and the innermost calls that led to it, without its text."""
    calls = [
        f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    ]
    return f"{type(error).__name__} at {', from '.join(reversed(calls)) or 'a place that is not known'}"


@contextlib.contextmanager
def telling_defects() -> Iterator[None]:
    """Turn what nobody foresaw into a Defect; errors that have words for a person, and exits, pass as they are."""
    try:
        yield
    except (QuietcountError, OSError, click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        raise Defect(
            f"a defect of quietcount: {described(error)}. Its text is left out, since it may quote data. Nothing is "
            "half done; start again, and report this line"
        ) from None


@contextlib.contextmanager
def hearing_threads(say: Say, clock: Callable[[], dt.datetime]) -> Iterator[None]:
    """Say what ends a thread, or fails in a destructor, as an event; Python would write its text to stderr."""

    def thread(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is not None:
            say(DEFECT.at(clock(), meaning=described(failed.exc_value)))

    def unraisable(failed: sys.UnraisableHookArgs) -> None:
        if failed.exc_value is not None:
            say(DEFECT.at(clock(), meaning=described(failed.exc_value)))

    before = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = thread, unraisable
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = before
