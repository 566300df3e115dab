"""The file of the private state: how it is made, opened, locked, and what its failures mean to a person."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import IO

import duckdb
import numpy as np
import numpy.typing as npt

from quietcount_aggregates.errors import StateDamaged, StateDefect, StateError, StateHeld, StateUnwritable
from quietcount_schemas.defects import described

__all__ = [
    "FORMAT",
    "OPEN_EVENT_COLUMNS",
    "check_is_state",
    "check_no_rest",
    "check_opens",
    "connect",
    "create",
    "explained",
    "give_back",
    "locked",
    "main",
    "private_files",
    "quoted",
    "registered",
    "schema",
]

FORMAT = 1
"""The format that is written; `migrations` says how older ones come to it."""

OPEN_EVENT_COLUMNS = (
    "event VARCHAR NOT NULL, case_mark UHUGEINT NOT NULL, event_mark UHUGEINT NOT NULL, revision INTEGER NOT NULL, "
    "occurred_on DATE NOT NULL, "
    # The place in the log: of this version, and of the event's first version, which decides its turn.
    '"partition" INTEGER NOT NULL, "offset" BIGINT NOT NULL, first_offset BIGINT NOT NULL'
)

_META = {"format": str(FORMAT), "purge_due": "", "head_length": "0", "head_digest": ""}

_MAGIC = b"DUCK"  # at byte 8 of every file of DuckDB

_KEPT = "48MB"
"""What DuckDB may keep of the file in memory: some of it is needed again at once."""

_FULL = ("No space left", "File too large", "disk is full")
_TORN = ("enough bytes", "not a valid DuckDB", "orrupt", "WAL does not match", "WAL was created for", "LEB128")

# The last resort: what DuckDB's text says, and only for the classes that carry such a text. DuckDB raises other classes
# for a wrong statement or a value that it cannot store; these never mean damage. The signs of damage were collected by
# damaging files (bits, pages, cuts, write-ahead logs), which a test does again.
_SIGNS: tuple[tuple[type[duckdb.Error], tuple[str, ...], type[StateError]], ...] = (
    (duckdb.IOException, ("Conflicting lock", "Could not set lock"), StateHeld),
    (duckdb.IOException, _FULL, StateUnwritable),
    (duckdb.IOException, _TORN, StateDamaged),
    # A commit that cannot write is no IOException, and what follows it repeats its text.
    (duckdb.TransactionException, (*_FULL, "Could not write file", "Could not sync"), StateUnwritable),
    (duckdb.FatalException, (*_FULL, "Could not write file", "Could not sync"), StateUnwritable),
    (duckdb.SerializationException, ("orrupt",), StateDamaged),
    (duckdb.InternalException, ("Invalid WAL entry type",), StateDamaged),
)


def schema() -> str:
    """Return the SQL that makes the tables of an empty state, except for the open events."""
    return resources.files("quietcount_aggregates.state").joinpath("state.sql").read_text(encoding="utf-8")


def create(path: Path) -> None:
    """Make an empty state, whole or not at all, and keep the one that another process made first.

    If DuckDB is killed, or the disk is full, while it makes a file, it cannot open what it leaves behind.
    """
    fresh = path.with_name(f"{path.name}.new-{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        connection = connect(fresh)
        try:
            connection.execute(schema())
            connection.execute(f"CREATE TABLE open_events ({OPEN_EVENT_COLUMNS})")
            connection.executemany("INSERT INTO meta VALUES (?, ?)", list(_META.items()))
            connection.execute("CHECKPOINT")  # which closing does too, but without a word when it fails
        finally:
            connection.close()
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces. If the fresh file is gone, the holder of the state cleared it away.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(fresh, path)
    except (duckdb.Error, OSError) as error:
        raise explained(error, path) from error
    finally:
        for leftover in (fresh, fresh.with_name(fresh.name + ".wal")):
            with contextlib.suppress(OSError):
                leftover.unlink()


def check_no_rest(path: Path) -> None:
    """Raise StateDamaged if the file is gone while its write-ahead log is there: DuckDB would open neither."""
    if path.with_name(path.name + ".wal").exists():
        raise _damaged(path)


def check_opens(path: Path) -> None:
    """Raise StateDamaged unless the file begins as DuckDB's do.

    DuckDB would make a database of an empty file, and look on the network for what reads an SQLite file.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(8 + len(_MAGIC))
    except OSError as error:
        raise explained(error, path) from error
    if beginning[8:] != _MAGIC:
        raise _damaged(path)


def check_is_state(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise StateDamaged if this is somebody else's database: it lacks the table that says what a state belongs to."""
    # Not asked of DuckDB's own views, which it would parse first: that takes as long as opening the file.
    try:
        found = connection.execute("SELECT * FROM main.meta LIMIT 0").description or []
    except (duckdb.CatalogException, duckdb.BinderException):
        raise _damaged(path) from None
    if [column[0] for column in found] != ["key", "value"]:
        raise _damaged(path)


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the file; raise StateError if that cannot be done."""
    if path.exists():
        check_opens(path)
    try:
        with private_files():
            connection = duckdb.connect(str(path))
        # Nothing may spill: a temporary file would hold the attributes of open periods in the clear.
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_progress_bar = false")
        return connection
    except (duckdb.Error, OSError) as error:
        raise explained(error, path) from error


def give_back(connection: duckdb.DuckDBPyConnection) -> None:
    """Let DuckDB drop the blocks that it keeps in memory beyond those in use.

    By itself it keeps what it has written until that takes four fifths of the machine's memory: a fold would take 34
    bytes more with every event. To be called between transactions.
    """
    with contextlib.suppress(duckdb.OutOfMemoryException):  # more than that is in use
        connection.execute(f"SET memory_limit = '{_KEPT}'")
    connection.execute("RESET memory_limit")


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Let files made in the body be for their owner only; DuckDB would make them 0644."""
    old = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(old)


def locked(path: Path) -> IO[bytes]:
    """Take the lock beside the state file and return the open file that holds it.

    DuckDB locks the file itself, but that lock is gone for a moment while a new file takes the old one's name.
    """
    try:
        with private_files():
            lock = path.with_name(path.name + ".lock").open("ab")
    except OSError as error:
        raise explained(error, path) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise _held(path) from None
    return lock


@contextlib.contextmanager
def registered(connection: duckdb.DuckDBPyConnection, table: Mapping[str, npt.NDArray[np.generic]]) -> Iterator[None]:
    """Lend contiguous arrays of one length to DuckDB as the table `batch` during a with statement."""
    connection.register("batch", dict(table))
    try:
        yield
    finally:
        connection.unregister("batch")


def main(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the quoted name that DuckDB gave the state's own database."""
    row = connection.execute(
        "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'next'"
    ).fetchone()
    if row is None:
        raise StateError("the state has no database of its own: it was closed", "Report this line")
    return f'"{row[0]}"'


def quoted(path: Path) -> str:
    """Return a path as it stands between quotes in SQL."""
    return str(path).replace("'", "''")


def explained(error: duckdb.Error | OSError, path: Path) -> StateError:
    """Turn an error of DuckDB or of the system into ours, without its text, which could quote data.

    Only what is known to be damage is StateDamaged, whose remedy is irreversible. Whatever else DuckDB refuses is a
    mistake in a statement of ours: StateDefect.
    """
    kind = _kind_of(error)
    if kind is StateHeld:
        return _held(path)
    if kind is StateDamaged:
        return _damaged(path)
    if kind is StateUnwritable and any(sign in str(error) for sign in _FULL):
        return StateUnwritable(f"{path}: the disk is full", "Make room. Nothing was lost")
    if kind is StateUnwritable:
        return StateUnwritable(
            f"{path}: cannot be opened or written",
            "Check that the folder exists, that it can be written, and that the disk has room",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return StateError(
            f"{path}: there is not enough memory to work on the open periods. Nothing was changed",
            "Give the service more memory",
        )
    return StateDefect(
        f"a defect of quietcount: {described(error)}. Nothing in {path} was changed",
        "Report this line. Do not run: quietcount ledger record-loss",
    )


def _kind_of(error: duckdb.Error | OSError) -> type[StateError] | None:
    """Return what `error` means, as far as that is known."""
    if isinstance(error, OSError):
        return StateUnwritable
    text = str(error)
    if type(error) is duckdb.Error:  # DuckDB has a class for data that are corrupt, and its Python client has none
        return StateDamaged if "orrupt" in text else None
    for kind, signs, meaning in _SIGNS:
        if isinstance(error, kind) and any(sign in text for sign in signs):
            return meaning
    return StateUnwritable if isinstance(error, duckdb.IOException) else None


def _held(path: Path) -> StateHeld:
    return StateHeld(
        f"{path}: another quietcount service holds it",
        "Stop that service, then run this command again",
    )


def _damaged(path: Path) -> StateDamaged:
    return StateDamaged(
        f"{path}: is damaged, or is not a state of quietcount",
        "Put back a copy that is up to date. If the state is lost permanently, run: quietcount ledger record-loss",
    )
