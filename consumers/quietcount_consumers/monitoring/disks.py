"""Disks: how much of them is free, so coarsely that it does not show what was written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

__all__ = ["STEPS", "free", "rounded_down"]

STEPS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The shares of a disk that are shown; finer ones would follow the size of the log."""


def free(folders: Mapping[str, Path]) -> tuple[tuple[str, float], ...]:
    """Return by name of a folder the share of its disk that is free; nothing for a folder that is not there."""
    return tuple(_shares(folders.items()))


def rounded_down(share: float) -> float:
    """Return the largest of STEPS that is not above `share`, a number from 0 to 1."""
    return max(step for step in STEPS if step <= max(share, 0.0))


def _shares(folders: Iterable[tuple[str, Path]]) -> Iterable[tuple[str, float]]:
    for name, folder in folders:
        try:
            disk = os.statvfs(folder)
        except OSError:
            continue
        # As df counts: the service cannot have what is reserved for root.
        room = disk.f_blocks - disk.f_bfree + disk.f_bavail
        if room > 0:
            yield name, rounded_down(disk.f_bavail / room)
