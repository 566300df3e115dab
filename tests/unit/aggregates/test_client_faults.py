"""Client faults: each is noted for the day on which it was seen, ours have none, and nothing says how many."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.aggregates_world import TRIALS, MemoryLog, case_key, event_id, record_of, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.counting.client_faults import ClientFaults, timestamps_of
from quietcount_aggregates.counting.columns import ColumnDecoder
from quietcount_aggregates.counting.placing import partitions_of
from quietcount_aggregates.populations import Population
from quietcount_aggregates.settling import note_changed
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.partitioner import partition_for
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.event_types import LATEST
from quietcount_schemas.events.periods import Period, coarsest_that_serves
from quietcount_schemas.log import CASE_EVENTS, NewRecord
from quietcount_schemas.rejection import ClientFault, RejectReason

pytestmark = pytest.mark.quick

DAY = dt.date(2024, 1, 10)
"""Of the fold's clock."""
NEW_YEAR = dt.date(2024, 1, 1)
CODEC = Codec(TRIALS)
GOOD = CaseEvent("Asked", case_key(1), event_id(1), 0, NEW_YEAR, {"colour": "RED", "urgent": None})
RECORD = record_of(CODEC, GOOD)


class OddLog(MemoryLog):
    """A log in memory whose clients choose partitions in a way of their own."""

    def partition_of(self, key: bytes | None) -> int:
        return (super().partition_of(key) + 1) % len(self.records)


def of(
    period: Period = Period.MONTH, name: str = "asked", event: str = "Asked", by: tuple[str, ...] = ()
) -> Population:
    return population_of(name, events=[event], registry=TRIALS, period=period, since=NEW_YEAR, epsilon=1.0, by=by)


def seen(*records: NewRecord, populations: tuple[Population, ...] = (), log: Any = None) -> set[ClientFault]:
    """Return what is wrong with `records`, which are all events."""
    log = log or MemoryLog()
    log.append(CASE_EVENTS, list(records))
    polled = log.poll(CASE_EVENTS, log.beginning_offsets(CASE_EVENTS), log.end_offsets(CASE_EVENTS), 10_000)
    events, rejections = ColumnDecoder(TRIALS).decode([record.value for record in polled])
    assert rejections == []
    faults = ClientFaults(populations or [of()])
    return {
        fault
        for columns in events
        for fault in faults.seen(columns, np.ones(len(columns.rows), np.bool_), timestamps_of(polled))
    }


@pytest.mark.parametrize("off", [-1, 1, 3_600_000, 86_400_000, -RECORD.timestamp - 1])
def test_a_timestamp_that_is_not_the_midnight_of_the_date_is_a_fault(off: int) -> None:
    assert seen(RECORD, RECORD._replace(timestamp=RECORD.timestamp + off)) == {ClientFault.TIMESTAMP}


@pytest.mark.parametrize(
    "day, period, fault",
    [
        (dt.date(2024, 1, 2), Period.MONTH, True),
        (dt.date(2024, 2, 1), Period.MONTH, False),
        (dt.date(2024, 1, 8), Period.WEEK, False),
        (dt.date(2024, 1, 7), Period.WEEK, True),
        (dt.date(2024, 1, 7), Period.DAY, False),
        (dt.date(2024, 2, 1), Period.QUARTER, True),
        (dt.date(2024, 4, 1), Period.YEAR, True),
        (dt.date(1970, 1, 1), Period.WEEK, False),  # a Thursday: no date lies before it
        (LATEST, Period.MONTH, True),
    ],
)
def test_a_date_that_is_more_exact_than_its_populations_need_is_a_fault(
    day: dt.date, period: Period, fault: bool
) -> None:
    record = record_of(CODEC, replace(GOOD, occurred_on=day))
    assert seen(record, populations=(of(period),)) == ({ClientFault.DATE_TOO_EXACT} if fault else set())


def test_what_no_population_counts_has_the_first_day_of_its_month() -> None:
    answered = replace(GOOD, event="Answered", attributes={"colour": "RED"}, occurred_on=dt.date(2024, 1, 2))
    left = replace(answered, event="Left", attributes={})
    for event in (answered, left):
        assert seen(record_of(CODEC, event), populations=(of(Period.DAY),)) == {ClientFault.DATE_TOO_EXACT}


@pytest.mark.promise("dead-letters")
@pytest.mark.parametrize("log, counted", [(MemoryLog(3), 20), (OddLog(3), 0)])
def test_a_record_in_another_partition_than_that_of_its_key_is_rejected(
    log: MemoryLog, counted: int, tmp_path: Path
) -> None:
    """Each partition knows its own cases: an event that lay in two would count twice as often as its limit allows."""
    events = [replace(GOOD, case_key=case_key(number), event_id=event_id(number)) for number in range(20)]
    with world_in(tmp_path, [of()], published=False, log=log) as world:
        world.emit(events)
        world.fold(DAY)
        rows = [state.rows("SELECT count(*) FROM open_events")[0][0] for state in world.states]
        letters = [row for state in world.states for row in state.rows("SELECT reason, value FROM dead_letters")]
        assert (sum(rows), len(letters)) == (counted, 20 - counted)
        assert {reason for reason, _ in letters} <= {RejectReason.WRONG_PARTITION}
        assert all(CODEC.decode(value).event == "Asked" for _, value in letters), "what can be replayed"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 1000])
def test_partitions_are_those_of_the_emitters(count: int) -> None:
    keys = np.random.default_rng(1).integers(0, 256, (500, 16), np.uint8)
    assert partitions_of(keys, count).tolist() == [partition_for(key.tobytes(), count) for key in keys]


@pytest.mark.parametrize("periods", [*((each,) for each in Period), (Period.WEEK, Period.MONTH)])
def test_what_our_emitters_write_has_no_fault(periods: tuple[Period, ...]) -> None:
    """From any day, of any event type, in the precision that the populations ask for."""
    precision = {"Asked": coarsest_that_serves(periods)}
    composer = Composer(TRIALS, Pepper(bytes(32)), precision, today=lambda: dt.date(2026, 1, 1))
    days = [dt.date(1970, 1, 1) + dt.timedelta(days=number) for number in (*range(10), *range(19_000, 19_400, 7))]
    records = [
        composer.compose(Facts(event, f"case {number}", day, {}))
        for number, (event, day) in enumerate(itertools.product(TRIALS.event_types, days))
    ]
    populations = tuple(of(period, f"asked_{period}") for period in periods)
    assert seen(*records, populations=populations, log=MemoryLog(3)) == set()


def test_the_fold_notes_what_it_saw_on_its_day(tmp_path: Path) -> None:
    exact = record_of(CODEC, replace(GOOD, occurred_on=dt.date(2024, 1, 2)))
    trials: list[tuple[NewRecord, set[str]]] = [
        (RECORD._replace(timestamp=0), {"timestamp"}),
        (RECORD._replace(headers=(("traceparent", b""),)), {"headers"}),
        (exact, {"date_too_exact"}),
        (exact._replace(timestamp=1), {"date_too_exact", "timestamp"}),
        # What is rejected has its reason, and no fault of what counts.
        (exact._replace(timestamp=1, key=case_key(2)), {"key_mismatch"}),
        (NewRecord(b"", b"", 1), {"empty"}),
    ]
    with world_in(tmp_path, [of()], published=False) as world:
        for number, (record, wanted) in enumerate([(RECORD, set[str]()), *trials]):
            day = DAY + dt.timedelta(days=number)
            world.log.append(CASE_EVENTS, [record])
            world.fold(day)
            assert {each.value for each in world.there.noted_on(day)} == wanted


def test_what_is_noted_does_not_follow_from_how_many_there_are_or_from_the_batches(tmp_path: Path) -> None:
    faulty = RECORD._replace(timestamp=1, headers=(("a", b"b"),))

    def folded(name: str, records: list[NewRecord], sizes: Iterator[int]) -> list[tuple[object, ...]]:
        with world_in(tmp_path / name, [of()], published=False) as world:
            world.log.append(CASE_EVENTS, records)
            world.fold(DAY, sizes)
            return world.there.rows("SELECT * FROM noted_on ORDER BY ALL")

    one = folded("one", [RECORD, faulty], itertools.repeat(10))
    many = folded("many", [faulty, *[RECORD] * 5, *[faulty] * 5], itertools.cycle([1, 2, 3]))
    assert one == many == [(DAY, "headers"), (DAY, "timestamp")]


# A change without a revision, which a settlement sees

CHANGED = {ClientFault.CHANGED_WITHOUT_REVISION}
GREEN = {"colour": "GREEN", "urgent": None}


def test_a_settlement_notes_that_an_event_changed_without_a_revision(tmp_path: Path) -> None:
    day = dt.date(2024, 2, 1)
    with world_in(tmp_path, [of(by=("colour",))], published=False) as world:
        world.emit([GOOD, replace(GOOD, attributes=GREEN)])
        world.fold(DAY)
        assert world.there.noted_on(DAY) == frozenset()
        assert world.release(utc(day)) == 1
        assert world.there.noted_on(day) == CHANGED
        assert world.released["asked", NEW_YEAR] == (0, 0, 1), "the first, which is RED, counts"


def test_only_another_content_of_one_revision_of_one_case_s_event_is_a_change(tmp_path: Path) -> None:
    corrected = replace(GOOD, revision=1, attributes=GREEN)
    trials: list[tuple[list[CaseEvent], set[ClientFault]]] = [
        ([GOOD, GOOD], set()),
        ([GOOD, corrected, corrected], set()),
        ([GOOD, replace(GOOD, case_key=case_key(2), attributes=GREEN)], set()),
        ([GOOD, replace(GOOD, event_id=event_id(2), attributes=GREEN)], set()),
        ([GOOD, replace(GOOD, attributes={"colour": "RED", "urgent": True})], set()),  # nobody counts by it
        ([corrected, replace(corrected, attributes=GOOD.attributes)], CHANGED),
        ([GOOD, replace(GOOD, occurred_on=dt.date(2024, 2, 1))], CHANGED),
        ([corrected, replace(corrected, event="Answered", attributes={"colour": "GREEN"})], CHANGED),
    ]
    with world_in(tmp_path, [of(by=("colour",))], published=False) as world:
        for number, (events, wanted) in enumerate(trials):
            day = DAY + dt.timedelta(days=number)
            with world.there.transaction() as connection:
                connection.execute("DELETE FROM open_events")
            world.emit(events)
            world.fold(day)
            with world.there.transaction():
                note_changed(world.there, world.log.ends[0], day)
            assert world.there.noted_on(day) == wanted, number


def test_what_a_new_population_asks_for_is_no_change_of_what_was_there_before(tmp_path: Path) -> None:
    total, by_colour = of(name="total"), of(by=("colour",))
    with world_in(tmp_path, [total], published=False) as world:
        world.emit([GOOD])
        world.fold(DAY)
        world.populations.append(by_colour)
        world.restart(utc(DAY))
        world.emit([GOOD])
        world.fold(DAY)
        with world.there.transaction():
            note_changed(world.there, world.log.ends[0], DAY)
        assert world.there.noted_on(DAY) == frozenset()


def test_no_fault_has_the_value_of_a_reject() -> None:
    assert not {each.value for each in ClientFault} & {each.value for each in RejectReason}
