"""A bar chart with error bars, in characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Bar", "bar_chart"]

_MAXIMUM_WIDTH = 100


class Bar(NamedTuple):
    """One bar: its label, its length, and the ends of its error bar."""

    label: str
    estimate: float
    lower: float
    upper: float


def bar_chart(bars: Sequence[Bar], width: int) -> list[str]:
    """Return one line a bar, at most `width` characters wide; the error bar lies over the end of the bar."""
    if not bars:
        return []
    left = max(len(bar.label) for bar in bars)
    right = max(len(_figure(bar)) for bar in bars)
    room = max(10, min(width, _MAXIMUM_WIDTH) - left - right - 4)
    scale = room / max(1.0, *(bar.upper for bar in bars))
    return [f"  {bar.label:>{left}} {_line(bar, scale):<{room}} {_figure(bar):>{right}}" for bar in bars]


def _line(bar: Bar, scale: float) -> str:
    estimate, lower, upper = (round(value * scale) for value in (bar.estimate, bar.lower, bar.upper))
    cells = ["█" if index < estimate else " " for index in range(max(upper, estimate))]
    for index in range(lower, upper):
        cells[index] = "─"
    if upper - lower == 1:
        cells[lower] = "┤"
    elif upper > lower:
        cells[lower], cells[upper - 1] = "├", "┤"
    return "".join(cells)


def _figure(bar: Bar) -> str:
    return f"{bar.estimate:.0f} ({bar.lower:.0f}-{bar.upper:.0f})"
