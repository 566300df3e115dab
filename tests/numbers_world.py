"""A world whose events hold whole numbers: visits, with the days that somebody waited for them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, NamedTuple

from tests.aggregates_world import case_key, event_id
from tests.strategies import envelope, registry_of

from quietcount_aggregates.catalogue import resolve
from quietcount_aggregates.populations import Population
from quietcount_aggregates.tables import AskedTable
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.numbers import Buckets, Summed
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["DAYS", "SINCE", "VISITS", "Visit", "events_of", "visits"]

DAYS = Buckets("days", (0, 7, 30))
SINCE = dt.date(2024, 1, 1)


def _registry() -> SchemaRegistry:
    kind = {"type": "enum", "name": "Kind", "symbols": ["OLD", "NEW", "NONE"], "default": "NONE", "doc": "."}
    age: dict[str, Any] = {"type": "int", "minimum": -5, "maximum": 100}
    return registry_of(
        {
            "type": "record",
            "name": "Visited",
            "namespace": "example.trial",
            "doc": "A visit.",
            "quietcount.role": "event",
            "fields": [
                *envelope(),
                {"name": "kind", "type": kind, "default": "NONE", "doc": "A kind."},
                {
                    "name": "days",
                    "type": {"type": "int", "minimum": 0, "maximum": 400},
                    "default": 0,
                    "doc": "Days.",
                    "quietcount.title": {"en": "Days of waiting"},
                },
                {"name": "age", "type": ["null", age], "default": None, "doc": "An age, if it is known."},
            ],
        }
    )


VISITS = _registry()
"""Visited (kind: OLD, NEW, NONE; days: 0 to 400; age: -5 to 100, or null)."""


class Visit(NamedTuple):
    """One visit of a case of its own."""

    day: dt.date
    days: int
    kind: str = "NEW"
    age: int | None = None


def visits(*tables: AskedTable, **more: Any) -> Population:
    """Return a population of visits; by default with a table by kind and days, and one that sums the days up."""
    written: dict[str, Any] = {
        "events": ["Visited"],
        "period": Period.MONTH,
        "since": SINCE,
        "tables": tables
        or (
            AskedTable("by_days", 1.0, by=["kind", DAYS]),
            AskedTable("waiting", 1.0, by=["kind"], sum=Summed("days", (0, 60), "by_days")),
        ),
        **more,
    }
    return resolve("visits", registry=VISITS, **written)


def events_of(told: Iterable[Visit], first: int = 0) -> list[CaseEvent]:
    """Return the events of visits, each of a case of its own, numbered from `first`."""
    return [
        CaseEvent(
            "Visited",
            case_key(number),
            event_id(number),
            0,
            visit.day,
            {"kind": visit.kind, "days": visit.days, "age": visit.age},
        )
        for number, visit in enumerate(told, first)
    ]
