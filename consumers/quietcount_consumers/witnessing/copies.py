"""Published copies: what others hold of what we published, and the head in it that our ledger must not be behind.

A copy is a published file or the signed head beside it, at an address or a path. Which of the two it is, its first
bytes say. It counts by our own signature.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from quietcount_aggregates.errors import NoteError
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_consumers.witnessing.fetching import Unanswered, exchange
from quietcount_consumers.witnessing.published_copy import NotVerified, is_database, published_copy

__all__ = ["MOST_BYTES", "note_of"]

MOST_BYTES: Final = 256 << 20
"""The most that a copy has: a public file of two million rows has a fifth of it."""

_MOST_NOTE: Final = 1 << 19
_SECONDS: Final = 120.0


def note_of(copy: str | Path) -> SignedNote:
    """Return the signed head that a copy states; no signature is checked. Raises Unanswered if it cannot be read."""
    with tempfile.TemporaryDirectory(prefix="quietcount-copy-") as folder:
        file = Path(folder) / "copy"
        try:
            if isinstance(copy, Path):
                if not copy.is_file() or copy.stat().st_size > MOST_BYTES:
                    raise Unanswered(
                        "there is no such file" if not copy.exists() else "it is no copy of what we publish"
                    )
                shutil.copyfile(copy, file)  # a mounted disk may go away while it is read
            else:
                _fetch(copy, file)
            with file.open("rb") as opened:
                beginning = opened.read(_MOST_NOTE + 1)
            if not is_database(beginning):
                return SignedNote.parse(beginning)
            with published_copy(file) as published:
                return published.note
        except OSError as error:
            raise Unanswered(f"it cannot be read ({(error.strerror or 'no reason is given').lower()})") from None
        except (NoteError, NotVerified):
            raise Unanswered("it is neither a file that quietcount published nor the signed head of one") from None


def _fetch(address: str, file: Path) -> None:
    with file.open("wb") as written:
        reply = exchange(address, most=MOST_BYTES, seconds=_SECONDS, take=written.write)
    if reply.status != 200:
        raise Unanswered(f"it answers with the status {reply.status}")
