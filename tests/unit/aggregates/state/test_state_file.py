"""What a failure of DuckDB means: only a damaged file is called damaged, whose remedy is irreversible."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from quietcount_aggregates.errors import StateDamaged, StateDefect, StateError, StateUnwritable
from quietcount_aggregates.state import state_file
from quietcount_aggregates.state.state import State

pytestmark = pytest.mark.quick

SECRET = "someone@example.org"
SEED = 20231003

# What each class is raised for on a sound state.
REFUSED = {
    "BinderException": f"SELECT '{SECRET}', nope FROM meta",
    "CatalogException": f"SELECT '{SECRET}' FROM nowhere",
    "ConstraintException": f"INSERT INTO meta VALUES ('{SECRET}', NULL)",
    "ConversionException": f"SELECT CAST('{SECRET}' AS INTEGER)",
    "InvalidInputException": f"SELECT error('{SECRET}')",
    "OutOfRangeException": "SELECT 9223372036854775807::BIGINT + 1::BIGINT",
    "ParserException": f"SELEC '{SECRET}'",
    "TransactionException": "COMMIT; COMMIT",
}
# What no statement brings about at will; one quotes words that are a sign of damage in another class.
UNFORESEEN: list[Exception] = [
    duckdb.ConversionException(f"Could not convert string 'corrupt {SECRET}, No space left' to INT32"),
    duckdb.FatalException(f"database has been invalidated: {SECRET}"),
    duckdb.InternalException(f"Attempted to dereference {SECRET}"),
    duckdb.InterruptException(f"Interrupted! {SECRET}"),
    duckdb.NotImplementedException(SECRET),
    duckdb.PermissionException(SECRET),
    duckdb.SequenceException(SECRET),
    duckdb.SerializationException(f"Failed to serialize {SECRET}"),
    duckdb.Error(SECRET),
]

Outcome = Callable[[], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound state of some pages."""
    path = tmp_path / "state-0.duckdb"
    with State(path) as state, state.transaction() as connection:
        connection.execute("INSERT INTO meta SELECT 'key ' || i, repeat('v', 50) FROM range(2000) t(i)")
        connection.execute("INSERT INTO offsets SELECT i, i FROM range(3) t(i)")
        connection.execute(
            "INSERT INTO open_events SELECT 'Asked', i, i * 7, 0, DATE '2024-01-01', 0, i, i FROM range(20000) t(i)"
        )
    return path


def read_whole(path: Path) -> None:
    """Open a state, read all of it, and write to it."""
    with State(path) as state:
        for (table,) in state.rows("SELECT table_name FROM duckdb_tables() WHERE NOT internal"):
            state.rows(f'FROM "{table}"')
        state.bind(topic_id="one")
        with state.guarded() as connection:
            connection.execute("CHECKPOINT")


def check_defect(path: Path, kind: str, act: Callable[[State], object]) -> None:
    with State(path) as state:
        with pytest.raises(StateError) as caught:
            act(state)
        error = caught.value
        assert isinstance(error, StateDefect), f"{kind} is called {type(error).__name__}"
        assert error.what.startswith(f"a defect of quietcount: {kind} at ")
        assert "test_state_file.py:" in error.what
        assert error.remedy == "Report this line. Do not run: quietcount ledger record-loss"
        assert SECRET not in str(error)
        assert "\n" not in str(error)
    read_whole(path)


def refuse(state: State, sql: str) -> None:
    with state.guarded() as connection:
        connection.execute(sql)


def fail(state: State, error: Exception) -> None:
    with state.guarded():
        raise error


@pytest.mark.parametrize("kind", list(REFUSED))
def test_what_duckdb_refuses_on_a_sound_state_is_a_defect_and_no_damage(path: Path, kind: str) -> None:
    check_defect(path, kind, lambda state: refuse(state, REFUSED[kind]))


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_what_duckdb_raises_unforeseen_is_a_defect_and_no_damage(path: Path, error: Exception) -> None:
    check_defect(path, type(error).__name__, lambda state: fail(state, error))


def as_before(error: Exception, path: Path) -> StateError:
    """The rule that was: what is not known is damage."""
    kind = state_file._kind_of(error)  # type: ignore[arg-type]
    return StateUnwritable() if kind is StateUnwritable else state_file._damaged(path)


def test_a_twin_that_calls_damaged_what_it_does_not_know_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "explained", as_before)
    for kind, sql in REFUSED.items():
        with pytest.raises(AssertionError, match="is called StateDamaged"):
            check_defect(path, kind, lambda state, sql=sql: refuse(state, sql))  # type: ignore[misc]


# Damage


def check_damaged(path: Path) -> None:
    with pytest.raises(StateDamaged) as caught:
        read_whole(path)
    assert str(path) in caught.value.what
    assert "quietcount ledger record-loss" in caught.value.remedy


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"not a database" * 1000, bytes(20000), b"SQLite format 3\0" + bytes(20480)],
    ids=["empty", "a byte", "text", "zeros", "SQLite"],
)
def test_a_file_that_is_no_database_is_no_state(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state-0.duckdb"
    path.write_bytes(content)
    check_damaged(path)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "state-0.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE theirs (a INTEGER)")
    check_damaged(path)


@pytest.mark.parametrize("kept", [8, 100, 4096, 8192, 12288, 20000, 0.5, -4096])
def test_a_file_that_was_cut_is_damaged(path: Path, kept: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    check_damaged(path)


def outcomes(path: Path, damaged: list[bytes]) -> list[str]:
    """What is said of each content of the file: "" where nothing is found wrong."""
    said = []
    for content in damaged:
        path.write_bytes(content)
        try:
            read_whole(path)
            said.append("")
        except StateError as error:
            said.append(type(error).__name__)
        path.with_name(path.name + ".wal").unlink(missing_ok=True)
    return said


def flipped(whole: bytes, places: list[int]) -> list[bytes]:
    chance = random.Random(SEED)
    found = []
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << chance.randrange(8)
        found.append(bytes(content))
    return found


def check_flips(path: Path, seed: int = SEED) -> None:
    """Flip bits: in the headers, where each is found, and anywhere, where some lie in blocks that hold nothing."""
    chance, whole = random.Random(seed), path.read_bytes()
    headers = outcomes(path, flipped(whole, [chance.randrange(12288) for _ in range(8)]))
    assert set(headers) == {"StateDamaged"}, f"seed {seed}: {headers}"
    anywhere = outcomes(path, flipped(whole, [chance.randrange(len(whole)) for _ in range(24)]))
    assert set(anywhere) <= {"", "StateDamaged"}, f"seed {seed}: {anywhere}"
    assert anywhere.count("StateDamaged") >= 4, f"seed {seed}: {anywhere}"


def test_bits_that_flipped_are_damage(path: Path) -> None:
    check_flips(path)


def test_a_twin_that_knows_no_damage_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "_kind_of", lambda _: None)
    with pytest.raises(AssertionError, match="StateDefect"):
        check_flips(path)


@pytest.fixture
def interrupted(path: Path, tmp_path: Path) -> Path:
    """A state with a write-ahead log, as a kill leaves it."""
    folder = tmp_path / "interrupted"
    folder.mkdir()
    killed = folder / path.name
    shutil.copyfile(path, killed)
    # A program of its own: a fork of this one would lack the threads that DuckDB has here.
    code = (
        "import duckdb, os, signal, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "connection.execute('INSERT INTO offsets VALUES (7, 7)')\n"
        "connection.execute(\"INSERT INTO meta SELECT 'more ' || i, repeat('v', 50) FROM range(200) t(i)\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(killed)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert killed.with_name(killed.name + ".wal").stat().st_size
    return killed


def test_a_write_ahead_log_that_is_damaged_is_damage(interrupted: Path) -> None:
    chance, wal = random.Random(SEED), interrupted.with_name(interrupted.name + ".wal")
    whole, log = interrupted.read_bytes(), wal.read_bytes()
    said = []
    for content in flipped(log, [chance.randrange(len(log)) for _ in range(16)]):
        wal.write_bytes(content)
        said += outcomes(interrupted, [whole])
    assert set(said) <= {"", "StateDamaged"}, f"seed {SEED}: {said}"
    assert said.count("StateDamaged") >= 8, f"seed {SEED}: {said}"


def test_a_write_ahead_log_without_its_file_is_damage(interrupted: Path) -> None:
    interrupted.unlink()
    check_damaged(interrupted)
    assert not interrupted.exists()


def test_a_write_ahead_log_as_a_kill_leaves_it_is_none(interrupted: Path) -> None:
    read_whole(interrupted)
    with State(interrupted) as state:
        assert state.offsets[7] == 7


# A disk


@pytest.mark.parametrize(
    "error",
    [
        duckdb.TransactionException('Failed to commit: Could not write file "state-0.duckdb": No space left on device'),
        duckdb.FatalException('Could not write file "state-0.duckdb": Input/output error'),
        duckdb.IOException('Cannot open file "state-0.duckdb": Permission denied'),
    ],
    ids=["full", "failing", "closed"],
)
def test_a_disk_that_fails_is_neither_damage_nor_a_defect(path: Path, error: Exception) -> None:
    with State(path) as state, pytest.raises(StateUnwritable):
        fail(state, error)


def test_memory_that_nothing_needs_is_given_back_and_the_limit_is_as_before(tmp_path: Path) -> None:
    """In a fold, DuckDB would keep every block that it wrote."""
    connection = state_file.connect(tmp_path / "state.duckdb")

    def asked(question: str) -> object:
        return connection.execute(question).fetchall()[0][0]

    def kept() -> int:
        return int(str(asked("SELECT sum(memory_usage_bytes) FROM duckdb_memory() WHERE tag = 'BASE_TABLE'")))

    limit = asked("SELECT current_setting('memory_limit')")
    connection.execute("CREATE TABLE events AS SELECT hash(range) AS a, hash(-range) AS b FROM range(6_000_000)")
    connection.execute("CHECKPOINT")
    before = kept()
    state_file.give_back(connection)
    assert kept() <= 48_000_000 < before
    assert asked("SELECT current_setting('memory_limit')") == limit
    assert asked("SELECT count(*) FROM events") == 6_000_000
    connection.close()
