"""The errors of the service.

ConsumersError (a QuietcountError)
├── ConfigurationError    the configuration cannot be used as it is written
└── ServiceError          the service cannot go on
    ├── ClockBehind       the clock stands before the newest entry of the ledger
    └── FolderUnwritable  the data folder cannot be written (also an Unavailable)
"""

from __future__ import annotations

from typing import Final

from quietcount_schemas.errors import QuietcountError, Unavailable

__all__ = ["ASK_AGAIN", "ClockBehind", "ConfigurationError", "ConsumersError", "FolderUnwritable", "ServiceError"]

ASK_AGAIN: Final = (
    "A running service asks again at its next tick. If that does not help, check that every broker of the cluster runs"
)
"""The remedy if brokers do not know yet, or do not send, what must be there."""


class ConsumersError(QuietcountError):
    """The root of the errors of quietcount_consumers."""


class ConfigurationError(ConsumersError):
    """The configuration cannot be used as it is written; the message names the file and the key."""


class ServiceError(ConsumersError):
    """The service cannot go on; nothing is half done."""


class ClockBehind(ServiceError):
    """The clock stands before the newest entry of the ledger; nothing was declared, folded or released."""


class FolderUnwritable(ServiceError, Unavailable):
    """The data folder, or a file in it, cannot be written now."""
