"""The service of quietcount: configuration, ticks, and the commands that release and query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quietcount_schemas.lazy_names import names_of

if TYPE_CHECKING:
    from quietcount_consumers.configuration import Configuration
    from quietcount_consumers.embedded_ledger import EmbeddedLedger
    from quietcount_consumers.errors import ConfigurationError, ConsumersError, ServiceError
    from quietcount_consumers.service import Service, Tick

__all__ = ["Configuration", "ConfigurationError", "ConsumersError", "EmbeddedLedger", "Service", "ServiceError", "Tick"]

if not TYPE_CHECKING:  # to a type checker it would say that every name is there
    __getattr__ = names_of(
        __name__,
        {
            "configuration": "Configuration",
            "embedded_ledger": "EmbeddedLedger",
            "errors": "ConfigurationError ConsumersError ServiceError",
            "service": "Service Tick",
        },
    )
