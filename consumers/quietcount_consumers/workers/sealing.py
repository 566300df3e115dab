"""Sealing: what a partition counts, in pieces of one size that the releaser alone can open.

Partial sums are exact counts. A piece is encrypted with HPKE (RFC 9180: X25519, HKDF-SHA256, AES-256-GCM) to a key that
the releaser makes for each settlement and never writes down: once it has released, nobody can open what lay on the
brokers.
Within is an HMAC-SHA256 under the service's secret, which the broker does not have, so nobody else can make one up.

How many pieces there are follows from the ledger alone: 8 bytes a cell, whatever its count.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from quietcount_aggregates.due_periods import DuePeriod
from quietcount_aggregates.ledger.settlements import IDENTITY_BYTES, Settlement
from quietcount_aggregates.settling import Sums

__all__ = ["PIECE_BYTES", "Forged", "Piece", "ReleaserKey", "joined", "pieces_of", "sealed"]

PIECE_BYTES: Final = 65_536
"""Of counts in one piece; each is as long, however little is in it."""

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO: Final = b"quietcount partial sums"
_MAC_BYTES: Final = 32
_HEADER: Final = struct.Struct(f">{IDENTITY_BYTES}sIII")
_CELL: Final = np.dtype("<i8")


class Forged(Exception):
    """A piece was sealed to this releaser by somebody without the service's secret."""


class Piece(NamedTuple):
    """A piece of what a partition counted for a settlement: `number` of `pieces`, from 0."""

    settlement: bytes
    partition: int
    number: int
    pieces: int
    counts: bytes


class ReleaserKey:
    """The releaser's key for one settlement. Its repr shows nothing of it."""

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()

    def __repr__(self) -> str:
        return "ReleaserKey(**********)"

    @property
    def public(self) -> bytes:
        """Return the public key: 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def opened(self, data: bytes, mac_key: bytes) -> Piece | None:
        """Return the piece in `data`; None if it is sealed to another key. Raises Forged."""
        try:
            plain = _SUITE.decrypt(data, self._key, _INFO)
        except (InvalidTag, ValueError):
            return None
        code, content = plain[:_MAC_BYTES], plain[_MAC_BYTES:]
        if len(content) != _HEADER.size + PIECE_BYTES or not hmac.compare_digest(code, _code(mac_key, content)):
            raise Forged
        settlement, partition, number, pieces = _HEADER.unpack_from(content)
        return Piece(settlement, partition, number, pieces, content[_HEADER.size :])


def sealed(
    settlement: Settlement, partition: int, due: Sequence[DuePeriod], sums: Sums, mac_key: bytes
) -> Iterator[bytes]:
    """Yield what a partition counted for a settlement, in the order of `due`, in sealed pieces."""
    key = X25519PublicKey.from_public_bytes(settlement.seal_to)
    counts = np.concatenate([np.asarray(sums[period], _CELL) for period in due]).tobytes()
    pieces = [counts[at : at + PIECE_BYTES] for at in range(0, len(counts), PIECE_BYTES)]
    for number, piece in enumerate(pieces):
        header = _HEADER.pack(settlement.identity, partition, number, len(pieces))
        content = header + piece.ljust(PIECE_BYTES, b"\0")
        yield _SUITE.encrypt(_code(mac_key, content) + content, key, _INFO)


def pieces_of(cells: int) -> int:
    """Return in how many pieces so many cells come."""
    return -(-cells * _CELL.itemsize // PIECE_BYTES)


def joined(pieces: Sequence[Piece], due: Sequence[tuple[DuePeriod, int]]) -> dict[DuePeriod, list[int]]:
    """Return what all pieces of a partition say; `due` has the number of cells of each period."""
    counts = b"".join(piece.counts for piece in sorted(pieces, key=lambda piece: piece.number))
    cells = np.frombuffer(counts, _CELL)
    found, at = {}, 0
    for period, size in due:
        found[period] = cells[at : at + size].tolist()
        at += size
    return found


def _code(mac_key: bytes, content: bytes) -> bytes:
    return hmac.digest(mac_key, content, hashlib.sha256)
