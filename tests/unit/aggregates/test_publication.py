"""The public file: whole at every moment, described in every part, and the same again after it was deleted."""

from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests import forking
from tests.aggregates_world import TRIALS, World, signed, world_in
from tests.populations import population_of
from tests.published_world import SINCE, published_in

from quietcount_aggregates.errors import PublicationDefect, PublicationError
from quietcount_aggregates.ledger.entries import Entry, Head
from quietcount_aggregates.noise import margin
from quietcount_aggregates.populations import Horizon
from quietcount_aggregates.publication import publication
from quietcount_aggregates.publication.publication import publish, published_head
from quietcount_schemas.events.periods import Period

pytestmark = pytest.mark.quick

NOISE = ["noise_periods", "noise_responses", "noise_scales", "noise_signals", "noise_symbols", "noise_weights"]
TABLES = ["about", "buckets", "budget", "data_dictionary", "ledger", "margins", *NOISE, "statistics", "withheld"]


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
def test_a_row_holds_the_noised_value_and_what_is_computed_from_it_and_nothing_else(world: World) -> None:
    """Each of these populations has one table: its estimates are the draws, but for cells that can hold nothing."""
    found = rows(
        world.public,
        "SELECT statistic, period_start, cell, estimate, shown, lower, upper, noisy, noise_scale, first_estimate "
        "FROM statistics",
    )
    domains: dict[str, list[str]] = {table.name: table.domain for _, table in world.ledger.chain.tables}
    drawn = {
        (name, start, cell): value
        for (name, start), values in world.released.items()
        for cell, value in zip(domains[name], values, strict=True)
    }
    assert len(found) == len(drawn) == 6 + 6 * 6
    for statistic, start, cell, estimate, shown, lower, upper, noisy, scale, first in found:
        m = margin(scale)
        assert noisy == drawn[statistic, start, cell]
        assert estimate == first
        if "colour=NONE" in cell:  # the population does not count it
            assert (estimate, shown, lower, upper) == (0, 0, 0, 0)
        else:
            assert (estimate, shown, lower, upper) == (noisy, max(noisy, 0), max(noisy - m, 0), max(noisy, 0) + m)


def test_a_figure_says_how_reliable_it_is_and_a_sure_zero_is(world: World) -> None:
    found = rows(world.public, "SELECT estimate, upper - greatest(estimate, 0), reliability, cell FROM statistics")
    assert {reliability for *_, reliability, _ in found} == {"good", "fair", "poor"}
    for estimate, around, reliability, cell in found:
        known = "good" if 10 * around <= estimate else "fair" if 10 * around <= 3 * estimate else "poor"
        assert reliability == known
        assert ("colour=NONE" in cell) <= (reliability == "good")


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


def test_the_dictionary_says_how_a_digest_is_computed_and_that_works(world: World) -> None:
    [(text,)] = rows(
        world.public, "SELECT description FROM data_dictionary WHERE table_name = 'ledger' AND column_name = 'digest'"
    )
    computed = text.partition("in hexadecimal: ")[2].removesuffix(".")
    assert rows(world.public, f"SELECT bool_and({computed} = digest), count(*) > 10 FROM ledger") == [(True, True)]


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows(path, f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES}


@pytest.mark.promise("published-again")
def test_deleted_and_published_again_it_holds_the_same(world: World, tmp_path: Path) -> None:
    before = contents(world.public)
    again = tmp_path / "statistics.duckdb"
    publish(world.ledger.chain, again, signed(world.ledger.chain))
    assert contents(again) == before
    again.unlink()
    publish(world.ledger.chain, again, signed(world.ledger.chain))
    assert contents(again) == before


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
    monkeypatch.setattr(publication, "project", lambda connection, *_: connection.execute(sql))
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
