"""The macros compute from the file's own tables what the publication computed: estimates alike, intervals as wide."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pytest

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Body, Declared, Entry, Opened, Released, Settled
from quietcount_aggregates.populations import (
    Dimension,
    Epsilon,
    Filter,
    Horizon,
    Late,
    Population,
    PopulationName,
    StatisticName,
    Table,
)
from quietcount_aggregates.publication.publication import publish
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

SINCE = dt.date(2022, 10, 1)
MONTHS = 17
KIND = Dimension("kind", ("A", "B", "C", "D"), "D")
REGION = Dimension("region", ("N", "S"), "N")
TABLES = (
    Table(StatisticName("monthly"), (), (KIND, REGION), Period.MONTH, Epsilon(0.5)),
    Table(StatisticName("some"), (Filter(KIND, ("A", "B")),), (REGION,), Period.QUARTER, Epsilon(0.4)),
    Table(StatisticName("quarterly"), (), (), Period.QUARTER, Epsilon(0.3)),
    Table(StatisticName("yearly"), (), (KIND,), Period.YEAR, Epsilon(0.2)),
)
SEED = 11


def released() -> Chain:
    """Return a ledger with a quarter, a year and two months of draws that were never counted."""
    population = Population(
        PopulationName("p"), "", "", ("Asked",), (), Period.MONTH, 1, Horizon.LIFETIME, SINCE, Late.CARRY, TABLES
    )
    print("seed", SEED)
    chain, rng = Chain(), np.random.default_rng(SEED)

    def append(body: Body, day: dt.date) -> None:
        moment = dt.datetime.combine(day, dt.time(), dt.UTC)
        chain.extend(Entry.make(len(chain.entries), chain.head.digest, moment, body).data)

    append(Opened(bytes(32), Decimal(10), 1), SINCE)
    append(Declared(population, whole_log=True), SINCE)
    month = SINCE
    for _ in range(MONTHS):
        following = Period.MONTH.next(month)
        append(Settled(bytes(32)), following)
        for table in TABLES:
            start, end = table.period.start(month), Period.MONTH.end(month)
            if table.period.end(month) == end and start >= SINCE:
                values = tuple(rng.integers(-5, 60, table.cells).tolist())
                digest, scale = population.digest, 1 / table.epsilon
                append(Released("p", table.name, digest, start, end, values, "x", scale), following)
        month = following
    return chain


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    path: Path = tmp_path_factory.mktemp("kernel") / "statistics.duckdb"
    publish(released(), path)
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


def agree(found: tuple[Decimal, int, int], published: tuple[Decimal, int, int]) -> None:
    """The same estimate, and the same ends but for the 1 % by which the SQL's margin may be wider."""
    assert found[0] == published[0]
    slack = 1 + (published[2] - published[1]) // 100
    assert published[1] - slack <= found[1] <= published[1]
    assert published[2] <= found[2] <= published[2] + slack


@pytest.mark.promise("intervals")
def test_a_series_of_a_cell_is_the_series_of_its_published_figures(public: duckdb.DuckDBPyConnection) -> None:
    cells = public.execute("SELECT DISTINCT statistic, cell FROM statistics ORDER BY ALL").fetchall()
    assert len(cells) == 8 + 2 + 1 + 4
    for statistic, cell in cells:
        query = "SELECT estimate, lower, upper FROM series(?, cells := ?) ORDER BY period_start"
        found = public.execute(query, [statistic, cell]).fetchall()
        published = public.execute(
            "SELECT estimate, lower, upper FROM statistics WHERE statistic = ? AND cell = ? ORDER BY period_start",
            [statistic, cell],
        ).fetchall()
        for one, other in zip(found, published, strict=True):
            agree(one, other)


def test_a_total_is_the_published_margin(public: duckdb.DuckDBPyConnection) -> None:
    margins = public.execute(
        "SELECT statistic, period_start, period_end, dimension, symbol, estimate, lower, upper FROM margins "
        "WHERE period_start IN ('2022-10-01', '2023-01-01', '2023-04-01', '2024-01-01') AND symbol NOT IN ('C', 'S')"
    ).fetchall()
    assert len(margins) > 40
    for statistic, start, end, dimension, symbol, *published in margins:
        cells = "" if dimension == "all" else f"{dimension}={symbol}"
        query = "SELECT estimate, lower, upper FROM total(?, ?, ?, cells := ?)"
        (found,) = public.execute(query, [statistic, start, end, cells]).fetchall()
        agree(found, (published[0], published[1], published[2]))


def test_a_year_of_months_is_the_year(public: duckdb.DuckDBPyConnection) -> None:
    year = "'2023-01-01', '2023-12-31'"
    for cells in ("", "kind=A", "kind!=B"):
        months, years = (
            public.execute(f"SELECT estimate, lower, upper FROM total('{name}', {year}, cells := '{cells}')").fetchall()
            for name in ("monthly", "yearly")
        )
        assert months == years
