"""The privacy core of quietcount: populations, fold, state, noise, ledger, release and publication."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quietcount_schemas.lazy_names import names_of

if TYPE_CHECKING:
    from quietcount_aggregates.catalogue import AskedTable, resolve
    from quietcount_aggregates.counting.fold import Fold
    from quietcount_aggregates.due_periods import DuePeriod, due_periods
    from quietcount_aggregates.errors import AggregatesError
    from quietcount_aggregates.ledger.chain import Budget, Chain
    from quietcount_aggregates.ledger.entries import Head
    from quietcount_aggregates.ledger.ledger import Ledger
    from quietcount_aggregates.losses import record_loss
    from quietcount_aggregates.noise import DiscreteLaplace, NoiseMechanism
    from quietcount_aggregates.populations import Horizon, Late, Population, Table
    from quietcount_aggregates.publication.publication import publish, published_head
    from quietcount_aggregates.release import Releaser, Step
    from quietcount_aggregates.state.marks import ConsumerSecret, YearSecrets
    from quietcount_aggregates.state.state import State

__all__ = [
    "AggregatesError",
    "AskedTable",
    "Budget",
    "Chain",
    "ConsumerSecret",
    "DiscreteLaplace",
    "DuePeriod",
    "Fold",
    "Head",
    "Horizon",
    "Late",
    "Ledger",
    "NoiseMechanism",
    "Population",
    "Releaser",
    "State",
    "Step",
    "Table",
    "YearSecrets",
    "due_periods",
    "publish",
    "published_head",
    "record_loss",
    "resolve",
]

if not TYPE_CHECKING:  # to a type checker it would say that every name is there
    __getattr__ = names_of(
        __name__,
        {
            "ledger.entries": "Head",
            "errors": "AggregatesError",
            "counting.fold": "Fold",
            "ledger.chain": "Budget Chain",
            "ledger.ledger": "Ledger",
            "losses": "record_loss",
            "state.marks": "ConsumerSecret YearSecrets",
            "noise": "DiscreteLaplace NoiseMechanism",
            "publication.publication": "publish published_head",
            "due_periods": "DuePeriod due_periods",
            "release": "Releaser Step",
            "state.state": "State",
            "catalogue": "AskedTable resolve",
            "populations": "Horizon Late Population Table",
        },
    )
