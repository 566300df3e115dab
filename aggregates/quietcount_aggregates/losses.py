"""Losses of the private state: how the ledger records one, where a state begins again, and when it is out of place."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Declared, Settled, StateLost
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.state.state import State

__all__ = ["begin_anew", "bound_after_loss", "is_out_of_place", "record_loss"]


def is_out_of_place(ledger: Ledger, state: State) -> bool:
    """Return whether a state that is to finish the newest settlement has not folded exactly what that counted.

    Nothing is known of a place in another log than the state's, nor of one that the private log does not have.
    """
    if not ledger.chain.unknown_to(state.first_open):
        return False
    point = ledger.settled_at
    return point is not None and point.topic_id == state["topic_id"] and point.offsets != state.offsets


def record_loss(ledger: Ledger, now: dt.datetime, *, kept: bool = False) -> int:
    """Record in the fenced ledger that the private state is lost; return how often that has happened.

    A loss that nothing was released after is recorded already: asking again, after a crash, adds none. That does not
    hold if the state is `kept` and the emitters' pepper alone is lost: what is open under that pepper still counts, so
    each loss of a pepper lets a person count once more.
    """
    if kept or not _is_recorded(ledger.chain):
        ledger.append([StateLost(ledger.chain.losses + 1, kept)], now)
    return ledger.chain.losses


def begin_anew(state: State, ledger: Ledger, beginnings: Mapping[int, int], end: LogPoint) -> None:
    """Let a state begin again after a recorded loss, from the places in the fenced ledger.

    The log begins at `beginnings` and ends at `end`. It is folded from the newest settlement on, even if more of it is
    left: what a log can or cannot forget must change nothing. If the place of that is not known, or lies in another
    log, it is folded from its beginning. A declaration of which that holds is taken to be at that settlement if it is
    older, and else at the end.
    """

    def place_of(point: LogPoint | None) -> dict[int, int] | None:
        if point is None or point.topic_id != end.topic_id:
            return None
        # A log that lost its end holds nothing behind it that was appended before.
        return {partition: min(point.offsets.get(partition, 0), offset) for partition, offset in end.offsets.items()}

    chain, settled, ends = ledger.chain, place_of(ledger.settled_at), dict(end.offsets)
    older = _declared_before_settlement(chain) if settled else set()
    state.begin_anew(
        chain.first_open,
        end.topic_id,
        {partition: max((settled or {}).get(partition, 0), offset) for partition, offset in beginnings.items()},
        {
            name: place_of(ledger.declared_at(name)) or (settled if settled and name in older else ends)
            for name in chain.later
        },
    )


def bound_after_loss(chain: Chain, *, kept: bool = False) -> Decimal:
    """Return the stated bound once a loss is recorded: higher by the lifetime epsilon, if `record_loss` adds one."""
    return chain.budget.bound + (0 if not kept and _is_recorded(chain) else chain.budget.lifetime_epsilon)


def _declared_before_settlement(chain: Chain) -> set[str]:
    """Return the populations that were declared before the newest settlement."""
    newest = max((entry.index for entry in chain.entries if isinstance(entry.body, Settled)), default=0)
    return {entry.body.population.name for entry in chain.entries[:newest] if isinstance(entry.body, Declared)}


def _is_recorded(chain: Chain) -> bool:
    newest = chain.entries[-1].body if chain.entries else None
    return isinstance(newest, StateLost) and not newest.kept
