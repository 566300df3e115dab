"""Small public files for the macros: the tables that they read, filled from what a test declares.

The kernels are the ones that can be written down by hand: tables that are released alone (`Alone`), months reconciled
with their quarters (`MONTHS_AND_QUARTERS`), and cells reconciled with their total (`CELLS_AND_TOTAL`).
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from quietcount_aggregates.publication.template import STORAGE_VERSION
from quietcount_aggregates.questions import macros

Symbols = tuple[str, ...]
Bounds = tuple[int, int]
Weight = tuple[int, int, int, str, int, int, float]
"""shape, place, response, statistic, node, signal, weight"""


def variance(scale: float) -> float:
    """Return the variance of one discrete Laplace draw."""
    a = math.exp(-1 / scale)
    return 2 * a / (1 - a) ** 2


def months(first: dt.date, count: int) -> list[tuple[dt.date, dt.date]]:
    """Return the first and the last days of so many months."""
    starts = [
        dt.date(first.year + (first.month - 1 + i) // 12, (first.month - 1 + i) % 12 + 1, 1) for i in range(count + 1)
    ]
    return [(start, end - dt.timedelta(days=1)) for start, end in itertools.pairwise(starts)]


@dataclass(slots=True)
class Table:
    """A released table: `estimates` by period and cell, cells in the order of the product of its dimensions."""

    name: str
    scale: float
    periods: Sequence[tuple[dt.date, dt.date]]
    estimates: Sequence[Sequence[float]]
    by: Mapping[str, Symbols] = field(default_factory=dict)
    uncounted: frozenset[tuple[str, str]] = frozenset()
    buckets: Mapping[str, Sequence[Bounds | None]] = field(default_factory=dict)
    """The bounds of each symbol of a dimension that is a number; None if the symbol says that it is unknown."""

    @property
    def cells(self) -> list[str]:
        """The cells as the file writes them."""
        return [
            ", ".join(f"{name}={symbol}" for name, symbol in zip(self.by, symbols, strict=True)) or "all"
            for symbols in itertools.product(*self.by.values())
        ]


@dataclass(slots=True)
class Population:
    """Tables with the kernel of their noise, as the public file has it."""

    name: str
    tables: Sequence[Table]
    leaves: Sequence[tuple[dt.date, dt.date, int, int, int, int]]
    """period_start, period_end, block, shape, place, alike"""
    responses: Sequence[tuple[int, str, int]]
    signals: Sequence[tuple[int, str, int, bool]]
    weights: Sequence[Weight]
    parts: Mapping[tuple[str, str], int] = field(default_factory=dict)


def alone(table: Table) -> Population:
    """Return a population with one table: the estimate of a cell is its draw."""
    subsets = list(
        itertools.chain.from_iterable(itertools.combinations(table.by, size) for size in range(len(table.by) + 1))
    )
    return Population(
        f"{table.name}_population",
        [table],
        [(start, end, block, 1, 0, 0) for block, (start, end) in enumerate(table.periods)],
        [(number, d, 1) for number, subset in enumerate(subsets) for d in table.by if d not in subset],
        [(number, d, 1, d in subset) for number, subset in enumerate(subsets) for d in table.by],
        [(1, 0, number, table.name, 0, number, 1.0) for number in range(len(subsets))],
    )


def months_and_quarters(name: str, monthly: Table, quarterly: Table) -> Population:
    """Return months, three and three reconciled with a quarter, but for the last ones if their quarter is not out.

    The estimate of a month is m_i + (q - m_1 - m_2 - m_3) v / (3 v + V), with v and V the variances of the two draws.
    """
    share = variance(monthly.scale) / (3 * variance(monthly.scale) + variance(quarterly.scale))
    whole = 3 * len(quarterly.periods)
    leaves = [
        (start, end, i // 3, 1, i % 3, 0) if i < whole else (start, end, i, 2, 0, 0)
        for i, (start, end) in enumerate(monthly.periods)
    ]
    weights: list[Weight] = [(2, 0, 0, monthly.name, 0, 0, 1.0)]
    for place in range(3):
        weights += [(1, place, 0, monthly.name, node, 0, (place == node) - share) for node in range(3)]
        weights.append((1, place, 0, quarterly.name, 3, 1, share))
    return Population(name, [monthly, quarterly], leaves, [], [], weights)


def cells_and_total(name: str, detailed: Table, total: Table) -> Population:
    """Return a table with one dimension reconciled with one without, in the same periods.

    The estimate of a cell is y_c + (t - sum y) v / (k v + V), with k the number of cells.
    """
    (dimension, symbols), *_ = detailed.by.items()
    cells = len(symbols) * variance(detailed.scale)
    share = cells / (cells + variance(total.scale))
    return Population(
        name,
        [detailed, total],
        [(start, end, block, 1, 0, 0) for block, (start, end) in enumerate(detailed.periods)],
        [(0, dimension, 1)],
        [(0, dimension, 1, False), (1, dimension, 1, True)],
        [
            (1, 0, 0, detailed.name, 0, 0, 1 - share),
            (1, 0, 0, total.name, 0, 2, share),
            (1, 0, 1, detailed.name, 0, 1, 1.0),
        ],
    )


_TABLES = """
CREATE TABLE statistics (population VARCHAR, statistic VARCHAR, period_start DATE, period_end DATE, cell VARCHAR,
    estimate DECIMAL(18, 6), status VARCHAR);
CREATE TABLE budget (population VARCHAR, statistic VARCHAR, period VARCHAR);
CREATE TABLE margins (population VARCHAR, statistic VARCHAR, dimension VARCHAR, symbol VARCHAR, period VARCHAR,
    period_start DATE, period_end DATE);
CREATE TABLE withheld (statistic VARCHAR, period_start DATE, period_end DATE, reason VARCHAR);
CREATE TABLE averages (population VARCHAR, statistic VARCHAR);
CREATE TABLE buckets (population VARCHAR, dimension VARCHAR, place INTEGER, symbol VARCHAR, lower BIGINT, upper BIGINT);
CREATE TABLE noise_symbols (population VARCHAR, statistic VARCHAR, dimension VARCHAR, place INTEGER, symbol VARCHAR,
    part INTEGER, counted BOOLEAN);
CREATE TABLE noise_periods (population VARCHAR, period_start DATE, period_end DATE, block INTEGER, shape INTEGER,
    place INTEGER, alike INTEGER);
CREATE TABLE noise_scales (population VARCHAR, statistic VARCHAR, scale DOUBLE, variance DOUBLE);
CREATE TABLE noise_responses (population VARCHAR, response INTEGER, dimension VARCHAR, part INTEGER);
CREATE TABLE noise_signals (population VARCHAR, signal INTEGER, dimension VARCHAR, part INTEGER, residual BOOLEAN);
CREATE TABLE noise_weights (population VARCHAR, shape INTEGER, place INTEGER, response INTEGER, statistic VARCHAR,
    node INTEGER, signal INTEGER, weight DOUBLE);
"""


@functools.cache
def _empty() -> bytes:
    """Return a public file without a row. It is built once: DuckDB takes half a second to parse the macros."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "empty.duckdb")
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{path}' AS public (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("USE public")
            connection.execute(_TABLES + macros())
            connection.execute("USE memory; DETACH public")
        return path.read_bytes()


@contextmanager
def building(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Lend the connection that writes a public file at `path`; the macros are in it."""
    path.write_bytes(_empty())
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS public")
        connection.execute("USE public")
        yield connection
        connection.execute("USE memory")
        connection.execute("DETACH public")


def exchange(connection: duckdb.DuckDBPyConnection, macro: str, right: str, wrong: str) -> None:
    """Exchange a piece of one of the macros of the public file that is open."""
    [statement] = re.findall(rf"^CREATE (MACRO {macro}\(.*?;)$", macros(), re.MULTILINE | re.DOTALL)
    assert right in statement
    connection.execute(f"CREATE OR REPLACE {statement.replace(right, wrong)}")


def written(
    path: Path,
    *populations: Population,
    withheld: Sequence[tuple[str, dt.date, dt.date, str]] = (),
) -> Path:
    """Write a public file that holds the populations, and return its path."""
    with building(path) as connection:
        for population in populations:
            fill(connection, population)
        for row in withheld:
            connection.execute("INSERT INTO withheld VALUES (?, ?, ?, ?)", list(row))
    return path


def fill(connection: duckdb.DuckDBPyConnection, population: Population) -> None:
    def insert(table: str, rows: Sequence[Sequence[object]]) -> None:
        if rows:
            marks = ", ".join("?" for _ in range(len(rows[0]) + 1))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", [[population.name, *row] for row in rows])

    dimensions = {d: symbols for table in population.tables for d, symbols in table.by.items()}
    for table in population.tables:
        insert("budget", [(table.name, "month")])
        insert("margins", [(table.name, "all", "all", "month", start, end) for start, end in table.periods])
        insert("noise_scales", [(table.name, table.scale, variance(table.scale))])
        places = {d: place for place, d in enumerate(table.by, 1)}
        insert(
            "noise_symbols",
            [
                (
                    table.name,
                    d,
                    places.get(d, 0),
                    each,
                    population.parts.get((d, each), 1),
                    (d, each) not in table.uncounted,
                )
                for d, symbols in dimensions.items()
                for each in symbols
            ],
        )
        insert(
            "statistics",
            [
                (table.name, start, end, cell, value, "final")
                for (start, end), values in zip(table.periods, table.estimates, strict=True)
                for cell, value in zip(table.cells, values, strict=False)
            ],
        )
    bounds = {d: each for table in population.tables for d, each in table.buckets.items()}
    for d, each in bounds.items():
        both = [pair or (None, None) for pair in each]
        insert("buckets", [(d, i, x, *pair) for i, (x, pair) in enumerate(zip(dimensions[d], both, strict=True), 1)])
    insert("noise_periods", population.leaves)
    insert("noise_responses", population.responses)
    insert("noise_signals", population.signals)
    insert("noise_weights", population.weights)
