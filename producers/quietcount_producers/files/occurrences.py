"""What was seen before in a file, in few bytes a line.

Hashes of 64 bits lie packed in up to 16,384 arrays by their first bits, and are found by searching one array. So a line
costs about 9 bytes, where a set of digests costs about 100. Among a million lines, two different ones have the same
hash with a chance of 3 in 100 million. Then one of them gets the id of a second equal line, which does no harm.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Identities", "Occurrences"]

_ARRAYS: Final = (1 << 14) - 1
_BITS: Final = 14
_ALL: Final = (1 << 64) - 1
_SUFFIX: Final = 7
_CONTENT: Final = 8
_FILE: Final = 2
_NUMBER: Final = 5
_ENTRY: Final = _SUFFIX + _CONTENT + _FILE + _NUMBER


class Occurrences:
    """How often the same facts came before in a file: equal lines are different events."""

    def __init__(self) -> None:
        self._once: dict[int, bytearray] = {}
        self._more: dict[int, int] = {}

    def next(self, canonical: bytes) -> int:
        """Return how often `canonical` was asked for before."""
        hashed = hash(canonical) & _ALL
        suffix = (hashed >> _BITS).to_bytes(_SUFFIX, "big")
        packed = self._once.get(hashed & _ARRAYS)
        if packed is None:
            self._once[hashed & _ARRAYS] = bytearray(suffix)
            return 0
        if _place(packed, suffix, _SUFFIX) < 0:
            packed += suffix
            return 0
        self._more[hashed] = self._more.get(hashed, 0) + 1
        return self._more[hashed]


class Identities:
    """Under which own identity which content stood first, and where: an identity stands for one content.

    It costs about 24 bytes a line that has an identity of its own.
    """

    def __init__(self) -> None:
        self._entries: dict[int, bytearray] = {}
        self._files: list[str] = []

    def begin(self, name: str) -> None:
        """Go on with the file that messages call `name`."""
        self._files.append(name)

    def other(self, identity: bytes, content: bytes, line: int) -> str | None:
        """Note what stands on `line`; return where the same identity had another content, or None."""
        hashed = hash(identity) & _ALL
        its = (hash(content) & _ALL).to_bytes(_CONTENT, "big")
        suffix = (hashed >> _BITS).to_bytes(_SUFFIX, "big")
        packed = self._entries.setdefault(hashed & _ARRAYS, bytearray())
        place = _place(packed, suffix, _ENTRY)
        if place < 0:
            file = len(self._files) - 1
            packed += suffix + its + file.to_bytes(_FILE, "big") + line.to_bytes(_NUMBER, "big")
            return None
        at = place + _SUFFIX
        if bytes(packed[at : at + _CONTENT]) == its:
            return None
        at += _CONTENT
        file = int.from_bytes(packed[at : at + _FILE], "big")
        number = int.from_bytes(packed[at + _FILE : at + _FILE + _NUMBER], "big")
        return f"line {number}" if file == len(self._files) - 1 else f"line {number} of {self._files[file]}"


def _place(packed: bytearray, suffix: bytes, step: int) -> int:
    """Return where the entry that begins with `suffix` lies, or -1; each entry has `step` bytes."""
    place = packed.find(suffix)
    while place > 0 and place % step:
        place = packed.find(suffix, place + 1)
    return place
