"""Verification of a project: its ledger and its public file, and whatever else in it knows how far the ledger went."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from quietcount_aggregates.bound import bound_sentence
from quietcount_aggregates.errors import LedgerBehind, NoteError, StateError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.signed_heads import check_key, check_signed
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.publication.published_file import holder_of
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance.contradiction import contradiction
from quietcount_consumers.maintenance.recovery import reading_ledger
from quietcount_consumers.maintenance.state_facts import state_of
from quietcount_consumers.maintenance.verification import Verified, agreement, compared
from quietcount_consumers.wiring import signing_key_file, witness_of
from quietcount_consumers.witnessing.published_copy import NotVerified, PublishedCopy, check_beside, published_copy

__all__ = ["compare_with_project", "held_open", "verify_ledger", "verify_project"]


def verify_project(configuration: Configuration) -> Verified:
    """Verify the ledger of a project, what else in it knows how far that went, its signing key and its public file.

    Changes nothing. What lies in a place that may not be read here is left out, and a sentence says so. Raises a
    QuietcountError for the first thing that does not hold.
    """
    with reading_ledger(configuration) as ledger:
        known = _asked_all(configuration, ledger)
        return Verified(ledger.chain, [*verify_ledger(ledger.chain, configuration.public_file), *known])


def verify_ledger(chain: Chain, public: Path) -> list[str]:
    """Return what was verified, a line each, of a chain that was read and of the public file beside it.

    Raises ServiceError when the public file does not hold exactly what the ledger says, and nothing beside it more.
    """
    lines = [f"The ledger's chain holds; its head is {chain.head.digest.hex()}.", bound_sentence(chain)]
    if not public.exists():
        return [*lines, f"{public} is not there; `quietcount run` brings it back with the same values."]
    check_beside(public)
    try:
        with published_copy(public) as copy:
            different, remark = _signed(copy, chain) or compared(copy, chain)
            older = different is not None and _is_older(copy, chain)
    except NotVerified as error:
        raise ServiceError(error.what, "Move it away: `quietcount run` brings it back from the ledger") from None
    if older:
        raise ServiceError(
            f"{public}: it is sound, but older than the ledger: a release was cut short, is being published now, or "
            "waits for witnesses",
            "Leave it there. `quietcount run` publishes what the ledger holds; `quietcount doctor` says which "
            "witnesses have not signed",
        )
    if different is not None:
        raise ServiceError(
            f"{public}: {different}; it was altered", "Delete it: `quietcount run` brings it back from the ledger"
        )
    return [*lines, f"{agreement(public)}{remark}.", *(f"{what}. {remedy}." for what, remedy in held_open(public))]


def compare_with_project(configuration: Configuration, path: Path, chain: Chain) -> list[str]:
    """Return whether a file that was verified is of the project's ledger, and that the ledger holds it, a line each.

    If it is, ask also what else in the project knows how far its ledger went: a ledger that was cut agrees with a file
    that was built from it. Raises LedgerBehind if the ledger lacks entries of the file or has others, and what
    `verify_project` raises for a ledger that others there contradict.
    """
    with reading_ledger(configuration) as ledger:
        if ledger.chain.opened.ledger_id != chain.opened.ledger_id:
            return [f"{path} is not of this project: its ledger is another one."]
        return [_membership(ledger.chain, path, chain), *_asked_all(configuration, ledger)]


def held_open(public: Path) -> list[tuple[str, str]]:
    """Return what there is to say, and what to do, if another program holds the public file open to write."""
    holder = holder_of(public)
    if holder is None:
        return []
    return [
        (
            f"{public} is held open to write by {holder}, so DuckDB opens it for nobody else. The service publishes "
            "all the same, and that program keeps the old file",
            "Ask its user to open the file for reading only, as in duckdb.connect(..., read_only=True) or duckdb "
            "-readonly",
        )
    ]


def _membership(ours: Chain, path: Path, chain: Chain) -> str:
    """Return that the project's ledger holds a file of it. Raises LedgerBehind."""
    parted = contradiction(ours, chain)
    if parted is not None:
        raise LedgerBehind(
            f"the ledger of this project and {path} contradict each other, and both were made with its key. "
            f"{parted.sentence}",
            "Release nothing. Look for the newest ledger, and for who else has the signing key",
        )
    if ours.head.length < chain.head.length:
        raise LedgerBehind(
            f"the ledger of this project is older than {path}, which was published from it",
            "Put the newest ledger back, or bring it back from that file, with: quietcount ledger restore",
        )
    newer = ours.head.length - chain.head.length
    more = f" and {newer} more" if newer else " and no more"
    return f"{path} is of this project: its ledger holds all entries of the file{more}."


def _signed(copy: PublishedCopy, chain: Chain) -> tuple[str, str] | None:
    """Return what is wrong with the signed head in a public file, as `compared` does; None if it is sound."""
    try:
        check_signed(chain, copy.note)
    except NoteError as error:
        return f"its signed head is not that of the ledger: {error.what}", ""
    return None


def _asked_all(configuration: Configuration, ledger: Ledger) -> list[str]:
    """Return what each part of the project that knows its ledger says of it, a line each.

    Raises a QuietcountError if one of them contradicts it.
    """
    try:
        known = [*_asked_witness(configuration, ledger), *_asked_state(configuration, ledger)]
    except LedgerBehind:
        ledger.refresh()  # a running service may have released since the ledger was read
        known = [*_asked_witness(configuration, ledger), *_asked_state(configuration, ledger)]
    ledger.read_places()
    ledger.check_places()
    known.append("The private log of places beside the ledger fits it.")
    return [*known, *_checked_key(configuration, ledger.chain)]


def _is_older(copy: PublishedCopy, chain: Chain) -> bool:
    """Return whether a public file is sound, and built from the beginning of `chain` alone."""
    beginning = copy.chain()
    if beginning.head.length >= chain.head.length or contradiction(chain, beginning) is not None:
        return False
    return (_signed(copy, beginning) or compared(copy, beginning))[0] is None


def _asked_witness(configuration: Configuration, ledger: Ledger) -> Iterator[str]:
    witness = witness_of(configuration)
    if not os.access(witness.path.parent, os.R_OK | os.X_OK):
        yield f"The witness beside the secrets could not be asked: {witness.path.parent} may not be read here."
    elif not witness.path.exists():
        yield f"There is no witness beside the secrets: {witness.path} is missing."
    else:
        witness.check(ledger)
        yield f"The ledger holds what the witness {witness.path} saw."


def _asked_state(configuration: Configuration, ledger: Ledger) -> Iterator[str]:
    if not os.access(configuration.private_dir, os.R_OK | os.X_OK):
        yield f"The state could not be asked: {configuration.private_dir} may not be read here."
        return
    for partition in range(ledger.chain.opened.partitions):
        try:
            facts = state_of(configuration, partition)
        except StateError as error:
            yield f"The state could not be asked: {error.what}."
            return
        if facts is None:
            yield "The state was not asked: a service holds it, which compared it with the ledger when it started."
            return
        ledger.check_not_behind(facts.head, facts.path.name)
    yield "The ledger holds what the state saw."


def _checked_key(configuration: Configuration, chain: Chain) -> Iterator[str]:
    path = signing_key_file(configuration)
    if not os.access(path, os.R_OK):
        yield f"The signing key could not be checked: {path} is not here, or may not be read."
    else:
        check_key(chain, SigningKey.load(path))
        yield f"The signing key is that of the ledger, {chain.signer.text}."
