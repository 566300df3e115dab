"""Publication before witnesses: what is in the ledger is published once as many as required have signed its head.

Until then the file that was published before stays. Nothing waits but the publication: the release is in the ledger,
the state is written without it, and the log is purged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_aggregates.publication.publication import publish
from quietcount_consumers.witnessing.vigil import Vigil

__all__ = ["WitnessedPublication"]


class WitnessedPublication:
    """Remembers what is to be published, and publishes it when `show` is called and the witnesses have signed.

    Witnesses are asked at points of the tick's grid, because their signatures have a time, which is published: it must
    not say how long a release took. `rest` is called before they are asked, and returns at such a point.
    """

    def __init__(self, vigil: Vigil, rest: Callable[[], None]) -> None:
        self._vigil = vigil
        self._rest = rest
        self._held: tuple[Chain, Path, str] | None = None

    def __call__(self, chain: Chain, path: Path, signed_head: str) -> None:
        """Remember that `chain` is to be published at `path`, with its signed head."""
        # A copy: what the ledger gains until then is not under this signature.
        self._held = chain.copy(), path, signed_head

    def show(self) -> str:
        """Publish what is held, if it can be; return what it still waits for, "" if for nothing.

        Raises PublicationError, and LedgerBehind if a witness knows a head that the ledger does not hold; it is held
        still.
        """
        if self._held is None:
            return ""
        chain, path, signed_head = self._held
        note = self._vigil.gathered(chain, SignedNote.parse(signed_head), self._rest)
        if not self._vigil.enough(note):
            return (
                f"{self._vigil.signers(note)} of the {self._vigil.require} required witnesses have signed the newest "
                "head"
            )
        publish(chain, path, signed_head)
        self._vigil.public.add(note, chain.entries[-1].recorded_at.timestamp())
        self._held = None
        return ""
