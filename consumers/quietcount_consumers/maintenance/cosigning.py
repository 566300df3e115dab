"""Cosigning by files: the request that a partner signs, and taking the signed note back."""

from __future__ import annotations

import os
from pathlib import Path

from quietcount_aggregates.errors import NoteError
from quietcount_aggregates.ledger.signed_heads import read_head, sign_head
from quietcount_aggregates.ledger.signed_notes import Signature, SignedNote, VerifierKey
from quietcount_aggregates.publication.publication import published_head
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError, WitnessError
from quietcount_consumers.maintenance.recovery import check_published, reading_ledger, signing_key_for
from quietcount_consumers.maintenance.signing import published_note
from quietcount_consumers.wiring import witness_of
from quietcount_consumers.witnessing.requests import Request
from quietcount_consumers.witnessing.vigil import unsigned, vigil_of

__all__ = ["cosigned_head", "request_of", "take_cosignatures"]


def request_of(configuration: Configuration, start: int) -> Request:
    """Return the request for the newest head of the ledger, with its entries from number `start` on.

    Raises a QuietcountError for a ledger that is older than what was seen of it, and for a start beyond its end.
    """
    with reading_ledger(configuration) as ledger:
        check_published(configuration, ledger)
        witness_of(configuration).check(ledger)
        length = ledger.chain.head.length
        if start > length:
            raise ServiceError(f"the ledger has {length} entries, and none from {start} on", f"Name {length} at most")
        note = sign_head(ledger.chain, signing_key_for(ledger, configuration))
        return Request(start, tuple(entry.data for entry in ledger.chain.entries[start:]), note)


def cosigned_head(configuration: Configuration) -> SignedNote:
    """Return the signed head of the published file, with the cosignatures that were collected for it.

    Raises ServiceError if nothing is published.
    """
    if not configuration.public_file.exists():
        raise ServiceError(
            f"{configuration.public_file}: there is no published file, so no head is published either",
            "Start the service, with: quietcount run. If it runs, quietcount doctor says what it waits for",
        )
    return vigil_of(configuration, unsigned).public.of(published_note(configuration.public_file))


def take_cosignatures(configuration: Configuration, path: Path) -> list[str]:
    """Keep the cosignatures of the configured witnesses in the note at `path`; return their names.

    Raises WitnessError if there is none, or if the note is not about the newest or the published head.
    """
    try:
        note = SignedNote.parse(path.read_bytes())
        origin, head = read_head(note)
    except OSError as error:
        raise WitnessError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})", "Check the path") from None
    except NoteError as error:
        raise WitnessError(f"{path}: {error.what}", error.remedy) from None
    vigil = vigil_of(configuration, unsigned)
    with reading_ledger(configuration) as ledger:
        chain = ledger.chain
        if origin != chain.signer.name:
            raise WitnessError(f"{path}: is about another ledger. Nothing was changed", "Take it to its project")
        published = published_head(configuration.public_file)
        if head not in (chain.head, published):
            raise WitnessError(
                f"{path}: is about a head of {head.length} entries, and the newest has {chain.head.length}. Nothing "
                "was changed",
                "Hand the partner a new request: quietcount ledger request",
            )
        signed = [(key.name, signature) for key in vigil.keys for signature in _by(note, key, path)]
        if not signed:
            raise WitnessError(
                f"{path}: carries no signature of a witness that the configuration names",
                "Name the partner's key in [[witnesses.witness]]",
            )
        signatures = [signature for _, signature in signed]
        moment = chain.entries[head.length - 1].recorded_at.timestamp()
        if head == chain.head:
            own = sign_head(chain, signing_key_for(ledger, configuration))
            vigil.pending.add(own.with_signatures(*signatures))
        if head == published:
            own = published_note(configuration.public_file)
            vigil.public.add(own.with_signatures(*signatures), moment)
    return [name for name, _ in signed]


def _by(note: SignedNote, key: VerifierKey, path: Path) -> list[Signature]:
    """Return the newest signature of `key` under a note, in a list: there may be none. Raises WitnessError."""
    own = note.signed_by(key)
    try:
        note.verified(key)
    except NoteError as error:
        raise WitnessError(f"{path}: {error.what}", error.remedy) from None
    return [max(own, key=lambda each: each.content[:8])] if own else []
