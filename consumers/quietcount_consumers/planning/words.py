"""What is planned, in words and in rounded numbers: a size of the user's own file is shown with two digits at most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from quietcount_aggregates.bound import plain
from quietcount_aggregates.planning.advice import Advice, Change, Outcome
from quietcount_aggregates.planning.epsilons import Needed
from quietcount_aggregates.planning.margins import Over
from quietcount_aggregates.planning.plan import Measure, Planned
from quietcount_aggregates.populations import Horizon, Population, exact_epsilon
from quietcount_consumers.planning.event_counts import PopulationCounts

__all__ = [
    "COLUMNS",
    "NEEDED_COLUMNS",
    "advice_lines",
    "aligned",
    "alone_words",
    "budget_line",
    "count_lines",
    "figure_words",
    "margin_words",
    "needed_line",
    "needed_row",
    "rounded",
    "row_of",
    "shown",
    "size_words",
    "spent_by",
]

COLUMNS: Final = (
    *("population", "table", "figure", "dimension", "period", "unit", "size", "margin", "margin_alone"),
    *("reliability", "below_margin_percent"),
)
NEEDED_COLUMNS: Final = (
    "population",
    "table",
    "period",
    "margin_now",
    "margin_wanted",
    "epsilon_now",
    "epsilon_needed",
)


_PERCENT: Final = (Measure.CHANGE, Measure.SHARE)
_MOST_POINTS: Final = 1000
_LEAST: Final = 0.001


def rounded(number: float | None) -> float | int | None:
    """Return a number with two significant digits, a whole one if it has no more; below a thousandth it is 0."""
    if number is None:
        return None
    if abs(number) < _LEAST:
        return 0
    digits = 1 - math.floor(math.log10(abs(number)))
    found = round(number, digits)
    return int(found) if digits <= 0 or found == int(found) else found


def shown(number: float | None) -> str:
    """Return a number as a person reads it; nothing if it is not known."""
    return "" if number is None else f"{rounded(number):,}".replace(",", " ")


def figure_words(planned: Planned) -> str:
    """Return what a figure is of, as "one cell, a month"."""
    table, period = planned.table, planned.period
    one = "one cell"
    if planned.over is Over.SYMBOL:
        bucketed = any(each.bounds for each in table.by if each.name == planned.dimension)
        one = f"one bucket of {planned.dimension}" if bucketed else f"one {planned.dimension}"
    what = "all cells" if planned.over is Over.ALL else one
    if planned.measure is Measure.CHANGE:
        return f"change of {what}, by {period}" if table.by else f"change, by {period}"
    if planned.measure is Measure.AVERAGE:
        return f"average of {what}, a {period}" if table.by else f"average, a {period}"
    if planned.measure is Measure.SHARE:
        return f"share of {what}, a {period}"
    return f"{what}, a {period}" if table.by else f"a {period}"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of equal length as lines: the first column begins at the left, the others end at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [f"{each:>{width}}" for each, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([f"{first:<{widths[0]}}", *cells]).rstrip()


def needed_line(population: Population, need: Needed) -> str:
    """Return what a table needs, as a person reads it."""
    table = next(each for each in population.tables if each.name == need.table)
    cell = f"one cell of a {table.period}" if table.by else f"a {table.period}"
    return (
        f"{need.table}: epsilon {need.epsilon:g} gives {cell} a margin of ±{shown(need.reached)}. "
        f"Now it is {table.epsilon:g}, and the margin ±{shown(need.now)}."
    )


def size_words(planned: Planned) -> str:
    """Return the size of a figure as a person reads it."""
    if planned.size is None:
        return ""
    return shown(planned.size) + (" %" if planned.measure in _PERCENT else "")


def margin_words(planned: Planned) -> str:
    """Return the margin of a figure as a person reads it."""
    if planned.margin is None:
        return ""
    if planned.measure not in _PERCENT:
        return f"±{shown(planned.margin)}"
    return f"±{shown(planned.margin)} points" if planned.margin < _MOST_POINTS else "over ±1 000"


def alone_words(planned: Planned) -> str:
    """Return the margin of a figure if its table were alone, as a person reads it."""
    return "" if planned.alone is None else f"±{shown(planned.alone)}"


def row_of(population: Population, planned: Planned) -> tuple[object, ...]:
    """Return the row of a figure, under `COLUMNS`."""
    units = {Measure.COUNT: "contributions", Measure.AVERAGE: planned.table.sum.field if planned.table.sum else None}
    figure = planned.over.value if planned.measure is Measure.COUNT else f"{planned.measure} of {planned.over}"
    return (
        population.name,
        planned.table.name,
        figure,
        planned.dimension or None,
        planned.period.value,
        units.get(planned.measure, "percent"),
        rounded(planned.size),
        rounded(planned.margin),
        rounded(planned.alone),
        planned.reliability,
        None if planned.below is None else round(100 * planned.below),
    )


def needed_row(population: Population, need: Needed) -> tuple[object, ...]:
    """Return the row of what a table needs, under `NEEDED_COLUMNS`."""
    table = next(each for each in population.tables if each.name == need.table)
    return (
        population.name,
        need.table,
        table.period.value,
        rounded(need.now),
        need.wanted,
        table.epsilon,
        need.epsilon,
    )


def spent_by(populations: Sequence[Population]) -> Decimal:
    """Return the epsilon that a catalogue spends."""
    return sum((population.epsilon for population in populations), Decimal(0))


def budget_line(populations: Sequence[Population], lifetime_epsilon: Decimal) -> str:
    """Return what the catalogue spends of the lifetime epsilon, and what is left."""
    spent = spent_by(populations)
    left = lifetime_epsilon - spent
    line = f"The catalogue spends epsilon {plain(spent)} of {plain(lifetime_epsilon)} (lifetime_epsilon)"
    if left < 0:
        return f"{line}, which is {plain(-left)} too much: it cannot be declared."
    return f"{line}, and {plain(left)} is left." if left else f"{line}, and nothing is left."


def count_lines(population: Population, counts: PopulationCounts) -> Iterator[str]:
    """Yield what the limit leaves uncounted of a file, and what is dated too early."""
    span = "its lifetime" if population.horizon is Horizon.LIFETIME else "a calendar year"
    (limit, left), *more = counts.uncounted
    if left:
        line = f"With max_contributions = {limit}, {_share(left)} of the events of {population.name} are not counted"
        further = ", ".join(f"{each} leaves {_share(part)} out" for each, part in more)
        yield f"{line}, because a case has more over {span}. {further}. Every margin grows with it."
    else:
        yield f"max_contributions = {limit} counts every event of {population.name}."
    if counts.before:
        yield (
            f"{_share(counts.before)} of its events are dated before {population.since}, where it begins, and count "
            "nowhere."
        )


def advice_lines(advice: Sequence[Advice], below: Mapping[str, float]) -> Iterator[str]:
    """Yield a sentence for each table that should change, the greatest gain first.

    `below` has, by table, the share of the cells that are smaller than their margin, if it is known.
    """
    told: set[str] = set()
    for each in advice:
        if each.left is not None:
            yield _moved(each, each.left)
        elif each.change is Change.LEAVE_OUT:
            yield _left_out(each)
        elif each.change is Change.GIVE_UP:
            yield _given_up(each)
        elif each.table.name not in told:
            told.add(each.table.name)
            same = [other for other in advice if other.table.name == each.table.name]
            yield _coarser(each, same, below.get(each.table.name))


def _coarser(first: Advice, same: Sequence[Advice], below: float | None) -> str:
    table = first.table
    what = "one cell of a" if table.by else "a"
    line = f"{table.name}: {what} {table.period} would be {_size(first.before)}"
    if below:
        line += f", and {_share(below)} of the cells smaller than their margin"
    by_change = {each.change: each for each in same}
    ways = []
    if longer := by_change.get(Change.LONGER_PERIOD):
        ways.append(f"By {longer.after.table.period} it would be {_size(longer.after)}.")
    if dropped := by_change.get(Change.DROP_DIMENSION):
        ways.append(f"Without {dropped.dimension} it would be {_size(dropped.after)}.")
    return " ".join([f"{line}.", *ways])


def _left_out(advice: Advice) -> str:
    growth = round(100 * (advice.worst - 1))
    others = f"no margin grows by more than {growth} %" if growth > 0 else "no margin grows"
    return (
        f"Leave out {advice.table.name}, because {advice.after.table.name} says the same: with its epsilon, "
        f"{_cell(advice.after)} would have ±{shown(advice.after.margin)} in place of ±{shown(advice.before.margin)}, "
        f"and {others}."
    )


def _given_up(advice: Advice) -> str:
    return (
        f"Leave out {advice.table.name}, or make it coarser: its cells would be mostly smaller than their margin. With "
        f"its epsilon, {_cell(advice.after)} would be {_size(advice.after)} in place of {_size(advice.before)}."
    )


def _moved(advice: Advice, left: Outcome) -> str:
    moved = plain(exact_epsilon(advice.after.table.epsilon) - exact_epsilon(advice.before.table.epsilon))
    return (
        f"Move {moved} of the epsilon of {left.table.name} to {advice.table.name}: {_cell(advice.after)} would be "
        f"{_size(advice.after)} in place of {_size(advice.before)}, and {_cell(left)} {_size(left)}."
    )


def _cell(outcome: Outcome) -> str:
    """Return what an outcome is of, as "one cell of by_kind"."""
    return (
        f"one cell of {outcome.table.name}" if outcome.table.by else f"a {outcome.table.period} of {outcome.table.name}"
    )


def _size(outcome: Outcome) -> str:
    return f"{shown(outcome.size)} ±{shown(outcome.margin)}"


def _share(share: float) -> str:
    percent = 100 * share
    return f"{round(percent)} %" if percent >= 1 else "under 1 %" if percent else "none"
