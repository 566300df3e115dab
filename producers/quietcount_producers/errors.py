"""The errors of quietcount_producers.

QuietcountError
└── ProducersError
    ├── LogError          the log cannot be opened, read or written
    │   ├── LogUnwritable     its file cannot be written now: the disk is full (also an Unavailable)
    │   └── LogUnavailable    the log did not answer (also an Unavailable)
    ├── EventRefused      an event cannot be emitted as it is; says which field and why
    ├── PublisherClosed   an event was emitted after `close`
    └── PublisherFull     too many events wait for the log, and the time for `emit` is over (also an Unavailable)
"""

from __future__ import annotations

from quietcount_schemas.errors import QuietcountError, Unavailable

__all__ = [
    "EventRefused",
    "LogError",
    "LogUnavailable",
    "LogUnwritable",
    "ProducersError",
    "PublisherClosed",
    "PublisherFull",
    "refused_by",
]


class ProducersError(QuietcountError):
    """The root of the errors of quietcount_producers."""


class LogError(ProducersError):
    """The log cannot be opened, read or written; nothing of the failed call was stored, unless it says otherwise."""


class LogUnavailable(LogError, Unavailable):
    """The log did not answer in time; whether the failed call stored something is not known."""


class LogUnwritable(LogError, Unavailable):
    """The embedded log's file cannot be written now: the disk is full, or failed. Nothing was stored."""


class PublisherClosed(ProducersError):
    """The publisher was closed, so it takes no more events."""


class PublisherFull(ProducersError, Unavailable):
    """Too many events wait for the log, and none of them was stored in the time given to `emit`: it was not emitted."""


class EventRefused(ProducersError):
    """An event cannot be emitted as it is: `field` says where, `reason` why and what to do, neither shows a value."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason

    def __reduce__(self) -> tuple[type[EventRefused], tuple[str, str]]:
        return type(self), (self.field, self.reason)


def refused_by(error: BaseException) -> ProducersError:
    """Return the error for what somebody's own log raised, which is its cause; its text may quote an event."""
    refused = ProducersError(
        f"The log refused events: {type(error).__name__}", "Look at the cause of this error, which the log raised"
    )
    refused.__cause__ = error
    return refused
