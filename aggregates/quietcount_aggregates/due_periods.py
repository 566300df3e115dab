"""What is due: the periods of tables whose end and grace have passed, by the clock alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.populations import Population

__all__ = ["DuePeriod", "due_in", "due_periods"]


@dataclass(frozen=True, slots=True)
class DuePeriod:
    """A period of a table whose end and grace have passed."""

    population: str
    statistic: str
    start: dt.date
    end: dt.date


def due_periods(
    populations: Sequence[Population],
    first_open: Mapping[str, dt.date],
    now: dt.datetime,
    grace: dt.timedelta,
    withheld: Collection[tuple[str, dt.date]] = (),
) -> list[DuePeriod]:
    """Return, from the clock alone, every period of a table that ended `grace` or more before `now` and is not settled.

    In the order of the ledger: of a population what ends first, and the finest of what ends on one day.
    `first_open` has the first open day of each population. `withheld` are the periods, by table and first day, that are
    never released.
    """
    due = []
    for population in populations:
        for table in population.tables:
            start = max(table.period.start(first_open[population.name]), table.first_day(population.first_day))
            while True:
                following = table.period.next(start)
                if dt.datetime.combine(following, dt.time(), dt.UTC) + grace > now:
                    break
                if (table.name, start) not in withheld:
                    due.append(DuePeriod(population.name, table.name, start, table.period.end(start)))
                start = following
    return sorted(due, key=lambda each: (each.population, each.end, each.end - each.start, each.statistic))


def due_in(chain: Chain, until: dt.datetime) -> list[DuePeriod]:
    """Return what is due of a ledger once `until` has come, as `due_periods` does.

    It follows from the ledger alone: whoever reads a settlement knows what is due in it.
    """
    complete = [
        population
        for name, population in chain.declarations.items()
        if name not in chain.retired and name not in chain.incomplete
    ]
    return due_periods(complete, chain.first_open, until, dt.timedelta(), chain.withheld)
