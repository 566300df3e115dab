"""The synthetic cases of the demo: their true counts are figures that projects have published.

Where only a sum is published, the split is assumed, and ASSUMPTIONS says how. Nothing here is drawn at random.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

__all__ = ["ASSUMPTIONS", "SyntheticEvent", "synthetic_events"]

ASSUMPTIONS = (
    "Requests to desert: July and August are published as a sum (251), split 125 and 126; April and May are published "
    "only as each above June's 54 and, with the rest, more than 1000: assumed 60 and 59.",
    "Applications in the first year of mobilisation: published as more than 22000; assumed 22001, spread evenly over "
    "its 365 days, so that September 2022 holds its last ten days only, and September 2023 its first twenty.",
    "Court cases (4121) and sentences (3470, of them 3000 suspended): spread evenly over the days from 21 September "
    "2022 to 30 November 2023, so that September 2022 holds its last ten days only.",
    "Prisoners of war in August 2023 (200, of them 40 surrendered voluntarily, published as one in five): spread "
    "evenly.",
    "Other kinds of help, and outcomes, are invented; no published figure is compared with them.",
)

DESERTION = {4: 60, 5: 59, 6: 54, 7: 125, 8: 126, 9: 184, 10: 218, 11: 175}
MOBILISATION = dt.date(2022, 9, 21)
END = dt.date(2023, 11, 30)
SENTENCES = {"SUSPENDED": 3000, "CUSTODIAL": 310, "ACQUITTED": 10, "OTHER": 150}

_CATEGORIES = ("MOBILISED", "MOBILISED", "CONTRACT", "MOBILISED", "CONSCRIPT", "CONTRACT", "RESERVIST", "CIVILIAN")
_REGIONS = ("CENTRAL", "VOLGA", "SIBERIAN", "URAL", "SOUTHERN", "NORTH_WESTERN", "FAR_EASTERN", "ABROAD", "UNKNOWN")
_CIRCUMSTANCES = ("FRONT_LINE", "LEAVE", "REAR_UNIT", "HOSPITAL", "CIVILIAN_LIFE")
_OTHER_KINDS = ("LEGAL_AID", "DRAFT_AVOIDANCE", "RELOCATION", "LEGAL_AID", "OTHER")
_OUTCOMES = ("ADVICE_GIVEN", "LEFT_UNIT", "ADVICE_GIVEN", "LEFT_COUNTRY", "NO_CONTACT")


class SyntheticEvent(NamedTuple):
    """One event as an emitter would report it; `case` identifies a case before it is pseudonymised."""

    event: str
    case: str
    occurred_on: dt.date
    attributes: Mapping[str, Any]


def synthetic_events() -> Iterator[SyntheticEvent]:
    """Yield every event of the demo, case by case."""
    yield from _requests()
    yield from _courts()
    yield from _captivity()


def _requests() -> Iterator[SyntheticEvent]:
    categories, regions, circumstances = cycle(_CATEGORIES), cycle(_REGIONS), cycle(_CIRCUMSTANCES)

    def request(case: str, day: dt.date, kind: str) -> SyntheticEvent:
        details = {
            "help_kind": kind,
            "service_category": next(categories),
            "region": next(regions),
            "circumstance": next(circumstances),
        }
        return SyntheticEvent("HelpRequested", case, day, details)

    for month, count in DESERTION.items():
        for index, day in enumerate(_spread(count, _month(2023, month))):
            yield request(f"desertion-{month}-{index}", day, "DESERTION")
    first_year = _days(MOBILISATION, dt.date(2023, 9, 20))
    for index, day in enumerate(_spread(22001, first_year)):
        yield request(f"surrender-{index}", day, "SURRENDER")
    kinds, outcomes = cycle(_OTHER_KINDS), cycle(_OUTCOMES)
    for index, day in enumerate(_spread(640, _days(dt.date(2023, 4, 1), END))):
        asked = request(f"other-{index}", day, next(kinds))
        yield asked
        if index % 2 == 0:
            shared = {name: asked.attributes[name] for name in ("service_category", "region")}
            yield SyntheticEvent("OutcomeRecorded", asked.case, day, {"outcome": next(outcomes), **shared})


def _courts() -> Iterator[SyntheticEvent]:
    days = _days(MOBILISATION, END)
    charge = {"charge": "UNAUTHORISED_ABANDONMENT"}
    categories, regions = cycle(_CATEGORIES), cycle(_REGIONS)
    for index, day in enumerate(_spread(4121, days)):
        details = {**charge, "service_category": next(categories), "region": next(regions)}
        yield SyntheticEvent("CourtCaseFiled", f"court-{index}", day, details)
    sentences = [sentence for sentence, count in SENTENCES.items() for _ in range(count)]
    # The sentenced cases are among those filed; each kind of sentence is spread over the whole span.
    for index, day in enumerate(_spread(len(sentences), days)):
        sentence = sentences[(index * 7919) % len(sentences)]
        details = {**charge, "sentence": sentence, "service_category": next(categories)}
        yield SyntheticEvent("SentencePassed", f"court-{index}", day, details)


def _captivity() -> Iterator[SyntheticEvent]:
    for manner, count in (("CAPTURED", 160), ("SURRENDERED_VOLUNTARILY", 40)):
        for index, day in enumerate(_spread(count, _month(2023, 8))):
            details = {"manner": manner, "service_category": "MOBILISED"}
            yield SyntheticEvent("CaptivityRecorded", f"{manner.lower()}-{index}", day, details)


def _spread(count: int, days: Sequence[dt.date]) -> Iterator[dt.date]:
    """Yield `count` days in order, spread as evenly over `days` as whole numbers allow."""
    return (days[index * len(days) // count] for index in range(count))


def _days(first: dt.date, last: dt.date) -> list[dt.date]:
    return [first + dt.timedelta(days=index) for index in range((last - first).days + 1)]


def _month(year: int, month: int) -> list[dt.date]:
    first = dt.date(year, month, 1)
    return [day for day in _days(first, first + dt.timedelta(days=30)) if day.month == month]
