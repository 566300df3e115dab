"""The root of every error that quietcount raises for a reason a person can mend.

QuietcountError
├── SchemasError      (quietcount_schemas)
├── ProducersError    (quietcount_producers)
├── AggregatesError   (quietcount_aggregates)
└── ConsumersError    (quietcount_consumers)

The command line prints such an error as one message and exits 1; anything else is a defect of ours. A message says
what is wrong, where (file, line, key, topic, partition, offset) and what to do; it never carries a payload, an
identifier, a case key or a count.
"""

from __future__ import annotations

__all__ = ["QuietcountError", "SchemasError", "Unavailable"]


class QuietcountError(Exception):
    """An error whose message is written for the person who can mend its cause."""


class Unavailable(QuietcountError):
    """What is needed did not answer; nothing is wrong with what was asked, and asking again later may do.

    Errors of a distribution that are of this kind derive from it too. A service that runs waits for its next tick.
    """


class SchemasError(QuietcountError):
    """The root of the errors of quietcount_schemas."""
