"""Published files as somebody would have them who wants to deceive, made from one that is sound."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
from tests.aggregates_world import SIGNING_KEY, signing_key
from tests.published_world import published_in

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import GENESIS, Body, Entry, Opened, Rekeyed, Released, Retired, Settled
from quietcount_aggregates.ledger.signed_heads import sign_head, text_of
from quietcount_aggregates.ledger.signed_notes import SigningKey, sign
from quietcount_aggregates.publication import published_bytes
from quietcount_aggregates.publication.publication import publish

__all__ = [
    "THIEF",
    "Sound",
    "chained",
    "checked",
    "forked",
    "rekeyed",
    "reopened",
    "sound_in",
    "stolen_name",
    "values_changed",
    "with_bound",
    "with_header",
    "written",
]

THIEF = signing_key(7)
"""Somebody else's key."""


@dataclasses.dataclass(frozen=True)
class Sound:
    """A published file that is sound, and the chain in it."""

    folder: Path
    file: Path
    chain: Chain

    def altered(self, *statements: str) -> Path:
        """Return a copy on which these statements were run."""
        path = self._copy()
        with duckdb.connect(str(path)) as connection:
            for statement in statements:
                connection.execute(statement)
        return path

    def edited(self, edit: Callable[[bytearray], bytes | bytearray]) -> Path:
        """Return a copy with other bytes."""
        path = self._copy()
        path.write_bytes(edit(bytearray(path.read_bytes())))
        return path

    def published(
        self, chain: Chain, key: SigningKey = SIGNING_KEY, note: str | None = None, version: str = ""
    ) -> Path:
        """Return a file that was published from another chain; `note` stands in the place of its signed head."""
        path = self.folder / "statistics.duckdb"
        self.publish(chain, path, sign_head(chain, key).data if note is None else note, version)
        return path

    def publish(self, chain: Chain, path: Path, note: str, version: str = "") -> None:
        """Publish as ever, each chain and note once: that takes most of the time of a verification."""
        kept = self.folder / f"{hashlib.sha256(chain.head.digest + f'{note}{version}'.encode()).hexdigest()}.duckdb"
        if not kept.exists():
            publish(chain, kept, note, version)
        shutil.copy(kept, path)

    @property
    def bodies(self) -> list[Body]:
        return [entry.body for entry in self.chain.entries]

    @property
    def note(self) -> str:
        return sign_head(self.chain, SIGNING_KEY).data

    def _copy(self) -> Path:
        path = self.folder / "statistics.duckdb"
        shutil.copy(self.file, path)
        return path


def sound_in(folder: Path) -> Sound:
    """Publish a file in a folder, with real noise, and leave room for one forgery beside it."""
    with published_in(folder / "sound") as world:
        chain = world.ledger.chain.copy()
    (folder / "forged").mkdir()
    return Sound(folder / "forged", folder / "sound" / "statistics.duckdb", chain)


def chained(sound: Sound, bodies: Sequence[Body]) -> Chain:
    """Return a chain of other bodies, each recorded when the sound entry in its place was; it may end the earlier."""
    chain = Chain()
    for entry in written(sound, bodies):
        chain.extend(entry)
    return chain


def written(sound: Sound, bodies: Sequence[Body]) -> list[bytes]:
    """Return the bytes of the entries, whether or not they may follow each other."""
    previous, entries = GENESIS, []
    for place, body in enumerate(bodies):
        moment = sound.chain.entries[min(place, len(sound.chain.entries) - 1)].recorded_at
        entry = Entry.make(place, previous, moment, body)
        previous = entry.digest
        entries.append(entry.data)
    return entries


def values_changed(sound: Sound, place: int = -1) -> list[Body]:
    """Return the bodies, with other values in one release."""
    bodies = sound.bodies
    body = bodies[place]
    assert isinstance(body, Released)
    bodies[place] = dataclasses.replace(body, values=tuple(value + 1 for value in body.values))
    return bodies


def forked(sound: Sound) -> Chain:
    """Return a chain with another entry after the last settlement, which the owner's key signs as well."""
    at = max(place for place, body in enumerate(sound.bodies) if isinstance(body, Settled))
    return chained(sound, [*sound.bodies[:at], Retired("plain")])


def reopened(sound: Sound, key: SigningKey = THIEF) -> Chain:
    """Return the same history under another key: a ledger of another name."""
    opened = sound.chain.opened
    return chained(sound, [dataclasses.replace(opened, public_key=key.public), *sound.bodies[1:]])


def rekeyed(sound: Sound) -> Chain:
    """Return the ledger after somebody who could write to it put in a key of theirs."""
    return chained(sound, [*sound.bodies, Rekeyed(THIEF.public)])


def stolen_name(chain: Chain) -> str:
    """Return the signed head of a chain as a thief signs it, in the name of the ledger."""
    return sign(text_of(chain.opened.ledger_id, chain.head), THIEF, chain.signer.name).data


def with_bound(sound: Sound, bound: str) -> Chain:
    """Return the same history under another bound."""
    body = sound.bodies[0]
    assert isinstance(body, Opened)
    return chained(sound, [dataclasses.replace(body, lifetime_epsilon=Decimal(bound)), *sound.bodies[1:]])


def with_header(content: bytearray, version: bytes) -> bytearray:
    """Return a file that says that another version of DuckDB made it."""
    content[52:84] = version.ljust(32, b"\0")
    return checked(content, 0, 4096)


def checked(content: bytearray, begin: int, end: int) -> bytearray:
    """Settle the checksum of a header or a block, so that DuckDB finds nothing wrong with it."""
    import numpy as np

    contents = np.frombuffer(bytes(content[begin + 8 : end]), np.uint8)
    content[begin : begin + 8] = published_bytes._checksum(contents).to_bytes(8, "little")
    return content
