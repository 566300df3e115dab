"""The emitters' side of quietcount: pseudonymise, coarsen, publish."""

from __future__ import annotations

from quietcount_producers.embedded_log import EmbeddedLog
from quietcount_producers.errors import LogError, ProducersError

__all__ = ["EmbeddedLog", "LogError", "ProducersError"]
