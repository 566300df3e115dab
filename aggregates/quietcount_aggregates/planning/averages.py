"""How precise the averages will be: the code of publication, on sums and counts that are made up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from quietcount_aggregates.planning.margins import (
    Figure,
    Margins,
    Over,
    compared_period,
    counted_of,
    made_up,
    span_of,
)
from quietcount_aggregates.planning.volume import Volume
from quietcount_aggregates.populations import Table
from quietcount_aggregates.reconciliation.averages import averages
from quietcount_aggregates.reconciliation.estimates import MILLION
from quietcount_aggregates.reconciliation.figures import CellFigures
from quietcount_schemas.events.periods import Period

__all__ = ["PlannedAverage", "planned_averages"]


class PlannedAverage(NamedTuple):
    """The average of one cell, or of all, over a period: with the wider side of its interval, if it can be told."""

    over: Over
    period: Period
    average: float
    margin: float | None


def planned_averages(margins: Margins, table: Table, volume: Volume) -> Iterator[PlannedAverage]:
    """Yield the averages of a table by its own period and the next longer one."""
    population = margins.population
    asked = table.sum
    if asked is None:
        return
    count = next(each for each in population.counts if each.name == asked.count)
    period = compared_period(table.period)
    start, end = span_of(period)
    places = [
        place
        for place, body in enumerate(margins.reconciliation.releases)
        if body.statistic == count.name and start <= body.period_start and body.period_end <= end
    ]
    counted = np.array(list(counted_of(population, count)))
    size = volume.size(population, Figure(count, Over.CELL, count.period))
    estimates = np.tile(np.rint(MILLION * size * counted).astype(np.int64), (len(places), 1))
    counts = CellFigures(count, tuple(places), estimates, estimates, estimates, estimates)
    # The sum of values less their middle, in each cell of the table.
    own_size = volume.size(population, Figure(table, Over.CELL, table.period))
    value = round(own_size * (volume.averages[table.name] - asked.middle))
    values = tuple(int(value * inside) for inside in counted_of(population, table))
    releases = [
        replace(body, values=values)
        for body in made_up(population, table)
        if start <= body.period_start and body.period_end <= end
    ]
    for figures in averages(margins.reconciliation, counts, table, releases):
        row = figures.starts.index(span_of(figures.period)[0])
        over = Over.ALL if len(figures.cells) == 1 else Over.CELL
        # Of the cells that are counted the widest interval.
        columns = np.flatnonzero(list(counted_of(population, table))) if over is Over.CELL else np.array([0])
        column = int(columns[np.argmax((figures.upper[row] - figures.lower[row])[columns])])
        average, lower, upper = (
            each[row][column] / MILLION for each in (figures.averages, figures.lower, figures.upper)
        )
        told = bool(figures.told[row][column])
        yield PlannedAverage(over, figures.period, average, max(upper - average, average - lower) if told else None)
