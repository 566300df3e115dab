"""Publication before witnesses: what is in the ledger is published once as many as required have signed its head.

Until then the file that was published before stays. Nothing waits but the publication: the release is in the ledger,
the state is written without it, and the log is purged.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_aggregates.publication.publication import publish
from quietcount_consumers.monitoring.log_events import PUBLICATION_WAITS, WITNESSED, Say
from quietcount_consumers.witnessing.vigil import Vigil

__all__ = ["WitnessedPublication"]


class WitnessedPublication:
    """Remembers what is to be published, and publishes it when `show` is called and the witnesses have signed.

    `show` is for the points of the tick's grid: neither the file nor what the witnesses see says how long a release
    took. `now` returns the newest point.
    """

    def __init__(self, vigil: Vigil, say: Say, now: Callable[[], dt.datetime]) -> None:
        self._vigil = vigil
        self._say = say
        self._now = now
        self._held: tuple[Chain, Path, str] | None = None
        self._told = False

    def __call__(self, chain: Chain, path: Path, signed_head: str) -> None:
        """Remember that `chain` is to be published at `path`, with its signed head."""
        self._held = chain, path, signed_head

    def show(self) -> bool:
        """Publish what is held, if it can be; return whether it still waits for witnesses.

        Raises PublicationError, and LedgerBehind if a witness knows a head that the ledger does not hold; it is held
        still.
        """
        if self._held is None:
            return False
        chain, path, signed_head = self._held
        note = self._vigil.gathered(chain, SignedNote.parse(signed_head))
        if not self._vigil.enough(note):
            if not self._told:
                self._say(PUBLICATION_WAITS.at(self._now(), meaning=self._meaning(note)))
            self._told = True
            return True
        publish(chain, path, signed_head)
        self._vigil.public.keep(note, chain.entries[-1].recorded_at.timestamp())
        self._held = None
        if self._told:
            self._say(WITNESSED.at(self._now()))
        self._told = False
        return False

    def _meaning(self, note: SignedNote) -> str:
        return f"{self._vigil.signers(note)} of the {self._vigil.require} required witnesses have signed the newest head"
