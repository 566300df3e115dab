"""Two copies of one ledger: whether one continues the other, and if not, what the first contradiction is."""

from __future__ import annotations

from dataclasses import dataclass

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Declared, Entry, Released, Retired

__all__ = ["Contradiction", "contradiction"]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Where two chains part: the first entry that is not the same in both, and what can be said of it."""

    entry: int
    sentence: str
    """Names the entry, and the population, table and period if it has any, without a full stop."""


def contradiction(one: Chain, other: Chain) -> Contradiction | None:
    """Return how two chains of one ledger contradict each other; None if one is the beginning of the other."""
    pairs = zip(one.entries, other.entries, strict=False)  # one may be longer
    parted = next((ours for ours, theirs in pairs if ours.digest != theirs.digest), None)
    if parted is None:
        return None
    place = parted.index
    where = f"They are the same up to ledger entry {place}, and differ from there on"
    twice = [
        (entry.index, entry.body)
        for key, entry in one.releases.items()
        if key in other.releases and isinstance(entry.body, Released) and _differ(entry, other.releases[key])
    ]
    if twice:
        index, body = min(twice, key=lambda each: each[0])
        return Contradiction(
            place,
            f"{where}. There are two values for one cell: population {body.population}, table {body.statistic}, period "
            f"from {body.period_start} to {body.period_end} (ledger entry {index})",
        )
    return Contradiction(place, f"{where}: there, one has {_what(parted)}, and the other {_what(other.entries[place])}")


def _differ(entry: Entry, other: Entry) -> bool:
    one, two = entry.body, other.body
    return isinstance(one, Released) and isinstance(two, Released) and one.values != two.values


def _what(entry: Entry) -> str:
    match entry.body:
        case Released(population=population, statistic=statistic, period_start=start):
            return f"the release of population {population}, table {statistic}, period from {start}"
        case Declared(population):
            return f"the declaration of population {population.name}"
        case Retired(population):
            return f"the retirement of population {population}"
        case _:
            return f"an entry of the kind {entry.kind}"
