"""The root of every error that quietcount raises for a reason a person can mend.

QuietcountError
├── SchemasError      (quietcount_schemas)
├── ProducersError    (quietcount_producers)
├── AggregatesError   (quietcount_aggregates)
├── ConsumersError    (quietcount_consumers)
└── Defect            (quietcount_schemas.defects): ours to mend, and worded for a person all the same

The command line prints such an error as one message and exits 1; anything else is a defect of ours. A message says
what is wrong, where (file, line, key, topic, partition, offset) and what to do; it never carries a payload, an
identifier, a case key or a count.
"""

from __future__ import annotations

__all__ = ["QuietcountError", "SchemasError", "Unavailable"]


class QuietcountError(Exception):
    """An error whose message is written for the person who can mend its cause.

    `what` says what is wrong and where, without a full stop at its end. `remedy` says what to do about it, in one
    sentence or more, also without the last full stop; it is empty if there is nothing to do. The text is both, in that
    order.
    """

    def __init__(self, what: str = "", remedy: str = "") -> None:
        super().__init__(what, remedy)  # both, so that a copy and a pickle have both
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}" if self.remedy else self.what


class Unavailable(QuietcountError):
    """What is needed did not answer; nothing is wrong with what was asked, and asking again later may do.

    Errors of a distribution that are of this kind derive from it too. A service that runs waits for its next tick.
    """


class SchemasError(QuietcountError):
    """The root of the errors of quietcount_schemas."""
