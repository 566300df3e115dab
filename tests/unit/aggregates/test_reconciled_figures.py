"""Reconciled figures in the public file: they add up, say when they are final, and keep what was published at first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.aggregates_world import TRIALS, World, case_key, event_id, utc, world_in

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.ledger.entries import Retired
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.populations import Population
from quietcount_aggregates.publication.projection import published_figures, reconciled
from quietcount_schemas.codec import CaseEvent
from quietcount_schemas.events.periods import Period

pytestmark = [pytest.mark.quick, pytest.mark.xdist_group("reconciled figures")]

Row = dict[str, Any]
MONTHS = [dt.date(2023 + (month // 12), month % 12 + 1, 1) for month in range(9, 27)]
"""Month after month, from October 2023: a whole quarter, a whole year and a part of one."""


def asked() -> Population:
    return resolve(
        "asked",
        events=["Asked"],
        registry=TRIALS,
        period=Period.MONTH,
        since=MONTHS[0],
        where={"colour": ["RED", "GREEN"]},
        tables=[
            AskedTable("monthly", 0.5, by=["colour", "urgent"]),
            AskedTable("red", 0.3, where={"colour": ["RED"]}, by=["urgent"], period=Period.QUARTER),
            AskedTable("quarterly", 0.4, period=Period.QUARTER),
            AskedTable("yearly", 0.2, by=["colour"], period=Period.YEAR),
        ],
    )


def rows(path: Path, query: str) -> list[Row]:
    with duckdb.connect(str(path), read_only=True) as connection:
        result = connection.execute(query)
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def lived(world: World, month: dt.date) -> None:
    """Emit the events of a month, and release it a day after its end."""
    number = month.toordinal()
    world.emit(
        [
            CaseEvent(
                "Asked", case_key(case % 200), event_id(1000 * number + case), 0, month,
                {"colour": "RED" if case % 3 else "GREEN", "urgent": case % 2 == 0},
            )
            for case in range(20 + month.month)
        ]
    )  # fmt: skip
    end = Period.MONTH.next(month)
    world.fold(end)
    world.release(utc(end))


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[list[Row]]]]:
    """The file after the last month, and what it held after each: an edition is the rows of `statistics`."""
    with world_in(tmp_path_factory.mktemp("editions"), [asked()], mechanism=DiscreteLaplace()) as world:
        published = []
        for month in MONTHS:
            lived(world, month)
            published.append(rows(world.public, "FROM statistics"))
        yield world.public, published


@pytest.fixture
def public(lives: tuple[Path, list[list[Row]]]) -> Path:
    return lives[0]


@pytest.fixture
def editions(lives: tuple[Path, list[list[Row]]]) -> list[list[Row]]:
    return lives[1]


def key(row: Row) -> tuple[str, dt.date, str]:
    return row["statistic"], row["period_start"], row["cell"]


@pytest.mark.promise("reconciled")
def test_every_margin_is_the_same_whichever_table_it_is_summed_from(public: Path) -> None:
    quarters = (
        "SELECT date_trunc('quarter', period_start)::DATE AS quarter, sum(estimate) AS estimate FROM {} "
        "WHERE {} GROUP BY quarter ORDER BY quarter"
    )
    whole = "period_start < '2025-01-01'"
    total = rows(public, quarters.format("monthly", whole))
    assert len(total) == 5
    assert total == rows(public, quarters.format("quarterly", whole))
    red = rows(public, quarters.format("monthly", f"{whole} AND colour = 'RED'"))
    assert red == rows(public, quarters.format("red", whole))
    in_year = (
        "SELECT colour, sum(estimate) AS estimate FROM {} WHERE year(period_start) = 2024 GROUP BY ALL ORDER BY ALL"
    )
    assert rows(public, in_year.format("monthly")) == rows(public, in_year.format("yearly"))
    assert any(row["estimate"] % 1 for row in total), "nothing was reconciled: the trial shows nothing"


@pytest.mark.promise("reconciled")
def test_the_published_margins_are_the_sums_of_the_cells(public: Path) -> None:
    found = rows(public, "FROM margins")
    summed = rows(
        public,
        "SELECT m.* REPLACE (sum(s.estimate) AS estimate) FROM margins m JOIN statistics s "
        "ON s.statistic = m.statistic AND s.period_start >= m.period_start AND s.period_end <= m.period_end "
        "AND (m.dimension = 'all' OR list_contains(string_split(s.cell, ', '), m.dimension || '=' || m.symbol)) "
        "GROUP BY ALL ORDER BY ALL",
    )
    assert summed == rows(public, "FROM margins ORDER BY ALL")
    assert {(row["statistic"], row["dimension"], row["period"]) for row in found} == {
        *(("monthly", each, period) for each in ("all", "colour", "urgent") for period in ("month", "quarter", "year")),
        *(("red", "all", period) for period in ("quarter", "year")),
        ("red", "urgent", "year"),
        *(("quarterly", "all", period) for period in ("quarter", "year")),
        ("yearly", "all", "year"),
    }  # fmt: skip
    years = [row for row in found if row["period"] == "year"]
    assert {row["period_start"] for row in years} == {dt.date(2024, 1, 1)}, "2023 and 2025 are not whole"


@pytest.mark.promise("reconciled")
def test_a_figure_is_provisional_until_every_table_that_covers_its_period_is_released(
    editions: list[list[Row]],
) -> None:
    year_is_out = MONTHS.index(dt.date(2024, 12, 1))
    for number, edition in enumerate(editions):
        for row in edition:
            # No year of 2023 is ever released: its quarter is final as soon as it is out.
            if row["period_start"].year == 2023:
                assert row["status"] == ("final" if number >= 2 else "provisional")
            elif row["period_start"].year == 2024:
                assert row["status"] == ("final" if number >= year_is_out else "provisional")
            else:
                assert row["status"] == "provisional"


@pytest.mark.promise("reconciled")
def test_what_is_final_never_changes_and_what_was_published_first_stays_in_the_file(editions: list[list[Row]]) -> None:
    first: dict[Any, Decimal] = {}
    final: dict[Any, tuple[Any, ...]] = {}
    revised = 0
    for edition in editions:
        for row in edition:
            first.setdefault(key(row), row["estimate"])
            assert row["first_estimate"] == first[key(row)]
            revised += row["first_estimate"] != row["estimate"]
            told = tuple(row[name] for name in ("estimate", "shown", "lower", "upper", "noisy", "status"))
            assert final.setdefault(key(row), told) == told if row["status"] == "final" else key(row) not in final
    assert revised > 100


def test_a_later_month_revises_nothing_in_a_quarter_that_is_out(editions: list[list[Row]]) -> None:
    march, april = editions[MONTHS.index(dt.date(2024, 3, 1))], editions[MONTHS.index(dt.date(2024, 4, 1))]
    before = {key(row): row["estimate"] for row in march}
    assert before.items() <= {key(row): row["estimate"] for row in april}.items()


def test_a_retired_population_waits_for_nothing(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()], mechanism=DiscreteLaplace()) as world:
        lived(world, MONTHS[0])
        assert {row["status"] for row in rows(world.public, "FROM statistics")} == {"provisional"}
        world.ledger.append([Retired("asked")], utc(MONTHS[1]))
        world.releaser.publish()
        assert {row["status"] for row in rows(world.public, "FROM statistics")} == {"final"}


@pytest.mark.promise("reconciled")
def test_a_quarter_that_is_withheld_is_waited_for_by_nobody(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()], mechanism=DiscreteLaplace()) as world:
        lived(world, MONTHS[0])
        world.lose_state(utc(MONTHS[1]))
        world.restart(utc(MONTHS[1]))
        for month in MONTHS[1:3]:
            lived(world, month)
        found = rows(world.public, "SELECT DISTINCT statistic, status FROM statistics")
        assert found == [{"statistic": "monthly", "status": "final"}]
        assert {row["estimate"] % 1 for row in rows(world.public, "FROM statistics")} == {0}


def test_python_tells_a_figure_as_the_file_does(public: Path) -> None:
    """The service shows figures to Prometheus without reading the file."""
    told = rows(public, "SELECT estimate, shown, lower, upper, upper - greatest(estimate, 0) AS above FROM statistics")
    assert min(row["estimate"] for row in told) < 0
    for row in told:
        millionths = int(row["estimate"] * 10**6)
        for around in range(int(row["above"] * 10**6), int(row["above"] * 10**6) + 10**6, 99_999):
            shown, lower, upper = published_figures(millionths, around)
            assert shown == row["shown"]
            if (lower, upper) == (row["lower"], row["upper"]):
                break
        else:
            pytest.fail(f"no margin gives {row}")


def test_the_newest_figures_are_those_of_the_file(tmp_path: Path) -> None:
    with world_in(tmp_path, [asked()], mechanism=DiscreteLaplace()) as world:
        for month in MONTHS[:5]:
            lived(world, month)
        reconciliation, _ = reconciled(world.ledger.chain, asked())
        for table in asked().tables:
            newest = reconciliation.newest(table.name)
            told = rows(
                world.public,
                f"FROM statistics WHERE statistic = '{table.name}' "
                f"AND period_start = (SELECT max(period_start) FROM statistics WHERE statistic = '{table.name}')",
            )
            if table.name == "yearly":
                assert newest is None
                continue
            assert newest is not None
            figures = zip(table.domain, *newest, strict=True)
            of_cells = {cell: published_figures(int(estimate), int(around)) for cell, estimate, around in figures}
            assert of_cells == {row["cell"]: (row["shown"], row["lower"], row["upper"]) for row in told}
