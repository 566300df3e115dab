"""The service of quietcount: configuration, ticks, and the commands that release and query."""

from __future__ import annotations

from quietcount_consumers.configuration import Configuration
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_consumers.errors import ConfigurationError, ConsumersError, ServiceError
from quietcount_consumers.service import Service, Tick

__all__ = ["Configuration", "ConfigurationError", "ConsumersError", "EmbeddedLedger", "Service", "ServiceError", "Tick"]
