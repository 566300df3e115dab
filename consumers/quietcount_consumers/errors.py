"""The errors of the service.

ConsumersError (a QuietcountError)
├── ConfigurationError    the configuration cannot be used as it is written
├── ServiceError          the service cannot go on
│   ├── ClockBehind       the clock stands before the newest entry of the ledger
│   ├── FolderUnwritable  the data folder cannot be written (also an Unavailable)
│   └── WitnessesAway     too few witnesses vouch for the ledger, or a copy cannot be read (also an Unavailable)
└── WitnessError          a witness cannot do what it is asked
    ├── WitnessHeld       another process has its memory now (also an Unavailable)
    └── WitnessRefused    it does not sign what it is shown
"""

from __future__ import annotations

from typing import Final

from quietcount_schemas.errors import QuietcountError, Unavailable

__all__ = [
    "ASK_AGAIN",
    "ClockBehind",
    "ConfigurationError",
    "ConsumersError",
    "FolderUnwritable",
    "ServiceError",
    "WitnessError",
    "WitnessHeld",
    "WitnessRefused",
    "WitnessesAway",
]

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


class WitnessesAway(ServiceError, Unavailable):
    """Too few witnesses vouch for the ledger now, or a published copy cannot be compared; nothing was drawn."""


class WitnessError(ConsumersError):
    """A witness, what it keeps, or what it is shown is not in order."""


class WitnessHeld(WitnessError, Unavailable):
    """Another process of the same witness holds its memory."""


class WitnessRefused(WitnessError):
    """A witness does not sign what it is shown, and remembers nothing of it.

    `status` is the answer over HTTP (c2sp.org/tlog-witness), and `length` how many entries the witness has.
    """

    def __init__(self, status: int, what: str, remedy: str, *, length: int = 0) -> None:
        super().__init__(what, remedy)
        self.status = status
        self.length = length
