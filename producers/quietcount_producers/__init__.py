"""The emitters' side of quietcount: pseudonymise, coarsen, publish.

A service makes a `CaseEventPublisher`; a person runs `quietcount emit`. Both write to a log: the `EmbeddedLog` here, or
Kafka through a `KafkaWriter`. `quietcount_producers.testing` has a publisher for the tests of a service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quietcount_schemas.lazy_names import names_of

if TYPE_CHECKING:
    from quietcount_producers.composing.composition import Composer, Facts, Precision
    from quietcount_producers.composing.pseudonyms import Pepper
    from quietcount_producers.embedded.embedded_log import EmbeddedLog
    from quietcount_producers.errors import (
        EventRefused,
        LogError,
        LogUnavailable,
        LogUnwritable,
        ProducersError,
        PublisherClosed,
        PublisherFull,
    )
    from quietcount_producers.kafka.settings import KafkaSettings
    from quietcount_producers.kafka.writer import KafkaWriter
    from quietcount_producers.publisher import CaseEventPublisher
    from quietcount_producers.settings import EmitterSettings, open_log
    from quietcount_producers.simulation import Mix, Tally, simulate
    from quietcount_producers.spool.event_spool import EventSpool, SpoolState
    from quietcount_schemas.errors import QuietcountError, SchemasError, Unavailable
    from quietcount_schemas.events.oddity import Oddity
    from quietcount_schemas.events.periods import Period
    from quietcount_schemas.log import LogWriter, NewRecord, Position
    from quietcount_schemas.registry import SchemaRegistry

__all__ = [
    "CaseEventPublisher",
    "Composer",
    "EmbeddedLog",
    "EmitterSettings",
    "EventRefused",
    "EventSpool",
    "Facts",
    "KafkaSettings",
    "KafkaWriter",
    "LogError",
    "LogUnavailable",
    "LogUnwritable",
    "LogWriter",
    "Mix",
    "NewRecord",
    "Oddity",
    "Pepper",
    "Period",
    "Position",
    "Precision",
    "ProducersError",
    "PublisherClosed",
    "PublisherFull",
    "QuietcountError",
    "SchemaRegistry",
    "SchemasError",
    "SpoolState",
    "Tally",
    "Unavailable",
    "open_log",
    "simulate",
]

if not TYPE_CHECKING:  # to a type checker it would say that every name is there
    _OURS = names_of(
        __name__,
        {
            "composing.composition": "Composer Facts Precision",
            "embedded.embedded_log": "EmbeddedLog",
            "errors": "EventRefused LogError LogUnavailable LogUnwritable ProducersError PublisherClosed PublisherFull",
            "kafka.settings": "KafkaSettings",
            "kafka.writer": "KafkaWriter",
            "composing.pseudonyms": "Pepper",
            "publisher": "CaseEventPublisher",
            "settings": "EmitterSettings open_log",
            "simulation": "Mix Tally simulate",
            "spool.event_spool": "EventSpool SpoolState",
        },
    )
    _CONTRACT = {
        "errors": "QuietcountError SchemasError Unavailable",
        "log": "LogWriter NewRecord Position",
        "events.oddity": "Oddity",
        "events.periods": "Period",
        "registry": "SchemaRegistry",
    }
    _THEIRS = names_of("quietcount_schemas", _CONTRACT)

    def __getattr__(name: str) -> object:
        return (_THEIRS if name in " ".join(_CONTRACT.values()).split() else _OURS)(name)
