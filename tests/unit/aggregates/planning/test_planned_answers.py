"""The changes and shares of a plan are what the macros of a published file answer if the counts are as planned."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from tests.aggregates_world import TRIALS, case_key, event_id, utc, world_in
from tests.numbers_world import SINCE, VISITS, Visit, events_of, visits

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.planning.answers import asking
from quietcount_aggregates.planning.margins import Margins, Over
from quietcount_aggregates.planning.plan import CANNOT_TELL, Measure, Planned, planned
from quietcount_aggregates.planning.volume import Volume
from quietcount_aggregates.populations import Population
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

IN_A_CELL = 3
COLOURS, URGENT = ("RED", "GREEN", "NONE"), (False, True)
CASES = IN_A_CELL * len(COLOURS) * len(URGENT)


def catalogue(epsilon: float = 4.0) -> Population:
    return resolve(
        "asked",
        events=["Asked"],
        registry=TRIALS,
        period=Period.MONTH,
        since=dt.date(2023, 4, 1),
        tables=[
            AskedTable("by_colour", epsilon, by=["colour"]),
            AskedTable("by_both", epsilon / 2, by=["colour", "urgent"], period=Period.QUARTER),
        ],
    )


def figures(population: Population, contributions: float) -> list[Planned]:
    with asking() as answers:
        return list(planned(Margins(population), Volume.evenly(population, contributions), answers))


def test_a_change_and_a_share_are_those_of_a_published_file(tmp_path: Path) -> None:
    population = catalogue()
    with world_in(tmp_path, [population], now=utc(dt.date(2023, 4, 1))) as world:
        numbers = itertools.count()
        for month in range(4, 10):
            day = dt.date(2023, month, 1)
            kinds = itertools.product(COLOURS, URGENT, range(IN_A_CELL))
            world.emit(
                [
                    CaseEvent("Asked", case_key(number % 250), event_id(number), 0, day, {"colour": c, "urgent": u})
                    for (c, u, _), number in zip(kinds, numbers, strict=False)
                ]
            )
            world.fold(day + dt.timedelta(days=1))
        world.release(utc(dt.date(2023, 11, 1)))
        with duckdb.connect(str(world.public), read_only=True) as connection:
            spans = "'2023-04-01', '2023-06-30', '2023-07-01', '2023-09-30'"
            change = "SELECT percent_change, percent_lower, percent_upper FROM compare('by_colour', {}, cells := '{}')"
            asked = {
                (Measure.CHANGE, Over.CELL): change.format(spans, "colour=GREEN"),
                (Measure.CHANGE, Over.ALL): change.format(spans, ""),
                (Measure.SHARE, Over.SYMBOL): "SELECT share_percent, share_lower, share_upper FROM share('by_colour', "
                "'2023-07-01', '2023-09-30', 'colour=GREEN')",
            }
            told = {key: connection.execute(sql).fetchone() for key, sql in asked.items()}
    plan = [each for each in figures(population, 12 * CASES) if each.table.name == "by_colour"]
    for (measure, over), row in told.items():
        (one,) = [each for each in plan if (each.measure, each.over) == (measure, over)]
        assert row is not None
        value, lower, upper = (float(each) for each in row)
        assert one.size == value
        assert one.margin == pytest.approx(max(upper - value, value - lower))


def test_a_change_that_nobody_can_tell_is_planned_as_such() -> None:
    plan = figures(catalogue(0.1), 12)
    changes = [each for each in plan if each.measure is Measure.CHANGE]
    assert changes
    assert {each.reliability for each in changes} == {CANNOT_TELL}
    assert {each.margin for each in changes} == {None}


def test_the_verdict_is_that_of_the_published_file() -> None:
    with asking() as answers:
        assert [answers.reliability(100, margin) for margin in (10, 11, 30, 31)] == ["good", "fair", "fair", "poor"]
        assert answers.reliability(0.4, 4) == "poor"


def test_an_average_is_as_precise_as_that_of_a_published_file(tmp_path: Path) -> None:
    """Three buckets of days, whose average is 15: what a plan assumes of a sum between 0 and 60."""
    population = visits()
    told = [
        Visit(dt.date(2024, month, 1), days, kind)
        for month in (1, 2, 3)
        for days in (3, 12, 30)
        for kind in ("NEW", "OLD", "NONE")
        for _ in range(9)
    ]
    with world_in(tmp_path, [population], registry=VISITS, now=utc(SINCE)) as world:
        for place in range(0, len(told), 200):
            events = events_of(told[place : place + 200], place)
            world.emit(
                [replace(each, case_key=number.to_bytes(16, "big")) for number, each in enumerate(events, place)]
            )
            world.fold(dt.date(2024, 3, 2))
        world.release(utc(dt.date(2024, 5, 1)))
        with duckdb.connect(str(world.public), read_only=True) as connection:
            rows = connection.execute(
                "SELECT period, cell, average, average_lower, average_upper FROM averages "
                "WHERE period_start = '2024-01-01' AND cell IN ('kind=NEW', 'all')"
            ).fetchall()
    plan = [each for each in figures(population, 12 * 81) if each.measure is Measure.AVERAGE]
    assert len(rows) == len(plan) == 4
    for period, cell, average, lower, upper in rows:
        over = Over.ALL if cell == "all" else Over.CELL
        (one,) = [each for each in plan if (each.period.value, each.over) == (period, over)]
        assert one.size == pytest.approx(float(average)) == 15
        assert one.margin == pytest.approx(float(max(upper - average, average - lower)), abs=1e-5)


def test_an_average_of_too_few_is_planned_as_such() -> None:
    averages = [each for each in figures(visits(), 24) if each.measure is Measure.AVERAGE and each.over is Over.CELL]
    assert averages
    assert {(each.margin, each.reliability) for each in averages} == {(None, CANNOT_TELL)}
