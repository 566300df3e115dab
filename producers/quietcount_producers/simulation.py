"""Synthetic case events with known totals, for trials, demonstrations and benchmarks.

The lines look like casework: some cases ask once and are not seen again, some come back, are charged, are sentenced;
what is asked for drifts over the months. The same arguments give the same bytes on every machine: all chance comes
from one `random.Random` and only through `random()` and integer arithmetic.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from quietcount_producers.errors import ProducersError
from quietcount_schemas.events.event_types import EARLIEST, LATEST

__all__ = ["Mix", "Tally", "encoded", "simulate"]

Line = dict[str, object]
_Weights = Sequence[tuple[str, int]]

_MOST_DAYS_LATE: Final = 120
_MOST_DAYS_TO_CORRECTION: Final = 20
_LEAST_DAYS_TO_CORRECTION: Final = 1

_CATEGORIES: Final[_Weights] = (
    ("MOBILISED", 44),
    ("CONTRACT", 22),
    ("CONSCRIPT", 14),
    ("RESERVIST", 7),
    ("CONVICT", 4),
    ("CIVILIAN", 6),
    ("UNKNOWN", 3),
)
_REGIONS: Final[_Weights] = (
    ("CENTRAL", 20),
    ("NORTH_WESTERN", 11),
    ("SOUTHERN", 12),
    ("NORTH_CAUCASIAN", 8),
    ("VOLGA", 18),
    ("URAL", 8),
    ("SIBERIAN", 10),
    ("FAR_EASTERN", 6),
    ("ABROAD", 4),
    ("UNKNOWN", 3),
)
_CHARGES: Final[_Weights] = (
    ("UNAUTHORISED_ABANDONMENT", 70),
    ("DESERTION", 10),
    ("REFUSAL_OF_ORDERS", 12),
    ("EVASION", 6),
    ("OTHER", 2),
)

# By event type, in the order of the schema: the weights of each symbol.
_ATTRIBUTES: Final[Mapping[str, Mapping[str, _Weights]]] = {
    "HelpRequested": {
        "help_kind": (
            ("DESERTION", 30),
            ("DRAFT_AVOIDANCE", 24),
            ("SURRENDER", 12),
            ("LEGAL_AID", 20),
            ("RELOCATION", 10),
            ("OTHER", 4),
        ),
        "service_category": _CATEGORIES,
        "circumstance": (
            ("FRONT_LINE", 20),
            ("REAR_UNIT", 22),
            ("HOSPITAL", 10),
            ("LEAVE", 12),
            ("CIVILIAN_LIFE", 26),
            ("ABROAD", 5),
            ("UNKNOWN", 5),
        ),
        "region": _REGIONS,
    },
    "OutcomeRecorded": {
        "outcome": (
            ("ADVICE_GIVEN", 40),
            ("LEFT_UNIT", 14),
            ("LEFT_COUNTRY", 12),
            ("EXEMPTED", 8),
            ("DISCHARGED", 6),
            ("SURRENDERED", 4),
            ("DETAINED", 4),
            ("NO_CONTACT", 10),
            ("OTHER", 2),
        ),
        "service_category": _CATEGORIES,
        "region": _REGIONS,
    },
    "CourtCaseFiled": {"charge": _CHARGES, "service_category": _CATEGORIES, "region": _REGIONS},
    "SentencePassed": {
        "sentence": (("SUSPENDED", 60), ("CUSTODIAL", 32), ("ACQUITTED", 2), ("OTHER", 6)),
        "charge": _CHARGES,
        "service_category": _CATEGORIES,
    },
    "CaptivityRecorded": {
        "manner": (("CAPTURED", 74), ("SURRENDERED_VOLUNTARILY", 21), ("UNKNOWN", 5)),
        "service_category": _CATEGORIES,
    },
}
_FIRST_EVENTS: Final[_Weights] = (("HelpRequested", 78), ("CourtCaseFiled", 10), ("CaptivityRecorded", 12))
# What may follow in the same case, and out of a hundred how often something follows at all.
_LATER_EVENTS: Final[Mapping[str, _Weights]] = {
    "HelpRequested": (("OutcomeRecorded", 60), ("HelpRequested", 32), ("CourtCaseFiled", 8)),
    "OutcomeRecorded": (("HelpRequested", 70), ("CourtCaseFiled", 30)),
    "CourtCaseFiled": (("SentencePassed", 90), ("HelpRequested", 10)),
    "SentencePassed": (("HelpRequested", 100),),
    "CaptivityRecorded": (("HelpRequested", 100),),
}
_FOLLOWED: Final[Mapping[str, int]] = {
    "HelpRequested": 38,
    "OutcomeRecorded": 12,
    "CourtCaseFiled": 55,
    "SentencePassed": 6,
    "CaptivityRecorded": 8,
}
_DRIFTING: Final = "DESERTION"


@dataclass(frozen=True, slots=True)
class Mix:
    """Which shares (0 to 1) of the events are sent twice, corrected, or late, and which share of cases withdraws."""

    duplicates: float = 0.0
    corrections: float = 0.0
    withdrawals: float = 0.0
    late: float = 0.0

    def __post_init__(self) -> None:
        for name in ("duplicates", "corrections", "withdrawals", "late"):
            if not 0 <= getattr(self, name) <= 1:
                raise ProducersError(f"The share of {name} is out of range", "Give a number between 0 and 1")


def simulate(
    events: int,
    seed: int = 1,
    *,
    first: dt.date = dt.date(2023, 1, 1),
    last: dt.date = dt.date(2023, 12, 31),
    mix: Mix | None = None,
) -> Iterator[Line]:
    """Yield lines for `quietcount emit`: `events` distinct events from `first` to `last` in the order they are sent.

    Beside them come what `mix` asks for: duplicates, corrections (a higher revision of the same event) and
    withdrawals. Raises ProducersError for days that are not in order.
    """
    if last < first:
        raise ProducersError("The last day of a simulation must not lie before its first", "Swap them")
    if first < EARLIEST or last > LATEST:
        raise ProducersError(
            f"The days of a simulation lie from {EARLIEST} to {LATEST}", "Give others, as events may have"
        )
    return iter(_ordered(events, random.Random(seed), first, last, mix or Mix()))


def encoded(line: Mapping[str, object]) -> bytes:
    """Return `line` as one line of JSONL."""
    return json.dumps(line, separators=(", ", ": ")).encode() + b"\n"


class Tally:
    """The true totals of lines: what an exact count gives after duplicates, corrections and withdrawals.

    It judges as the fold does while every period is open: a case's event id counts once, its highest revision holds,
    the first of equal revisions wins, and a withdrawal takes all of the case back.
    """

    def __init__(self) -> None:
        self._events: dict[tuple[str, str], Line] = {}
        self._withdrawn: set[str] = set()

    def add(self, line: Mapping[str, object]) -> None:
        """Count one line, in the order sent; every line needs its event id."""
        case = str(line["case"])
        if line["event"] == "CaseWithdrawn":
            self._withdrawn.add(case)
            return
        key = (case, str(line["event_id"]))
        known = self._events.get(key)
        if known is None or int(str(line.get("revision", 0))) > int(str(known.get("revision", 0))):
            self._events[key] = dict(line)  # a replaced event keeps its place among the others

    def totals(self) -> dict[str, object]:
        """Return the totals by event type and month: `all`, and by symbol of each dimension.

        `events` counts every event, `first_per_case` only one of its type in each case: the first that was sent of
        those of the oldest month.
        """
        every: dict[str, dict[str, dict[str, object]]] = {}
        firsts: dict[str, dict[str, dict[str, object]]] = {}
        seen: set[tuple[str, str]] = set()
        for (case, _), line in sorted(self._events.items(), key=lambda item: str(item[1]["occurred_on"])[:7]):
            if case in self._withdrawn:
                continue
            _count(every, line)
            once = (case, str(line["event"]))
            if once not in seen:
                seen.add(once)
                _count(firsts, line)
        return {"events": every, "first_per_case": firsts}


def _count(totals: dict[str, dict[str, dict[str, object]]], line: Line) -> None:
    event = str(line["event"])
    month = totals.setdefault(event, {}).setdefault(str(line["occurred_on"])[:7], {"all": 0})
    month["all"] = int(str(month["all"])) + 1
    for name, weights in _ATTRIBUTES[event].items():
        symbols = month.setdefault(name, {symbol: 0 for symbol, _ in weights})
        if isinstance(symbols, dict):
            symbols[line[name]] += 1


def _ordered(events: int, chance: random.Random, first: dt.date, last: dt.date, mix: Mix) -> list[Line]:
    """Return all lines in the order they are sent: by day of sending, then in the order they were made."""
    sent: list[tuple[int, int, Line]] = []  # day of sending, number, line

    def put(day: int, line: Line) -> None:
        sent.append((day, len(sent), line))

    made = 0
    number = 0
    days = (last - first).days
    while made < events:
        number += 1
        case = f"case-{number:07d}"
        day = _first_day(chance, days)
        event = _drawn(chance, _FIRST_EVENTS)
        category = _drawn(chance, _CATEGORIES)
        last_sent = day
        while made < events:
            line = _line(chance, event, case, first + dt.timedelta(days=day), category, day, days)
            made += 1
            sent_on = day
            if chance.random() < mix.late:
                sent_on += 1 + _below(chance, _MOST_DAYS_LATE)
            put(sent_on, line)
            last_sent = max(last_sent, sent_on)
            if chance.random() < mix.duplicates:
                put(sent_on + _below(chance, 3), dict(line))
            if chance.random() < mix.corrections:
                wait = _LEAST_DAYS_TO_CORRECTION + _below(chance, _MOST_DAYS_TO_CORRECTION)
                put(sent_on + wait, _corrected(chance, line))
                last_sent = max(last_sent, sent_on + wait)
            if chance.random() * 100 >= _FOLLOWED[event]:
                break
            event = _drawn(chance, _LATER_EVENTS[event])
            day += 1 + _below(chance, 60)
            if day > days:
                break
        if chance.random() < mix.withdrawals:
            gone = min(last_sent + _below(chance, 30), days)
            put(
                max(gone, last_sent),
                {
                    "event": "CaseWithdrawn",
                    "case": case,
                    "occurred_on": (first + dt.timedelta(days=gone)).isoformat(),
                    "event_id": _event_id(chance),
                },
            )
    sent.sort(key=lambda entry: entry[:2])
    return [line for _, _, line in sent]


def _line(chance: random.Random, event: str, case: str, day: dt.date, category: str, at: int, days: int) -> Line:
    line: Line = {"event": event, "case": case, "occurred_on": day.isoformat(), "event_id": _event_id(chance)}
    for name, weights in _ATTRIBUTES[event].items():
        if name == "service_category":
            line[name] = category  # it is the person's, so it does not change from event to event
        elif name == "help_kind" and _below(chance, 4 * (days + 1)) < at:
            line[name] = _DRIFTING  # asked for ever more often: up to a quarter of all at the end
        else:
            line[name] = _drawn(chance, weights)
    return line


def _corrected(chance: random.Random, line: Line) -> Line:
    name = next(iter(_ATTRIBUTES[str(line["event"])]))
    return {**line, "revision": 1, name: _drawn(chance, _ATTRIBUTES[str(line["event"])][name])}


def _first_day(chance: random.Random, days: int) -> int:
    # The later of two draws, half of the time: new cases become more frequent over the months.
    day = _below(chance, days + 1)
    return max(day, _below(chance, days + 1)) if _below(chance, 2) else day


def _below(chance: random.Random, bound: int) -> int:
    return int(chance.random() * bound)


def _drawn(chance: random.Random, weights: _Weights) -> str:
    at = _below(chance, sum(weight for _, weight in weights))
    for symbol, weight in weights:
        at -= weight
        if at < 0:
            return symbol
    return weights[-1][0]


def _event_id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))
