"""How precise the answers to an analyst's questions will be: changes and shares, by the macros of the published file.

A published file is made up in memory. Its noise is that of the planned tables, and its estimates are the planned sizes.
Then the macros are asked, as an analyst asks them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Final, NamedTuple

import duckdb

from quietcount_aggregates.planning.margins import (
    Figure,
    Margins,
    Over,
    accepted,
    compared_period,
    counted_of,
    made_up,
    span_of,
)
from quietcount_aggregates.planning.volume import Volume
from quietcount_aggregates.populations import ALL, Population, Table
from quietcount_aggregates.publication.template import sql_of
from quietcount_aggregates.questions import macros
from quietcount_aggregates.reconciliation.kernel import kernel_rows

__all__ = ["Answers", "Percentage", "asking"]

_MOST_ROWS: Final = 1_000_000
"""Of the made-up file. A table with more cells and periods is not asked: nobody reads its shares cell by cell."""


class Percentage(NamedTuple):
    """An answer in percent with the ends of its interval; None if the macros withhold it."""

    value: float | None
    lower: float | None
    upper: float | None


@contextlib.contextmanager
def asking() -> Iterator[Answers]:
    """Lend a made-up file in memory."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET temp_directory = ''")  # nothing of a user's file is written, even if memory is short
        # Macros that are asked refuse the name "memory", which is no file of ours.
        connection.execute("ATTACH ':memory:' AS planned; USE planned")
        sql = resources.files("quietcount_aggregates.planning").joinpath("made_up.sql").read_text(encoding="utf-8")
        connection.execute(sql + macros("compare", "share") + sql_of("figures.sql"))
        yield Answers(connection)


class Answers:
    """A made-up file, to which populations are added."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._known: set[str] = set()

    def add(self, margins: Margins, volume: Volume) -> None:
        """Add the noise of a population, and the planned sizes as its estimates."""
        population = margins.population
        for name, rows in kernel_rows(margins.reconciliation).items():
            self._insert(name, [(population.name, *row) for row in rows])
        for table in population.counts:
            self._insert("budget", [(population.name, table.name, table.period.value)])
            spans = _spans(population, table)
            if len(spans) * table.cells > _MOST_ROWS:
                continue
            self._known.add(table.name)
            self._insert(
                "margins",
                [(population.name, table.name, ALL, table.period.value, start, end) for start, end in spans],
            )
            size = volume.size(population, Figure(table, Over.CELL, table.period))
            self._connection.execute(
                """
                INSERT INTO statistics
                SELECT $population, $statistic, starts, ends, cell, CASE WHEN counted THEN $size ELSE 0 END, 'final'
                FROM (SELECT unnest($starts::DATE[]) AS starts, unnest($ends::DATE[]) AS ends),
                    (SELECT unnest($cells::VARCHAR[]) AS cell, unnest($counted::BOOLEAN[]) AS counted)
                """,
                {
                    "population": population.name,
                    "statistic": table.name,
                    "size": size,
                    "starts": [start for start, _ in spans],
                    "ends": [end for _, end in spans],
                    "cells": table.domain,
                    "counted": list(counted_of(population, table)),
                },
            )

    def change(self, population: Population, table: Table, over: Over) -> Percentage | None:
        """Return the percent change between two periods in a row, of one cell or of all, if nothing changes.

        None if the table is too large to be asked.
        """
        cells = _one_cell(population, table) if over is Over.CELL else ""
        earlier, later = span_of(compared_period(table.period), 1), span_of(compared_period(table.period))
        return self._asked(
            table,
            "SELECT percent_change, percent_lower, percent_upper FROM compare($name, $a, $b, $c, $d, cells := $cells)",
            {"a": earlier[0], "b": earlier[1], "c": later[0], "d": later[1], "cells": cells},
        )

    def share(self, population: Population, table: Table, dimension: str) -> Percentage | None:
        """Return the share of one symbol of a dimension over a period; None if the table is too large to be asked."""
        filters = (*population.where, *table.where)
        own = next(each for each in table.by if each.name == dimension)
        start, end = span_of(compared_period(table.period))
        return self._asked(
            table,
            "SELECT share_percent, share_lower, share_upper FROM share($name, $start, $end, $part)",
            {
                "start": start,
                "end": end,
                "part": f"{dimension}={accepted(own.symbols, dimension, filters)[0]}",
            },
        )

    def reliability(self, size: float, margin: float) -> str:
        """Return what the published file says of the margin of a figure: good, fair or poor."""
        sql = "SELECT as_reliable(?::DOUBLE, ?::DOUBLE)"
        ((found,),) = self._connection.execute(sql, [size, margin]).fetchall()
        return str(found)

    def _asked(self, table: Table, sql: str, values: dict[str, object]) -> Percentage | None:
        if table.name not in self._known:
            return None
        (found,) = self._connection.execute(sql, {"name": table.name, **values}).fetchall()
        return Percentage(*(None if each is None else float(each) for each in found))

    def _insert(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        if columns:
            types = self._connection.execute(
                "SELECT data_type FROM duckdb_columns() WHERE database_name = 'planned' AND table_name = ? "
                "ORDER BY column_index",
                [table],
            ).fetchall()
            values = ", ".join(f"unnest(?::{kind}[])" for (kind,) in types)
            self._connection.execute(f"INSERT INTO {table} SELECT {values}", columns)


def _spans(population: Population, table: Table) -> list[tuple[dt.date, dt.date]]:
    """Return the periods of a table that lie in what is compared."""
    start, end = span_of(compared_period(table.period), 1)[0], span_of(compared_period(table.period))[1]
    spans = [(each.period_start, each.period_end) for each in made_up(population, table)]
    return [span for span in spans if start <= span[0] and span[1] <= end]


def _one_cell(population: Population, table: Table) -> str:
    """Return a cell that a table counts, as the macros read it."""
    cell = next(cell for cell, counted in zip(table.domain, counted_of(population, table), strict=True) if counted)
    return "" if cell == ALL else cell
