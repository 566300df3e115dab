"""The service of quietcount: configuration, ticks, and the commands that release and query."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quietcount_consumers.configuration import Configuration
    from quietcount_consumers.embedded_ledger import EmbeddedLedger
    from quietcount_consumers.errors import ConfigurationError, ConsumersError, ServiceError
    from quietcount_consumers.service import Service, Tick

__all__ = ["Configuration", "ConfigurationError", "ConsumersError", "EmbeddedLedger", "Service", "ServiceError", "Tick"]

_MODULES = {
    "Configuration": "configuration",
    "ConfigurationError": "errors",
    "ConsumersError": "errors",
    "EmbeddedLedger": "embedded_ledger",
    "Service": "service",
    "ServiceError": "errors",
    "Tick": "service",
}


def __getattr__(name: str) -> Any:
    # The process that serves metrics is part of this package and must not load DuckDB.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
