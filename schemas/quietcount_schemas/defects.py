"""Defects: errors that nobody foresaw, reported by their kind and place and never by their text.

The text of an unforeseen error may quote what was worked on: DuckDB's quotes the value that it could not store. Names
of files and lines of the program hold no data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from quietcount_schemas.errors import QuietcountError

__all__ = ["Defect", "described"]

_FRAMES: Final = 5
"""How many of the innermost calls are named: enough to find the place, and few enough for a line."""


class Defect(QuietcountError):
    """Something went wrong that nobody foresaw; the message says where."""


def described(error: BaseException) -> str:
    """Return the kind of `error` and the innermost calls that led to it, without its text."""
    import traceback  # it takes a while, and most commands end without a defect

    calls = [
        f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    ]
    return f"{type(error).__name__} at {', from '.join(reversed(calls)) or 'a place that is not known'}"
