"""What an operator does to a ledger on purpose: end a statistic, or record that the private state is lost."""

from __future__ import annotations

import contextlib
import datetime as dt

from quietcount_aggregates.entries import Retired
from quietcount_aggregates.errors import StatisticError
from quietcount_aggregates.ledger import Ledger
from quietcount_aggregates.publication import bound_sentence, publish, published_head
from quietcount_aggregates.release import record_loss
from quietcount_aggregates.state import State

from .configuration import Configuration
from .service import open_ledger

__all__ = ["record_state_loss", "retire_statistic"]


def retire_statistic(configuration: Configuration, name: str, now: dt.datetime) -> None:
    """Append the retirement of a declared statistic to the ledger, and publish it."""
    # Opening the state before the fence refuses while a service runs, which would be fenced in the middle of its work.
    with (
        contextlib.closing(open_ledger(configuration, create=False)) as log,
        State(configuration.private_dir / "state.duckdb") as state,
    ):
        ledger = _newest(Ledger(log), state, configuration)
        if name not in ledger.chain.declarations:
            known = ", ".join(ledger.chain.declarations) or "none"
            raise StatisticError(f"no statistic {name!r} is declared; declared are: {known}")
        if name in ledger.chain.retired:
            raise StatisticError(f"statistic {name!r} is retired already")
        ledger.append([Retired(name)], now)
        publish(ledger.chain, configuration.public_file)


def record_state_loss(configuration: Configuration, now: dt.datetime) -> str:
    """Record the loss in the ledger, start the state anew, and return the sentence of the raised bound.

    The ledger must hold all that was published: a loss of the ledger cannot be recorded in an older copy of it.
    """
    with (
        contextlib.closing(open_ledger(configuration, create=False)) as log,
        State(configuration.private_dir / "state.duckdb") as state,
    ):
        ledger = _newest(Ledger(log), state, configuration)
        record_loss(ledger, now)
        state.begin_anew(ledger.chain.first_open)
        publish(ledger.chain, configuration.public_file)
        return bound_sentence(ledger.chain)


def _newest(ledger: Ledger, state: State, configuration: Configuration) -> Ledger:
    """Fence the ledger and refuse an older copy: what is appended to that would be lost, or fork the chain."""
    ledger.fence()
    head = published_head(configuration.public_file)
    if head is not None:
        ledger.check_not_behind(head, configuration.public_file.name)
    ledger.check_not_behind(state.head, state.path.name)
    return ledger
