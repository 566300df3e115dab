"""How much of its partitions a process has in hand: whole batches of a few of them, and the settlement of one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.aggregates_world import TRIALS, MemoryLog, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.counting import bounding
from quietcount_aggregates.counting.bounding import Bounding
from quietcount_aggregates.state.state import State
from quietcount_consumers.partitions import BATCH
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import Record

pytestmark = pytest.mark.quick

DAY = dt.date(2024, 1, 2)
ASKED = population_of(
    "asked", events=["Asked"], registry=TRIALS, since=dt.date(2024, 1, 1), period=Period.MONTH, epsilon=0.5
)


class AskedLog(MemoryLog):
    """A log that remembers which partitions a poll wanted, and how many records."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions)
        self.asked: list[tuple[set[int], int]] = []

    def poll(self, topic: str, positions: Mapping[int, int], ends: Mapping[int, int], limit: int) -> list[Record]:
        self.asked.append((set(positions), limit))
        return super().poll(topic, positions, ends, limit)


def test_partitions_are_polled_a_few_at_a_time_and_a_whole_batch_of_each(tmp_path: Path) -> None:
    log = AskedLog(9)
    with world_in(tmp_path, [ASKED], log=log, registry=TRIALS) as world:
        world.emit([CaseEvent("Asked", case_key(n), event_id(n), 0, DAY, {}) for n in range(200)])
        ends = log.end_offsets("case-events")
        assert world.partitions.fold_to_end(DAY, lambda: False)
        assert world.partitions.offsets == ends
        held = [state.rows("SELECT count(*) FROM open_events")[0][0] for state in world.states]
        assert sum(held) == 200
        first, second, third = log.asked
    # Nine partitions: four, four, one; those with most to read come first.
    assert [len(partitions) for partitions, _ in log.asked] == [4, 4, 1]
    assert [limit for _, limit in log.asked] == [4 * BATCH, 4 * BATCH, BATCH]
    most = sorted(ends.values(), reverse=True)
    assert sorted((ends[partition] for partition in first[0]), reverse=True) == most[:4]
    assert sorted((ends[partition] for partition in second[0]), reverse=True) == most[4:8]
    assert [ends[partition] for partition in third[0]] == most[8:]


def test_partitions_that_end_without_records_hide_none_of_the_others(tmp_path: Path) -> None:
    log = AskedLog(9)
    with world_in(tmp_path, [ASKED], log=log, registry=TRIALS) as world:
        world.emit([CaseEvent("Asked", case_key(n), event_id(n), 0, DAY, {}) for n in range(200)])
        for partition in range(5):
            # The marks at the end of transactions are such places.
            log.ends[partition] += 1000
        assert world.partitions.fold_to_end(DAY, lambda: False)
        assert world.partitions.offsets == log.end_offsets("case-events")
        assert sum(state.rows("SELECT count(*) FROM open_events")[0][0] for state in world.states) == 200


def test_a_process_of_several_states_settles_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it builds in memory for one is gone before it comes to the next, and counted again when the state closes."""
    built: list[int] = []
    make = Bounding.__init__

    def watched(self: Bounding, state: State, *given: Any, **more: Any) -> None:
        assert not any(held(each) for each in world.states if each is not state)
        make(self, state, *given, **more)
        built.append(state.partition)

    def held(state: State) -> bool:
        left = "temporary AND (table_name IN ('contributions', 'spent', 'year_marks') OR table_name LIKE 'versions%')"
        return bool(state.rows(f"FROM duckdb_tables() WHERE {left}"))

    given_back: list[object] = []
    monkeypatch.setattr(Bounding, "__init__", watched)
    monkeypatch.setattr(bounding, "give_back", given_back.append)
    with world_in(tmp_path, [ASKED], log=MemoryLog(3), registry=TRIALS) as world:
        world.emit([CaseEvent("Asked", case_key(n), event_id(n), 0, DAY, {}) for n in range(20)])
        world.fold(DAY)
        assert world.release(utc(dt.date(2024, 2, 1))) == 1
        assert world.released == {("asked", dt.date(2024, 1, 1)): (20,)}
    assert built == [0, 1, 2, 0, 1, 2]
    assert len(given_back) == 3, "DuckDB keeps what was dropped"
