"""The errors of the privacy core.

AggregatesError (a QuietcountError)
├── PopulationError       a population that cannot be declared as it is written
├── BudgetError           a declaration that would pass the lifetime epsilon
├── NoiseError            a draw whose privacy map does not hold
├── StateError            state-0.duckdb cannot be used
│   ├── StateDamaged      the file is damaged, or no state at all
│   ├── StateDefect       DuckDB refused a statement of ours: the state is sound (also a Defect)
│   ├── StateUnwritable   the file cannot be written now: the disk is full (also an Unavailable)
│   ├── StateHeld         another process has it (also an Unavailable)
│   ├── StateBehind       the ledger has releases that this state does not know
│   └── SumsMissing       not every partition has handed over what it counted
├── LedgerError           the ledger cannot be used
│   ├── LedgerBroken      an entry does not follow from the one before
│   ├── LedgerBehind      the ledger is older than what was published from it
│   ├── LedgerMissing     there is none where one was to be read
│   ├── LedgerNewer       an entry was written by a newer version
│   ├── LedgerFenced      another releaser has taken over
│   ├── LedgerUnwritable  its file, its witness or its signing key cannot be written now (also an Unavailable)
│   ├── LedgerUnavailable the ledger did not answer (also an Unavailable)
│   ├── SigningKeyError   the signing key cannot be used, or belongs to another ledger
│   │   └── KeyMissing    it is not there
│   └── NoteError         a signed note, or a verifier key, that is none or does not hold
└── PublicationError      statistics.duckdb cannot be written or read
    ├── PublicationDefect      DuckDB refused a statement of ours, or laid the file out anew (also a Defect)
    ├── PublicationHeld        it cannot be read now (also an Unavailable)
    └── PublicationUnwritable  it cannot be written now (also an Unavailable)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from quietcount_schemas.defects import Defect
from quietcount_schemas.errors import QuietcountError, Unavailable

__all__ = [
    "RESTORE_LEDGER",
    "RESTORE_PLACES",
    "AggregatesError",
    "BudgetError",
    "KeyMissing",
    "LedgerBehind",
    "LedgerBroken",
    "LedgerError",
    "LedgerFenced",
    "LedgerMissing",
    "LedgerNewer",
    "LedgerUnavailable",
    "LedgerUnwritable",
    "NoiseError",
    "NoteError",
    "PopulationError",
    "PublicationDefect",
    "PublicationError",
    "PublicationHeld",
    "PublicationUnwritable",
    "SigningKeyError",
    "StateBehind",
    "StateDamaged",
    "StateDefect",
    "StateError",
    "StateHeld",
    "StateUnwritable",
    "SumsMissing",
]


RESTORE_LEDGER: Final = (
    "Put your newest backup of the ledger back. Or move the ledger away, and bring it back from the newest file that "
    "was published, with: quietcount ledger restore"
)
"""The remedy for a ledger that is altered or damaged."""

RESTORE_PLACES: Final = (
    "Put your newest backup of the ledger, with the private log beside it, back. Or do what docs/recovery.md says at "
    '"The private log of places is damaged"'
)
"""The remedy for a private log of places that is altered or damaged."""


class AggregatesError(QuietcountError):
    """The root of the errors of quietcount_aggregates."""


class PopulationError(AggregatesError, ValueError):
    """A population, or a table of it, that cannot be declared as it is written."""


class BudgetError(AggregatesError):
    """A declaration that would pass the lifetime epsilon, or a lifetime epsilon that changed."""


class NoiseError(AggregatesError):
    """A draw whose preconditions or privacy map do not hold; nothing was drawn."""


class StateError(AggregatesError):
    """The private state cannot be opened or written, or does not belong to this log, ledger or secret."""


class StateDamaged(StateError):
    """The state's file is damaged, or was never a state."""


class StateDefect(StateError, Defect):
    """DuckDB refused a statement of ours, which a person can only report; nothing says that the state is damaged."""


class StateUnwritable(StateError, Unavailable):
    """The state's file cannot be opened or written now: the disk is full, failed, or cannot be written."""


class StateHeld(StateError, Unavailable):
    """Another process has the state: a service, or a command that needs it for a moment."""


class StateBehind(StateError):
    """The ledger has releases that this state does not know: the per-case limits would be forgotten."""


class SumsMissing(StateError):
    """Not every partition has handed over what it counted for a settlement, so nothing is released.

    `partitions` are those that are missing: none, if all have come and another worker of one may still answer.
    """

    def __init__(self, partitions: Collection[int]) -> None:
        self.partitions = frozenset(partitions)
        super().__init__(
            "the settlement waits for what workers count. Nothing is released in part",
            "Look at the workers: each has to run, and to reach the brokers",
        )


class LedgerError(AggregatesError):
    """The ledger cannot be opened, read or appended to."""


class LedgerBroken(LedgerError):
    """An entry does not follow from the one before it: the ledger was altered or damaged."""


class LedgerBehind(LedgerError):
    """The ledger is older than what was published from it: an old copy was restored."""


class LedgerMissing(LedgerError):
    """There is no ledger where one was to be read."""


class LedgerNewer(LedgerError):
    """The ledger holds what a newer version wrote and this one cannot read."""


class LedgerUnwritable(LedgerError, Unavailable):
    """The ledger's file, its witness or its signing key cannot be opened or written now; nothing was appended."""


class LedgerUnavailable(LedgerError, Unavailable):
    """The ledger did not answer in time; after an append it is not known whether the entries are in it."""


class SigningKeyError(LedgerError):
    """The key that signs the heads of the ledger cannot be used, or belongs to another ledger."""


class KeyMissing(SigningKeyError):
    """The key that signs the heads of the ledger is not there."""


class NoteError(LedgerError, ValueError):
    """A signed note or a verifier key that is not one, or a signature that does not hold."""


class LedgerFenced(LedgerError):
    """Another releaser took over the ledger; this one appended nothing."""


class PublicationError(AggregatesError):
    """statistics.duckdb cannot be written, read or trusted."""


class PublicationDefect(PublicationError, Defect):
    """DuckDB refused a statement of ours, which a person can only report; what was published is as it was."""


class PublicationHeld(PublicationError, Unavailable):
    """statistics.duckdb cannot be read now: its rights do not allow it, or another program writes without pause."""


class PublicationUnwritable(PublicationError, Unavailable):
    """statistics.duckdb cannot be written now; what was to be published is in the ledger."""
