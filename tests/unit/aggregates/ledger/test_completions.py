"""Populations that come later: which wait for their past, and what the ledger lets happen meanwhile."""

from __future__ import annotations

import datetime as dt

import pytest
from tests.aggregates_world import MemoryLedger
from tests.unit.aggregates.ledger.ledgers import END, NOW, ONE, SINCE, TrialLedger, of, opened, read, release

from quietcount_aggregates.errors import LedgerBroken
from quietcount_aggregates.ledger.entries import Completed, Declared, Entry, Opened, Retired

pytestmark = [pytest.mark.quick, pytest.mark.promise("ledger-chain")]

LATER = dt.datetime.combine(SINCE, dt.time(10), dt.UTC)
"""A moment of the first day that the populations count."""


def test_what_the_ledger_is_opened_with_counts_the_whole_log_and_waits_for_nothing() -> None:
    ledger = TrialLedger(MemoryLedger())
    ledger.fence()
    ledger.declare([of("one"), of("two", 0.25)], ONE, LATER, end=END)
    assert (ledger.chain.later, ledger.chain.incomplete) == (set(), set())
    ledger.append([release(of("one"))], LATER)


@pytest.mark.parametrize("moment, waits", [(NOW, False), (LATER, True)], ids=["before it begins", "as it begins"])
def test_a_later_population_waits_if_it_begins_before_its_declaration_is_over(moment: dt.datetime, waits: bool) -> None:
    ledger = opened()
    ledger.declare([of("one")], ONE, moment, end=END)
    assert ledger.chain.later == {"one"}
    assert ledger.chain.incomplete == ({"one"} if waits else set())


def test_nothing_of_a_population_is_released_before_its_past_is_complete() -> None:
    log = MemoryLedger()
    ledger = opened(log)
    ledger.declare([of("one")], ONE, LATER, end=END)
    with pytest.raises(LedgerBroken, match="the past of population 'one' is not complete"):
        ledger.append([release(of("one"))], LATER)
    ledger.append([Completed("one")], LATER)
    ledger.append([release(of("one"))], LATER)
    assert read(log.entries).incomplete == set()


def test_a_population_that_is_retired_waits_no_more() -> None:
    ledger = opened()
    ledger.declare([of("one")], ONE, LATER, end=END)
    ledger.append([Retired("one")], LATER)
    assert ledger.chain.incomplete == set()


@pytest.mark.parametrize("name", ["none", "early"])
def test_only_a_population_that_waits_is_completed(name: str) -> None:
    ledger = opened()
    ledger.declare([of("early")], ONE, NOW, end=END)
    with pytest.raises(LedgerBroken, match=f"no population '{name}' is there that waits for its past"):
        ledger.append([Completed(name)], LATER)


def test_no_later_population_is_passed_off_as_one_that_the_ledger_was_opened_with() -> None:
    log = MemoryLedger()
    ledger = opened(log)
    ledger.declare([of("one", 0.25)], ONE, NOW, end=END)
    ledger.append([Retired("one")], NOW)
    head = ledger.chain.head
    late = Entry.make(head.length, head.digest, LATER, Declared(of("two", 0.25), whole_log=True))
    with pytest.raises(LedgerBroken, match="the ledger was not opened with population 'two'"):
        read([*log.entries, late.data])
    assert isinstance(ledger.chain.entries[0].body, Opened)
