"""What was seen before in a file, in few bytes a line.

Hashes of 64 bits lie packed in up to 16,384 arrays by their first bits, and are found by searching one array. So a line
costs about 9 bytes, where a set of digests costs about 100. Among a million lines, two different ones have the same
hash with a chance of 3 in 100 million. Then one of them gets the id of a second equal line, which does no harm.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from quietcount_producers.composing.identifiers import outline

__all__ = ["Identities", "LookAlikes", "Occurrences"]

_ARRAYS: Final = (1 << 14) - 1
_BITS: Final = 14
_ALL: Final = (1 << 64) - 1
_SUFFIX: Final = 7
_CONTENT: Final = 8
_FILE: Final = 2
_NUMBER: Final = 5
_ENTRY: Final = _SUFFIX + _CONTENT + _FILE + _NUMBER
_MOST_NAMED: Final = 100_000
_BATCH: Final = 512
_MOST_PAIRS: Final = 1000
"""How many pairs of identifiers that look alike are remembered; a person mends the first of them."""


class Seen:
    """What was seen before."""

    def __init__(self) -> None:
        self._suffixes: dict[int, bytearray] = {}

    def again(self, hashed: int) -> bool:
        """Note a hash of 64 bits; return whether it was noted before."""
        suffix = (hashed >> _BITS).to_bytes(_SUFFIX, "big")
        packed = self._suffixes.get(hashed & _ARRAYS)
        if packed is None:
            self._suffixes[hashed & _ARRAYS] = bytearray(suffix)
            return False
        if _place(packed, suffix, _SUFFIX) < 0:
            packed += suffix
            return False
        return True


class Occurrences:
    """How often the same facts came before in a file: equal lines are different events."""

    def __init__(self) -> None:
        self._once = Seen()
        self._more: dict[int, int] = {}

    def next(self, canonical: bytes) -> int:
        """Return how often `canonical` was asked for before."""
        hashed = hash(canonical) & _ALL
        if not self._once.again(hashed):
            return 0
        self._more[hashed] = self._more.get(hashed, 0) + 1
        return self._more[hashed]


class Identities:
    """Under which own identity which content stood first, and where: an identity stands for one content.

    It costs about 24 bytes a line that has an identity of its own. It costs 9 more to know which events stand there
    again, and of `several` files 9 a line of any kind.
    """

    def __init__(self, several: bool = False) -> None:
        self._entries: dict[int, bytearray] = {}
        self._files: list[str] = []
        self._sent = Seen()
        self.several = several

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

    def repeats(self, content: bytes) -> bool:
        """Note an event that is sent; return whether the very same stood there before."""
        return self._sent.again(hash(content) & _ALL)


class LookAlikes:
    """Identifiers that differ only in capitals, or in letters of another alphabet that look the same.

    The first hundred thousand are remembered, in 200 bytes each. They are looked at some hundred at a time: one by one
    takes thrice as long.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._lines: list[int] = []
        self._first: dict[int, tuple[int, int]] = {}  # by outline: the spelling and the line that came first
        self._paired: set[int] = set()
        self._pairs: list[tuple[int, int]] = []

    def add(self, identifier: str, line: int) -> None:
        """Note an identifier that stands on `line`. It holds no line break."""
        self._waiting.append(identifier)
        self._lines.append(line)
        if len(self._waiting) == _BATCH:
            self._look()

    def pairs(self) -> list[tuple[int, int]]:
        """Return lines: the first with an identifier, and the first with another that looks like it."""
        if self._waiting:
            self._look()
        return self._pairs

    def _look(self) -> None:
        text = "\n".join(map(str.strip, self._waiting))
        normal = text if text.isascii() else unicodedata.normalize("NFC", text)
        outlines = map(hash, outline(text).split("\n"))
        these = list(zip(map(hash, normal.split("\n")), self._lines, strict=True))
        # Either gives back the identifier itself if there was none like it.
        found = map(self._first.setdefault if len(self._first) < _MOST_NAMED else self._first.get, outlines, these)
        for (known, first), (spelt, line) in zip(found, these, strict=True):
            if known != spelt and spelt not in self._paired and len(self._pairs) < _MOST_PAIRS:
                self._paired.add(spelt)
                self._pairs.append((first, line))
        self._waiting, self._lines = [], []


def _place(packed: bytearray, suffix: bytes, step: int) -> int:
    """Return where the entry that begins with `suffix` lies, or -1; each entry has `step` bytes."""
    place = packed.find(suffix)
    while place > 0 and place % step:
        place = packed.find(suffix, place + 1)
    return place
