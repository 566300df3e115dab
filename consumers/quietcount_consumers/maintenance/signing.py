"""The signing key: handing on the head that it signed, and putting a new one in the place of one that is lost.

A new key lies beside the old one until the ledger names it. So a crash at any moment leaves the key that the ledger
names, and running the command again finishes what was begun.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

from quietcount_aggregates.errors import KeyMissing, LedgerUnwritable, NoteError, SigningKeyError, StateDamaged
from quietcount_aggregates.ledger.entries import Rekeyed
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.signed_notes import SignedNote, SigningKey, VerifierKey
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance.recovery import (
    check_published,
    compared_state,
    publish_ledger,
    published_chain,
    reading_ledger,
)
from quietcount_consumers.wiring import signing_key_file, witness_of
from quietcount_consumers.witnessing.published_copy import published_copy
from quietcount_consumers.witnessing.vigil import unsigned, vigil_of
from quietcount_schemas.private_files import sync_folder

__all__ = ["published_note", "renew_key"]


def published_note(public: Path) -> SignedNote:
    """Return the signed head that a published file carries, checked against the ledger in it.

    Raises ServiceError for a file that is missing or not quietcount's, LedgerBroken, and NoteError.
    """
    try:
        published_chain(public)
    except NoteError as error:
        raise NoteError(
            f"{public}: carries no sound signature of its head: {error.what}",
            "Delete it: `quietcount run` brings it back from the ledger",
        ) from None
    with published_copy(public) as copy:
        return copy.note


def renew_key(
    configuration: Configuration, now: dt.datetime, agree: Callable[[str], None], *, stolen: bool = False
) -> VerifierKey:
    """Make a new signing key, name it in the ledger, publish that, and return the key that readers need now.

    `agree` is handed what is wrong with the old key before anything is changed, and may raise. A key that is there
    and sound is replaced only if it is `stolen`. Finishes what a crash interrupted. Raises a QuietcountError, and then
    changes nothing, for a ledger that is older than what was published, and for a key of another ledger in the place.
    """
    with reading_ledger(configuration) as ledger, contextlib.ExitStack() as stack:
        seen = (configuration.public_file, witness_of(configuration).path)
        ledger.read_places()
        if ledger.has_workers and not any(path.exists() for path in seen):
            raise ServiceError(
                "this machine has a worker and not the releaser, whose key it is. Nothing was changed",
                "Run it where the releaser runs",
            )
        for partition in sorted(configuration.state_files):
            with contextlib.suppress(StateDamaged):  # its loss is recorded later, and that has to be signed
                stack.enter_context(compared_state(configuration, partition, ledger))
        _check(configuration, ledger)
        vigil_of(configuration, unsigned).check_shown(ledger.chain)
        path = signing_key_file(configuration)
        following = path.with_name(f"{path.name}-next")
        if not _is_named(following, ledger):
            agree(_found(path, ledger, stolen=stolen))
            key = SigningKey.generate(following, replace=True)
            ledger.fence()
            _check(configuration, ledger)
            ledger.append([Rekeyed(key.public)], now)
        try:
            following.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise LedgerUnwritable(
                f"{path}: cannot be written ({os.strerror(error.errno or 0)})",
                "Mend the rights or the disk, then run again: the ledger names the new key already",
            ) from None
        publish_ledger(ledger, configuration)
        return ledger.chain.signer


def _check(configuration: Configuration, ledger: Ledger) -> None:
    """Raise LedgerBehind for an older copy: what is appended to it would be lost, or fork the chain."""
    check_published(configuration, ledger)
    witness_of(configuration).check(ledger)


def _is_named(path: Path, ledger: Ledger) -> bool:
    """Return whether the key at `path` is the one that the ledger names: a crash kept it from its place."""
    try:
        return SigningKey.load(path).public == ledger.chain.signer.public
    except KeyMissing:
        return False


def _found(path: Path, ledger: Ledger, *, stolen: bool) -> str:
    """Return what is wrong with the key at `path`, in a sentence without its full stop. Raises ServiceError."""
    try:
        public = SigningKey.load(path).public
    except KeyMissing as error:
        return error.what
    except SigningKeyError as error:
        raise SigningKeyError(error.what, f"{error.remedy}. If it is lost, move this file away first") from None
    if public == ledger.chain.signer.public:
        if not stolen:
            raise ServiceError(
                f"{path}: is there, and is the key that the ledger names. Nothing was changed",
                "If somebody else may have it, run: quietcount ledger new-key --stolen",
            )
        return f"{path} is the key that the ledger names, and somebody else may have it"
    if public not in ledger.chain.keys:
        raise SigningKeyError(
            f"{path}: is the key of another ledger. Nothing was changed",
            "Put it back where it belongs, then run again",
        )
    return f"{path} is a key that the ledger gave up"
