"""What a plan counts of events is what the fold counts: conditions, buckets, averages, the oldest periods first."""

from __future__ import annotations

import datetime as dt
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.aggregates_world import case_key, record_of, utc, world_in
from tests.numbers_world import DAYS, SINCE, VISITS, Visit, events_of, visits

from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_aggregates.tables import AskedTable
from quietcount_consumers.planning.event_counts import EventCounts, PopulationCounts
from quietcount_producers.files.event_files import FileFormat
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.numbers import Buckets, Summed
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

AGE = Buckets("age", (0, 18, 65))
TABLES = (
    AskedTable("by_days", 1.0, by=["kind", DAYS]),
    AskedTable("by_age", 1.0, by=[AGE], where={"kind": ["NEW", "OLD"]}),
    AskedTable("quarterly", 1.0, by=["kind"], period=Period.QUARTER),
    AskedTable("waiting", 1.0, by=["kind"], sum=Summed("days", (0, 60), "by_days")),
)


def stories() -> list[CaseEvent]:
    """Seven months of visits; of some cases several, and not in the order of their dates."""
    told = [
        Visit(
            dt.date(2024, 1 + (5 * n) % 7, 1), (13 * n) % 90, ("OLD", "NEW", "NONE")[n % 3], None if n % 4 else n % 90
        )
        for n in range(120)
    ]
    events = events_of(told)
    return [
        CaseEvent(each.event, case_key(number % 70), each.event_id, 0, each.occurred_on, each.attributes)
        for number, each in enumerate(events)
    ]


def planned(population: Population, events: Sequence[CaseEvent]) -> PopulationCounts:
    counts = EventCounts(VISITS, Period.MONTH)
    codec = Codec(VISITS)
    for event in events:
        counts.add(record_of(codec, event))
    found = counts.of(population)
    assert found is not None
    return found


def released(folder: Path, population: Population, events: Sequence[CaseEvent]) -> dict[str, list[int]]:
    """The exact values of each table's releases, by the noiseless mechanism of the tests."""
    folder.mkdir()
    with world_in(folder, [population], registry=VISITS, now=utc(SINCE), published=False) as world:
        world.emit(events)
        world.fold(dt.date(2024, 7, 2))
        world.release(utc(dt.date(2024, 8, 15)))
        bodies = [each.body for each in world.ledger.chain.entries if isinstance(each.body, Released)]
    return {
        table.name: [v for b in bodies if b.statistic == table.name for v in b.values] for table in population.tables
    }


def without_zeros(values: Sequence[int]) -> Counter[int]:
    return Counter(value for value in values if value)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_contributions": 2},
        {"max_contributions": 1, "horizon": Horizon.YEAR, "late": Late.DROP},
        {"where": {"kind": ["OLD", "NONE"]}},
    ],
)
def test_the_counts_are_those_that_would_be_released(tmp_path: Path, more: dict[str, Any]) -> None:
    tables = TABLES if "where" not in more else (TABLES[0], TABLES[2], TABLES[3])
    population = visits(*tables, **more)
    events = stories()
    found = planned(population, events)
    exact = released(tmp_path / "world", population, events)
    for table in population.counts:
        sizes = found.volume.cells[table.name]
        assert {size: n for size, n in sizes.items() if size} == without_zeros(exact[table.name])
    # Seven months of the year that a volume is of; a sum is that of values less their middle, which is 30.
    counted = sum(exact["by_days"])
    assert found.volume.yearly["by_days"] == pytest.approx(counted * 12 / 7)
    assert found.volume.averages["waiting"] == pytest.approx(30 + sum(exact["waiting"]) / counted)


def test_events_that_come_in_another_order_are_counted_by_their_months_first() -> None:
    """The second line of the case is the earlier one, and with a limit of one it alone counts."""
    population = visits(AskedTable("by_kind", 1.0, by=["kind"]))
    late, early = events_of([Visit(dt.date(2024, 2, 1), 0, "NEW"), Visit(dt.date(2024, 1, 1), 0, "OLD")])
    early = CaseEvent(early.event, late.case_key, early.event_id, 0, early.occurred_on, early.attributes)
    found = planned(population, [late, early])
    assert found.uncounted[0] == (1, 0.5)
    # January alone has one; and February, which nobody is counted in, is a month all the same.
    assert found.volume.cells["by_kind"] == {1: 1, 0: 5}


def test_a_correction_stands_and_the_same_event_twice_counts_once() -> None:
    population = visits(AskedTable("by_kind", 1.0, by=["kind"]), max_contributions=5)
    (first,) = events_of([Visit(dt.date(2024, 1, 1), 0, "NEW")])
    revised = CaseEvent(
        first.event, first.case_key, first.event_id, 2, dt.date(2024, 1, 1), {**first.attributes, "kind": "OLD"}
    )
    older = CaseEvent(first.event, first.case_key, first.event_id, 1, dt.date(2024, 5, 1), first.attributes)
    found = planned(population, [first, first, revised, older])
    assert found.volume.cells["by_kind"] == {1: 1, 0: 2}


def test_an_identifier_that_emitters_are_allowed_counts_and_no_other_odd_one() -> None:
    kind = next(iter(VISITS.event_types))
    line = f'{{"event": "{kind}", "case": "n/a", "occurred_on": "2024-01-03"}}\n'.encode()
    for allow, good in (((), 0), ((Oddity.PLACEHOLDER,), 1)):
        found = EventCounts(VISITS, Period.MONTH, allow).read(io.BytesIO(line), "the file", FileFormat.JSONL)
        assert found.good == good
