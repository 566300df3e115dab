"""The contract of quietcount: event schemas that cannot carry a name, and the strict codec of their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quietcount_schemas.lazy_names import names_of

if TYPE_CHECKING:
    from quietcount_schemas.codec import MAX_EVENT_BYTES, CaseEvent, Codec
    from quietcount_schemas.configuration import GivenConfiguration, read_configuration
    from quietcount_schemas.errors import QuietcountError, SchemasError
    from quietcount_schemas.events.event_types import EventType, Field, FieldKind, Role, SchemaVersion
    from quietcount_schemas.events.periods import Period
    from quietcount_schemas.framing import FramingReader
    from quietcount_schemas.registry import SchemaRegistry
    from quietcount_schemas.rejection import Rejected, RejectReason

__all__ = [
    "MAX_EVENT_BYTES",
    "CaseEvent",
    "Codec",
    "EventType",
    "Field",
    "FieldKind",
    "FramingReader",
    "GivenConfiguration",
    "Period",
    "QuietcountError",
    "RejectReason",
    "Rejected",
    "Role",
    "SchemaRegistry",
    "SchemaVersion",
    "SchemasError",
    "read_configuration",
]

if not TYPE_CHECKING:  # to a type checker it would say that every name is there
    __getattr__ = names_of(
        __name__,
        {
            "codec": "MAX_EVENT_BYTES CaseEvent Codec",
            "configuration": "GivenConfiguration read_configuration",
            "errors": "QuietcountError SchemasError",
            "events.event_types": "EventType Field FieldKind Role SchemaVersion",
            "framing": "FramingReader",
            "events.periods": "Period",
            "registry": "SchemaRegistry",
            "rejection": "Rejected RejectReason",
        },
    )
