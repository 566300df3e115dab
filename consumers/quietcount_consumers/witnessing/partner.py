"""The partner: a witness of other organisations' ledgers, with a key of its own.

It signs a head only if all rules of the chain hold up to there, if the owner signed it, and if it continues what this
witness signed before. What it signs is on the disk before the signature is made, and the signature follows from what is
on the disk: a crash between the two takes nothing back, and no two cosignatures of one witness contradict.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from quietcount_aggregates.errors import LedgerError, LedgerNewer, NoteError, SigningKeyError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.ledger.signed_heads import is_origin, origin_of, read_head
from quietcount_aggregates.ledger.signed_notes import (
    COSIGNATURE,
    ED25519,
    SignedNote,
    SigningKey,
    VerifierKey,
    cosign,
)
from quietcount_consumers.errors import WitnessError, WitnessRefused
from quietcount_consumers.witnessing.memory import Memory, Seen
from quietcount_consumers.witnessing.requests import Request
from quietcount_schemas.private_files import make_private_folder

__all__ = ["Partner"]

_TELL: Final = "Do not sign it. Ask the project what happened, and tell the other witnesses"


class Partner:
    """The witness in a folder. `clock` returns the seconds since 1970."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the witness. Raises WitnessError if there is none in the folder."""
        self._memory = Memory(folder / "memory.sqlite")
        self._clock = clock
        self._chains: dict[str, Chain] = {}
        self.name = self._memory.name
        try:
            self._key = SigningKey.load(folder / "key")
        except SigningKeyError as error:
            raise WitnessError(error.what, error.remedy) from None

    @classmethod
    def create(cls, folder: Path, name: str) -> Partner:
        """Make a witness, and the folder. Raises WitnessError if there is one already, or for a name that none has."""
        try:
            VerifierKey(name, COSIGNATURE, bytes(32))
        except NoteError as error:
            raise WitnessError(error.what, "Give a name like partner.example/w1") from None
        if (folder / "key").exists():
            raise WitnessError(f"{folder}: there is a witness already, and it is kept", "Choose another folder")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            make_private_folder(folder)
        except OSError as error:
            raise WitnessError(
                f"{folder}: cannot be made ({os.strerror(error.errno or 0)})", "Choose another folder"
            ) from None
        # The key last: a folder that has one is a finished witness.
        Memory(folder / "memory.sqlite").create(name)
        SigningKey.generate(folder / "key")
        return cls(folder)

    @property
    def verifier_key(self) -> VerifierKey:
        """Return the key that projects and readers name to check this witness's cosignatures."""
        return VerifierKey(self.name, COSIGNATURE, self._key.public)

    def ledgers(self) -> list[Seen]:
        """Return what this witness knows of each ledger."""
        return self._memory.ledgers()

    def trust(self, key: VerifierKey) -> bool:
        """Let a ledger be known by the key that its owner gave; return whether it is new.

        Raises WitnessError for a key that is no ledger's, or if another key is known for the ledger.
        """
        if key.kind != ED25519 or not is_origin(key.name):
            raise WitnessError(
                "this is not the key of a ledger", "Copy the whole key that the project gave you: quietcount.ledger/..."
            )
        with self._memory.writing() as writing:
            seen = writing.seen(key.name)
            if seen is not None and seen.key != key:
                raise WitnessError(
                    "this witness knows another key for that ledger, and it is kept",
                    "If the project says that it has a new key, take it with a request of theirs: quietcount witness "
                    "cosign FILE --key KEY",
                )
            if seen is None:
                writing.keep(Seen(key.name, key))
        return seen is None

    def unconfirmed(self, request: Request) -> VerifierKey | None:
        """Return the key that a person has to confirm before `request` is signed; None if it is known already.

        Raises WitnessError for a request that would not be signed in any case.
        """
        origin, _ = _stated(request)
        held = self._memory.held(origin)
        if held is not None and _is_signed(request.note, held[0].key):
            return None
        chain = Chain()
        for entry in [] if held is None else held[1]:
            chain.extend(entry)
        self._follow(chain, request)
        signer = chain.signer
        if held is not None and signer == held[0].key:
            raise WitnessRefused(
                HTTPStatus.FORBIDDEN, "the head is not signed with the key that is known for this ledger", _TELL
            )
        return signer

    def cosign(self, request: Request, told: VerifierKey | None = None, *, exact: bool = False) -> SignedNote:
        """Sign the head of `request`, and return it with the owner's signature and this witness's.

        `told` is a key that a person has confirmed for this ledger. If `exact`, the request has to begin where this
        witness ends, as over HTTP; else it may repeat what the witness has. Raises WitnessRefused, and nothing is
        remembered then.
        """
        origin, head = _stated(request)
        with self._memory.writing() as writing:
            seen = writing.seen(origin)
            if seen is None and told is None:
                raise WitnessRefused(
                    HTTPStatus.NOT_FOUND,
                    "this witness does not know the ledger",
                    "Its keeper has to run: quietcount witness trust KEY",
                )
            known = told or (seen.key if seen else None)
            assert known is not None  # noqa: S101 (for the type checkers)
            _check_owner(request.note, known)
            seen = seen or Seen(origin, known)
            if exact and request.old != seen.length:
                raise WitnessRefused(
                    HTTPStatus.CONFLICT,
                    "this witness has another number of entries than the request begins with",
                    "Begin with the number that it gives",
                    length=seen.length,
                )
            chain = self._chain(seen, lambda: writing.entries(origin)).copy()
            before = chain.head
            self._follow(chain, request)
            if head.length < before.length:
                raise WitnessRefused(
                    HTTPStatus.CONFLICT,
                    f"the ledger is older than what this witness signed: it has {head.length} entries, and the witness "
                    f"saw {before.length}",
                    "Ask the project for the newest. If it says that this is the newest, tell the other witnesses",
                    length=before.length,
                )
            if origin_of(chain.opened.ledger_id) != origin:
                raise _fork("the entries are those of another ledger than the head names")
            if chain.signer != known:
                raise WitnessRefused(
                    HTTPStatus.FORBIDDEN,
                    "the ledger names another key for its owner than the one that signed",
                    "Ask the project for its key, by another way than this one",
                )
            # The time never goes back: a later head with an earlier time would contradict the earlier one.
            now = max(int(self._clock()), seen.timestamp)
            note = SignedNote(request.note.text, request.note.signed_by(known)[:1])
            new = [entry.data for entry in chain.entries[before.length :]]
            writing.keep(Seen(origin, known, head.length, note, now), new, before.length)
        self._chains[origin] = chain
        return self._cosigned(note, now)

    def newest(self, origin: str) -> Request | None:
        """Return all that this witness holds of a ledger, with the newest head and its cosignature.

        None for a ledger that is unknown, or of which nothing was signed yet.
        """
        held = self._memory.held(origin)
        if held is None or held[0].note is None:
            return None
        return Request(0, tuple(held[1]), self._cosigned(held[0].note, held[0].timestamp))

    def checkpoint(self, origin: str) -> SignedNote | None:
        """Return the newest head that this witness signed, with its cosignature; None as for `newest`."""
        seen = self._memory.seen(origin)
        return None if seen is None or seen.note is None else self._cosigned(seen.note, seen.timestamp)

    def _cosigned(self, note: SignedNote, timestamp: int) -> SignedNote:
        return note.with_signatures(cosign(note, self._key, self.name, timestamp))

    def _chain(self, seen: Seen, entries: Callable[[], list[bytes]]) -> Chain:
        """Return the chain up to what was signed last; it is kept, and another process may have gone further."""
        known = self._chains.get(seen.origin)
        if known is not None and seen.note is not None and read_head(seen.note)[1] == known.head:
            return known
        chain = Chain()
        for entry in entries():
            chain.extend(entry)
        return chain

    def _follow(self, chain: Chain, request: Request) -> None:
        """Extend `chain` by what `request` has more. Raises WitnessRefused unless one continues the other."""
        _, head = read_head(request.note)
        known = chain.head.length
        if request.old > known:
            raise WitnessRefused(
                HTTPStatus.CONFLICT,
                f"the request begins with entry {request.old}, and this witness has {known}",
                f"Ask for one that begins there: quietcount ledger request --from {known}",
                length=known,
            )
        if request.old + len(request.entries) != head.length:
            raise _fork("the number of entries is not the one that the signed head states")
        for number, entry in enumerate(request.entries, request.old):
            if number < known:
                if chain.entries[number].data != entry:
                    raise _fork(f"entry {number} is another one than this witness saw: the ledger has two histories")
                continue
            try:
                chain.extend(entry)
            except LedgerNewer as error:
                raise WitnessRefused(HTTPStatus.UNPROCESSABLE_ENTITY, error.what, error.remedy) from None
            except LedgerError as error:
                raise _fork(error.what) from None
        if Head(head.length, chain.entries[head.length - 1].digest) != head:
            raise _fork("the signed head is not the one to which the entries lead: the ledger has two histories")


def _stated(request: Request) -> tuple[str, Head]:
    """Return the ledger and the head that a request is about. Raises WitnessRefused for what is none."""
    try:
        origin, head = read_head(request.note)
    except NoteError as error:
        raise WitnessRefused(HTTPStatus.BAD_REQUEST, error.what, error.remedy) from None
    if request.old > head.length:
        raise WitnessRefused(
            HTTPStatus.BAD_REQUEST, "the request begins after the head that it states", "Ask the project for another"
        )
    return origin, head


def _check_owner(note: SignedNote, key: VerifierKey) -> None:
    if not _is_signed(note, key):
        raise WitnessRefused(
            HTTPStatus.FORBIDDEN,
            "the head is not signed with the key that is known for this ledger",
            "If the project says that it has a new key, take it with a request of theirs: quietcount witness cosign "
            "FILE --key KEY",
        )


def _is_signed(note: SignedNote, key: VerifierKey) -> bool:
    try:
        return note.verified(key) is not None
    except NoteError as error:
        raise WitnessRefused(HTTPStatus.FORBIDDEN, error.what, error.remedy) from None


def _fork(what: str) -> WitnessRefused:
    return WitnessRefused(HTTPStatus.UNPROCESSABLE_ENTITY, what, _TELL)
