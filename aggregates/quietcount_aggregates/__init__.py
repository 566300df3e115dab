"""The privacy core of quietcount: statistics, fold, state, noise, ledger, release and publication."""

from __future__ import annotations

from .entries import Head
from .errors import AggregatesError
from .fold import Fold
from .ledger import Budget, Chain, Ledger
from .marks import ConsumerSecret, YearSecrets
from .noise import DiscreteLaplace, NoiseMechanism
from .publication import publish, published_head
from .release import DuePeriod, Releaser, Step, due_periods, record_loss
from .state import State
from .statistics import Horizon, Late, Statistic, resolve

__all__ = [
    "AggregatesError",
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
    "Releaser",
    "State",
    "Statistic",
    "Step",
    "YearSecrets",
    "due_periods",
    "publish",
    "published_head",
    "record_loss",
    "resolve",
]
