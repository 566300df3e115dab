"""The same ledger gives the same bytes: whatever process builds them, and whatever its memory holds."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from tests.aggregates_world import World, signed, utc, world_in
from tests.numbers_world import VISITS, Visit, events_of, visits
from tests.published_world import published_in

from quietcount_aggregates.description import Description, Label
from quietcount_aggregates.noise import DiscreteLaplace
from quietcount_aggregates.publication.publication import publish
from quietcount_aggregates.publication.published_bytes import REPEATABLE, clear_remnants
from quietcount_aggregates.tables import AskedTable
from quietcount_schemas.events.numbers import Buckets, Summed

pytestmark = pytest.mark.quick

ZEROS = {"DUCKDB_JE_MALLOC_CONF": "zero:true", "MALLOC_PERTURB_": "255"}
"""Every new piece of memory holds zeros, whether it comes from DuckDB's jemalloc or from glibc."""

JUNK = {"DUCKDB_JE_MALLOC_CONF": "junk:true", "MALLOC_PERTURB_": "90"}
"""Every new piece of memory holds 0xA5."""

LITTLE = "SET memory_limit = '200MB'; "
"""As a small machine has it: DuckDB sets out from four fifths of what there is."""

PUBLISH = """
import json, sys
from pathlib import Path
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.publication.publication import publish

chain = Chain()
for entry in json.loads(Path(sys.argv[1]).read_text()):
    chain.extend(bytes.fromhex(entry))
publish(chain, Path(sys.argv[2]), sys.argv[3])
"""

BUILD = """
import sys
from pathlib import Path
import duckdb
from quietcount_aggregates.publication.published_bytes import clear_remnants

path, statements, cleared = sys.argv[1:]
with duckdb.connect(":memory:") as connection:
    connection.execute(f"ATTACH '{path}' AS public (STORAGE_VERSION 'v1.2.0')")
    connection.execute(statements)
    connection.execute("DETACH public")
if cleared == "True":
    clear_remnants(Path(path))
"""

# Full blocks of strings, of two forms; strings too long for such a block; doubles of every form; NULLs.
KINDS = """
CREATE TABLE public.kinds (
    digest VARCHAR, symbol VARCHAR, entry BLOB, short BLOB, absent VARCHAR, few VARCHAR,
    whole BIGINT, share DOUBLE, rate DOUBLE, scale DOUBLE, sum DECIMAL(18, 6), sure BOOLEAN, moment TIMESTAMP,
    day DATE USING COMPRESSION uncompressed, count BIGINT USING COMPRESSION uncompressed
);
INSERT INTO public.kinds SELECT
    md5(i::VARCHAR), md5((i // 4)::VARCHAR),
    CASE WHEN i % 5000 = 0 THEN repeat(md5(i::VARCHAR), 200) ELSE i::VARCHAR END::BLOB, repeat('x', i % 90)::BLOB,
    CASE WHEN i % 3 = 0 THEN md5(i::VARCHAR) END, CASE WHEN i % 3 = 0 THEN (i % 7)::VARCHAR END,
    i * 7919 % 100003, sin(i), round(i * 7919 % 100003 * 0.01, 2), (i // 1000) * 1.1,
    (i * 7919 % 100003) / 7, i * 7919 % 11 < 3,
    TIMESTAMP '2024-01-01' + INTERVAL (i * i % 1000003) SECOND,
    CASE WHEN i % 3 = 0 THEN DATE '2024-01-01' + (i % 77)::INTEGER END, CASE WHEN i % 3 = 0 THEN i % 77 END
FROM range(130000) AS rows(i);
CREATE TABLE public.long AS SELECT repeat(md5(i::VARCHAR), 300)::BLOB AS entry FROM range(3) AS rows(i);
"""

SORTED = """
CREATE TABLE public.sorted AS
SELECT md5(i::VARCHAR) AS digest, sin(i) AS share FROM range(500000) AS rows(i) ORDER BY digest
"""
"""What two threads share the work of."""


@pytest.fixture(scope="module", params=["counts", "numbers"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What `published_in` publishes, described, with labels that fill more than one block; or buckets and averages."""
    folder = tmp_path_factory.mktemp("published")
    if request.param == "numbers":
        population = visits(
            AskedTable("by_age", 1.0, by=["kind", Buckets("age", (0, 18))]),
            AskedTable("waiting", 1.0, by=["kind"], sum=Summed("days", (0, 60), "by_age")),
        )
        with world_in(folder, [population], registry=VISITS, mechanism=DiscreteLaplace()) as world:
            world.emit(events_of(Visit(dt.date(2024, 1 + number % 3, 1), number % 60) for number in range(300)))
            world.fold(dt.date(2024, 4, 1))
            world.release(utc(dt.date(2024, 4, 1)))
            yield world
        return
    labels = tuple(
        Label("plain", "colour", language, f"S{number:04}", hashlib.sha256(f"{language} {number}".encode()).hexdigest())
        for language in ("de", "ru")
        for number in range(3000)
    )
    with published_in(folder) as world:
        world.ledger.describe(Description(dt.timedelta(days=7), "Helpline", labels=labels), utc(dt.date(2024, 7, 2)))
        publish(world.ledger.chain, world.public, signed(world.ledger.chain))
        yield world


@pytest.fixture(scope="module")
def entries(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "entries.json"
    path.write_text(json.dumps([entry.data.hex() for entry in world.ledger.chain.entries]))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(source: str, arguments: list[str], memory: dict[str, str]) -> int:
    command = [sys.executable, "-c", source, *arguments]
    return subprocess.run(command, env={**os.environ, **memory}, stderr=subprocess.DEVNULL, check=False).returncode


def published(entries: Path, path: Path, note: str, memory: dict[str, str]) -> str:
    """Publish in a process of its own, and return the digest of the file."""
    assert run(PUBLISH, [str(entries), str(path), note], memory) == 0
    return digest(path)


def built(folder: Path, statements: str, memory: dict[str, str], *, cleared: bool = True) -> str | None:
    """Build a file in a process of its own, and return its digest; None if what DuckDB wrote was refused."""
    path = folder / "built.duckdb"
    path.unlink(missing_ok=True)
    return digest(path) if run(BUILD, [str(path), statements, str(cleared)], memory) == 0 else None


@pytest.mark.promise("published-again")
def test_one_process_publishes_the_same_bytes_again(world: World, tmp_path: Path) -> None:
    again = tmp_path / "statistics.duckdb"
    digests = {digest(world.public)}
    for attempt in range(3):
        with duckdb.connect(":memory:") as connection:
            connection.execute("CREATE TABLE other AS SELECT md5((i + ?)::VARCHAR) FROM range(100000) r(i)", [attempt])
        publish(world.ledger.chain, again, signed(world.ledger.chain))
        digests.add(digest(again))
    assert len(digests) == 1


@pytest.mark.promise("published-again")
def test_other_processes_publish_the_same_bytes_whatever_is_in_their_memory(
    world: World, entries: Path, tmp_path: Path
) -> None:
    note = signed(world.ledger.chain)
    with ThreadPoolExecutor(2) as both:
        digests = set(
            both.map(lambda each: published(entries, tmp_path / each[0], note, each[1]), [("0", ZEROS), ("j", JUNK)])
        )
    assert digests == {digest(world.public)}


@pytest.mark.soak
@pytest.mark.promise("published-again")
def test_two_hundred_processes_two_at_once_publish_the_same_bytes(world: World, entries: Path, tmp_path: Path) -> None:
    memories = [{}, JUNK, ZEROS, {"PYTHONHASHSEED": "7"}]
    note = signed(world.ledger.chain)
    with ThreadPoolExecutor(2) as both:
        digests = set(
            both.map(lambda n: published(entries, tmp_path / f"{n}.duckdb", note, memories[n % 4]), range(200))
        )
    assert digests == {digest(world.public)}


def test_every_column_that_may_hold_a_null_is_stored_as_it_is(world: World) -> None:
    with duckdb.connect(str(world.public), read_only=True) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() "
            "WHERE is_nullable AND data_type NOT IN ('VARCHAR', 'BLOB') AND NOT internal "
            "AND table_name IN (SELECT table_name FROM duckdb_tables())"
        ).fetchall()
        found = {
            (table, column, *stored)
            for table, column in columns
            for stored in connection.execute(
                "SELECT DISTINCT compression FROM pragma_storage_info(?) "
                "WHERE column_name = ? AND segment_type <> 'VALIDITY'",
                [table, column],
            ).fetchall()
        }
    assert {each for each in found if each[-1] not in ("Uncompressed", "Constant")} == set()


def test_what_is_in_memory_and_how_much_there_is_changes_no_byte_of_a_file_of_any_kind(tmp_path: Path) -> None:
    statements = REPEATABLE + ";" + KINDS
    digests = {built(tmp_path, statements, memory) for memory in (ZEROS, JUNK)} | {
        built(tmp_path, LITTLE + statements, {})
    }
    assert len(digests) == 1
    assert None not in digests


@pytest.mark.check
@pytest.mark.parametrize(
    "safeguard",
    [
        "alp,",
        "alprd,",
        ",fsst",
        ",zstd",
        *(f"{column} USING COMPRESSION uncompressed" for column in ("DATE", "BIGINT")),
    ],
)
def test_without_a_safeguard_memory_gets_into_the_file_or_it_is_refused(tmp_path: Path, safeguard: str) -> None:
    statements = REPEATABLE + ";" + KINDS
    assert safeguard in statements
    mutant = statements.replace(safeguard, safeguard.split(maxsplit=1)[0] if " " in safeguard else "")
    zeros, junk = (built(tmp_path, mutant, memory) for memory in (ZEROS, JUNK))
    assert zeros is None or zeros != junk


@pytest.mark.check
def test_without_a_safeguard_the_size_of_the_memory_changes_the_file(tmp_path: Path) -> None:
    mutant = REPEATABLE.replace("SET write_buffer_row_group_count = 1;", "") + ";" + KINDS
    assert built(tmp_path, mutant, {}) != built(tmp_path, LITTLE + mutant, {})


@pytest.mark.check
@pytest.mark.skipif(os.cpu_count() == 1, reason="two threads take turns on one processor")
def test_two_threads_change_the_file(tmp_path: Path) -> None:
    # Of 40 builds no two were the same: less than one pair in 100 is, and four with the first once in 100 million runs.
    statements = REPEATABLE.replace("threads = 1", "threads = 2") + ";" + SORTED
    first = built(tmp_path, statements, {})
    assert any(built(tmp_path, statements, {}) != first for _ in range(4))


@pytest.mark.check
def test_uncleared_remnants_differ(tmp_path: Path) -> None:
    digests = {built(tmp_path, REPEATABLE + ";" + KINDS, memory, cleared=False) for memory in (ZEROS, JUNK)}
    assert len(digests) == 2


def test_what_is_cleared_is_no_part_of_any_value(tmp_path: Path) -> None:
    assert built(tmp_path, REPEATABLE + ";" + KINDS, JUNK, cleared=False)
    path = tmp_path / "built.duckdb"

    def values() -> list[tuple[int, ...]]:
        with duckdb.connect(str(path), read_only=True) as connection:
            tables = ("kinds", "long")
            return [
                connection.execute(f"SELECT bit_xor(hash(t)), count(*) FROM {t} AS t").fetchall()[0] for t in tables
            ]

    before, remnants = values(), digest(path)
    clear_remnants(path)
    cleared = digest(path)
    assert values() == before
    assert cleared != remnants
    clear_remnants(path)
    assert digest(path) == cleared
