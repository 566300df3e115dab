"""The doctor's look at the witnesses and the published copies that are named: who answers, and how far each is.

Nobody is asked to sign anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.signed_heads import text_of
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.doctor.verdicts import fine, warning, wrong
from quietcount_consumers.witnessing.asking import contradicts
from quietcount_consumers.witnessing.vigil import Answer, Vigil, holds, unsigned, vigil_of
from quietcount_schemas.finding import Finding

__all__ = ["check_partners"]

_CHECK: Final = "witnesses"


def check_partners(configuration: Configuration, chain: Chain) -> Iterator[Finding]:
    """Yield a finding for each witness and copy that is named, and one if the newest head waits for signatures."""
    vigil = vigil_of(configuration, unsigned)
    if not vigil:
        yield fine(_CHECK, "no witness and no published copy is named (docs/witnessing.md)")
        return
    if not chain.entries:
        yield fine(_CHECK, "there is no ledger yet that they could know")
        return
    answers = vigil.look(chain)
    for answer in answers:
        yield _finding(answer, chain)
    names = {key.name for key in vigil.keys}
    heard = sum(answer.who in names and not answer.silence for answer in answers)
    if heard < vigil.needed:
        yield wrong(
            _CHECK,
            f"{heard} of the witnesses with an address answer, and {vigil.needed} have to: nothing is drawn until then",
            "Ask those who keep them. If one is lost permanently, take it out of the configuration",
        )
    notes = _collected(vigil, chain)
    for key in vigil.by_file:
        yield _by_file(key.name, any(holds(note, key) for note in notes))
    signed = max((vigil.signers(note) for note in notes), default=0)
    if signed < vigil.require:
        yield warning(
            _CHECK,
            f"{signed} of the {vigil.require} required witnesses have signed the newest head, so it is not published",
            "Ask those who do not answer; hand a request to those without an address: quietcount ledger request",
        )


def _finding(answer: Answer, chain: Chain) -> Finding:
    length = chain.head.length
    if answer.silence:
        return warning(_CHECK, f"cannot be compared: {answer.silence}", "Ask those who keep it", answer.who)
    if answer.head is None:
        return warning(
            _CHECK,
            "has signed nothing of this ledger",
            "Its keeper has to run: quietcount witness trust KEY",
            answer.who,
        )
    if contradicts(chain, answer.head):
        return wrong(
            _CHECK,
            f"holds a head of {answer.head.length} entries that the ledger, which has {length}, does not hold",
            "Bring the newest ledger back, as docs/recovery.md says; nothing is drawn until then",
            answer.who,
        )
    return fine(_CHECK, f"{answer.who} knows {answer.head.length} of the {length} entries")


def _by_file(name: str, signed: bool) -> Finding:
    if signed:
        return fine(_CHECK, f"{name} has signed the newest head, by file")
    return warning(
        _CHECK,
        "has no address, and has not signed the newest head",
        "Hand its keeper a request (quietcount ledger request), and take the answer with: quietcount ledger cosign",
        name,
    )


def _collected(vigil: Vigil, chain: Chain) -> list[SignedNote]:
    """Return the notes with the cosignatures that were collected for the newest head."""
    text = text_of(chain.opened.ledger_id, chain.head)
    return [note for each in (vigil.pending, vigil.public) if (note := each.kept(text)) is not None]
