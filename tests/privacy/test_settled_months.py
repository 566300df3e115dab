"""What remains of the people of a settled month while the quarter that it belongs to is open."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.aggregates_world import SECRET, World, marks_held, utc, world_in
from tests.privacy.planted_bytes import found
from tests.privacy.settling_world import asked, first_of
from tests.privacy.test_forgetting import EVENTS, events_on, marks_of

from quietcount_aggregates.counting import bounding
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_producers.embedded.embedded_log import EmbeddedLog
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

JANUARY, FEBRUARY = first_of(1), first_of(2)
LIMITS = "state-0.limits.asked.lifetime.1"


def marked(world: World, marks: set[int]) -> dict[tuple[str, str], int]:
    """Return how often the marks stand in each column or file of the state, places without any left out."""
    counts = {place: sum(mark in marks for mark in held) for place, held in marks_held(world.there).items()}
    return {place: count for place, count in counts.items() if count}


def numbers_of(marks: list[bytes]) -> set[int]:
    return {int.from_bytes(mark, "little") for mark in marks}


def case_marks_of(events: list[CaseEvent]) -> list[bytes]:
    """Return the bytes by which the state holds the case of each event, as `marks_of` does for the events."""
    keys = np.frombuffer(b"".join(each.case_key for each in events), dtype=np.uint8).reshape(-1, 16)
    return [int(low).to_bytes(8, "little") + int(high).to_bytes(8, "little") for high, low in SECRET.case_marks(keys)]


@pytest.mark.promise("forgetting")
def test_of_a_settled_month_whose_quarter_is_open_the_files_hold_sums_and_marks(tmp_path: Path) -> None:
    """No case has used up its limit of two, so a mark of each event is there; see test_closed_marks.py."""
    gone, kept = events_on(dt.date(2024, 1, 10), 1), events_on(FEBRUARY, 2)
    names = [part for each in gone for part in (each.case_key, each.event_id)]
    events, cases = marks_of(gone), case_marks_of(gone)
    folder = tmp_path / "world"
    folder.mkdir()
    with EmbeddedLog(folder / "log.sqlite") as log, EmbeddedLedger(folder / "ledger.sqlite") as ledger:
        log.create_topic(CASE_EVENTS, 1)
        with world_in(folder, [asked()], log=log, ledger_log=ledger) as world:
            world.emit(gone + kept)
            world.fold(FEBRUARY)
            world.there.connection.execute("CHECKPOINT")
            assert sum(found(folder, names).values()) >= len(names), "the search does not find what is there"
            assert found(folder, events)["state-0.duckdb"] > EVENTS // 2
            assert world.release(utc(FEBRUARY)) == 1, "the quarter is open"
            world.there.connection.execute("CHECKPOINT")

            assert world.there.rows("SELECT count(*), min(occurred_on) FROM open_events") == [(len(kept), FEBRUARY)]
            sums = world.there.rows("SELECT statistic, period, sum(contributions) FROM sums GROUP BY ALL ORDER BY ALL")
            assert sums == [
                ("quarterly", JANUARY, EVENTS),
                ("red", JANUARY, sum(each.attributes["colour"] == "RED" for each in gone)),
            ]
            columns = [row[0] for row in world.there.rows("DESCRIBE sums")]
            assert columns == ["statistic", "period", "cell", "contributions"]

            assert marked(world, numbers_of(events)) == {("closed_events", "event_mark"): EVENTS}
            places_of_cases = {("limits", "asked"): EVENTS, ("closed_events", "case_mark"): EVENTS}
            assert marked(world, numbers_of(cases)) == places_of_cases
            world.close()
            assert found(folder, names) == {}
            for marks in (events, cases):  # nothing is left of where they stood before
                [(name, count)] = found(folder, marks).items()
                assert name == "state-0.duckdb"
                assert EVENTS // 2 < count <= EVENTS
            assert found(folder, [number.to_bytes(16) for number in numbers_of(cases)]) == {LIMITS: EVENTS}


def contents(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of the state, without what differs between any two ledgers or logs."""
    tables = [name for (name,) in world.there.rows("SELECT table_name FROM duckdb_tables() WHERE NOT temporary")]
    rows = {name: world.there.rows(f'SELECT * FROM "{name}" ORDER BY ALL') for name in tables}
    rows["meta"] = [row for row in rows["meta"] if row[0] not in ("head_digest", "topic_id")]
    return rows


def settled_twice(folder: Path) -> list[dict[str, list[tuple[Any, ...]]]]:
    """Return the state after January, of two worlds in which the same cases came with each other's attributes.

    They also came on other days and in another order. The second world's counts are those of the first.
    """
    first = events_on(dt.date(2024, 1, 10), 1, 300)
    second = [
        replace(each, occurred_on=dt.date(2024, 1, 1 + place % 31), attributes=other.attributes)
        for place, (each, other) in enumerate(zip(first, first[1:] + first[:1], strict=True))
    ]
    random.Random(1).shuffle(second)
    states = []
    for name, events in (("one", first), ("other", second)):
        with world_in(folder / name, [asked()], published=False) as world:
            world.emit(events)
            world.fold(FEBRUARY)
            before = contents(world)["open_events"]
            world.release(utc(FEBRUARY))
            states.append(contents(world))
            assert len(before) == len(events)
    return states


@pytest.mark.promise("forgetting")
def test_a_settled_months_state_does_not_tell_who_had_which_attribute_or_came_when(tmp_path: Path) -> None:
    one, other = settled_twice(tmp_path)
    assert one == other
    assert sum(row[-1] for row in one["sums"]) > 300


@pytest.mark.check
def test_a_settlement_that_keeps_the_events_of_an_open_quarter_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bounding._remaining

    def hoarding(*given: Any) -> str:
        script = real(*given)
        assert "WHERE period >= day " in script
        return script.replace("WHERE period >= day ", "WHERE date_trunc('quarter', period) >= DATE '2024-01-01' ")

    monkeypatch.setattr(bounding, "_remaining", hoarding)
    one, other = settled_twice(tmp_path)
    assert one != other
