"""The witness: how far the ledger went, remembered apart from the data.

Whoever restores the whole data folder from a backup restores an old ledger together with everything that could say so.
The witness lies with the service's secrets, which are backed up apart from the data, and says so.
"""

from __future__ import annotations

import os
from pathlib import Path

from .entries import Head
from .errors import LedgerError, LedgerUnwritable
from .ledger import Ledger

__all__ = ["Witness"]


class Witness:
    """A file of mode 0600 with the length and the digest of the newest ledger seen."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Witness({self.path})"

    def check(self, ledger: Ledger) -> None:
        """Raise LedgerBehind unless the ledger holds what was seen; a witness that is gone has nothing to say."""
        try:
            length, digest = self.path.read_text(encoding="ascii").split()
            head = Head(int(length), bytes.fromhex(digest))
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            raise LedgerError(
                f"{self.path}: is not a witness of the ledger, or cannot be read. Restore it; if it is lost, make "
                "sure that the ledger is the newest, then delete the file"
            ) from None
        ledger.check_not_behind(head, self.path.name)

    def see(self, head: Head) -> None:
        """Remember `head`, durably and whole."""
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{head.length} {head.digest.hex()}\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as error:
            raise LedgerUnwritable(
                f"{self.path}: cannot be written ({error.strerror}); check the folder and the disk, then start again"
            ) from None
