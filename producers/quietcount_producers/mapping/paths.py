"""Where a value stands in a row: under the name of a column, or along a path into nested JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["at", "same"]

_APART: Final = re.compile(r"[./]")
_DEEPEST: Final = 20
"""Parts of a path. Each of them doubles what has to be looked at, if names hold dots."""


def at(values: Mapping[str, object], path: str) -> object:
    """Return what stands at `path`, or None.

    A key of exactly that name comes first: KoboToolbox and CommCare write whole paths as one key. Otherwise the path is
    taken apart at `.` and `/`, and a whole number names an element of a list, counted from 0.
    """
    if path in values:
        return values[path]
    if _APART.search(path) is None:
        return None
    return _inside(values, path, _DEEPEST)


def same(text: str) -> str:
    """Return the form in which two texts are compared: spaces around them and upper case make no difference."""
    return " ".join(text.split()).casefold()


def _inside(value: object, path: str, left: int) -> object:
    if isinstance(value, Mapping) and path in value:
        return value[path]
    if isinstance(value, list) and path.isascii() and path.isdigit() and len(path) < 6:
        return value[int(path)] if int(path) < len(value) else None
    if left == 0:
        return None
    for split in _APART.finditer(path):
        head, rest = path[: split.start()], path[split.end() :]
        inner: object = None
        if isinstance(value, Mapping):
            inner = value.get(head)
        elif isinstance(value, list) and head.isascii() and head.isdigit() and len(head) < 6 and int(head) < len(value):
            inner = value[int(head)]
        if isinstance(inner, (Mapping, list)):
            found = _inside(inner, rest, left - 1)
            if found is not None:
                return found
    return None
