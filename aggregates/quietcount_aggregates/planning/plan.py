"""The plan of a population: each figure by which its tables are judged, with its size, its margin and a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from quietcount_aggregates.planning.answers import Answers, Percentage
from quietcount_aggregates.planning.averages import planned_averages
from quietcount_aggregates.planning.margins import Figure, Margins, Over, compared_period, counted_cells, figures_of
from quietcount_aggregates.planning.volume import Volume
from quietcount_aggregates.populations import Population, Table
from quietcount_schemas.events.periods import Period

__all__ = ["CANNOT_TELL", "Measure", "Planned", "planned"]

CANNOT_TELL = "cannot tell"
"""What stands in the place of a reliability if the macros withhold the answer."""


class Measure(StrEnum):
    """What a figure is measured in."""

    COUNT = "count"
    CHANGE = "change"
    SHARE = "share"
    AVERAGE = "average"


@dataclass(frozen=True, slots=True)
class Planned:
    """One figure of a plan.

    `size` and the margins are contributions, of a change and a share percent and percent points, and of an average what
    its field is in. What is None is not
    known: sizes without a volume, margins that the macros withhold. `reliability` is by the rule of the published file;
    that of a change is of the ratio, which is 100 % if nothing changes. `below` is the share of the cells that are
    smaller than their margin.
    """

    table: Table
    measure: Measure
    over: Over
    period: Period
    dimension: str = ""
    size: float | None = None
    margin: float | None = None
    alone: float | None = None
    reliability: str | None = None
    below: float | None = None


def planned(margins: Margins, volume: Volume | None = None, answers: Answers | None = None) -> Iterator[Planned]:
    """Yield the figures of a population, table by table; all but counts need a volume, and `answers` to ask."""
    population = margins.population
    if volume is not None and answers is not None:
        answers.add(margins, volume)
    for table in population.counts:
        for figure in figures_of(population, table):
            yield _count(margins, figure, volume, answers)
        if volume is not None and answers is not None:
            yield from _percentages(population, table, answers)
    if volume is not None and answers is not None:
        for table in population.sums:
            for each in planned_averages(margins, table, volume):
                average = Planned(table, Measure.AVERAGE, each.over, each.period)
                yield _judged(average, each.average, each.margin, answers)


def _count(margins: Margins, figure: Figure, volume: Volume | None, answers: Answers | None) -> Planned:
    population, table = margins.population, figure.table
    margin = margins.of(figure)
    size = None if volume is None else volume.size(population, figure)
    own_cell = figure.over is Over.CELL and figure.period is table.period
    return Planned(
        table,
        Measure.COUNT,
        figure.over,
        figure.period,
        figure.dimension,
        size=size,
        margin=margin,
        alone=margins.alone(figure),
        reliability=None if size is None or answers is None else answers.reliability(size, margin),
        below=volume.below(table.name, margin) if volume is not None and own_cell else None,
    )


def _percentages(population: Population, table: Table, answers: Answers) -> Iterator[Planned]:
    period = compared_period(table.period)
    for over in (Over.CELL, Over.ALL) if counted_cells(population, table) > 1 else (Over.ALL,):
        found = answers.change(population, table, over)
        if found is not None:
            figure = Planned(table, Measure.CHANGE, over, period)
            yield _percentage(figure, found, 100, answers)
    for each in table.by:
        if counted_cells(population, table, each.name) > 1:
            found = answers.share(population, table, each.name)
            if found is not None:
                figure = Planned(table, Measure.SHARE, Over.SYMBOL, period, each.name)
                yield _percentage(figure, found, found.value or 0, answers)


def _judged(figure: Planned, average: float, margin: float | None, answers: Answers) -> Planned:
    """Return the figure of an average; without a margin nobody can tell it."""
    if margin is None:
        return replace(figure, reliability=CANNOT_TELL)
    return replace(figure, size=average, margin=margin, reliability=answers.reliability(abs(average), margin))


def _percentage(figure: Planned, found: Percentage, whole: float, answers: Answers) -> Planned:
    """Return a figure with its answer; its reliability is relative to the `whole`, in percent."""
    value, lower, upper = found
    if value is None or lower is None or upper is None:
        return replace(figure, reliability=CANNOT_TELL)
    margin = max(upper - value, value - lower)
    return replace(figure, size=value, margin=margin, reliability=answers.reliability(whole, margin))
