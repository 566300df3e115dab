"""What it takes to publish a million released cells, reconciliation included, and to ask the file.

Prints times, their ratio to writing and reading a plain table of as many rows, and the peak memory; judges no time.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Body, Declared, Entry, Opened, Released, Settled
from quietcount_aggregates.populations import (
    Dimension,
    Epsilon,
    Horizon,
    Late,
    Population,
    PopulationName,
    StatisticName,
    Table,
)
from quietcount_aggregates.publication.publication import publish
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.bench

MONTHS = 100
SYMBOLS = 100
SINCE = dt.date(2015, 1, 1)
ROUNDS = 5

QUESTIONS = {
    "the view of the finest table": "SELECT sum(estimate) FROM fine",
    "one cell of it": "SELECT sum(estimate) FROM fine WHERE a = 'A007' AND b = 'B042'",
    "margins": "SELECT count(*) FROM margins WHERE period = 'year'",
    "total": "FROM total('fine', '2015-01-01', '2022-12-31')",
    "total of cells": "FROM total('fine', '2015-02-01', '2022-10-31', cells := 'a=A001|A002, b!=B003')",
    "compare": "FROM compare('fine', '2020-01-01', '2020-06-30', '2020-07-01', '2020-12-31', cells := 'a=A001')",
    "share": "FROM share('fine', '2020-01-01', '2020-12-31', 'a=A001')",
    "series": "FROM series('fine', cells := 'a=A001')",
    "ranking": "FROM ranking('fine', '2020-01-01', '2020-12-31', by := 'a')",
    "year_on_year": "FROM year_on_year('fine', cells := 'a=A001')",
    "distribution": "FROM distribution('fine', 'b', '2020-01-01', '2020-12-31')",
    "percentile": "FROM percentile('fine', 'b', '2020-01-01', '2020-12-31', 50)",
    "mean": "FROM mean('fine', 'b', '2020-01-01', '2020-12-31')",
    "cumulative": "FROM cumulative('fine', cells := 'a=A001')",
}


def released() -> Chain:
    """Return a ledger with a table of 10,000 cells by the month, one of 100 by the quarter, and a total by the year."""
    a = Dimension("a", tuple(f"A{i:03}" for i in range(SYMBOLS)), "A000")
    bounds = tuple((10 * i, 10 * i + 9) for i in range(SYMBOLS))  # a number in a hundred buckets
    b = Dimension("b", tuple(f"B{i:03}" for i in range(SYMBOLS)), "B000", bounds)
    tables = (
        Table(StatisticName("fine"), (), (a, b), Period.MONTH, Epsilon(0.5)),
        Table(StatisticName("quarterly"), (), (a,), Period.QUARTER, Epsilon(0.2)),
        Table(StatisticName("yearly"), (), (), Period.YEAR, Epsilon(0.1)),
    )
    population = Population(
        PopulationName("p"), "", "", ("Asked",), (), Period.MONTH, 1, Horizon.LIFETIME, SINCE, Late.CARRY, tables
    )
    chain, rng = Chain(), np.random.default_rng(1)

    def append(body: Body, day: dt.date) -> None:
        moment = dt.datetime.combine(day, dt.time(), dt.UTC)
        chain.extend(Entry.make(len(chain.entries), chain.head.digest, moment, body).data)

    append(Opened(bytes(32), Decimal(10), 1), SINCE)
    append(Declared(population, whole_log=True), SINCE)
    month = SINCE
    for _ in range(MONTHS):
        following = Period.MONTH.next(month)
        append(Settled(bytes(32)), following)
        for table in tables:
            if table.period.end(month) == Period.MONTH.end(month):
                values = tuple(rng.integers(-5, 50, table.cells).tolist())
                start, end = table.period.start(month), Period.MONTH.end(month)
                append(
                    Released("p", table.name, population.digest, start, end, values, "x", 1 / table.epsilon),
                    following,
                )
        month = following
    return chain


def measured(folder: Path) -> dict[str, Any]:
    """Publish once and ask each question; return seconds, and the peak memory in KiB."""
    chain = released()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = folder / "statistics.duckdb"
    started = time.perf_counter()
    publish(chain, path)
    found: dict[str, Any] = {"publication": time.perf_counter() - started, "before": before}
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["bytes"] = path.stat().st_size
    plain = folder / "plain.duckdb"
    started = time.perf_counter()
    with duckdb.connect(str(plain)) as connection:
        connection.execute(f"ATTACH '{path}' AS public (READ_ONLY)")
        connection.execute("CREATE TABLE plain AS FROM public.statistics")
    found["plain"] = time.perf_counter() - started
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET enable_progress_bar = false")  # it would be written among the results
        found["cells"] = connection.execute("SELECT count(*) FROM statistics").fetchall()[0][0]
        for name, question in QUESTIONS.items():
            taken = []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                connection.execute(question).fetchall()
                taken.append(time.perf_counter() - started)
            found[name] = statistics.median(taken)
    return found


def test_a_million_released_cells(tmp_path: Path) -> None:
    program = (
        "import json, sys, pathlib; from tests.benchmarks.test_bench_publication import measured; "
        "print(json.dumps(measured(pathlib.Path(sys.argv[1]))))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    print(f"\n{found['cells']:,} released cells, a file of {found['bytes'] / 2**20:.0f} MiB")
    ratio = found["publication"] / found["plain"]
    print(f"  publication {found['publication']:.2f} s, {ratio:.1f} of copying the rows into a plain table;", end=" ")
    print(f"peak {found['peak'] / 2**10:.0f} MiB, of which {found['before'] / 2**10:.0f} before it began")
    for name in QUESTIONS:
        print(f"  {name:30} {1000 * found[name]:7.1f} ms")
    assert found["cells"] > 1_000_000
    assert found["peak"] < 2**20, "more than 1 GiB"
