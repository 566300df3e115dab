"""What workers hand over: it comes whole, sealed and vouched for, and says nothing by its size."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.aggregates_world import TRIALS, MemoryLog, World, case_key, event_id, utc, world_in
from tests.populations import population_of

from quietcount_aggregates.due_periods import DuePeriod, due_in
from quietcount_aggregates.errors import SumsMissing
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.settlements import Settlement
from quietcount_aggregates.populations import Population
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.workers import sealing
from quietcount_consumers.workers.elsewhere import Elsewhere
from quietcount_consumers.workers.sealing import PIECE_BYTES, ReleaserKey, sealed
from quietcount_consumers.workers.sums_channel import SumsChannel
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import PARTIAL_SUMS, NewRecord

pytestmark = pytest.mark.quick

SINCE, MARCH = dt.date(2024, 1, 1), dt.date(2024, 3, 1)
SECRET = ConsumerSecret(bytes(range(32)))
KEY = ReleaserKey()


def population() -> Population:
    return population_of(
        "asked", events=["Asked"], registry=TRIALS, period=Period.MONTH, since=SINCE, epsilon=1.0, by=["colour"]
    )


def settlement(key: ReleaserKey = KEY) -> Settlement:
    return Settlement.make(2, MARCH, MARCH, utc(MARCH), LogPoint("log", {0: 3, 1: 4}), key.public)


def counted(due: list[DuePeriod], number: int) -> Mapping[DuePeriod, list[int]]:
    return {period: [number, -number, number << 40] for period in due}


@pytest.fixture
def world(tmp_path: Path) -> World:
    with world_in(tmp_path, [population()], now=utc(SINCE), published=False) as made:
        return made


@pytest.mark.promise("no-exact-count")
def test_what_is_sent_comes_whole_by_partition_and_twice_does_no_harm(world: World) -> None:
    log, due, asked = MemoryLog(), due_in(world.ledger.chain, utc(MARCH)), settlement()
    assert len(due) == 2
    channel = SumsChannel(log, SECRET)
    for partition in (1, 0, 1):
        channel.send(asked, partition, due, counted(due, partition + 7))
    found = channel.received(KEY, asked, world.ledger.chain, due)
    assert found == {0: counted(due, 7), 1: counted(due, 8)}
    channel.clear()
    assert log.records == [[]]
    assert channel.received(KEY, asked, world.ledger.chain, due) == {}


def test_pieces_of_another_settlement_and_strangers_records_are_passed_over(world: World) -> None:
    log, due, asked = MemoryLog(), due_in(world.ledger.chain, utc(MARCH)), settlement()
    channel = SumsChannel(log, SECRET)
    channel.send(settlement(), 0, due, counted(due, 1))  # void: a releaser that was killed wrote it
    channel.send(settlement(ReleaserKey()), 0, due, counted(due, 2))
    log.append(PARTIAL_SUMS, [NewRecord(None, data, -1) for data in (b"", b"x", os.urandom(PIECE_BYTES))])
    assert channel.received(KEY, asked, world.ledger.chain, due) == {}


def test_a_part_of_the_pieces_is_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "PIECE_BYTES", 16)
    log, due, asked = MemoryLog(), due_in(world.ledger.chain, utc(MARCH)), settlement()
    channel = SumsChannel(log, SECRET)
    channel.send(asked, 0, due, counted(due, 5))
    assert len(log.records[0]) == 3
    whole = list(log.records[0])
    for gone in range(3):
        log.records[0][:] = [record for number, record in enumerate(whole) if number != gone]
        assert channel.received(KEY, asked, world.ledger.chain, due) == {}
    log.records[0][:] = reversed(whole)
    log.records[0][:] = [record._replace(offset=offset) for offset, record in enumerate(log.records[0])]
    assert channel.received(KEY, asked, world.ledger.chain, due) == {0: counted(due, 5)}


@pytest.mark.promise("drawn-once")
def test_two_different_sums_are_refused_with_what_they_are_of(world: World) -> None:
    due, asked = due_in(world.ledger.chain, utc(MARCH)), settlement()
    channel = SumsChannel(MemoryLog(), SECRET)
    channel.send(asked, 1, due, counted(due, 5))
    channel.send(asked, 1, due, counted(due, 6))
    with pytest.raises(ServiceError, match=rf"settlement {asked.identity.hex()[:8]}, partition 1 of the log"):
        channel.received(KEY, asked, world.ledger.chain, due)


def test_a_worker_with_another_secret_is_told_apart(world: World) -> None:
    log, due, asked = MemoryLog(), due_in(world.ledger.chain, utc(MARCH)), settlement()
    SumsChannel(log, ConsumerSecret(bytes(32))).send(asked, 0, due, counted(due, 5))
    with pytest.raises(ServiceError, match=r"a worker \(partition 0, by .*\) has another service's secret"):
        SumsChannel(log, SECRET).received(KEY, asked, world.ledger.chain, due)


@pytest.mark.promise("silence", "no-exact-count")
def test_pieces_are_of_one_size_and_no_two_alike_whatever_was_counted(world: World) -> None:
    due, asked = due_in(world.ledger.chain, utc(MARCH)), settlement()
    pieces = [
        data
        for number in (0, 1, 1, 1 << 60)
        for data in sealed(asked, 0, due, {period: [number] * 3 for period in due}, SECRET.sums_key)
    ]
    assert len({len(piece) for piece in pieces}) == 1
    assert len(set(pieces)) == len(pieces) == 4
    assert "*****" in repr(KEY)


@pytest.mark.promise("ledger-chain")
def test_a_settlement_that_the_owner_did_not_sign_is_refused(tmp_path: Path) -> None:
    """Who could put another key into it would read what the workers count."""
    with world_in(tmp_path, [population()], now=utc(SINCE), published=False) as world:
        world.emit([CaseEvent("Asked", case_key(1), event_id(1), 0, SINCE, {"colour": "RED", "urgent": None})])
        world.fold(MARCH)
        world.release(utc(dt.date(2024, 2, 8)))
        genuine = world.ledger.settled
        assert genuine is not None
        assert genuine.is_signed(world.ledger.chain.keys)
        for forged in (
            replace(genuine, seal_to=KEY.public),
            replace(genuine, newest=SINCE),
            replace(genuine, signature=bytes(64)),
        ):
            assert not forged.is_signed(world.ledger.chain.keys)


def test_what_has_come_of_each_settlement_is_added_up_one_call_later(world: World) -> None:
    """Another worker of the same partition has until then, also if no call ever found that something was missing."""
    log, due = MemoryLog(), due_in(world.ledger.chain, utc(MARCH))
    elsewhere = Elsewhere(log, world.ledger, SumsChannel(log, SECRET))
    public = elsewhere.new_key()
    for number in (5, 6):
        asked = Settlement.make(2, MARCH, MARCH, utc(MARCH), LogPoint("log", {0: 3}), public)
        SumsChannel(log, SECRET).send(asked, 0, due, counted(due, number))
        with pytest.raises(SumsMissing) as waiting:
            elsewhere.sums(asked, due)
        assert not waiting.value.partitions
        assert elsewhere.sums(asked, due) == counted(due, number)
