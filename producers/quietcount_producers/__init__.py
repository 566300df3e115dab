"""The emitters' side of quietcount: pseudonymise, coarsen, publish.

A service makes a `CaseEventPublisher`; a person runs `quietcount emit`. Both write to a log: the `EmbeddedLog` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quietcount_schemas.lazy_names import names_of

if TYPE_CHECKING:
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

if not TYPE_CHECKING:  # to a type checker it would say that every name is there
    __getattr__ = names_of(
        __name__,
        {
            "composition": "Composer",
            "embedded_log": "EmbeddedLog",
            "errors": "EventRefused LogError ProducersError PublisherClosed",
            "pseudonyms": "Pepper",
            "publisher": "CaseEventPublisher",
            "settings": "EmitterSettings open_log",
            "simulation": "Mix Tally simulate",
            "spool.event_spool": "EventSpool SpoolState",
        },
    )
