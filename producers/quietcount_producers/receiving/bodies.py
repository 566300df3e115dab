"""Bodies: from the bytes of a delivery to its records, as strict JSON.

What two readers could understand in two ways is refused: a key that stands there twice, NaN, a number beyond all
numbers, text that is not UTF-8. So is a nesting that is deeper than any tool's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from quietcount_producers.errors import EventRefused
from quietcount_producers.mapping.paths import at
from quietcount_producers.strict_json import DECODER

__all__ = ["DEEPEST", "MOST_RECORDS", "Records", "records_of", "text_of"]

DEEPEST: Final = 64
"""How many objects and lists may lie in each other. Forms with groups in groups have ten; Python fails near a thousand,
and a record that was read has to be written again if it is refused."""

MOST_RECORDS: Final = 10_000
"""How many records a delivery may have. A list of empty objects would else be kept as a hundred times its own size."""

Records = Sequence[Mapping[str, object]]


def records_of(body: bytes, path: str | None) -> Records:
    """Return the records of a delivery: the object, the objects of a list, or those in the list at `path`.

    Raises EventRefused, which shows no value, if it has none.
    """
    try:
        value: object = DECODER.decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise EventRefused("", "is not text in UTF-8") from None
    except (RecursionError, ValueError):  # a number of thousands of digits is a ValueError, too
        raise EventRefused("", "is not JSON") from None
    if _depth_exceeds(value, DEEPEST):
        raise EventRefused("", f"is nested deeper than {DEEPEST} objects and lists")
    if path is not None:
        value = at(value, path) if isinstance(value, dict) else None
        if not isinstance(value, list):
            raise EventRefused("", f"has no list at {path}, where the mapping says that the records are")
    if isinstance(value, list) and len(value) > MOST_RECORDS:
        raise EventRefused("", f"has more than {MOST_RECORDS:,} records; send fewer at a time")
    found: list[Mapping[str, object]] = []
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            raise EventRefused("", "is neither a JSON object nor a list of objects")
        found.append(each)
    return found


def text_of(body: bytes) -> str:
    """Return `body` as text from which each byte can be had again, also if it is not UTF-8."""
    return body.decode("utf-8", "surrogateescape")


def _depth_exceeds(value: object, most: int) -> bool:
    level: Iterable[object] = [value]
    for _ in range(most):
        level = [inner for each in level for inner in _members(each)]
        if not level:
            return False
    return True


def _members(value: object) -> Iterable[object]:
    """Return what lies in a value and could itself hold something."""
    if isinstance(value, dict):
        return [each for each in value.values() if isinstance(each, dict | list)]
    return [each for each in value if isinstance(each, dict | list)] if isinstance(value, list) else ()
