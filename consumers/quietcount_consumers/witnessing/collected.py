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
    """The file at `path`. A `public` one may be read by everybody, and says by no time when it was written."""

    def __init__(self, path: Path, *, public: bool = False) -> None:
        self.path = path
        self._public = public

    def of(self, note: SignedNote) -> SignedNote:
        """Return `note` with the signatures that were collected for the same text."""
        kept = self.kept(note.text)
        return note if kept is None else note.with_signatures(*kept.signatures)

    def kept(self, text: str) -> SignedNote | None:
        """Return the note that is kept, if it is about this text."""
        kept = self._read()
        return None if kept is None or kept.text != text else kept

    def add(self, note: SignedNote, moment: float | None = None) -> None:
        """Keep the signatures of `note` beside those that were collected for its text, and forget any other text.

        A newer signature of a key takes the place of its older one. `moment` is the time that a public file has, in
        seconds since 1970. Raises LedgerUnwritable.
        """
        newer = {(each.name, each.key_id) for each in note.signatures}
        older = [each for each in self.of(note).signatures if (each.name, each.key_id) not in newer]
        content = note.with_signatures(*older).data.encode()
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
