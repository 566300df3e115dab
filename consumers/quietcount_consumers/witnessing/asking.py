"""Asking a witness over HTTP: to sign the head of our ledger, or how far it saw it.

Its answer counts by its signature alone. A witness that refuses has to show a head that our ledger does not hold. If it
shows none, it counts as one that did not answer: nobody can stop a project by words alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from quietcount_aggregates.errors import NoteError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.ledger.signed_heads import read_head
from quietcount_aggregates.ledger.signed_notes import Signature, SignedNote, VerifierKey
from quietcount_consumers.witnessing.fetching import Unanswered, exchange
from quietcount_consumers.witnessing.requests import MOST_BYTES, Request

__all__ = ["AskedWitness", "contradicts"]

_SECONDS: Final = 60.0
"""How long one exchange may take as a whole: a witness that sees a long ledger first verifies all of it."""

_MOST_REPLY: Final = 1 << 16
_ROUNDS: Final = 4
"""Somebody else may hand the witness an entry between two of our requests. More often than this, it plays with us."""

_NO_SIGNATURE: Final = "it answers with something other than its signature"

_NOT_ITS_OWN: Final = "it shows a head that it did not sign"

_SKEW: Final = 3600
"""Seconds by which the clock of a witness may differ from ours. An older cosignature may be one that somebody kept."""


def contradicts(chain: Chain, head: Head) -> bool:
    """Return whether `head` is one that this chain does not hold."""
    return head.length > len(chain.entries) or chain.entries[head.length - 1].digest != head.digest


@dataclass(slots=True)
class AskedWitness:
    """A witness with an address. `clock` returns the seconds since 1970."""

    key: VerifierKey
    url: str
    clock: Callable[[], float] = time.time
    _size: int | None = None
    """How many entries it had when we asked last."""

    def sign(self, chain: Chain, note: SignedNote) -> Signature | Head:
        """Return its cosignature for the head of `chain`, which `note` states, or a newer or another head that it saw.

        Raises Unanswered, with the reason, if it gives neither.
        """
        size = chain.head.length if self._size is None else self._size
        for _ in range(_ROUNDS):
            entries = tuple(entry.data for entry in chain.entries[size:])
            body = Request(size, entries, note).data
            if len(body) > MOST_BYTES:
                raise Unanswered("it lacks too much of the ledger. Hand it a request as a file, once")
            reply = exchange(f"{self.url}/add-checkpoint", body, most=_MOST_REPLY, seconds=_SECONDS)
            match reply.status:
                case HTTPStatus.OK:
                    self._size = chain.head.length
                    return self._signature(note, reply.body)
                case HTTPStatus.CONFLICT:
                    told = _number(reply.body)
                    if told is None or told > chain.head.length:
                        return self._objection(chain)
                    size = told
                case HTTPStatus.UNPROCESSABLE_ENTITY:
                    return self._objection(chain)
                case HTTPStatus.NOT_FOUND:
                    raise Unanswered(
                        "it does not know this ledger. Its keeper has to run: quietcount witness trust KEY"
                    )
                case HTTPStatus.FORBIDDEN:
                    return self._objection(
                        chain, "it knows another key for this ledger. If ours is new, its keeper has to accept it"
                    )
                case other:
                    raise Unanswered(f"it answers with the status {other}")
        raise Unanswered("it says each time that it has another number of entries")

    def newest(self, origin: str) -> Head | None:
        """Return the newest head of a ledger that this witness signed, None if there is none. Raises Unanswered."""
        reply = exchange(f"{self.url}/{origin.rpartition('/')[2]}/checkpoint", most=1 << 19, seconds=_SECONDS)
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        if reply.status != HTTPStatus.OK:
            raise Unanswered(f"it answers with the status {reply.status}")
        try:
            note = SignedNote.parse(reply.body)
            named, head = read_head(note)
            own = note.verified(self.key) is not None and named == origin
        except NoteError:
            raise Unanswered(_NOT_ITS_OWN) from None
        if not own:
            raise Unanswered(_NOT_ITS_OWN)
        return head

    def _objection(
        self, chain: Chain, otherwise: str = "it refuses our ledger, and shows nothing that contradicts it"
    ) -> Head:
        """Return the head for which the witness refuses ours. Raises Unanswered if it shows none: `otherwise`."""
        head = self.newest(chain.signer.name)
        if head is None or not contradicts(chain, head):
            raise Unanswered(otherwise)
        return head

    def _signature(self, note: SignedNote, body: bytes) -> Signature:
        try:
            signed = SignedNote.parse(f"{note.text}\n".encode() + body)
            found = signed.verified(self.key)
        except NoteError:
            raise Unanswered(_NO_SIGNATURE) from None
        if found is None or found.timestamp is None:
            raise Unanswered(_NO_SIGNATURE)
        if abs(found.timestamp - self.clock()) > _SKEW:
            raise Unanswered(
                "its signature has a wrong time: its clock or ours is wrong, or somebody repeats an old one"
            )
        return signed.signed_by(self.key)[-1]


def _number(body: bytes) -> int | None:
    text = body.removesuffix(b"\n")
    return int(text) if text.isdigit() and len(text) < 19 else None
