"""The service of quietcount: configuration, ticks, and the commands that release and query."""

from __future__ import annotations

from .configuration import Configuration
from .embedded_ledger import EmbeddedLedger
from .errors import ConfigurationError, ConsumersError, ServiceError
from .service import Service, Tick

__all__ = ["Configuration", "ConfigurationError", "ConsumersError", "EmbeddedLedger", "Service", "ServiceError", "Tick"]
