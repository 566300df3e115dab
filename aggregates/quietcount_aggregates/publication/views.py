"""The views of the public file: one for each table of a population, with its dimensions as columns."""

from __future__ import annotations

from typing import Final

import duckdb

from quietcount_aggregates.populations import Population, Table
from quietcount_aggregates.publication.metadata import condition_of

__all__ = ["Meaning", "describe_view"]

_PERIOD: Final = {
    "period_start": "The first day of the period (UTC).",
    "period_end": "The last day of the period (UTC), inclusive.",
}

_COUNTS: Final = _PERIOD | {
    "estimate": "The best figure that all tables of the population give together, with its sign: add these up.",
    "shown": "The estimate for people: whole, and 0 where it is negative.",
    "lower": "The lower end of the 95 % interval for the true count.",
    "upper": "The upper end of the 95 % interval for the true count.",
    "reliability": "The margin of error relative to the estimate: good, fair or poor.",
    "status": "final, or provisional: a later release will revise the estimate.",
}

_AVERAGES: Final = _PERIOD | {
    "average": "The average; null if nobody can tell it.",
    "average_lower": "The lower end of the 95 % interval for the true average.",
    "average_upper": "The upper end of the 95 % interval for the true average.",
    "sum": "The sum of the values, with its sign: add these up.",
    "sum_lower": "The lower end of the 95 % interval for the true sum.",
    "sum_upper": "The upper end of the 95 % interval for the true sum.",
    "status": "final, or provisional: a later release will revise the count below the average.",
    "note": "How the figures were made, and what cannot be told.",
}


Meaning = tuple[str, str | None, str]
"""A row of the data dictionary: a view, its column or None for the whole, and what that means."""


def describe_view(connection: duckdb.DuckDBPyConnection, population: Population, table: Table) -> list[Meaning]:
    """Create the view of a table, with its comments. Return them, in the order of the columns."""
    dimensions = "".join(
        f", split_part(split_part(cell, ', ', {place}), '=', 2) AS \"{dimension.name}\""
        for place, dimension in enumerate(table.by, 1)
    )
    comments = _COUNTS if table.sum is None else _AVERAGES
    columns = ", ".join(list(comments)[2:])
    rows = "statistics" if table.sum is None else "averages"
    own = "" if table.sum is None else " AND noisy IS NOT NULL"
    connection.execute(
        f'CREATE VIEW "{table.name}" AS SELECT period_start, period_end{dimensions}, {columns} '
        f"FROM {rows} WHERE statistic = '{table.name}'{own}"
    )
    text = f"{', '.join(population.events)} by {table.period.value}"
    condition = condition_of((*population.where, *table.where))
    if condition:
        text += f", where {condition}"
    if population.title:
        text = f"{population.title}: {text}"
    text += f". {population.counting}. "
    if table.sum is None:
        text += "Noised counts with 95 % intervals."
    else:
        text += (
            f"Averages of {table.sum.field} with 95 % intervals; a value below {table.sum.low} counts as that, and one "
            f"above {table.sum.high} as that."
        )
    if population.description:
        text += f" {population.description}"
    dimensions_meant = {dimension.name: f"One of {', '.join(dimension.symbols)}." for dimension in table.by}
    meanings = {**_PERIOD, **dimensions_meant, **comments}
    connection.execute(f'COMMENT ON VIEW "{table.name}" IS {_quoted(text)}')
    for column, comment in meanings.items():
        connection.execute(f'COMMENT ON COLUMN "{table.name}"."{column}" IS {_quoted(comment)}')
    return [(table.name, None, text), *((table.name, column, comment) for column, comment in meanings.items())]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
