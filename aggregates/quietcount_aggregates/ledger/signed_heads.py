"""Signed heads: what the owner of a ledger signs, so that others can hold them to it.

The text has the three lines of a checkpoint: the ledger's name, the number of its entries, and the digest of the last
one in base64. It is not the head of a Merkle tree. The published file carries all entries, so whoever has two of them
checks that one is the beginning of the other.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

from quietcount_aggregates.errors import NoteError, SigningKeyError
from quietcount_aggregates.ledger.entries import Head, ledger_id_of
from quietcount_aggregates.ledger.signed_notes import ED25519, SignedNote, SigningKey, VerifierKey, sign

if TYPE_CHECKING:
    from quietcount_aggregates.ledger.chain import Chain

__all__ = ["check_key", "check_signed", "is_origin", "origin_of", "read_head", "sign_head", "signer_of", "text_of"]

_ORIGIN: Final = r"quietcount\.ledger/[0-9a-f]{32}"
_HEAD: Final = re.compile(rf"({_ORIGIN})\n([1-9][0-9]{{0,17}})\n([A-Za-z0-9+/]{{43}}=)\n")


def origin_of(ledger_id: bytes) -> str:
    """Return the name of a ledger, which is also that of its key."""
    return f"quietcount.ledger/{ledger_id.hex()}"


def is_origin(name: str) -> bool:
    """Return whether a name is that of a ledger."""
    return re.fullmatch(_ORIGIN, name) is not None


def signer_of(public_key: bytes) -> VerifierKey:
    """Return the key that a ledger names when it is opened with this one, to be given to partners and readers."""
    return VerifierKey(origin_of(ledger_id_of(public_key)), ED25519, public_key)


def text_of(ledger_id: bytes, head: Head) -> str:
    """Return the text that is signed."""
    return f"{origin_of(ledger_id)}\n{head.length}\n{base64.b64encode(head.digest).decode('ascii')}\n"


def read_head(note: SignedNote) -> tuple[str, Head]:
    """Return the ledger's name and the head that a note states; no signature is checked. Raises NoteError."""
    found = _HEAD.fullmatch(note.text)
    digest = base64.b64decode(found[3]) if found else b""
    if found is None or base64.b64encode(digest).decode("ascii") != found[3]:
        raise NoteError(
            "the note is not the head of a ledger of quietcount: name, number of entries and digest, a line each",
            "Name the signed head of a ledger",
        )
    return found[1], Head(int(found[2]), digest)


def check_key(chain: Chain, key: SigningKey) -> None:
    """Raise SigningKeyError unless `key` is the one with which the heads of this ledger are signed now."""
    if key.public != chain.signer.public:
        raise SigningKeyError(
            f"{key.place}: is not the key that the ledger names, and nobody would accept what it signs. Nothing was "
            "changed",
            "Restore the key of this ledger from a backup. If it is lost permanently, run: quietcount ledger new-key",
        )


def sign_head(chain: Chain, key: SigningKey) -> SignedNote:
    """Sign the head of a chain that was read back from its log; the same chain and key give the same bytes.

    Raises SigningKeyError if the ledger names another key.
    """
    check_key(chain, key)
    opened = chain.opened
    return sign(text_of(opened.ledger_id, chain.head), key, origin_of(opened.ledger_id))


def check_signed(chain: Chain, note: SignedNote) -> None:
    """Raise NoteError unless the newest key of the ledger signed exactly the head of this chain."""
    origin, head = read_head(note)
    if origin != chain.signer.name:
        raise NoteError("the signed head is that of another ledger", "Name the signed head that belongs to this one")
    if note.verified(chain.signer) is None:
        raise NoteError(
            "the head is not signed with the key that the ledger names",
            "Get it again from those who publish the ledger",
        )
    if head != chain.head:
        raise NoteError(
            f"the signed head states {head.length} entries, and is not the head of these {chain.head.length}",
            "Compare it with the file that was published with it",
        )
