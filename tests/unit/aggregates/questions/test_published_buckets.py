"""From visits to the macros: what is published of a number in buckets, and what is answered about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.aggregates_world import utc, world_in
from tests.numbers_world import DAYS, VISITS, Visit, events_of, visits

from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.tables import AskedTable
from quietcount_schemas.events.numbers import Buckets, Summed
from quietcount_schemas.events.periods import Period

pytestmark = [pytest.mark.quick, pytest.mark.xdist_group("published buckets")]

AGES = Buckets("age", (-1, 0, 18, 65))
SPAN = "'2024-01-01', '2024-03-31'"
A_MONTH = [
    *[Visit(dt.date(2024, 1, 1), 3, "NEW", 17)] * 90,
    *[Visit(dt.date(2024, 1, 1), 10, "OLD", 40)] * 150,
    *[Visit(dt.date(2024, 1, 1), 100, "NEW", None)] * 60,
]


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    folder: Path = tmp_path_factory.mktemp("buckets")
    population = visits(
        AskedTable("by_days", 2.0, by=["kind", DAYS]),
        AskedTable("by_age", 2.0, by=[AGES]),
        AskedTable("waiting", 1.0, sum=Summed("days", (0, 60), "by_days")),
        AskedTable("new", 1.0, by=[DAYS], where={"kind": ["NEW"]}, period=Period.QUARTER),
    )
    with world_in(folder, [population], registry=VISITS, mechanism=DiscreteLaplace()) as world:
        for month in (1, 2, 3):
            told = [visit._replace(day=dt.date(2024, month, 1)) for visit in A_MONTH]
            world.emit(events_of(told, 1000 * month))
            world.fold(dt.date(2024, month, 2))
        world.release(utc(dt.date(2024, 4, 1)))
    with duckdb.connect(str(folder / "statistics.duckdb"), read_only=True) as connection:
        yield connection


def rows(public: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return public.execute(query).fetchall()


@pytest.mark.promise("public-file")
def test_the_bounds_of_each_bucket_are_published(public: duckdb.DuckDBPyConnection) -> None:
    assert rows(public, "FROM buckets ORDER BY dimension, place") == [
        ("visits", "age", 1, "<-1", -5, -2),
        ("visits", "age", 2, "-1", -1, -1),
        ("visits", "age", 3, "0..17", 0, 17),
        ("visits", "age", 4, "18..64", 18, 64),
        ("visits", "age", 5, "65+", 65, 100),
        ("visits", "age", 6, "unknown", None, None),
        ("visits", "days", 1, "0..6", 0, 6),
        ("visits", "days", 2, "7..29", 7, 29),
        ("visits", "days", 3, "30+", 30, 400),
    ]


def test_each_bucket_has_a_label_in_each_language(public: duckdb.DuckDBPyConnection) -> None:
    labels: dict[str, list[str]] = {}
    joined = "labels JOIN buckets USING (population, dimension, symbol)"
    for language, label in rows(public, f"SELECT language, label FROM {joined} ORDER BY dimension, place"):
        labels.setdefault(language, []).append(label)
    assert labels == {
        "en": ["below -1", "-1", "0–17", "18–64", "65 and more", "unknown", "0–6", "7–29", "30 and more"],
        "ru": ["меньше -1", "-1", "0–17", "18–64", "65 и больше", "неизвестно", "0–6", "7–29", "30 и больше"],
        "uk": ["менше -1", "-1", "0–17", "18–64", "65 і більше", "невідомо", "0–6", "7–29", "30 і більше"],
    }


@pytest.mark.promise("queries")
def test_a_distribution_a_percentile_and_a_mean_are_answered_from_a_released_file(
    public: duckdb.DuckDBPyConnection,
) -> None:
    """False alarms: a margin of error is below 15 here, and a sum that is 200 off has a probability below 1e-9."""
    found = rows(public, f"SELECT symbol, shown, cumulative_percent FROM distribution('by_days', 'days', {SPAN})")
    assert [symbol for symbol, *_ in found] == ["0..6", "7..29", "30+"]
    assert all(abs(shown - true) < 200 for (_, shown, _), true in zip(found, (270, 450, 180), strict=True))
    assert found[-1][2] == 100
    assert rows(public, f"SELECT symbol, lower, upper FROM percentile('by_days', 'days', {SPAN}, 50)") == [
        ("7..29", 7, 29)
    ]
    # Of the ages that are known, 90 of 240 are 0 to 17.
    ((symbol, note),) = rows(public, f"SELECT symbol, note FROM percentile('by_age', 'age', {SPAN}, 50)")
    assert symbol == "18..64"
    assert "with unknown age are left out" in note
    ((lower, upper),) = rows(public, f"SELECT lower, upper FROM mean('by_days', 'days', {SPAN}, cells := 'kind=OLD')")
    assert 6 < lower <= 7
    assert 29 <= upper < 60
    # In the table of the quarter only new visits count.
    assert rows(public, f"SELECT symbol FROM percentile('new', 'days', {SPAN}, 90)") == [("30+",)]


def test_buckets_can_be_named_in_cells(public: duckdb.DuckDBPyConnection) -> None:
    for symbol in ("<-1", "-1", "0..17", "65+", "unknown"):
        ((total,),) = rows(public, f"SELECT estimate FROM total('by_age', {SPAN}, cells := 'age={symbol}')")
        query = f"SELECT estimate FROM distribution('by_age', 'age', {SPAN}) WHERE symbol = '{symbol}'"
        assert rows(public, query) == [(total,)]


def test_an_average_is_no_count(public: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.InvalidInputException, match='"waiting" is an average and no count'):
        public.execute(f"FROM total('waiting', {SPAN})")
