"""What the public file says of each table: its view's comment, its population, its budget, and what is withheld."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.aggregates_world import TRIALS, MemoryLedger
from tests.unit.aggregates.ledger.ledgers import END, NOW, of, opened, settlement

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.ledger.entries import Retired, StateLost
from quietcount_aggregates.populations import Horizon, Late, Population
from quietcount_aggregates.publication.publication import publish
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

SINCE = dt.date(2024, 1, 1)
TITLE = "Who \"asked\" the 'hotline'; DROP TABLE statistics; --"
DESCRIPTION = "It's counted where the caller's first call came in.\nNot 'later' -- see the pages."


def asked() -> Population:
    return resolve(
        "asked",
        title=TITLE,
        description=DESCRIPTION,
        events=["Asked", "Answered"],
        registry=TRIALS,
        period=Period.MONTH,
        since=dt.date(2024, 2, 1),
        where={"colour": ["RED", "GREEN"]},
        max_contributions=3,
        late=Late.DROP,
        tables=[
            AskedTable("by_colour", 0.5, by=["colour"]),
            AskedTable("quarterly", 0.75, where={"colour": ["RED"]}, period=Period.QUARTER),
        ],
    )


POPULATIONS = [asked(), of("bare", 0.25, horizon=Horizon.YEAR), of("gone", 0.5)]


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with five months of one population, amid which the state was lost, and with a retired one."""
    path = tmp_path_factory.mktemp("published") / "statistics.duckdb"
    ledger = opened(MemoryLedger(), "2")
    ledger.declare(POPULATIONS, ledger.chain.opened.lifetime_epsilon, NOW, end=END)
    for month in (2, 3):
        ledger.append(
            [body for body in settlement(POPULATIONS[0], month) if body.period_start >= SINCE.replace(month=2)], NOW
        )
    ledger.append(settlement(POPULATIONS[0], 4), NOW)
    ledger.append([Retired("gone")], NOW)
    ledger.append([StateLost(1)], NOW)
    ledger.append(settlement(POPULATIONS[0], 5), NOW)
    publish(ledger.chain, path)
    return path


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query).fetchall()


def comment(path: Path, view: str) -> str:
    [(text,)] = rows(path, f"SELECT comment FROM duckdb_views() WHERE view_name = '{view}'")
    return str(text)


@pytest.mark.promise("public-file")
def test_the_comment_of_a_view_says_what_is_counted_how_often_a_case_counts_and_what_a_person_wrote(
    public: Path,
) -> None:
    counting = "At most 3 a case, over its lifetime; a late event does not count"
    assert comment(public, "by_colour") == (
        f"{TITLE}: Answered, Asked by month, where colour is GREEN or RED. {counting}. "
        f"Noised counts with 95 % intervals. {DESCRIPTION}"
    )
    assert comment(public, "quarterly") == (
        f"{TITLE}: Answered, Asked by quarter, where colour is GREEN or RED and colour is RED. {counting}. "
        f"Noised counts with 95 % intervals. {DESCRIPTION}"
    )


def test_the_comment_of_a_view_without_title_and_description_says_the_rest(public: Path) -> None:
    assert comment(public, "bare") == (
        "Asked by month. At most 1 a case, in a calendar year; a late event counts when it arrives. "
        "Noised counts with 95 % intervals."
    )


@pytest.mark.promise("public-file")
def test_quotes_in_what_a_person_wrote_stay_text(public: Path) -> None:
    assert rows(public, "SELECT count(*) > 0 FROM statistics") == [(True,)]
    found = dict(rows(public, "SELECT table_name, description FROM data_dictionary WHERE column_name IS NULL"))
    for view in ("by_colour", "quarterly", "bare"):
        assert found[view] == comment(public, view)


def test_a_figure_says_which_population_and_which_table_it_is_of(public: Path) -> None:
    assert rows(public, "SELECT DISTINCT population, statistic FROM statistics ORDER BY ALL") == [
        ("asked", "by_colour")
    ]
    kinds = rows(public, "SELECT kind, population, statistic FROM ledger WHERE kind <> 'released' ORDER BY \"index\"")
    assert kinds == [
        ("opened", None, None),
        ("declared", "asked", None),
        ("declared", "bare", None),
        ("declared", "gone", None),
        *[("settled", None, None)] * 3,
        ("retired", "gone", None),
        ("state_lost", None, None),
        ("settled", None, None),
    ]
    released = rows(public, "SELECT DISTINCT population, statistic FROM ledger WHERE kind = 'released'")
    assert released == [("asked", "by_colour")]


@pytest.mark.promise("budget")
def test_the_budget_has_a_row_for_each_table_and_adds_up(public: Path) -> None:
    found = rows(
        public,
        "SELECT population, statistic, epsilon, max_contributions, horizon, period, since, retired, counting "
        "FROM budget ORDER BY ALL",
    )
    carried = "counts when it arrives"
    assert found == [
        ("asked", "by_colour", 0.5, 3, "lifetime", "month", dt.date(2024, 2, 1), False, asked().counting),
        ("asked", "quarterly", 0.75, 3, "lifetime", "quarter", dt.date(2024, 4, 1), False, asked().counting),
        (
            "bare",
            "bare",
            0.25,
            1,
            "year",
            "month",
            SINCE,
            False,
            f"At most 1 a case, in a calendar year; a late event {carried}",
        ),
        (
            "gone",
            "gone",
            0.5,
            1,
            "lifetime",
            "month",
            SINCE,
            True,
            f"At most 1 a case, over its lifetime; a late event {carried}",
        ),
    ]
    [(declared,)] = rows(public, "SELECT value FROM about WHERE key = 'epsilon_declared'")
    assert float(declared) == sum(row[2] for row in found) == 2


def test_the_budget_holds_the_declaration_of_each_tables_population(public: Path) -> None:
    found = rows(public, "SELECT population, declaration FROM budget")
    canonical = {population.name: population.canonical for population in POPULATIONS}
    assert all(declaration == canonical[name] for name, declaration in found)
    assert json.loads(dict(found)["asked"])["title"] == TITLE


@pytest.mark.promise("public-file")
def test_a_withheld_period_is_in_the_file_with_its_reason(public: Path) -> None:
    [(lost,)] = rows(public, "SELECT \"index\" FROM ledger WHERE kind = 'state_lost'")
    reason = f"a part of it was counted in a state that was lost (ledger entry {lost})"
    assert rows(public, "FROM withheld") == [("quarterly", dt.date(2024, 4, 1), dt.date(2024, 6, 30), reason)]
    described = dict(rows(public, "SELECT column_name, description FROM data_dictionary WHERE table_name = 'withheld'"))
    assert set(described) == {None, "statistic", "period_start", "period_end", "reason"}
    assert described[None] == "The periods that are never released, with the reason."


@pytest.mark.parametrize("table", ["statistics", "ledger", "budget"])
def test_the_column_population_is_described(table: str, public: Path) -> None:
    where = f"table_name = '{table}' AND column_name = 'population'"
    [(description,)] = rows(public, f"SELECT description FROM data_dictionary WHERE {where}")
    assert description.startswith("The population")


ASKED = {
    "total": "FROM total('by_colour', '2024-02-01', '2024-02-29')",
    "series": "FROM series('by_colour')",
    "cumulative": "FROM cumulative('by_colour')",
    "compare": "FROM compare('by_colour', '2024-02-01', '2024-02-29', '2024-03-01', '2024-03-31')",
    "year_on_year": "FROM year_on_year('by_colour')",
    "share": "FROM share('by_colour', '2024-02-01', '2024-02-29', 'colour=RED')",
    "distribution": "FROM distribution('by_colour', 'days', '2024-02-01', '2024-02-29') LIMIT 0",
    "percentile": "FROM percentile('by_colour', 'days', '2024-02-01', '2024-02-29', 50) LIMIT 0",
    "mean": "FROM mean('by_colour', 'days', '2024-02-01', '2024-02-29') LIMIT 0",
    "ranking": "FROM ranking('by_colour', '2024-02-01', '2024-02-29', by := 'colour')",
}


@pytest.mark.promise("public-file")
@pytest.mark.parametrize("macro", ASKED)
def test_each_column_that_a_macro_returns_is_described_in_its_order(macro: str, public: Path) -> None:
    returned = [column for column, *_ in rows(public, f"DESCRIBE {ASKED[macro]}")]
    described = rows(
        public, f"SELECT column_name FROM data_dictionary WHERE table_name = '{macro}' AND column_name IS NOT NULL"
    )
    assert [column for (column,) in described] == returned


def test_each_macro_of_the_file_is_asked_here(public: Path) -> None:
    found = rows(public, "SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal")
    assert {name for (name,) in found} == set(ASKED)
