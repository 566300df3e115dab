"""A rehearsal: a ledger's entries in memory, to see what would come of them before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger

__all__ = ["Rehearsal", "rehearsed"]


class Rehearsal:
    """A LedgerLog in memory."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self._entries = list(entries)
        self._places: list[bytes] = []

    def fence(self) -> int:
        """Shut out nobody."""
        return 1

    def read(self, start: int = 0) -> list[bytes]:
        """Return the entries from `start` on."""
        return self._entries[start:]

    def read_places(self, start: int = 0) -> list[bytes]:
        """Return the places from `start` on, of what was appended here."""
        return self._places[start:]

    def append(
        self,
        entries: Sequence[bytes],
        places: Sequence[bytes] = (),
        *,
        epoch: int,  # noqa: ARG002 (a LedgerLog's)
        expected: int,  # noqa: ARG002 (a LedgerLog's)
    ) -> None:
        """Keep entries and places in memory."""
        self._entries += entries
        self._places += places

    def close(self) -> None:
        """Nothing is open."""


def rehearsed(chain: Chain) -> Ledger:
    """Return a ledger in memory that holds what `chain` does; what is appended to it changes nothing else.

    If the chain is empty, what is opened here is nobody's: its key signs nothing.
    """
    ledger = Ledger(Rehearsal([entry.data for entry in chain.entries]), bytes(32))
    ledger.fence()
    return ledger
