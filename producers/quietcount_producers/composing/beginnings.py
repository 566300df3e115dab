"""Where counting begins, as far as the configuration at hand says, and what to tell a person whose events lie before.

An emitter does not see the ledger. So a population that has no `since`, and begins after its declaration, begins at a
day that it cannot know.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from quietcount_schemas.events.event_types import Role, listed
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["Beginning", "beginnings_of", "counted_nowhere"]

_HISTORY: Final = dt.timedelta(days=92)
"""How old an event is that is history rather than late. Without it, each file of last month would bring a note."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """When the populations of an event type begin: the earliest first day that is written, and whether one lacks it."""

    day: dt.date | None
    """The first day of the earliest period that counts; None if no population has a `since`."""
    unknown: bool
    """A population has no `since`."""


def beginnings_of(populations: Sequence[Mapping[str, Any]]) -> dict[str, Beginning]:
    """Return, by event type, when the configured populations begin to count it."""
    days: dict[str, list[dt.date | None]] = {}
    for population in populations:
        since = population["since"]
        # The whole period counts in which `since` lies.
        day = None if since is None else population["period"].start(since)
        for name in population["events"]:
            days.setdefault(name, []).append(day)
    return {
        name: Beginning(min((day for day in found if day is not None), default=None), None in found)
        for name, found in days.items()
    }


def counted_nowhere(
    earliest: Mapping[str, dt.date], beginnings: Mapping[str, Beginning], registry: SchemaRegistry, today: dt.date
) -> Iterator[str]:
    """Yield a line for each reason why events count nowhere.

    `earliest` holds, by event type, the earliest date that is sent, coarsened or not: a period of a population is made
    of whole periods that dates are coarsened to. A configuration without populations says nothing of what counts.
    """
    if not beginnings:
        return
    unnamed: list[str] = []
    before: dict[dt.date, list[str]] = {}
    unknown: list[str] = []
    for name, day in sorted(earliest.items()):
        if registry.event_type(name).role is Role.WITHDRAWAL:
            continue  # no population counts it, and every one obeys it
        found = beginnings.get(name)
        if found is None:
            unnamed.append(name)
        elif found.day is not None and day >= found.day:
            continue
        elif not found.unknown and found.day is not None:
            before.setdefault(found.day, []).append(name)
        elif day < today - _HISTORY:
            unknown.append(name)
    if unnamed:
        yield (
            f"Note: {listed(unnamed)}: no population counts such events. If one should, write it into `events` of a "
            "[[population]] before you emit them: docs/configuration.md"
        )
    for first, names in sorted(before.items()):
        yield (
            f"Note: {listed(names)}: events dated before {first} count nowhere, because no population of them begins "
            "earlier. If they should count, write an earlier `since` before the first `quietcount run`, or declare a "
            "population under a new name after that: docs/configuration.md"
        )
    if unknown:
        yield (
            f"Note: {listed(unknown)}: old events may count nowhere. A population of them has no `since`, so it begins "
            "after its declaration, and an emitter does not see when that was. If they should count, write "
            "`since` before the first `quietcount run`: docs/configuration.md"
        )
