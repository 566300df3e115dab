"""Settlements in the ledger: which tables are released together, and what a lost state withholds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
from tests.aggregates_world import MemoryLedger
from tests.unit.aggregates.ledger.ledgers import (
    END,
    NOW,
    ONE,
    QUARTERS,
    SINCE,
    of,
    opened,
    read,
    release,
    release_of,
    settlement,
)

from quietcount_aggregates.catalogue import AskedTable
from quietcount_aggregates.errors import LedgerBroken
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Entry, Released, Retired, Settled, StateLost
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.populations import Population

pytestmark = pytest.mark.quick

TWO = Decimal(2)
FEBRUARY, MARCH, APRIL, MAY, JULY = (dt.date(2024, month, 1) for month in (2, 3, 4, 5, 7))


def population() -> Population:
    """Two monthly tables and a quarterly one."""
    second = AskedTable("by_colour", 0.25, by=["colour"])
    return of("asked", 0.5, coarser=(second, *QUARTERS))


ASKED = population()
MONTHLY, BY_COLOUR, QUARTERLY = ASKED.tables


def declared(months: Sequence[int] = (), log: MemoryLedger | None = None) -> Ledger:
    """Return a ledger in which the population is declared and so many months of 2024 are settled."""
    ledger = opened(log, "2")
    ledger.declare([ASKED], TWO, NOW, end=END)
    for month in months:
        ledger.append(settlement(ASKED, month), NOW)
    return ledger


def refused(ledger: Ledger, *bodies: Released) -> str:
    """Return why the ledger does not take the entries; it must be as before."""
    before = ledger.chain.head
    with pytest.raises(LedgerBroken) as error:
        ledger.append(bodies, NOW)
    assert ledger.chain.head == before
    return str(error.value)


# ---------------------------------------------------------------- settling


def test_a_settlement_is_what_ends_with_the_period() -> None:
    assert [body.statistic for body in settlement(ASKED, 2)] == ["asked", "by_colour"]
    assert [body.statistic for body in settlement(ASKED, 3)] == ["asked", "by_colour", "quarterly"]
    chain = declared([1, 2]).chain
    assert chain.first_open == {"asked": MARCH}
    assert chain.following == {"asked": MARCH, "by_colour": MARCH, "quarterly": SINCE}
    chain = declared([1, 2, 3]).chain
    assert chain.first_open == {"asked": APRIL}
    assert set(chain.following.values()) == {APRIL}
    assert chain.withheld == {}


@pytest.mark.promise("closed-for-ever")
@pytest.mark.parametrize("months", [(), (1,), (1, 2)])
def test_a_coarser_table_is_not_released_before_its_period_is_settled(months: Sequence[int]) -> None:
    says = refused(declared(months), release_of(ASKED, QUARTERLY, SINCE))
    assert "statistic 'quarterly' is released for a period of which a part is not settled" in says


def test_a_coarser_table_is_not_released_before_the_month_that_ends_its_period() -> None:
    month, by_colour, quarter = settlement(ASKED, 3)
    assert "a part is not settled" in refused(declared([1, 2]), quarter, month, by_colour)
    declared([1, 2]).append([month, quarter, by_colour], NOW)


@pytest.mark.parametrize(
    "month, left_out", [(1, "asked"), (1, "by_colour"), (3, "asked"), (3, "by_colour"), (3, "quarterly")]
)
def test_a_settlement_that_leaves_a_table_out_is_refused_with_the_next(month: int, left_out: str) -> None:
    ledger = declared(range(1, month))
    kept = [body for body in settlement(ASKED, month) if body.statistic != left_out]
    if left_out == "asked":  # the next period of the table itself is not its turn
        kept = [body for body in kept if body.statistic != "quarterly"]
    ledger.append(kept, NOW)
    following = [body for body in settlement(ASKED, month + 1) if body.statistic != left_out]
    assert f"statistic {left_out!r} is not released for a period that is settled" in refused(ledger, *following)
    missing = [body for body in settlement(ASKED, month) if body not in kept]
    ledger.append([*missing, *settlement(ASKED, month + 1)], NOW)
    assert ledger.chain.first_open == {"asked": dt.date(2024, month + 2, 1)}


def test_several_periods_are_settled_in_one_append() -> None:
    ledger = declared()
    ledger.append([body for month in range(1, 8) for body in settlement(ASKED, month)], NOW)
    assert ledger.chain.first_open == {"asked": dt.date(2024, 8, 1)}
    assert ledger.chain.following["quarterly"] == JULY


def test_the_release_of_a_table_names_its_own_population() -> None:
    ledger = declared()
    other = of("other", 0.25)
    ledger.declare([ASKED, other], TWO, NOW, end=END)
    january = release(other)
    for forged in (
        release(other, statistic="by_colour", values=(0, 0, 0)),
        release(ASKED, statistic="other"),
        release(ASKED, statistic="unheard"),
    ):
        assert f"population {forged.population!r} has no table {forged.statistic!r}" in refused(ledger, forged)
    assert "population 'asked' is not declared so" in refused(ledger, replace(release(other), population="asked"))
    ledger.append([january], NOW)
    assert ledger.chain.first_open == {"asked": SINCE, "other": FEBRUARY}, "each settles by itself"


def test_no_table_of_a_retired_population_is_released() -> None:
    ledger = declared([1, 2])
    ledger.append([Retired("asked")], NOW)
    for body in settlement(ASKED, 3):
        assert "population 'asked' is retired" in refused(ledger, body)


def test_a_coarser_table_begins_with_its_first_whole_period() -> None:
    late = of("asked", 0.25, coarser=QUARTERS, since=FEBRUARY)
    ledger = opened()
    ledger.declare([late], ONE, NOW, end=END)
    assert ledger.chain.following == {"asked": FEBRUARY, "quarterly": APRIL}
    for month in (2, 3):
        ledger.append([release(late, month)], NOW)
    says = refused(ledger, release_of(late, late.tables[1], SINCE))
    assert "period by period, and the next one starts on 2024-04-01" in says
    for month in (4, 5):
        ledger.append([release(late, month)], NOW)
    ledger.append(settlement(late, 6), NOW)
    assert set(ledger.chain.following.values()) == {JULY}


# ---------------------------------------------------------------- what a state knows


def test_a_quarter_is_unknown_to_a_state_that_has_its_last_month_open() -> None:
    chain = declared([1, 2, 3]).chain

    def unknown(first_open: dt.date) -> list[tuple[str, dt.date]]:
        return sorted((body.statistic, body.period_start) for body in chain.unknown_to({"asked": first_open}))

    assert unknown(APRIL) == []
    assert unknown(MARCH) == [("asked", MARCH), ("by_colour", MARCH), ("quarterly", SINCE)]
    assert ("quarterly", SINCE) in unknown(FEBRUARY)
    assert len(unknown(SINCE)) == len(chain.unknown_to({})) == 7


def test_a_settled_month_whose_quarter_is_open_is_known() -> None:
    chain = declared([1, 2]).chain
    assert chain.unknown_to({"asked": MARCH}) == []
    assert not chain.is_ahead_of({"asked": MARCH})


def test_a_ledger_is_ahead_of_a_state_that_lacks_more_than_the_newest_settlement() -> None:
    chain = declared([1, 2, 3]).chain
    assert not chain.is_ahead_of({"asked": APRIL})
    assert not chain.is_ahead_of({"asked": MARCH}), "the settlement that a crash may have cut short"
    assert chain.is_ahead_of({"asked": FEBRUARY})


def test_a_ledger_is_ahead_even_if_a_month_alone_is_of_an_older_settlement() -> None:
    ledger = declared([1, 2])
    month, by_colour, _ = settlement(ASKED, 3)
    quarter = release_of(ASKED, QUARTERLY, SINCE)
    ledger.append([Settled(), month, by_colour, Settled(), quarter], NOW)
    assert ledger.chain.is_ahead_of({"asked": MARCH})


# ---------------------------------------------------------------- a lost state


def lost(ledger: Ledger) -> Entry:
    return ledger.append([StateLost(ledger.chain.losses + 1)], NOW)[0]


@pytest.mark.promise("losses")
@pytest.mark.parametrize("months", [(1,), (1, 2)])
def test_a_lost_state_withholds_the_open_period_of_a_coarser_table_and_nothing_else(months: Sequence[int]) -> None:
    ledger = declared(months)
    before = dict(ledger.chain.following)
    loss = lost(ledger)
    assert ledger.chain.withheld == {("quarterly", SINCE): loss}
    assert ledger.chain.following == {**before, "quarterly": APRIL}
    assert ledger.chain.first_open == {"asked": dt.date(2024, len(months) + 1, 1)}, "the months go on"


@pytest.mark.parametrize("months", [(), (1, 2, 3)], ids=["nothing settled", "the quarter settled"])
def test_a_lost_state_withholds_nothing_of_which_no_part_was_settled(months: Sequence[int]) -> None:
    ledger = declared(months)
    before = dict(ledger.chain.following)
    lost(ledger)
    assert ledger.chain.withheld == {}
    assert ledger.chain.following == before


def test_a_table_that_has_not_begun_has_nothing_to_withhold() -> None:
    late = of("asked", 0.25, coarser=QUARTERS, since=FEBRUARY)
    ledger = opened()
    ledger.declare([late], ONE, NOW, end=END)
    ledger.append([release(late, 2)], NOW)
    lost(ledger)
    assert ledger.chain.withheld == {}
    assert ledger.chain.following["quarterly"] == APRIL


def test_a_lost_state_withholds_nothing_of_a_retired_population() -> None:
    ledger = declared([1])
    ledger.append([Retired("asked")], NOW)
    lost(ledger)
    assert ledger.chain.withheld == {}


@pytest.mark.promise("closed-for-ever")
def test_a_period_that_is_withheld_is_never_released() -> None:
    ledger = declared([1, 2])
    lost(ledger)
    month, by_colour, quarter = settlement(ASKED, 3)
    says = refused(ledger, month, by_colour, quarter)
    assert "statistic 'quarterly' is released period by period, and the next one starts on 2024-04-01" in says
    ledger.append([month, by_colour], NOW)
    assert "the next one starts on 2024-04-01" in refused(ledger, quarter)
    for settled in (4, 5):
        ledger.append(settlement(ASKED, settled), NOW)
    assert "the next one starts on 2024-04-01" in refused(ledger, quarter)
    ledger.append(settlement(ASKED, 6), NOW)
    assert ("quarterly", SINCE) not in ledger.chain.releases
    assert ("quarterly", APRIL) in ledger.chain.releases


def test_each_loss_withholds_what_is_open_then_and_once() -> None:
    ledger = declared([1])
    first = lost(ledger)
    second = lost(ledger)
    assert second != first
    assert ledger.chain.withheld == {("quarterly", SINCE): first}
    for month in (2, 3):
        ledger.append([body for body in settlement(ASKED, month) if body.statistic != "quarterly"], NOW)
    lost(ledger)
    assert ledger.chain.withheld == {("quarterly", SINCE): first}, "of the next quarter nothing is settled"
    ledger.append(settlement(ASKED, 4), NOW)
    fourth = lost(ledger)
    assert ledger.chain.withheld == {("quarterly", SINCE): first, ("quarterly", APRIL): fourth}
    assert ledger.chain.following["quarterly"] == JULY


def test_what_is_withheld_is_read_back_from_the_entries() -> None:
    log = MemoryLedger()
    ledger = declared([1, 2], log)
    lost(ledger)
    chain: Chain = read(log.entries)
    assert chain.withheld == ledger.chain.withheld
    assert chain.following == ledger.chain.following
