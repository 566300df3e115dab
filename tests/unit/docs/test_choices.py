"""What the README says under "How to choose" is what the fold does, counted before noise."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.aggregates_world import case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.populations import Horizon, Population
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
JANUARY, MARCH = dt.date(2024, 1, 1), dt.date(2024, 3, 1)
PEOPLE = range(1, 121)


def requests(name: str, k: int = 1, period: Period = Period.MONTH, **options: object) -> Population:
    return population_of(
        name,
        events=["HelpRequested"],
        registry=REGISTRY,
        period=period,
        epsilon=1.0,
        max_contributions=k,
        since=JANUARY,
        **options,  # type: ignore[arg-type]
    )


def asked(case: int, day: dt.date, kind: str) -> CaseEvent:
    number = day.toordinal() << 16 | case
    return CaseEvent("HelpRequested", case_key(case), event_id(number), 0, day, {"help_kind": kind})


def counted(folder: Path, populations: list[Population], events: list[CaseEvent], day: dt.date) -> dict[str, int]:
    """Return what is counted by `day`, before noise: "NAME, PERIOD, SYMBOL" and how many."""
    symbols = {
        str(each.name): [symbol for field in each.tables[0].by for symbol in field.symbols] for each in populations
    }
    with world_in(folder, populations, registry=REGISTRY, published=False) as world:
        world.emit(events)
        world.fold(day)
        world.release(utc(day))
        return {
            ", ".join((name, str(start), *symbols[name][cell : cell + 1])): number
            for (name, start), cells in world.released.items()
            for cell, number in enumerate(cells)
            if number
        }


@pytest.mark.parametrize("k, alone", [(1, False), (2, True)])
def test_who_asked_for_something_else_first_counts_in_a_population_of_their_own_alone(
    tmp_path: Path, root: Path, k: int, alone: bool
) -> None:
    page = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    assert "A population of all requests with k = 1 counts them once, in January." in page
    populations = [
        requests("everyone", k, by=["help_kind"]),
        requests("deserters", where={"help_kind": ["DESERTION"]}),
    ]
    events = [asked(case, JANUARY, "LEGAL_AID") for case in PEOPLE]
    events += [asked(case, MARCH, "DESERTION") for case in PEOPLE]
    found = counted(tmp_path, populations, events, dt.date(2024, 4, 1))
    many = len(PEOPLE)
    expected = {f"everyone, {JANUARY}, LEGAL_AID": many, f"deserters, {MARCH}": many}
    assert found == (expected | {f"everyone, {MARCH}, DESERTION": many} if alone else expected)


def test_over_a_lifetime_those_who_come_back_are_missing_and_by_the_year_they_are_not(tmp_path: Path) -> None:
    """The same sixty people come each year: over a lifetime a helpline as busy as ever appears to have closed."""
    populations = [
        requests(horizon.value, period=Period.YEAR, horizon=horizon) for horizon in (Horizon.LIFETIME, Horizon.YEAR)
    ]
    days = [JANUARY.replace(year=year) for year in (2024, 2025, 2026)]
    events = [asked(case, day, "LEGAL_AID") for day in days for case in PEOPLE[:60]]
    found = counted(tmp_path, populations, events, dt.date(2027, 1, 1))
    assert found == {f"lifetime, {days[0]}": 60} | {f"year, {day}": 60 for day in days}
