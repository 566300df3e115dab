"""Limits: what cases have used up, as sorted files of marks beside the state.

There is one file for each population and, with a yearly horizon, for each year. It holds the 16-byte mark of a case
once for each contribution that counted. The marks are sorted, so a file says who has come and nothing of when. A
settlement streams through a file twice, to look up the cases that it meets and to merge those that it adds: the only
work of a release that follows its history. It takes a steady amount of memory, and 16 bytes of disk a contribution.
One file for each settled month would spare even that, and would say of each case in which month it came.

A file is never changed. The state lists the files that hold; a settlement writes new ones, then the state that lists
them, and removes the others. What a crash leaves between two of these steps is not listed, and the next start removes
it. Files end in zeros up to a whole number of blocks: a backup store sees sizes, and a size would be an exact count.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from quietcount_aggregates.errors import StateDamaged, StateUnwritable
from quietcount_aggregates.state.marks import MARK_BYTES
from quietcount_schemas.private_files import sync_folder

__all__ = ["LIFETIME", "Limits", "UsedUp"]

LIFETIME: Final = 0
"""What stands in place of a year where the horizon is a lifetime."""

_PIECE: Final = 1 << 16
"""How many marks are in memory at a time: 1 MiB of them, which a processor's caches hold."""

_MARK: Final = np.dtype(f"S{MARK_BYTES}")
"""Big-endian bytes, which numpy orders as it orders the numbers. It leaves out zeros at the end of both sides alike."""

_BLOCK: Final = 1 << 18
"""As many bytes as in a block of the state's own file."""

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class UsedUp:
    """A file of marks as the state lists it: `marks` is how many it holds, `checksum` the CRC-32 of its bytes."""

    population: str
    year: int
    generation: int
    marks: int
    checksum: int


class Limits:
    """The files of one state; `state` is the path of the state's own file."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def path(self, listed: UsedUp) -> Path:
        """Return where a file lies."""
        year = "lifetime" if listed.year == LIFETIME else f"{listed.year:04d}"
        return self._state.with_name(f"{self._prefix}{listed.population}.{year}.{listed.generation}")

    @property
    def _prefix(self) -> str:
        return f"{self._state.stem}.limits."

    def check_whole(self, listed: Sequence[UsedUp]) -> None:
        """Read every file to its end; raise StateDamaged if one is not what was written."""
        for each in listed:
            for _ in self._pieces(each):
                pass

    def used(self, listed: UsedUp, cases: Words) -> npt.NDArray[np.int64]:
        """Return how many contributions of each case counted.

        `cases` are marks in ascending order, (n, 2) words (high, low). Raises StateDamaged.
        """
        asked = _bytes_of(cases)
        counts = np.zeros(len(asked), np.int64)
        at = 0
        for piece in self._pieces(listed):
            following = int(np.searchsorted(asked, piece[-1:], side="right")[0])
            part = asked[at:following]
            first = np.searchsorted(piece, part)
            found = np.flatnonzero(piece[np.minimum(first, len(piece) - 1)] == part)
            counts[at + found] += np.searchsorted(piece, part[found], side="right") - first[found]
            at = int(np.searchsorted(asked, piece[-1:])[0])  # the next piece may begin with the mark that ends this one
        return counts

    def extended(self, population: str, year: int, listed: UsedUp | None, cases: Words) -> UsedUp:
        """Write the file that follows `listed`, which stays; it holds the marks of `cases`, too, and is durable.

        `cases` are as those of `used`, a mark for each new contribution. `used` finds what is wrong with marks of
        `listed`, and this does not look again. Raises StateDamaged and StateUnwritable.
        """
        added, at, checksum, marks = _bytes_of(cases), 0, 0, len(cases) + (listed.marks if listed else 0)
        following = UsedUp(population, year, listed.generation + 1 if listed else 1, marks, 0)
        path = self.path(following)
        try:
            path.unlink(missing_ok=True)  # of a settlement that was cut short
            with open(path, "xb", buffering=0, opener=_private) as file:
                for piece in self._pieces(listed, checked=False) if listed else ():
                    upto = int(np.searchsorted(added, piece[-1:], side="right")[0])
                    part, at = added[at:upto], upto
                    checksum = _written(file, np.insert(piece, np.searchsorted(piece, part), part), checksum)
                checksum = _written(file, added[at:], checksum)
                file.truncate(-(-file.tell() // _BLOCK) * _BLOCK)
                os.fsync(file.fileno())
            sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()  # a full disk needs the room
            raise StateUnwritable(
                f"{path}: cannot be written ({error.strerror}). The state is as it was; what was released is in the "
                "ledger, and the service finishes it",
                "Check the folder and the disk",
            ) from None
        return UsedUp(population, year, following.generation, marks, checksum)

    def remove_others(self, listed: Sequence[UsedUp]) -> None:
        """Remove every file that is not listed. Raises StateUnwritable.

        A power cut may bring one back: the next start removes it.
        """
        kept = {self.path(each) for each in listed}
        try:
            for path in self._state.parent.glob(f"{self._prefix}*"):
                if path not in kept:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise StateUnwritable(
                f"{self._state.parent}: files in it cannot be removed ({error.strerror})", "Check its rights"
            ) from None

    def _pieces(self, listed: UsedUp, *, checked: bool = True) -> Iterator[npt.NDArray[np.bytes_]]:
        """Yield the marks of a file in pieces; raise StateDamaged at its end if they are not what was written."""
        checksum, left = 0, listed.marks * MARK_BYTES
        try:
            with self.path(listed).open("rb") as file:
                while data := file.read(min(left, _PIECE * MARK_BYTES)):
                    checksum, left = zlib.crc32(data, checksum) if checked else 0, left - len(data)
                    yield np.frombuffer(data, _MARK, count=len(data) // MARK_BYTES)
        except FileNotFoundError:
            raise self._damaged(listed) from None
        except OSError as error:
            raise self._unreadable(listed, error) from None
        if left or (checked and checksum != listed.checksum):
            raise self._damaged(listed)

    def _unreadable(self, listed: UsedUp, error: OSError) -> StateUnwritable:
        return StateUnwritable(
            f"{self.path(listed)}: cannot be read ({error.strerror})", "Check its rights and the disk"
        )

    def _damaged(self, listed: UsedUp) -> StateDamaged:
        return StateDamaged(
            f"{self.path(listed)}: is missing, damaged, or belongs to another moment than {self._state.name}",
            "Put back the copy that belongs to the state. If it is lost permanently, run: quietcount ledger "
            "record-loss",
        )


def _bytes_of(marks: Words) -> npt.NDArray[np.bytes_]:
    return np.ascontiguousarray(marks.astype(">u8")).view(_MARK).reshape(-1)


def _written(file: RawIOBase, marks: npt.NDArray[np.bytes_], checksum: int) -> int:
    """Write the marks; return the checksum of all that was written."""
    data = marks.view(np.uint8).data
    written = 0
    while written < len(data):  # a file without a buffer may take less than it was given
        written += file.write(data[written:]) or 0
    return zlib.crc32(data, checksum)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
