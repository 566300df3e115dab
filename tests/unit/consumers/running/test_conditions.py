"""The conditions of a lasting service as a table: what follows from what, what is said, and what the board shows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from quietcount_aggregates.errors import (
    LedgerBehind,
    LedgerBroken,
    LedgerFenced,
    LedgerUnavailable,
    LedgerUnwritable,
    PublicationUnwritable,
    StateHeld,
    StateUnwritable,
)
from quietcount_consumers.errors import FolderUnwritable
from quietcount_consumers.monitoring.status import Status
from quietcount_consumers.running import conditions
from quietcount_consumers.running.conditions import (
    MENDABLE,
    ClockBelieved,
    ClockDoubted,
    Condition,
    Distrusting,
    Event,
    Failed,
    Halted,
    Opened,
    Opening,
    Step,
    Trouble,
    Waiting,
    Worked,
    Working,
    after,
    shown,
)
from quietcount_producers.errors import LogUnavailable, LogUnwritable
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.quick

NOON = dt.datetime(2023, 5, 1, 12, tzinfo=dt.UTC)

BROKERS, DISK, HELD = Waiting(Trouble.BROKERS), Waiting(Trouble.DISK), Waiting("another service holds it")
OPENING, WORKING, HALTED = Opening(), Working(), Halted()
LATER: Final = Distrusting
"""The condition under a clock that is not trusted."""

AWAY = Failed(LogUnavailable("no broker answers"))
FULL = Failed(StateUnwritable("the disk is full"))
TAKEN = Failed(StateHeld("another service holds it"))
OLDER = Failed(LedgerBehind("an older copy", "Put the newest back"))
OPENED, WORKED, DOUBTED, BELIEVED = Opened(), Worked(), ClockDoubted("the clock was set back"), ClockBelieved()

ENDS = "the process ends"

Row = tuple[Condition | str, str | None]

# Each row: from this condition, by this event, to that condition, and what is said.
TABLE: Mapping[Condition, Mapping[Event, Row]] = {
    OPENING: {
        OPENED: (WORKING, None),
        WORKED: (OPENING, None),
        AWAY: (ENDS, None),
        FULL: (ENDS, None),
        TAKEN: (ENDS, None),
        OLDER: (ENDS, None),
        DOUBTED: (LATER(OPENING), "clock jumped"),
        BELIEVED: (OPENING, None),
    },
    WORKING: {
        OPENED: (WORKING, None),
        WORKED: (WORKING, None),
        AWAY: (BROKERS, "waiting"),
        FULL: (DISK, "waiting"),
        TAKEN: (HELD, "waiting"),
        OLDER: (HALTED, "halted"),
        DOUBTED: (LATER(WORKING), "clock jumped"),
        BELIEVED: (WORKING, None),
    },
    BROKERS: {
        OPENED: (BROKERS, None),  # it says that it goes on when a tick did its work
        WORKED: (WORKING, "going on"),
        AWAY: (BROKERS, None),
        FULL: (DISK, "waiting"),
        TAKEN: (HELD, "waiting"),
        OLDER: (HALTED, "halted"),
        DOUBTED: (LATER(BROKERS), "clock jumped"),
        BELIEVED: (BROKERS, None),
    },
    HELD: {
        OPENED: (HELD, None),
        WORKED: (WORKING, "going on"),
        AWAY: (BROKERS, "waiting"),
        FULL: (DISK, "waiting"),
        TAKEN: (HELD, None),
        OLDER: (HALTED, "halted"),
        DOUBTED: (LATER(HELD), "clock jumped"),
        BELIEVED: (HELD, None),
    },
    HALTED: {
        OPENED: (HALTED, None),
        WORKED: (WORKING, "going on"),
        AWAY: (BROKERS, "waiting"),
        FULL: (DISK, "waiting"),
        TAKEN: (HELD, "waiting"),
        OLDER: (HALTED, None),
        DOUBTED: (LATER(HALTED), "clock jumped"),
        BELIEVED: (HALTED, None),
    },
    LATER(OPENING): {
        OPENED: (LATER(OPENING), None),
        WORKED: (LATER(OPENING), None),
        AWAY: (ENDS, None),
        FULL: (ENDS, None),
        TAKEN: (ENDS, None),
        OLDER: (ENDS, None),
        DOUBTED: (LATER(OPENING), None),
        BELIEVED: (OPENING, "clock trusted again"),
    },
    LATER(WORKING): {
        OPENED: (LATER(WORKING), None),
        WORKED: (LATER(WORKING), None),  # work makes no clock right
        AWAY: (LATER(BROKERS), "waiting"),
        FULL: (LATER(DISK), "waiting"),
        TAKEN: (LATER(HELD), "waiting"),
        OLDER: (LATER(HALTED), "halted"),
        DOUBTED: (LATER(WORKING), None),
        BELIEVED: (WORKING, "clock trusted again"),
    },
    LATER(BROKERS): {
        OPENED: (LATER(BROKERS), None),
        WORKED: (LATER(BROKERS), None),
        AWAY: (LATER(BROKERS), None),
        FULL: (LATER(DISK), "waiting"),
        TAKEN: (LATER(HELD), "waiting"),
        OLDER: (LATER(HALTED), "halted"),
        DOUBTED: (LATER(BROKERS), None),
        BELIEVED: (BROKERS, "clock trusted again"),  # and the trouble, if it is still there, is no news
    },
}


def meaning(event: Event) -> str:
    """Return why the service cannot work; nothing if it can."""
    match event:
        case Failed(error):
            return str(error)
        case ClockDoubted(objection):
            return objection
        case _:
            return ""


@pytest.mark.parametrize("condition", TABLE, ids=repr)
def test_what_follows_is_what_the_table_says(condition: Condition) -> None:
    for event, (wanted, name) in TABLE[condition].items():
        if wanted == ENDS:
            assert isinstance(event, Failed)
            with pytest.raises(type(event.error)):
                after(condition, event, NOON)
            continue
        following, said = after(condition, event, NOON)
        assert (following, said and said.name) == (wanted, name), event
        if said is not None:
            assert said.tick == NOON
            assert said.own_fields() == ({"meaning": meaning(event)} if meaning(event) else {})


def test_the_table_has_each_kind_of_condition_and_each_kind_of_event() -> None:
    assert {type(each) for each in TABLE} == {Opening, Working, Waiting, Halted, Distrusting}
    assert all(set(row) == {OPENED, WORKED, AWAY, FULL, TAKEN, OLDER, DOUBTED, BELIEVED} for row in TABLE.values())


def test_a_trouble_that_is_said_at_each_tick_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faulty twin: what tells one trouble from another is its words, and so each client's words are news."""
    monkeypatch.setattr(conditions, "_trouble", str)
    with pytest.raises(AssertionError):
        test_what_follows_is_what_the_table_says(BROKERS)


def test_a_first_opening_that_waits_for_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faulty twin: it would wait for a mistyped address without end."""
    monkeypatch.setattr(conditions, "_failed", lambda _condition, _error, _now: (BROKERS, None))
    with pytest.raises(pytest.fail.Exception):
        test_what_follows_is_what_the_table_says(OPENING)


@pytest.mark.parametrize(
    "wanted, error",
    [
        (BROKERS, LogUnavailable("x")),
        (BROKERS, LedgerUnavailable("x")),
        (DISK, StateUnwritable("x")),
        (DISK, LedgerUnwritable("x")),
        (DISK, LogUnwritable("x")),
        (DISK, PublicationUnwritable("x")),
        (DISK, FolderUnwritable("x")),
        (Waiting("x"), StateHeld("x", "y")),
        (HALTED, LedgerBroken("x")),
        (HALTED, LedgerBehind("x")),
    ],
)
def test_each_error_that_can_be_mended_has_its_condition(wanted: Condition, error: QuietcountError) -> None:
    assert isinstance(error, MENDABLE)
    assert after(WORKING, Failed(error), NOON) == Step(wanted, after(WORKING, Failed(error), NOON).said)


def test_another_releaser_is_nothing_to_wait_for() -> None:
    assert not isinstance(LedgerFenced("x"), MENDABLE)


KNOWN = Status(tick=NOON, state_open=True, broker_reachable=True, ledger_verified=True, ledger_entries=7)
WRONG = replace(KNOWN, broker_reachable=False, ledger_verified=False)
UNKNOWN = replace(KNOWN, broker_reachable=None, ledger_verified=None)


@pytest.mark.parametrize(
    "condition, before, facts",
    [  # open, clock trusted, brokers reachable, ledger verified
        (BROKERS, KNOWN, (False, True, False, True)),
        (BROKERS, WRONG, (False, True, False, None)),
        (DISK, KNOWN, (False, True, True, True)),
        (DISK, WRONG, (False, True, None, None)),
        (HALTED, KNOWN, (False, True, True, False)),
        (HALTED, WRONG, (False, True, None, False)),
        (OPENING, UNKNOWN, (True, True, None, None)),
        (LATER(OPENING), UNKNOWN, (True, False, None, None)),
        (LATER(WORKING), KNOWN, (True, False, True, True)),
        (LATER(BROKERS), WRONG, (False, False, False, None)),
        (LATER(HALTED), WRONG, (False, False, None, False)),
    ],
)
def test_what_a_condition_prevents_from_being_looked_at_is_not_known(
    condition: Condition, before: Status, facts: tuple[bool | None, ...]
) -> None:
    status = shown(condition, before)
    assert (status.state_open, status.clock_trusted, status.broker_reachable, status.ledger_verified) == facts
    assert status.ledger_entries == 7
    assert shown(condition, status) == status, "a second tick in the same condition shows the same"


@pytest.mark.parametrize("condition", TABLE, ids=repr)
def test_what_a_condition_is_called_for_people_has_no_number_in_it(condition: Condition) -> None:
    assert condition.summary
    assert not any(each.isdigit() for each in condition.summary)
