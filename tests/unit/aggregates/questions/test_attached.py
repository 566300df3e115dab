"""The macros work in a file that is opened or attached under any name, and refuse to read another one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from tests.questions_world import Table, alone, months, written

from quietcount_aggregates.questions import expanded, macros

pytestmark = pytest.mark.quick

YEARS = months(dt.date(2023, 1, 1), 14)
CALLS = [
    "total('asked', '2023-01-01', '2023-03-31'{})",
    "compare('asked', '2023-01-01', '2023-03-31', '2023-04-01', '2023-06-30'{})",
    "series('asked'{})",
    "cumulative('asked'{})",
    "year_on_year('asked'{})",
    "share('asked', '2023-01-01', '2023-03-31', 'colour=RED'{})",
    "ranking('asked', '2023-01-01', '2023-03-31', by := 'colour'{})",
    "distribution('asked', 'days', '2023-01-01', '2023-03-31'{})",
    "percentile('asked', 'days', '2023-01-01', '2023-03-31', 50{})",
    "mean('asked', 'days', '2023-01-01', '2023-03-31'{})",
]
ANSWERS = {call.partition("(")[0]: call for call in CALLS}


def edition(path: Path, first: float) -> Path:
    estimates = [[(first + month) / 2, first, (first + month) / 2, first**2 / 100] for month in range(14)]
    by = {"days": ("0..6", "7+"), "colour": ("GREEN", "RED")}
    return written(path, alone(Table("asked", 2.0, YEARS, estimates, by, buckets={"days": [(0, 6), (7, 30)]})))


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("editions")
    return edition(folder / "statistics.duckdb", 50), edition(folder / "an older one.duckdb", 500)


@pytest.fixture(scope="module")
def opened(editions: tuple[Path, Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """The newer edition, opened once: DuckDB takes a tenth of a second to read its catalogue."""
    with duckdb.connect(str(editions[0]), read_only=True) as opened:
        yield opened


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.mark.parametrize("call", CALLS)
def test_a_macro_answers_in_a_file_opened_attached_or_in_use(
    editions: tuple[Path, Path], opened: duckdb.DuckDBPyConnection, connection: duckdb.DuckDBPyConnection, call: str
) -> None:
    expected = opened.execute(f"FROM {call.format('')}").fetchall()
    assert expected
    connection.execute(f"ATTACH '{editions[0]}' AS \"any name\" (READ_ONLY)")
    named = call.format(", db := 'any name'")
    assert connection.execute(f'FROM "any name".{named}').fetchall() == expected
    connection.execute('USE "any name"')
    assert connection.execute(f"FROM {call.format('')}").fetchall() == expected


@pytest.mark.parametrize("call", CALLS)
def test_a_macro_says_which_file_is_missing_instead_of_reading_another(
    editions: tuple[Path, Path], connection: duckdb.DuckDBPyConnection, call: str
) -> None:
    connection.execute(f"ATTACH '{editions[0]}' AS a (READ_ONLY)")
    with pytest.raises(duckdb.InvalidInputException, match=r'the database in use is "memory".* Pass db := '):
        connection.execute(f"FROM a.{call.format('')}")
    connection.execute(f"ATTACH '{editions[1]}' AS b (READ_ONLY)")
    connection.execute("USE a")
    with pytest.raises(
        duckdb.InvalidInputException, match=r"several published files are attached \(a, b\).* db := 'a'"
    ):
        connection.execute(f"FROM b.{call.format('')}")
    of_a, of_b = (connection.execute(f"FROM {x}." + call.format(f", db := '{x}'")).fetchall() for x in ("a", "b"))
    assert of_a != of_b


def test_a_variable_of_the_caller_is_never_taken_for_a_table(
    editions: tuple[Path, Path], connection: duckdb.DuckDBPyConnection
) -> None:
    """DuckDB takes a table that it does not find from the Python around the query."""
    statistics = budget = withheld = margins = {"statistic": ["asked"]}
    assert statistics is budget is withheld is margins
    connection.execute(f"ATTACH '{editions[0]}' AS a (READ_ONLY)")
    connection.execute("ATTACH ':memory:' AS mine")
    connection.execute("USE mine")
    with pytest.raises(duckdb.CatalogException, match="noise_scales does not exist"):
        connection.execute(f"FROM a.{CALLS[0].format('')}")


def test_arguments_can_be_bound(opened: duckdb.DuckDBPyConnection) -> None:
    found = opened.execute("FROM total(?, ?, ?, cells := ?)", ["asked", YEARS[0][0], YEARS[2][1], "colour=GREEN"])
    assert found.fetchall()[0][1] == 153


def test_the_macros_use_nothing_that_an_older_or_newer_duckdb_lacks() -> None:
    """A lambda is written in two ways that exclude each other, and DuckDB 1.4 does not find a WITH that 2.0 wrote."""
    text = macros()
    assert "->" not in text
    assert "lambda" not in text.lower()
    assert "WITH " not in text
    assert "json" not in text.lower()


def test_every_macro_is_described_and_nothing_else_is_created(opened: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT DISTINCT function_name, comment FROM duckdb_functions() WHERE NOT internal"
    described = dict(opened.execute(query).fetchall())
    assert described.keys() == ANSWERS.keys()
    assert all(described[name].startswith(f"{name}(the_statistic, ") for name in ANSWERS)


@pytest.mark.parametrize("call", CALLS)
def test_every_column_of_an_answer_is_described(opened: duckdb.DuckDBPyConnection, call: str) -> None:
    columns = [column[0] for column in opened.execute(f"FROM {call.format('')} LIMIT 0").description or []]
    query = expanded("SELECT name FROM @answer_columns() WHERE macro = ? ORDER BY place")
    assert [name for (name,) in opened.execute(query, [call.partition("(")[0]]).fetchall()] == columns
