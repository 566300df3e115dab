"""The witness: how far the ledger went, remembered apart from the data.

A restore of the whole data folder from a backup brings an old ledger back, together with everything in the folder that
could reveal it. The witness is beside the service's secrets, which are backed up apart from the data, and reveals it.
"""

from __future__ import annotations

import os
from pathlib import Path

from quietcount_aggregates.errors import LedgerError, LedgerUnwritable
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_schemas.private_files import write_secret

__all__ = ["Witness"]


class Witness:
    """A file of mode 0600 with the length and the digest of each newest ledger seen, a line each; the last one counts.

    It grows in place. Replacing it would change the modification time of the folder around it, which others may see,
    during a release, and so show how long the release took.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Witness({self.path})"

    def check(self, ledger: Ledger) -> None:
        """Raise LedgerBehind unless the ledger holds what was seen. A missing witness has seen nothing."""
        head = self._seen()
        if head is not None:
            ledger.check_not_behind(head, self.path.name)

    def see(self, head: Head) -> None:
        """Remember `head`, durably and whole. Raises LedgerUnwritable, and LedgerError if the file is not a witness."""
        seen = self._seen()
        if seen == head:
            return
        line = f"{head.length} {head.digest.hex()}\n".encode("ascii")
        try:
            if seen is None:
                write_secret(self.path, line, replace=True)
            else:
                self._append(line)
        except OSError as error:
            raise LedgerUnwritable(
                f"{self.path}: cannot be written ({error.strerror})", "Check the folder and the disk"
            ) from None

    def _seen(self) -> Head | None:
        """Return the head in the last whole line. A crash cut off what follows it, and nothing came of that."""
        try:
            whole, newline, _ = self.path.read_bytes().rpartition(b"\n")
            if not newline:
                raise ValueError("no line is whole")
            length, digest = whole.rpartition(b"\n")[2].decode("ascii").split()
            return Head(int(length), bytes.fromhex(digest))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise LedgerError(
                f"{self.path}: is not a witness of the ledger, or cannot be read",
                "Restore it. If it is lost, make sure that the ledger is the newest, then delete the file",
            ) from None

    def _append(self, line: bytes) -> None:
        with self.path.open("r+b") as file:
            end = file.read().rfind(b"\n") + 1
            file.seek(end)
            file.truncate()  # what a crash left must not become the beginning of this line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
