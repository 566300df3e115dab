"""Verification: what anybody can check of a published file, with nothing but that file in hand.

The ledger in the file is replayed by its rules, and its head must be signed with its own key. Then the file is built
again from that ledger. Under one version of DuckDB that gives the same bytes, so that whatever else the file holds
belongs to nothing. Under another version the two are compared object by object and row by row.
"""

from __future__ import annotations

import datetime as dt
import filecmp
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

import duckdb

from quietcount_aggregates.bound import bound_sentence
from quietcount_aggregates.errors import NoteError, PublicationError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Rekeyed, Released
from quietcount_aggregates.ledger.signed_heads import check_signed, read_head
from quietcount_aggregates.ledger.signed_notes import SignedNote, VerifierKey
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.publication.publication import publish
from quietcount_consumers.maintenance.contradiction import contradiction
from quietcount_consumers.maintenance.published_objects import difference, written_by
from quietcount_consumers.witnessing.published_copy import (
    DISTRUST,
    NotVerified,
    PublishedCopy,
    check_beside,
    published_copy,
)

__all__ = [
    "KnownHead",
    "Verified",
    "agreement",
    "check_known",
    "compared",
    "known_head",
    "verify_file",
]

_HEX: Final = re.compile(r"[0-9a-f]{16,64}")
"""A head, or the beginning of one: a citation of the statistics has its first 16 digits."""

_RELEASE: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}((a|b|rc|\.post|\.dev)[0-9]{1,4})?")
"""A version of quietcount as a file may name it. Anything longer could say something else."""

_STRANGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, MemoryError)
"""What the figures of a ledger that nobody wrote in good faith may raise."""

_KEEP_BOTH: Final = (
    "Keep both files: they show it to anybody. Rely on neither until the publisher has said which one is theirs, and "
    "why"
)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified, a sentence each, and the chain of which it was."""

    chain: Chain
    checks: list[str] = field(default_factory=list)

    @property
    def record(self) -> dict[str, object]:
        """Return it for machines."""
        head = self.chain.head
        return {
            "holds": True,
            "ledger_id": self.chain.opened.ledger_id.hex(),
            "key": self.chain.signer.text,
            "head": head.digest.hex(),
            "length": head.length,
            "newest_entry": _moment(self.chain.entries[-1].recorded_at),
            "bound": bound_sentence(self.chain),
            "checks": self.checks,
        }


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that somebody noted earlier: the beginning of its digest in hex, or a signed note that states it."""

    text: str
    note: SignedNote | None = None


def known_head(text: str) -> KnownHead:
    """Return the head that `text` is, or that the file with this path states. Raises NoteError, and OSError."""
    if _HEX.fullmatch(text.lower()):
        return KnownHead(text.lower())
    note = SignedNote.parse(Path(text).read_bytes())
    read_head(note)
    return KnownHead(text, note)


def verify_file(
    path: Path, *, key: VerifierKey | None = None, head: KnownHead | None = None, older: Path | None = None
) -> Verified:
    """Verify a published file from itself alone, and against what somebody knew before.

    `key` is the one that the publisher gave to whoever asks, `head` one that was noted earlier, and `older` another
    copy of the published file. Raises NotVerified for the first thing that does not hold.
    """
    check_beside(path)
    with published_copy(path) as copy:
        chain = copy.chain()
        verified = Verified(chain, [_chain_sentence(path, chain)])
        verified.checks.append(_check_signature(copy, chain, told=key is not None))
        _check_mechanisms(path, chain)
        different, remark = compared(copy, chain)
        if different is not None:
            raise NotVerified(f"{path}: {different}", DISTRUST)
        verified.checks.append(f"{agreement(path)}{remark}.")
        verified.checks.append(bound_sentence(chain))
    verified.checks.extend(check_known(path, chain, key=key, head=head, older=older))
    return verified


def check_known(
    path: Path, chain: Chain, *, key: VerifierKey | None, head: KnownHead | None, older: Path | None
) -> Iterator[str]:
    """Yield what comes of comparing a verified chain with what somebody knew before; see `verify_file`."""
    if key is not None:
        yield _check_told_key(path, chain, key)
    if head is not None:
        yield _check_head(path, chain, head)
    if older is not None:
        yield _check_against(path, chain, older)


def compared(copy: PublishedCopy, chain: Chain) -> tuple[str | None, str]:
    """Build the public file of a chain again, and compare it with a copy of a file that should be the same.

    Returns what is wrong with the copy, or None, and what is to be said of how they were compared, both without a full
    stop. Raises NotVerified if no file can be built from the chain, or if the copy is damaged.
    """
    path, this = copy.path, metadata.version("quietcount-aggregates")
    said = copy.about.get("quietcount", "")
    version = said if _RELEASE.fullmatch(said) else this
    with tempfile.TemporaryDirectory(prefix="quietcount-verify-") as folder:
        again = Path(folder) / "again.duckdb"
        try:
            publish(chain, again, copy.note.data, version)
        except PublicationError as error:
            raise NotVerified(f"{path}: no file can be built from the ledger: {error.what}", error.remedy) from None
        except _STRANGE as error:
            raise NotVerified(
                f"{path}: no figures can be made of what its ledger says ({type(error).__name__})", DISTRUST
            ) from None
        if filecmp.cmp(copy.file, again, shallow=False):
            return None, ", to the last byte" + ("" if version == this else f". Quietcount {version} made it")
        made, ours = written_by(copy.file), written_by(again)
        try:
            differing = difference(copy.file, again)
        except duckdb.Error:
            return "is damaged", ""
    if differing is not None and version != this:
        return (
            f"{differing} is not what this version of quietcount, {this}, makes of the ledger. The file says that "
            f"{version} made it, which may have other rules and definitions: verify it with that version"
        ), ""
    if differing is not None:
        return f"{differing} does not hold what the ledger says", ""
    if made == ours:
        return "holds bytes that belong to nothing, in a free block or in a gap", ""
    return None, (
        f", object by object and row by row. DuckDB {made} made it, and this is DuckDB {ours}, which lays it out in "
        "another way: free blocks and gaps were not compared, and could hold anything. To compare these too, verify it "
        f"with DuckDB {made.partition(' ')[0]}"
    )


def agreement(public: Path) -> str:
    """Return the sentence about a public file that was verified, without its full stop."""
    return f"{public} holds exactly what the ledger says"


def _check_told_key(path: Path, chain: Chain, key: VerifierKey) -> str:
    """Return that the ledger's key is the one that somebody was told. Raises NotVerified if it is another."""
    if key == chain.signer:
        return "The ledger's key is the one that you named."
    if key.name == chain.signer.name and key.public in chain.keys:
        raise NotVerified(
            f"{path}: is signed with another key than the one that you named, which this ledger used before",
            "Ask the publisher, by another way than the file, whether they changed their key, and when",
        )
    raise NotVerified(f"{path}: is signed with another key than the one that you named", DISTRUST)


def _check_head(path: Path, chain: Chain, known: KnownHead) -> str:
    """Return where in the ledger a head is that was noted earlier. Raises NotVerified."""
    if known.note is not None:
        origin, head = read_head(known.note)
        if origin != chain.signer.name:
            raise NotVerified(f"{known.text}: states the head of another ledger than that of {path}", _KEEP_BOTH)
        try:
            if not any(known.note.verified(VerifierKey(origin, chain.signer.kind, each)) for each in chain.keys):
                raise NotVerified(f"{known.text}: is not signed with a key of the ledger in {path}", _KEEP_BOTH)
        except NoteError as error:
            raise NotVerified(f"{known.text}: {error.what}", error.remedy) from None
        entries = chain.entries[head.length - 1 : head.length]
        found = next((each for each in entries if each.digest == head.digest), None)
    else:
        found = next((each for each in chain.entries if each.digest.hex().startswith(known.text)), None)
    if found is None:
        raise NotVerified(
            f"{path}: its ledger does not hold the head {known.text}. It is an older copy than the one with that head, "
            "or another history was put in its place",
            "Compare it with the file that had that head, if you have it: quietcount ledger verify FILE --against "
            "OLDER_FILE",
        )
    behind = len(chain.entries) - found.index - 1
    more = "it is the newest one" if not behind else f"{behind} more {'entry' if behind == 1 else 'entries'} followed"
    return f"The ledger holds that head: it is the one after {found.index + 1} entries, and {more}."


def _check_against(path: Path, chain: Chain, older: Path) -> str:
    """Verify another copy of the published file, and return which of the two is older.

    Raises NotVerified if it does not hold, or if neither continues the other.
    """
    other = verify_file(older).chain
    if other.opened.ledger_id != chain.opened.ledger_id:
        raise NotVerified(
            f"{path} and {older} are of two ledgers: the one was opened with another key than the other", _KEEP_BOTH
        )
    parted = contradiction(chain, other)
    if parted is not None:
        raise NotVerified(f"{path} and {older} contradict each other. {parted.sentence}", _KEEP_BOTH)
    ours, theirs = chain.head.length, other.head.length
    if ours == theirs:
        return f"{older} holds the same ledger."
    first, last = (older, path) if theirs < ours else (path, older)
    return f"{first} is the older one: {last} continues it, from ledger entry {min(ours, theirs)} on."


def _chain_sentence(path: Path, chain: Chain) -> str:
    head = chain.head
    return (
        f"The ledger in {path} follows its rules from its first entry to its newest one, which was made at "
        f"{_moment(chain.entries[-1].recorded_at)}. It has {head.length} entries, and its head is {head.digest.hex()}."
    )


def _check_signature(copy: PublishedCopy, chain: Chain, *, told: bool) -> str:
    """Return that the head is signed with the ledger's own key. Raises NotVerified."""
    try:
        check_signed(chain, copy.note)
    except NoteError as error:
        raise NotVerified(f"{copy.path}: {error.what}", DISTRUST) from None
    sentence = f"Its head is signed with the ledger's own key, {chain.signer.text}."
    changed = [entry for entry in chain.entries if isinstance(entry.body, Rekeyed)]
    if changed:
        sentence += (
            f" The ledger changed its key, the last time on {changed[-1].recorded_at:%Y-%m-%d} (ledger entry "
            f"{changed[-1].index}): whoever could write to the ledger could do that."
        )
    if not told:
        sentence += " Only the publisher can tell you whether that key is theirs; then name it with --key."
    return sentence


def _check_mechanisms(path: Path, chain: Chain) -> None:
    """Raise NotVerified for a value that was not drawn with the one mechanism that there is."""
    for entry in chain.entries:
        if isinstance(entry.body, Released) and entry.body.mechanism != DiscreteLaplace.name:
            raise NotVerified(
                f"{path}: ledger entry {entry.index} says that its noise is of a kind that quietcount does not have",
                DISTRUST,
            )


def _moment(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
