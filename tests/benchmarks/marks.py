"""What each measurement is held against: its figure, the mark beside it, and whether the mark is held.

A mark that is missed is printed and fails nothing: what else the machine does is in every figure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

__all__ = ["LINES", "SHARE", "hold", "measured", "peak_of", "size"]

SHARE = Fraction(os.environ.get("QUIETCOUNT_TEST_SHARE", "1"))
"""How much of the full size is measured, such as 1/10."""

LINES: list[str] = []
"""What was printed, to be shown together at the end of the run."""


def size(full: int) -> int:
    """Return how many to measure with where `full` is asked for."""
    return max(int(full * SHARE), 1)


def hold(what: str, found: float, *, least: float | None = None, most: float | None = None) -> None:
    """Print a ratio, its mark, which it is to reach (`least`) or not to pass (`most`), and whether that is so."""
    held = (least is None or found >= least) and (most is None or found <= most)
    mark = ", ".join(f"{word} {mark:g}" for word, mark in (("least", least), ("most", most)) if mark is not None)
    verdict = "no mark" if not mark else "held" if held else "MISSED"
    LINES.append(f"{found:>8.2f}   {mark:<24}{verdict:<9}{what}")
    print(LINES[-1])


def peak_of(process: str = "self") -> int:
    """Return the peak memory of a process so far, in KiB. A child does not inherit VmHWM, as it does ru_maxrss."""
    lines = Path("/proc", process, "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Return the seconds of the clock and of the processor, with all threads."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return {"clock": time.perf_counter() - started, "processor": time.process_time() - used}
