"""Where the service catches defects: around a command, in threads, and in destructors.

A traceback on stderr would end in a journal that is kept for years, and may quote data: see quietcount_schemas.defects.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import threading
from collections.abc import Callable, Iterator

import click

from quietcount_consumers.monitoring.log_events import DEFECT, Say
from quietcount_schemas.defects import Defect, described
from quietcount_schemas.errors import QuietcountError

__all__ = ["hearing_threads", "telling_defects"]


@contextlib.contextmanager
def telling_defects() -> Iterator[None]:
    """Turn what nobody foresaw into a Defect; errors that have words for a person, and exits, pass as they are."""
    try:
        yield
    except (QuietcountError, OSError, click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        raise Defect(
            f"a defect of quietcount: {described(error)}",
            "Nothing is half done. Start again, and report this line. The error's own text is left out because it may "
            "quote data",
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
