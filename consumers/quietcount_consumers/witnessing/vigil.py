"""The vigil: our ledger is compared with what others hold of it, before anything is drawn and before it is published.

A restore that brings everything back to an older day, secrets too, leaves nothing here that could tell. Others can: a
published copy with our signature, and witnesses, who sign no older head and no other history. If one of them knows a
head that our ledger does not hold, nothing is drawn. If too few answer, nothing is drawn either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from quietcount_aggregates.errors import LedgerBehind, NoteError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.ledger.signed_heads import read_head
from quietcount_aggregates.ledger.signed_notes import ED25519, Signature, SignedNote, VerifierKey
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import WitnessesAway
from quietcount_consumers.witnessing.asking import AskedWitness, contradicts
from quietcount_consumers.witnessing.collected import Collected
from quietcount_consumers.witnessing.copies import note_of
from quietcount_consumers.witnessing.fetching import Unanswered

__all__ = ["Answer", "Vigil", "holds", "unsigned", "vigil_of"]

_RESTORE: Final = (
    "Put the newest ledger back, or bring it back from that copy or witness, with: quietcount ledger restore"
)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one witness or copy said: a head that it knows, or why it said nothing.

    `unknown_key` says that a copy is there, but signed with a key that our ledger does not know: it may be newer.
    """

    who: str
    head: Head | None = None
    silence: str = ""
    unknown_key: bool = False


class Vigil:
    """The witnesses and the copies that a configuration names.

    `pending` keeps the cosignatures for the newest head, `public` those for the published one. `sign` signs the head
    of a verified chain.
    """

    def __init__(
        self,
        *,
        require: int,
        witnesses: Sequence[tuple[VerifierKey, str | None]],
        copies: Sequence[str | Path],
        pending: Collected,
        public: Collected,
        sign: Callable[[Chain], SignedNote],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.require = require
        self.keys = [key for key, _ in witnesses]
        self.pending = pending
        self.public = public
        self.sign = sign
        self._asked = [AskedWitness(key, url, clock) for key, url in witnesses if url is not None]
        self._copies = copies

    @property
    def needed(self) -> int:
        """Return how many witnesses with an address have to answer before anything is drawn.

        A collected signature does not stand in for one of them: it was put back with everything else.
        """
        return min(self.require, len(self._asked))

    @property
    def by_file(self) -> list[VerifierKey]:
        """Return the keys of the witnesses without an address."""
        asked = {each.key for each in self._asked}
        return [key for key in self.keys if key not in asked]

    def __bool__(self) -> bool:
        """Return whether anybody is named."""
        return bool(self.keys or self._copies)

    def check_none(self, origin: str) -> None:
        """Raise LedgerBehind or WitnessesAway unless nobody knows anything of our ledger: there is none here yet.

        Copies cannot be compared with nothing, so none may be named yet.
        """
        if self._copies:
            raise LedgerBehind(
                "the key 'witnesses.copies' names copies of what was published, and there is no ledger here",
                "Bring it back from a copy, with: quietcount ledger restore. If nothing was ever published, name the "
                "copies after the first publication",
            )
        answers = _together(lambda each: _said(each.key.name, lambda: each.newest(origin)), self._asked)
        for answer in answers:
            if answer.head is not None:
                raise LedgerBehind(f"{answer.who} signed a ledger of ours, and there is none here", _RESTORE)
        self._check_enough([each for each in answers if not each.silence], answers)

    def compare(self, chain: Chain) -> int:
        """Compare a ledger that has entries with every copy and every witness that answers; ask these to sign its head.

        Returns how many of them signed it now. Raises LedgerBehind if one knows a head that the ledger does not hold,
        and WitnessesAway if a copy cannot be read or too few witnesses answer.
        """
        if not self:
            return 0
        note = self.sign(chain)
        copies = _together(lambda copy: _said(str(copy), lambda: _head_of(copy, chain)), self._copies)
        signed, answers = self._ask(chain, note, self._asked)
        _check_heads(chain, [*copies, *answers])
        _check_keys(copies)
        for copy in copies:
            if copy.silence:
                raise WitnessesAway(
                    f"the published copy {copy.who} cannot be compared: {copy.silence}. Nothing is drawn",
                    "Mend the copy, or take it out of the key 'witnesses.copies'",
                )
        self._check_enough(signed, answers)
        return len(signed)

    def check_vouched(self, chain: Chain) -> None:
        """Do what `compare` does, and raise WitnessesAway unless as many as required vouch for the newest head.

        Those with an address have to sign it now; of those without one the collected cosignature counts.
        """
        if not self:
            return
        vouching = self.compare(chain)
        note = self.pending.of(self.sign(chain))
        vouching += sum(holds(note, key) for key in self.by_file)
        if vouching < self.require:
            raise WitnessesAway(
                f"{vouching} of the {self.require} required witnesses vouch for the newest head of the ledger. Nothing "
                "is drawn",
                "Hand the others a request (quietcount ledger request), and take what they sign with: quietcount "
                "ledger cosign",
            )

    def gathered(self, chain: Chain, note: SignedNote, rest: Callable[[], None]) -> SignedNote:
        """Return `note`, of the head of `chain`, with all cosignatures that are collected, or had for the asking.

        `rest` is called before a witness is asked. Raises LedgerBehind if one knows a head that the ledger does not
        hold.
        """
        note = self.pending.of(self.public.of(note))
        missing = [each for each in self._asked if not holds(note, each.key)]
        if missing:
            rest()
            _check_heads(chain, self._ask(chain, note, missing)[1])
        return self.pending.of(note)

    def enough(self, note: SignedNote) -> bool:
        """Return whether as many witnesses as required signed `note`."""
        return self.signers(note) >= self.require

    def signers(self, note: SignedNote) -> int:
        """Return how many witnesses signed `note`."""
        return sum(holds(note, key) for key in self.keys)

    def check_shown(self, chain: Chain) -> None:
        """Raise LedgerBehind if a copy or a witness that answers shows a head that the ledger does not hold.

        Nobody is asked to sign, so it needs no signing key. Those that do not answer are left out. A copy is not that
        is signed with a key that the ledger does not know: raises WitnessesAway.
        """
        answers = self.look(chain)
        _check_heads(chain, answers)
        _check_keys(answers)

    def look(self, chain: Chain) -> list[Answer]:
        """Return how far each witness with an address and each copy is; none is asked to sign anything."""
        origin = chain.signer.name
        heads = _together(lambda each: _said(each.key.name, lambda: each.newest(origin)), self._asked)
        return [*heads, *_together(lambda copy: _said(str(copy), lambda: _head_of(copy, chain)), self._copies)]

    def _ask(
        self, chain: Chain, note: SignedNote, asked: Sequence[AskedWitness]
    ) -> tuple[list[Signature], list[Answer]]:
        """Ask witnesses to sign; keep what they signed, and return it, with an answer of each."""

        def ask(each: AskedWitness) -> tuple[Signature | None, Answer]:
            try:
                said = each.sign(chain, note)
            except Unanswered as error:
                return None, Answer(each.key.name, silence=error.what)
            return (None, Answer(each.key.name, said)) if isinstance(said, Head) else (said, Answer(each.key.name))

        found = _together(ask, asked)
        signed = [signature for signature, _ in found if signature is not None]
        if signed:
            self.pending.add(SignedNote(note.text, (note.signatures[0], *signed)))
        return signed, [answer for _, answer in found]

    def _check_enough(self, signed: Sequence[object], answers: Sequence[Answer]) -> None:
        if len(signed) < self.needed:
            silent = "; ".join(f"{each.who}: {each.silence}" for each in answers if each.silence)
            raise WitnessesAway(
                f"{len(signed)} of {len(self._asked)} witnesses with an address answer, and {self.needed} have to "
                f"({silent}). Nothing is drawn or recorded",
                "Ask those who keep them; quietcount doctor says how each is. If one is lost permanently, take it out "
                "of the configuration",
            )


def vigil_of(configuration: Configuration, sign: Callable[[Chain], SignedNote]) -> Vigil:
    """Return the vigil that a configuration asks for."""
    section = configuration.witnesses
    return Vigil(
        require=section.require,
        witnesses=[(VerifierKey.parse(each.key), each.url) for each in section.witness],
        copies=section.copies,
        pending=Collected(configuration.private_dir / "statistics.head"),
        public=Collected(configuration.public_file.with_suffix(".head"), public=True),
        sign=sign,
    )


def unsigned(_: Chain) -> SignedNote:
    """Sign nothing: for a vigil that only looks."""
    raise NoteError("nothing is signed here", "Report this line")


class _UnknownKey(Unanswered):
    """A copy of this ledger that no key signed which the ledger knows."""


def _head_of(copy: str | Path, chain: Chain) -> Head:
    """Return the head that a copy states under a key of this ledger. Raises Unanswered, also as _UnknownKey."""
    note = note_of(copy)
    try:
        origin, head = read_head(note)
        if origin != chain.signer.name:
            raise Unanswered("it is a copy of another ledger")
        if not any(note.verified(VerifierKey(origin, ED25519, key)) for key in reversed(chain.keys)):
            raise _UnknownKey(
                "it does not carry our signature: it was altered, or signed with a key that the ledger here does not "
                "know"
            )
    except NoteError:
        raise Unanswered("it was altered: our signature in it does not hold") from None
    return head


def _said(who: str, look: Callable[[], Head | None]) -> Answer:
    try:
        return Answer(who, look())
    except Unanswered as error:
        return Answer(who, silence=error.what, unknown_key=isinstance(error, _UnknownKey))


def _check_keys(answers: Sequence[Answer]) -> None:
    """Raise WitnessesAway if a copy is signed with an unknown key: nothing proves, or denies, that it is newer."""
    for answer in answers:
        if answer.unknown_key:
            raise WitnessesAway(
                f"the published copy {answer.who} cannot be compared: {answer.silence}. Nothing is drawn or recorded",
                "If the ledger here may be from before a new key, bring the newest ledger back. If the copy was "
                "altered, mend it, or take it out of the key 'witnesses.copies'",
            )


def _check_heads(chain: Chain, answers: Sequence[Answer]) -> None:
    for answer in answers:
        if answer.head is not None and contradicts(chain, answer.head):
            older = answer.head.length > chain.head.length
            raise LedgerBehind(
                f"{answer.who} holds a head of this ledger that the ledger here does not hold: "
                f"{'the ledger here is an older copy' if older else 'there are two histories'}. A release would draw "
                "values again that are public",
                _RESTORE,
            )


def holds(note: SignedNote, key: VerifierKey) -> bool:
    """Return whether `note` carries a sound signature under `key`."""
    try:
        return note.verified(key) is not None
    except NoteError:
        return False


_Asked = TypeVar("_Asked")


def _together(ask: Callable[[_Asked], _Result], whom: Sequence[_Asked]) -> list[_Result]:
    """Ask all at once: one that does not answer must not hold up the others."""
    if not whom:
        return []
    with ThreadPoolExecutor(len(whom)) as threads:
        return list(threads.map(ask, whom))
