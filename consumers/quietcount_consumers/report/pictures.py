"""Pictures: what a drawing shows, as Vega-Lite specifications. Nothing is drawn here.

Every mark that a mouse can meet has its words in `description`: they become the mark's title.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

from quietcount_consumers.report.axes import count_axis, time_axis
from quietcount_consumers.report.figures import Figure, Gap, Series
from quietcount_consumers.report.palette import LIGHT
from quietcount_consumers.report.words import Words
from quietcount_schemas.events.periods import Period

__all__ = ["BARS", "NARROW", "PANEL", "PANELS", "WIDE", "Bar", "Spec", "Width", "bars", "hover", "line", "panel"]

Spec = dict[str, Any]

PANELS: Final = 12
"""How many small pictures stand together at most: more of them nobody compares."""

BARS: Final = 30
"""How many bars a picture has at most: more of them are higher than a screen or a sheet of paper."""

_FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The first is in the library itself, so that text is measured alike on every machine; the others are as wide."""

_POINTS: Final = 40
"""Up to so many figures a line has a point for each."""


@dataclass(frozen=True, slots=True)
class Width:
    """A width in which pictures are drawn, in pixels, and what fits into it."""

    name: str
    whole: int
    height: int
    ticks: int
    label: int
    """How many characters of a label stand on a line."""
    font: int


WIDE: Final = Width("wide", 720, 250, 9, 30, 12)
NARROW: Final = Width("narrow", 350, 220, 4, 16, 12)
PANEL: Final = Width("panel", 174, 150, 2, 22, 12)
"""Four stand side by side in a wide picture, and two in a narrow one."""


class Bar(NamedTuple):
    """A bar with its margin, and the words beside it and in its title."""

    label: str
    value: float
    lower: float
    upper: float
    beside: str
    title: str
    pale: bool


def hover(words: Words, period: Period, point: Figure | Gap) -> str:
    """Return what a mark says when it is pointed at."""
    name = words.period(period, point.start)
    if isinstance(point, Gap):
        if not point.reason:
            return words.text("alternative.hover_missing", period=name)
        return words.text("alternative.hover_withheld", period=name, reason=point.reason)
    key = "alternative.hover_provisional" if point.provisional else "alternative.hover"
    count = words.number(point.shown, point.digits)
    return words.text(key, period=name, count=count, interval=words.interval(point.lower, point.upper, point.digits))


def line(series: Series, period: Period, words: Words, width: Width) -> Spec:
    """Return a line with a band for the margin; provisional figures are dashed, and periods withheld are shaded."""
    return {
        **_frame(width),
        "width": width.whole,
        "height": width.height,
        "autosize": {"type": "fit", "contains": "padding"},
        "layer": _layers(series, period, words, width.height, width.ticks),
    }


def panel(series: Series, period: Period, words: Words) -> Spec:
    """Return a small line of one symbol, with a scale of its own. A picture of both widths is made of these."""
    return {
        **_frame(PANEL),
        "width": PANEL.whole,
        "height": PANEL.height,
        "autosize": {"type": "fit", "contains": "padding"},
        "title": {
            "text": _lines(series.label, PANEL.label),
            "anchor": "start",
            "frame": "bounds",
            "color": LIGHT["ink"],
            "fontSize": PANEL.font,
            "fontWeight": "bold",
            "offset": 6,
        },
        "layer": _layers(series, period, words, PANEL.height, PANEL.ticks),
    }


def bars(rows: Sequence[Bar], width: Width, *, most: float | None = None) -> Spec:
    """Return horizontal bars with their margins, and their values in words beside them."""
    # What is written beside a bar needs room, about seven pixels a character.
    beside = [part for each in rows for part in each.beside.split("\n")]
    widest = max(map(len, beside), default=0) * 6.5 + 12
    tall = max((each.beside.count("\n") + 1 for each in rows), default=1)
    plot = max(width.whole - min(width.label * 6.5, width.whole * 0.4) - 20, 120)
    highest = max([each.upper for each in rows] + ([most] if most is not None else []) + [1e-9])
    domain = highest * plot / max(plot - widest, plot * 0.25)
    values = [
        {
            "i": place,
            "value": each.value,
            "lower": each.lower,
            "upper": each.upper,
            "beside": each.beside,
            "title": each.title,
            "pale": each.pale,
            "start": 0,
            "end": domain,
        }
        for place, each in enumerate(rows)
    ]
    lines = [_lines(each.label, width.label) for each in rows]
    step = max(34 if width is WIDE else 42, 14 * max(map(len, lines), default=0) + 8)
    # Other fonts are wider than the one that is measured here.
    slack = max((len(part) for each in lines for part in each), default=0)
    x = {"scale": {"domain": [0, domain], "nice": False}, "type": "quantitative"}
    y = {
        "field": "i",
        "type": "ordinal",
        "scale": {"paddingInner": 0.35, "paddingOuter": 0.2},
        "axis": {
            "labelExpr": f"{json.dumps(lines)}[datum.value]",
            "title": None,
            "labelLimit": 0,
            "labelPadding": 6,
            "labelColor": LIGHT["ink"],
            "domain": True,
        },
    }
    return {
        **_frame(width),
        "width": width.whole,
        "height": step * len(rows) + 8,
        "padding": {"left": 4 + slack, "right": 4, "top": 4, "bottom": 4},
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": values},
        "encoding": {"y": y},
        "layer": [
            {
                "mark": {"type": "bar", "stroke": LIGHT["figure"], "strokeWidth": 1},
                "encoding": {
                    "x": {"field": "start", **x, "axis": None, "title": None},
                    "x2": {"field": "value"},
                    "color": {"condition": {"test": "datum.pale", "value": LIGHT["pale"]}, "value": LIGHT["figure"]},
                    "strokeDash": {"condition": {"test": "datum.pale", "value": [4, 3]}, "value": [1, 0]},
                },
            },
            {
                "transform": [{"filter": "datum.upper > datum.lower"}],
                "layer": [
                    # A rim of paper: the ends of a margin are seen on the bar, too.
                    {
                        "mark": {"type": "rule", "color": LIGHT["paper"], "strokeWidth": 4},
                        "encoding": {"x": {"field": "lower", **x}, "x2": {"field": "upper"}},
                    },
                    {
                        "mark": {"type": "rule", "color": LIGHT["ink"], "strokeWidth": 1.5},
                        "encoding": {"x": {"field": "lower", **x}, "x2": {"field": "upper"}},
                    },
                    *(
                        {
                            "mark": {"type": "tick", "color": LIGHT["ink"], "thickness": 1.5, "size": 9},
                            # The ends of a margin of a few pixels would be a blot.
                            "transform": [{"filter": f"datum.upper - datum.lower > {domain / 40}"}],
                            "encoding": {"x": {"field": end, **x}},
                        }
                        for end in ("lower", "upper")
                    ),
                ],
            },
            {
                "mark": {
                    "type": "text",
                    "align": "left",
                    "dx": 7,
                    "dy": -7 * (tall - 1),
                    "lineBreak": "\n",
                    "lineHeight": 14,
                    "color": LIGHT["ink"],
                    "fontSize": width.font,
                },
                "encoding": {"x": {"field": "upper", **x}, "text": {"field": "beside", "type": "nominal"}},
            },
            {
                "name": "hover",
                "mark": {"type": "bar", "color": "transparent"},
                "encoding": {
                    "x": {"field": "start", **x},
                    "x2": {"field": "end"},
                    "description": {"field": "title", "type": "nominal"},
                },
            },
        ],
    }


def _frame(width: Width) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": None,
        "padding": 4,
        "config": {
            "font": _FONT,
            "view": {"stroke": None},
            "axis": {
                "labelColor": LIGHT["muted"],
                "labelFontSize": width.font,
                "gridColor": LIGHT["grid"],
                "domainColor": LIGHT["edge"],
                "tickColor": LIGHT["edge"],
                "domain": False,
                "ticks": False,
                "labelPadding": 6,
                "labelOverlap": False,
            },
        },
    }


def _layers(series: Series, period: Period, words: Words, height: int, ticks: int) -> list[Spec]:
    points = series.points
    figures = [(place, each) for place, each in enumerate(points) if isinstance(each, Figure)]
    gaps = [(place, each) for place, each in enumerate(points) if isinstance(each, Gap)]
    highest = max((each.upper for _, each in figures), default=1)
    lowest = min((each.lower for _, each in figures), default=0)
    x = time_axis(points, period, words, ticks)
    y = count_axis(
        lowest, highest, 4 if height > PANEL.height else 3, 1 if all(not e.digits for _, e in figures) else 0.1
    )
    value = {"field": "y", **y}
    layers: list[Spec] = []
    if gaps:
        layers.append(_shade(x, [{"i": place - 0.5, "end": place + 0.5} for place, _ in gaps], LIGHT["withheld"]))
        if height > PANEL.height:
            layers.append(
                {
                    "data": {"values": [{"i": place, "text": _absence(each, words)} for place, each in gaps]},
                    "mark": {"type": "text", "angle": 270, "color": LIGHT["warning"], "fontSize": 11},
                    "encoding": {
                        "x": x,
                        "y": {"value": {"expr": "height / 2"}},
                        "text": {"field": "text", "type": "nominal"},
                    },
                }
            )
    layers.append(
        {
            "data": {"values": list(_bands(figures))},
            "mark": {"type": "area", "color": LIGHT["pale"], "opacity": 0.6},
            "encoding": {
                "x": x,
                "y": {"field": "lower", **y},
                "y2": {"field": "upper"},
                "detail": {"field": "run", "type": "nominal"},
            },
        }
    )
    lonely = [{"i": place, "lower": each.lower, "upper": each.upper} for place, each in _lonely(figures)]
    if lonely:
        layers.append(
            {
                "data": {"values": lonely},
                "mark": {"type": "rule", "color": LIGHT["figure"], "strokeWidth": 1.5},
                "encoding": {"x": x, "y": {"field": "lower", **y}, "y2": {"field": "upper"}},
            }
        )
    for dashed in (False, True):
        pieces = list(_pieces(figures, dashed))
        if pieces:
            layers.append(
                {
                    "data": {"values": pieces},
                    "mark": {
                        "type": "line",
                        "color": LIGHT["figure"],
                        "strokeWidth": 2,
                        **({"strokeDash": [5, 4]} if dashed else {}),
                    },
                    "encoding": {"x": x, "y": value, "detail": {"field": "run", "type": "nominal"}},
                }
            )
    for hollow in (False, True):
        marked = [
            {"i": place, "y": each.shown}
            for place, each in figures
            if each.provisional is hollow and (hollow or len(figures) <= _POINTS)
        ]
        if marked:
            layers.append(
                {
                    "data": {"values": marked},
                    "mark": {
                        "type": "point",
                        "filled": True,
                        "fill": LIGHT["paper"] if hollow else LIGHT["figure"],
                        "stroke": LIGHT["figure"],
                        "strokeWidth": 1.5,
                        "opacity": 1,
                        "size": 32 if height > PANEL.height else 16,
                    },
                    "encoding": {"x": x, "y": value},
                }
            )
    said = [
        {"i": place - 0.5, "end": place + 0.5, "title": hover(words, period, each)} for place, each in enumerate(points)
    ]
    layers.append(_shade(x, said, "transparent", hovered=True))
    return layers


def _absence(gap: Gap, words: Words) -> str:
    return words.text("tables.withheld" if gap.reason else "tables.missing")


def _shade(x: Spec, values: list[Spec], colour: str, *, hovered: bool = False) -> Spec:
    """Return rectangles over the whole height, with their words if they are what a mouse meets."""
    described = {"description": {"field": "title", "type": "nominal"}} if hovered else {}
    return {
        **({"name": "hover"} if hovered else {}),
        "data": {"values": values},
        "mark": {"type": "rect", "color": colour},
        "encoding": {"x": x, "x2": {"field": "end"}, **described},
    }


def _runs(figures: Sequence[tuple[int, Figure]]) -> Iterator[list[tuple[int, Figure]]]:
    """Yield the runs of figures without a gap between them."""
    run: list[tuple[int, Figure]] = []
    for place, figure in figures:
        if run and place != run[-1][0] + 1:
            yield run
            run = []
        run.append((place, figure))
    if run:
        yield run


def _bands(figures: Sequence[tuple[int, Figure]]) -> Iterator[Spec]:
    for number, run in enumerate(_runs(figures)):
        for place, figure in run:
            yield {"i": place, "lower": figure.lower, "upper": figure.upper, "run": number}


def _lonely(figures: Sequence[tuple[int, Figure]]) -> list[tuple[int, Figure]]:
    """Return the figures without a neighbour: a band needs two."""
    return [run[0] for run in _runs(figures) if len(run) == 1]


def _pieces(figures: Sequence[tuple[int, Figure]], dashed: bool) -> Iterator[Spec]:
    """Yield the ends of the lines between neighbours; a line is dashed if one of its ends is provisional."""
    number = 0
    for run in _runs(figures):
        open_piece = False
        for (place, one), (next_place, other) in pairwise(run):
            if (one.provisional or other.provisional) is not dashed:
                open_piece = False
                continue
            if not open_piece:
                number, open_piece = number + 1, True
                yield {"i": place, "y": one.shown, "run": number}
            yield {"i": next_place, "y": other.shown, "run": number}


def _lines(text: str, characters: int) -> list[str]:
    """Return the text in at most three lines."""
    return textwrap.wrap(text, characters, max_lines=3, placeholder=" …", break_long_words=True) or [""]
