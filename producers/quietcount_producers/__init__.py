"""The emitters' side of quietcount: pseudonymise, coarsen, publish.

A service makes a `CaseEventPublisher`; a person runs `quietcount emit`. Both write to a log: the `EmbeddedLog` here.
"""

from __future__ import annotations

from quietcount_producers.composition import Composer
from quietcount_producers.embedded_log import EmbeddedLog
from quietcount_producers.errors import EventRefused, LogError, ProducersError, PublisherClosed
from quietcount_producers.pseudonyms import Pepper
from quietcount_producers.publisher import CaseEventPublisher
from quietcount_producers.settings import EmitterSettings, open_log
from quietcount_producers.simulation import Mix, Tally, simulate
from quietcount_producers.spool.event_spool import EventSpool, SpoolState

__all__ = [
    "CaseEventPublisher",
    "Composer",
    "EmbeddedLog",
    "EmitterSettings",
    "EventRefused",
    "EventSpool",
    "LogError",
    "Mix",
    "Pepper",
    "ProducersError",
    "PublisherClosed",
    "SpoolState",
    "Tally",
    "open_log",
    "simulate",
]
