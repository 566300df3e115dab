"""Losses of the private state: how the ledger records one, where a state begins again, and when it is out of place."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal

from quietcount_aggregates.ledger.chain import Chain, worst_of
from quietcount_aggregates.ledger.entries import Declared, Settled, StateLost
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.state.state import State

__all__ = ["begin_anew", "bound_after_losses", "is_out_of_place", "record_loss"]


def is_out_of_place(ledger: Ledger, state: State) -> bool:
    """Return whether a state that is to finish the newest settlement has not folded what that counts.

    So it is if the place of that is not known, or lies in another log than the state's.
    """
    if not ledger.chain.unknown_to(state.first_open):
        return False
    settled = ledger.settled
    if settled is None or settled.point.topic_id != state["topic_id"]:
        return True
    return state.offsets.get(state.partition, 0) < settled.point.offsets.get(state.partition, 0)


def record_loss(ledger: Ledger, now: dt.datetime, partition: int | None = None, *, kept: bool = False) -> int:
    """Record in the fenced ledger that the state of a partition, or of each, is lost; return how many losses there are.

    A loss that nothing was released after is recorded already: asking again, after a crash, adds none. That does not
    hold if the state is `kept` and the emitters' pepper alone is lost: what is open under that pepper still counts, so
    each loss of a pepper lets a person count once more.
    """
    if kept or not _is_recorded(ledger.chain, partition):
        ledger.append([StateLost(ledger.chain.losses + 1, partition, kept)], now)
    return ledger.chain.losses


def begin_anew(state: State, ledger: Ledger, beginnings: Mapping[int, int], end: LogPoint) -> None:
    """Let a state begin again after a recorded loss, from the places in the fenced ledger.

    The log begins at `beginnings` and ends at `end`. The state's partition is folded from the newest settlement on,
    even if more of it is left: what a log can or cannot forget must change nothing. If the place of that is not known,
    or lies in another log, it is folded from its beginning. A declaration of which that holds is taken to be at that
    settlement if it is older, and else at the end.
    """

    def place_of(point: LogPoint | None) -> dict[int, int] | None:
        if point is None or point.topic_id != end.topic_id:
            return None
        # A log that lost its end holds nothing behind it that was appended before.
        return {state.partition: min(point.offsets.get(state.partition, 0), end.offsets[state.partition])}

    chain, settled = ledger.chain, place_of(ledger.settled_at)
    ends = {state.partition: end.offsets[state.partition]}
    older = _declared_before_settlement(chain) if settled else set()
    state.begin_anew(
        chain.first_open,
        end.topic_id,
        {state.partition: max((settled or {}).get(state.partition, 0), beginnings[state.partition])},
        {
            name: place_of(ledger.declared_at(name)) or (settled if settled and name in older else ends)
            for name in chain.later
        },
    )


def bound_after_losses(chain: Chain, partitions: Iterable[int | None], *, kept: bool = False) -> Decimal:
    """Return the stated bound once the losses of these partitions are recorded; None is that of each.

    Under one pepper a person is in one partition, so it rises by one lifetime epsilon at most, and only for a partition
    that was lost as often as any other since the newest loss of a pepper.
    """
    if kept:
        return chain.budget.lifetime_epsilon * (2 + chain.worst)
    lost = dict(chain.lost)
    for partition in partitions:
        if not _is_recorded(chain, partition):
            lost[partition] = lost.get(partition, 0) + 1
    return chain.budget.lifetime_epsilon * (1 + chain.earlier + worst_of(lost))


def _declared_before_settlement(chain: Chain) -> set[str]:
    """Return the populations that were declared before the newest settlement."""
    newest = max((entry.index for entry in chain.entries if isinstance(entry.body, Settled)), default=0)
    return {entry.body.population.name for entry in chain.entries[:newest] if isinstance(entry.body, Declared)}


def _is_recorded(chain: Chain, partition: int | None) -> bool:
    """Return whether the newest entries of the ledger record the loss of a partition's state, or of each."""
    recorded: set[int | None] = set()
    for entry in reversed(chain.entries):
        if not isinstance(entry.body, StateLost) or entry.body.kept:
            break
        recorded.add(entry.body.partition)
    return recorded >= {None} or recorded >= (set(range(chain.opened.partitions)) if partition is None else {partition})
