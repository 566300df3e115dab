"""Collected cosignatures: one file with the signed head of a ledger, and the signatures of witnesses under it.

A file holds those of one head; a newer head takes its place. Lost, it comes back by asking again.
"""

from __future__ import annotations

import os
from pathlib import Path

from quietcount_aggregates.errors import LedgerUnwritable, NoteError
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_schemas.private_files import write_file, write_secret

__all__ = ["Collected"]


class Collected:
    """The file at `path`. A `public` one may be read by everybody, and has the time of what it is about, not of writing."""

    def __init__(self, path: Path, *, public: bool = False) -> None:
        self.path = path
        self._public = public

    def of(self, note: SignedNote) -> SignedNote:
        """Return `note` with the signatures that were collected for the same text."""
        kept = self._read()
        return note if kept is None or kept.text != note.text else note.with_signatures(*kept.signatures)

    def holds(self, text: str) -> bool:
        """Return whether the file is about this text."""
        kept = self._read()
        return kept is not None and kept.text == text

    def keep(self, note: SignedNote, moment: float | None = None) -> None:
        """Put `note` in the place of what was collected. Raises LedgerUnwritable."""
        content = note.data.encode()
        try:
            if self.path.exists() and self.path.read_bytes() == content:
                return
            if not self._public:
                write_secret(self.path, content, replace=True)
                return
            write_file(self.path, content, replace=True)
            self.path.chmod(0o644)
            if moment is not None:
                os.utime(self.path, (moment, moment))
        except OSError as error:
            raise LedgerUnwritable(
                f"{self.path}: cannot be written ({error.strerror})", "Check the folder and the disk"
            ) from None

    def _read(self) -> SignedNote | None:
        """Return what was collected; a file that cannot be read holds nothing, and is written again."""
        try:
            return SignedNote.parse(self.path.read_bytes())
        except (OSError, NoteError):
            return None
