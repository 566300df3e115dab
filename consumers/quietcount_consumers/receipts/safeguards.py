"""Safeguards: what a receipt says of every deployment of quietcount, whatever its ledger holds."""

from __future__ import annotations

from typing import Final

__all__ = ["ACCESS", "ACTORS", "MODEL", "POST_PROCESSING", "SOURCE", "UNPROTECTED"]


def _list(*items: str) -> str:
    return "".join(f"- {item}\n" for item in items)


UNPROTECTED: Final = _list(
    "That the deployment exists, and who publishes it.",
    "The domain: the event types, and every combination of symbols that a table breaks down by. All cells are "
    "published, zeros included, so their list does not depend on the data.",
    "The clock: which periods are over, when they were released, and how long after their end.",
    "The declarations: populations, contribution bounds, tables and epsilons, with the time of each.",
    "What the operator did: that a population was retired, or that a record of past contributions was lost.",
    "No statistic of the data is published without noise.",
)

MODEL: Final = (
    "The service sees each event as it was emitted, and adds the noise. Names do not reach it: the emitter turns each "
    "identifier into a case key (HMAC-SHA256 under a secret that the emitters share) and coarsens the date. Such keys "
    "are pseudonyms, and not anonymous to somebody who has that secret."
)

ACTORS: Final = _list(
    "The people counted. They need trust nobody who reads the figures.",
    "The emitters, and those who know their secret. They know the people, and are trusted to keep the secret and to "
    "emit what is true.",
    "The operator of the service and of the log. Trusted to run the code unchanged, and to keep others off the "
    "machine, where the events of open periods lie under case keys.",
    "Readers of what is published, with any knowledge of their own: not trusted, and in any number.",
    "Those who watch the service's metrics and logs: not trusted, because these hold no exact count.",
    "Partners who check and countersign the ledger: not trusted with the data, of which they see what is published.",
)

SOURCE: Final = (
    "Events come in as the cases are worked on. When a period of a population is over, its events are counted once. "
    "When each population that counts an event has done so, no attribute of it and no place in the log remains."
)

ACCESS: Final = (
    "Everybody gets the same published file, and asks that file whatever they like. No question reaches the data, so "
    "no number of questions, and no collusion of those who ask, adds to the loss."
)

POST_PROCESSING: Final = _list(
    "`noisy` is the value as it was drawn, with its sign, and is published unchanged.",
    "`estimate` reconciles all counts of a population by weighted least squares, so that margins are sums of cells, "
    "and longer periods sums of shorter ones. It keeps its sign.",
    "`shown` is the estimate as a whole number, not below 0. Averages are ratios of a noised sum and an estimate.",
    "95 % intervals are computed from the distribution of the noise. No small figure is suppressed.",
)
