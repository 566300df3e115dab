"""The errors of quietcount_producers.

QuietcountError
└── ProducersError
    └── LogError          the embedded log cannot be opened, read or written
"""

from __future__ import annotations

from quietcount_schemas.errors import QuietcountError

__all__ = ["LogError", "ProducersError"]


class ProducersError(QuietcountError):
    """The root of the errors of quietcount_producers."""


class LogError(ProducersError):
    """The embedded log cannot be opened, read or written; nothing of the failed call was stored."""
