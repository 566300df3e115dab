"""The public file: whole at every moment, described in every part, and the same again after it was deleted."""

from __future__ import annotations

import datetime as dt
import hashlib
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests import forking
from tests.aggregates_world import TRIALS, World, utc, world_in
from tests.populations import population_of
from tests.published_world import SINCE, published_in

from quietcount_aggregates import publication
from quietcount_aggregates.errors import PublicationDefect, PublicationError
from quietcount_aggregates.ledger.entries import Entry, Head
from quietcount_aggregates.noise import margin
from quietcount_aggregates.populations import Horizon
from quietcount_aggregates.publication import publish, published_head
from quietcount_schemas.periods import Period

pytestmark = pytest.mark.quick

TABLES = ["about", "budget", "data_dictionary", "ledger", "margins", "statistics", "withheld"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with published_in(tmp_path_factory.mktemp("published")) as world:
        yield world


def rows(path: Path, query: str, arguments: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query, arguments or []).fetchall()


@pytest.mark.promise("public-file")
def test_the_file_is_readable_by_everyone_and_stands_alone(world: World) -> None:
    assert stat.S_IMODE(world.public.stat().st_mode) == 0o644
    assert [path.name for path in world.folder.glob("statistics.duckdb*")] == ["statistics.duckdb"]


@pytest.mark.promise("public-file")
def test_everything_in_it_is_described(world: World) -> None:
    undescribed = rows(
        world.public,
        """
        SELECT table_name FROM duckdb_tables() WHERE NOT internal AND comment IS NULL
        UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL
        UNION ALL SELECT table_name || '.' || column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL
        UNION ALL SELECT function_name FROM duckdb_functions()
            WHERE NOT internal AND database_name = 'statistics' AND comment IS NULL
        """,
    )
    assert undescribed == []
    dictionary = rows(world.public, "SELECT table_name, column_name FROM data_dictionary")
    assert len(dictionary) == len(set(dictionary))
    assert {name for name, column in dictionary if column is None} >= {*TABLES, "plain", "detailed", "compare", "total"}
    assert ("detailed", "colour") in dictionary


@pytest.mark.promise("no-exact-count")
def test_a_row_holds_the_noised_value_and_its_interval_and_nothing_else(world: World) -> None:
    found = rows(
        world.public,
        "SELECT statistic, period_start, cell, estimate, lower, upper, noisy, noise_scale FROM statistics",
    )
    domains: dict[str, list[str]] = {table.name: table.domain for _, table in world.ledger.chain.tables}
    drawn = {
        (name, start, cell): value
        for (name, start), values in world.released.items()
        for cell, value in zip(domains[name], values, strict=True)
    }
    assert len(found) == len(drawn) == 6 + 6 * 6
    for statistic, start, cell, estimate, lower, upper, noisy, scale in found:
        m = margin(scale)
        assert noisy == drawn[statistic, start, cell]
        assert (estimate, lower, upper) == (max(noisy, 0), max(noisy - m, 0), max(noisy, 0) + m)


def test_the_view_of_a_table_has_its_dimensions_as_columns(world: World) -> None:
    columns = [row[0] for row in rows(world.public, "DESCRIBE detailed")]
    assert columns[:4] == ["period_start", "period_end", "colour", "urgent"]
    cells = rows(world.public, "SELECT DISTINCT colour, urgent FROM detailed ORDER BY ALL")
    assert cells == [(colour, urgent) for colour in ("GREEN", "NONE", "RED") for urgent in ("false", "true")]
    assert "cell" not in columns


def test_the_head_in_it_is_the_chains_and_anyone_can_check_the_entries(world: World) -> None:
    assert published_head(world.public) == world.ledger.chain.head
    entries = rows(world.public, 'SELECT entry, digest, previous FROM ledger ORDER BY "index"')
    previous = bytes(32).hex()
    for place, (data, digest, named) in enumerate(entries):
        assert named == previous
        assert Entry.read(bytes(data), place).digest.hex() == digest
        assert hashlib.sha256(b"quietcount ledger entry\0" + bytes(data)).hexdigest() == digest
        previous = digest


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows(path, f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES}


@pytest.mark.promise("published-again")
def test_deleted_and_published_again_it_holds_the_same(world: World, tmp_path: Path) -> None:
    before = contents(world.public)
    again = tmp_path / "statistics.duckdb"
    publish(world.ledger.chain, again)
    assert contents(again) == before
    again.unlink()
    publish(world.ledger.chain, again)
    assert contents(again) == before


def test_totals_and_series_add_up_the_signed_values(world: World) -> None:
    noisy = [row[0] for row in rows(world.public, "SELECT noisy FROM plain ORDER BY period_start")]
    total = rows(world.public, "SELECT noisy, terms, upper - lower FROM total('plain', '2024-01-01', '2024-03-31')")
    assert total[0][:2] == (sum(noisy[:3]), 3)
    assert [row[-1] for row in rows(world.public, "FROM series('plain')")] == noisy
    red = rows(world.public, "SELECT sum(noisy) FROM detailed WHERE colour = 'RED'")
    found = rows(world.public, "SELECT sum(noisy) FROM series('detailed', cells := '{\"colour\": \"RED\"}')")
    assert found == red
    compared = rows(world.public, "FROM compare('plain', '2024-01-01', '2024-03-31', '2024-04-01', '2024-06-30')")
    assert compared[0][:3] == (sum(noisy[:3]), sum(noisy[3:]), sum(noisy[3:]) - sum(noisy[:3]))


@pytest.mark.parametrize(
    "query",
    [
        "FROM total('plain', '2024-01-02', '2024-03-31')",
        "FROM total('plain', '2024-01-01', '2024-03-30')",
        "FROM total('plain', '2023-12-01', '2024-03-31')",
        "FROM total('plain', '2024-06-01', '2024-07-31')",
        "FROM total('unheard', '2024-01-01', '2024-03-31')",
        "FROM compare('plain', '2024-01-01', '2024-03-31', '2024-03-01', '2024-06-30')",
        "FROM compare('plain', '2024-01-01', '2024-03-31', '2024-04-01', '2024-07-31')",
    ],
)
def test_a_span_that_is_not_made_of_released_periods_is_refused_and_not_guessed(query: str, world: World) -> None:
    with pytest.raises(duckdb.Error, match="whole released periods"):
        rows(world.public, query)


@pytest.mark.parametrize(
    "call, columns",
    [
        ("total('plain', '2024-01-15', '2024-04-10')", "estimate lower upper noisy margin terms"),
        ("total('nosuch', '2024-01-01', '2024-01-31')", "estimate lower upper noisy margin terms"),
        ("total('plain', '2030-01-01', '2030-01-31')", "noisy upper"),
        ("series('nosuch')", "period_start estimate noisy"),
        ("series('detailed', cells := '{\"colour\":\"BLUE\"}')", "noisy"),
        ("series('detailed', cells := '\"RED\"')", "noisy"),
        ("series('detailed', cells := 'RED')", "noisy"),
        (
            "compare('plain', '2024-01-01', '2024-03-31', '2024-03-01', '2024-06-30')",
            "from_estimate to_estimate difference difference_lower difference_upper percent_change percent_lower "
            "percent_upper note",
        ),
    ],
)
def test_whichever_column_is_asked_for_a_wrong_question_is_refused(call: str, columns: str, world: World) -> None:
    for column in columns.split():
        with pytest.raises(duckdb.Error, match=r"(total|series|compare)\(\):"):
            rows(world.public, f"SELECT {column} FROM {call}")


@pytest.mark.parametrize(
    "call, cause",
    [
        ("{}('nosuch'{})", "of a statistic of this name"),
        ("{}('detailed'{}, cells := '\"RED\"')", "write cells as a JSON object"),
        ("{}('detailed'{}, cells := 'RED')", "write cells as a JSON object"),
        ("{}('detailed'{}, cells := '{{\"colour\":\"BLUE\"}}')", "this statistic has no such cells"),
    ],
)
def test_each_cause_of_a_wrong_question_has_its_own_text(call: str, cause: str, world: World) -> None:
    for macro, span in (
        ("series", ""),
        ("total", ", '2024-01-01', '2024-03-31'"),
        ("compare", ", '2024-01-01', '2024-03-31', '2024-04-01', '2024-06-30'"),
    ):
        with pytest.raises(duckdb.Error, match=cause) as caught:
            rows(world.public, f"FROM {call.format(macro, span)}")
        assert f"{macro}():" in str(caught.value)
    for other in ("of a statistic of this name", "write cells", "no such cells"):
        with pytest.raises(duckdb.Error, match="the span is not made of whole released periods") as caught:
            rows(world.public, "FROM total('plain', '2024-01-02', '2024-03-31')")
        assert other not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        "total('plain', '2024-01-02', '2024-03-31')",
        "compare('plain', '2024-01-01', '2024-03-31', '2024-04-02', '2024-06-30')",
    ],
)
def test_a_span_that_is_refused_comes_with_the_query_that_lists_the_days(call: str, world: World) -> None:
    with pytest.raises(duckdb.Error) as caught:
        rows(world.public, f"FROM {call}")
    days = rows(world.public, str(caught.value).partition("See them with: ")[2])
    assert len(days) == 6
    assert days[0] == (dt.date(2024, 1, 1), dt.date(2024, 1, 31))


def test_percentages_have_one_decimal_and_their_interval_is_rounded_outwards(world: World) -> None:
    spans = "'2024-01-01', '2024-03-31', '2024-04-01', '2024-06-30'"
    ((change, lower, upper),) = rows(
        world.public, f"SELECT percent_change, percent_lower, percent_upper FROM compare('plain', {spans})"
    )
    macros = resources.files("quietcount_aggregates").joinpath("macros.sql").read_text(encoding="utf-8")
    exact = macros.replace("round(", "first_of(").replace("floor(", "(").replace("ceil(", "(")
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{world.public}' AS p (READ_ONLY)")
        for table in ("statistics", "margins"):
            connection.execute(f"CREATE TABLE {table} AS FROM p.{table}")
        connection.execute("CREATE MACRO first_of(a, b) AS a")
        connection.execute(exact)
        (wanted,) = connection.execute(
            f"SELECT percent_change, percent_lower, percent_upper FROM compare('plain', {spans})"
        ).fetchall()
    assert change == round(wanted[0], 1)
    assert wanted[1] - 0.1 < lower <= wanted[1]
    assert wanted[2] <= upper < wanted[2] + 0.1
    assert [round(each, 1) for each in (lower, upper)] == [lower, upper]


def test_the_files_time_is_that_of_the_tick_and_says_nothing_of_how_long_a_release_took(world: World) -> None:
    assert world.public.stat().st_mtime == utc(dt.date(2024, 7, 1)).timestamp()


def test_the_stated_bound_of_a_yearly_horizon_grows_with_the_years(tmp_path: Path) -> None:
    yearly = population_of(
        "yearly", events=["Asked"], registry=TRIALS, period=Period.MONTH, since=SINCE, epsilon=0.5, horizon=Horizon.YEAR
    )
    with world_in(tmp_path / "world", [yearly]) as world:
        [(sentence,)] = rows(world.public, "SELECT value FROM about WHERE key = 'bound'")
    assert "in one calendar year, and rises by 0.5 for each further year" in sentence


@pytest.mark.check
def test_readers_never_see_half_a_file_while_it_is_replaced(world: World, tmp_path: Path) -> None:
    path = tmp_path / "statistics.duckdb"
    chain = world.ledger.chain
    publish(chain, path)
    failures: list[str] = []
    opened = 0
    done = threading.Event()

    def swap() -> None:
        try:
            for _ in range(12):
                publish(chain, path)
        finally:
            done.set()

    reader = (
        "import sys, duckdb\n"
        "while sys.stdin.readline():\n"
        "    with duckdb.connect(sys.argv[1], read_only=True) as c:\n"
        "        print(c.execute('SELECT count(*) FROM statistics').fetchone()[0], flush=True)\n"
    )
    writer = threading.Thread(target=swap)
    with forking.Popen(
        [sys.executable, "-c", reader, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        writer.start()
        while not done.is_set():
            process.stdin.write("\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
            opened += 1
            if answer != "42":
                failures.append(answer)
                break
        writer.join()
        process.stdin.close()
    assert failures == []
    assert opened > 3


def test_what_is_no_public_file_is_refused_and_not_overwritten_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "statistics.duckdb"
    assert published_head(path) is None
    path.write_bytes(b"something else")
    with pytest.raises(PublicationError, match="Move it away"):
        published_head(path)
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE t (x INTEGER)")
    with pytest.raises(PublicationError):
        published_head(tmp_path / "other.duckdb")


@pytest.mark.parametrize("sql", ["SELECT nope FROM about", "SELEC 1", "SELECT CAST('someone' AS INTEGER)", "FROM gone"])
def test_a_statement_that_duckdb_refuses_is_a_defect_that_changes_nothing_and_quotes_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    path = tmp_path / "statistics.duckdb"
    path.write_bytes(world.public.read_bytes())
    monkeypatch.setattr(publication, "_fill_ledger", lambda connection, _chain: connection.execute(sql))
    with pytest.raises(PublicationDefect) as caught:
        publish(world.ledger.chain, path)
    assert caught.value.what.startswith("a defect of quietcount: ")
    assert "Exception at " in caught.value.what
    assert "Report this line" in caught.value.remedy
    assert "someone" not in str(caught.value)
    assert "record-loss" not in str(caught.value)
    assert path.read_bytes() == world.public.read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_written_leaves_the_old_file_whole(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "statistics.duckdb"
    publish(world.ledger.chain, path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(PublicationError, match="No space left"):
            publish(world.ledger.chain, path)
    head = published_head(path)
    assert isinstance(head, Head)
    assert head == world.ledger.chain.head
    with pytest.raises(PublicationError):
        publish(world.ledger.chain, tmp_path / "missing" / "statistics.duckdb")
