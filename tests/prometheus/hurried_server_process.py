"""The process that serves metrics for a hurried service: as it is, but for a clock that runs as fast as its own."""

from __future__ import annotations

import time

from quietcount_consumers.monitoring import server_process
from quietcount_consumers.monitoring.application import Application

__all__ = ["HASTE", "running"]

HASTE = 60
"""By how much the services' clocks are faster than the machine's."""


def running() -> float:
    """Return for how many hurried seconds the machine has been running."""
    return time.monotonic() * HASTE


if __name__ == "__main__":
    Application.__init__.__defaults__ = (None, running)
    server_process.main()
