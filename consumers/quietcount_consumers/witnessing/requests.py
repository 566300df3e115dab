"""Requests: what a project hands to a witness, as a file or as the body of `POST /add-checkpoint`.

The shape is that of c2sp.org/tlog-witness: a line with the number of entries that the witness has, then what proves
that the new head continues them, an empty line, and the signed head. The proof of a hash chain is its entries, one line
of base64 each.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quietcount_aggregates.errors import NoteError
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_consumers.errors import WitnessError
from quietcount_consumers.witnessing.published_copy import DATABASE, is_database, published_copy

__all__ = ["MOST_BYTES", "Request", "read_request"]

MOST_BYTES: Final = 64 << 20
"""The most that a request has: an entry has some hundred bytes, so this is a ledger of a hundred thousand of them."""

_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,17})")
_AGAIN: Final = "Ask the project for it again: quietcount ledger request"


@dataclass(frozen=True, slots=True)
class Request:
    """The entries from number `old` on, and the signed head to which they lead. Nothing of it is verified."""

    old: int
    entries: tuple[bytes, ...]
    note: SignedNote

    @property
    def data(self) -> bytes:
        """Return the request as it is handed on."""
        lines = [f"old {self.old}\n", *(f"{base64.b64encode(each).decode('ascii')}\n" for each in self.entries)]
        return f"{''.join(lines)}\n{self.note.data}".encode()

    @classmethod
    def parse(cls, data: bytes) -> Request:
        """Return the request that some bytes are exactly. Raises WitnessError."""
        proof, empty, note = data.partition(b"\n\n")
        old, *lines = proof.split(b"\n")
        found = _OLD.fullmatch(old)
        if found is None or not empty:
            raise WitnessError("this is not a request to a witness: old size, entries, empty line, signed head", _AGAIN)
        try:
            return cls(int(found[1]), tuple(_decoded(lines)), SignedNote.parse(note))
        except (NoteError, ValueError) as error:
            what = error.what if isinstance(error, NoteError) else "an entry in it is not base64"
            raise WitnessError(f"the request cannot be read: {what}", _AGAIN) from None


def read_request(path: Path) -> Request:
    """Return what a file asks a witness to sign: a request, or a published file with all entries of its ledger.

    Raises WitnessError, also for a file that is too large, and NotVerified for a published file that is none.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(DATABASE)
            if is_database(beginning):
                with published_copy(path) as copy:
                    return Request(0, tuple(copy.entries()), copy.note)
            data = beginning + file.read(MOST_BYTES)
    except OSError as error:
        raise WitnessError(f"{path}: cannot be read ({error.strerror})", "Check the path and its rights") from None
    if len(data) > MOST_BYTES:
        raise WitnessError(f"{path}: is too large for a request", _AGAIN)
    return Request.parse(data)


def _decoded(lines: Sequence[bytes]) -> list[bytes]:
    entries = []
    for line in lines:
        try:
            entry = base64.b64decode(line, validate=True)
        except binascii.Error:
            raise ValueError from None
        if not entry or base64.b64encode(entry) != line:
            raise ValueError
        entries.append(entry)
    return entries
