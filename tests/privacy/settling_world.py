"""A population by month with coarser tables, the events of seven months, and what its releases must agree in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from tests.aggregates_world import TRIALS, World, case_key, event_id, utc

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.populations import Population, Table
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period

__all__ = ["MONTHS", "asked", "check_agreement", "event", "events_of", "first_of", "live", "on_time", "settle"]

MONTHS = range(1, 8)
"""The months that a life settles: two quarters, and a month of the third."""

GRACE = dt.timedelta(days=7)
COLOURS = ("RED", "GREEN", "NONE")


def asked() -> Population:
    """Return who asked: by colour each month, and by urgency, and the red ones alone, each quarter."""
    return resolve(
        "asked",
        events=["Asked"],
        registry=TRIALS,
        period=Period.MONTH,
        since=first_of(1),
        max_contributions=2,
        tables=[
            AskedTable("monthly", 0.5, by=["colour"]),
            AskedTable("quarterly", 0.5, by=["urgent"], period=Period.QUARTER),
            AskedTable("red", 0.25, where={"colour": ["RED"]}, period=Period.QUARTER),
        ],
    )


def first_of(month: int) -> dt.date:
    """Return the first day of a month, counted from January 2024."""
    return dt.date(2024 + (month - 1) // 12, (month - 1) % 12 + 1, 1)


def event(case: int, number: int, day: dt.date, colour: str, urgent: bool | None, revision: int = 0) -> CaseEvent:
    """Return an event of a case. Events of one case and number are versions of one event."""
    return CaseEvent("Asked", case_key(case), event_id(number), revision, day, {"colour": colour, "urgent": urgent})


def on_time(month: int) -> list[CaseEvent]:
    """Return what happens in a month and arrives in it.

    Half of the cases come in any month, so that many come more often than counts. Some events arrive twice, and some
    are corrected.
    """
    found = []
    for case in range(month % 2, 40, 2):
        number, day = 1000 * month + case, first_of(month) + dt.timedelta(days=case % 28)
        colour, other = COLOURS[(case + month) % 3], COLOURS[(case * month + 1) % 3]
        urgent = (True, False, None)[case % 3]
        found.append(event(case, number, day, colour, urgent))
        if case % 4 < 2:  # it arrives again
            found.append(found[-1])
        if case % 5 == 0:  # the case comes again, and once more than counts
            found.append(event(case, number + 500, day, other, None))
            found.append(event(case, number + 600, day, "RED", True))
        if case % 7 == 0:  # the event is corrected
            found.append(event(case, number, day, other, not urgent, 1))
    return found


def events_of(month: int) -> list[CaseEvent]:
    """Return what arrives in a month: what happens in it, and what comes late from the month before.

    That is events of cases that nobody heard of, events that were settled already, and corrections of those.
    """
    found = on_time(month)
    if month > 1:
        day = first_of(month - 1)
        found += [
            event(100 + case, 1000 * month + 900 + case, day, COLOURS[case % 3], case % 2 == 0) for case in range(9)
        ]
        settled = on_time(month - 1)
        found += settled[::3]
        found += [
            CaseEvent(each.event, each.case_key, each.event_id, 9, each.occurred_on, {"colour": "RED", "urgent": True})
            for each in settled[1::3]
        ]
    return found


def settle(world: World, month: int, early: Sequence[CaseEvent] = ()) -> int:
    """Fold in a month, and in the week after it, in which `early` arrives; then release; return how many periods."""
    world.fold(first_of(month))
    world.emit(early)
    week_after = first_of(month + 1) + GRACE
    world.fold(week_after)
    return world.release(utc(week_after), GRACE)


def live(world: World, months: Iterable[int] = MONTHS) -> None:
    """Emit, fold and release month by month. When a month is settled, some of the next month is there already."""
    for month in months:
        world.emit(events_of(month))
        settle(world, month, [each for each in on_time(month + 1) if each.occurred_on.day <= GRACE.days])


def check_agreement(released: Mapping[tuple[str, dt.date], Sequence[int]], quarters: Iterable[int] = (1, 4)) -> None:
    """Hold that each quarter (by its first month) is the sum of its months, and that the tables' margins agree."""
    monthly = asked().tables[0]
    for quarter in quarters:
        start = first_of(quarter)
        cells = [cell for month in range(3) for cell in _cells(monthly, released["monthly", first_of(quarter + month)])]
        total = sum(value for _, value in cells)
        reds = sum(value for colour, value in cells if colour == "RED")
        assert 5 < reds < total
        assert sum(released["quarterly", start]) == total, f"the quarter from {start} is not the sum of its months"
        assert sum(released["red", start]) == reds, f"of the quarter from {start}, the red ones do not agree"


def _cells(table: Table, values: Sequence[int]) -> list[tuple[str, int]]:
    return [(cell.removeprefix("colour="), value) for cell, value in zip(table.domain, values, strict=True)]
