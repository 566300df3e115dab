"""Axes: the scales of a line, and the labels at them, as Vega-Lite specifications."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from quietcount_consumers.report.figures import Figure, Gap
from quietcount_consumers.report.words import Words
from quietcount_schemas.events.periods import Period

__all__ = ["count_axis", "time_axis"]


def time_axis(points: Sequence[Figure | Gap], period: Period, words: Words, most: int) -> dict[str, Any]:
    """Return the axis on which each period has the place of its number, with labels at `most` of them."""
    places = _ticks(points, period, most)
    labels = _tick_labels(points, places, period, words)
    return {
        "field": "i",
        "type": "quantitative",
        "scale": {"domain": [-0.5, len(points) - 0.5], "nice": False, "zero": False},
        "axis": {
            "values": places,
            # As JSON the labels are constants of Vega's expressions, whatever they hold.
            "labelExpr": f"{json.dumps(labels)}[datum.value]",
            "grid": False,
            "domain": True,
            "ticks": True,
            "tickSize": 4,
            "title": None,
        },
    }


def count_axis(lowest: float, highest: float, ticks: int, step: float) -> dict[str, Any]:
    """Return the axis of the figures; it holds 0, so that no change looks larger than it is."""
    return {
        "type": "quantitative",
        "scale": {"domain": [min(0, lowest), max(highest, step)], "nice": 4},
        "axis": {"title": None, "tickCount": ticks, "tickMinStep": step, "format": ",~f"},
    }


def _ticks(points: Sequence[Figure | Gap], period: Period, most: int) -> list[int]:
    """Return the places with a label: evenly, and at the beginnings of years if there is room for few."""
    if len(points) <= most:
        return list(range(len(points)))
    if most == 2:
        return [0, len(points) - 1]
    whole = {Period.MONTH: (3, 6, 12, 24, 60, 120), Period.QUARTER: (2, 4, 8, 20, 40)}.get(period, ())
    steps = [*whole, *range(-(-len(points) // most), len(points) + 1)]
    step = next(each for each in steps if len(points) / each <= most)
    phase = 0
    if whole and step in whole:
        months = {Period.MONTH: 1, Period.QUARTER: 3}[period]
        phase = (
            next((place for place, each in enumerate(points) if (each.start.month - 1) % (step * months) == 0), 0)
            % step
        )
    return list(range(phase, len(points), step))


def _tick_labels(
    points: Sequence[Figure | Gap], places: Sequence[int], period: Period, words: Words
) -> list[str | list[str]]:
    """Return a label for each point: those with a tick have one, with the year below where it is new."""
    labels: list[str | list[str]] = [""] * len(points)
    year = None
    for place in places:
        start = points[place].start
        name = words.tick(period, start)
        labels[place] = name if start.year == year or period is Period.YEAR else [name, str(start.year)]
        year = start.year
    return labels
