"""The errors of the service.

ConsumersError (a QuietcountError)
├── ConfigurationError    the configuration cannot be used as it is written
└── ServiceError          the service cannot go on
"""

from __future__ import annotations

from quietcount_schemas.errors import QuietcountError

__all__ = ["ConfigurationError", "ConsumersError", "ServiceError"]


class ConsumersError(QuietcountError):
    """The root of the errors of quietcount_consumers."""


class ConfigurationError(ConsumersError):
    """The configuration cannot be used as it is written; the message names the file and the key."""


class ServiceError(ConsumersError):
    """The service cannot go on; nothing is half done."""
