"""The file of the private state: how it is made, opened, locked, and what its failures mean to a person."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import IO

import duckdb

from quietcount_aggregates.errors import StateDamaged, StateError, StateHeld, StateUnwritable

__all__ = [
    "FORMAT",
    "OPEN_EVENT_COLUMNS",
    "check_no_rest",
    "connect",
    "create",
    "explained",
    "locked",
    "main",
    "private_files",
    "quoted",
    "schema",
]

FORMAT = 2
"""The format that is written; migrations.py says how older ones come to it."""

OPEN_EVENT_COLUMNS = (
    "event VARCHAR NOT NULL, case_mark UHUGEINT NOT NULL, event_mark UHUGEINT NOT NULL, revision INTEGER NOT NULL, "
    # carried_on is the fold's clock for an event that came late for a statistic, and null otherwise.
    "occurred_on DATE NOT NULL, carried_on DATE, "
    # The place in the log: of this version, and of the event's first version, which decides its turn.
    '"partition" INTEGER NOT NULL, "offset" BIGINT NOT NULL, first_offset BIGINT NOT NULL'
)

_META = {"format": str(FORMAT), "intent": "", "purge_due": "", "fields": "", "head_length": "0", "head_digest": ""}

_DAMAGED = (
    "{path}: is damaged, or not a state of quietcount. Put back a copy that is up to date; if it is lost for good, "
    "run: quietcount ledger record-loss"
)
_HELD = "{path}: another quietcount service holds it; one service runs on a data folder at a time"


def schema() -> str:
    """Return the SQL that makes the tables of an empty state, but for the open events."""
    return resources.files("quietcount_aggregates").joinpath("state.sql").read_text(encoding="utf-8")


def create(path: Path) -> None:
    """Make an empty state, whole or not at all, and keep the one that another process made first.

    DuckDB cannot open what it leaves behind when it is killed, or the disk is full, while it makes a file.
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
        # Unlike a rename, a link never replaces; a fresh file that is gone was cleared away by whoever holds the state.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(fresh, path)
    except (duckdb.Error, OSError) as error:
        raise explained(error, path) from error
    finally:
        for leftover in (fresh, fresh.with_name(fresh.name + ".wal")):
            with contextlib.suppress(OSError):
                leftover.unlink()


def check_no_rest(path: Path) -> None:
    """Raise StateDamaged where the file is gone and its write-ahead log is there: DuckDB would open neither."""
    if path.with_name(path.name + ".wal").exists():
        raise StateDamaged(_DAMAGED.format(path=path))


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the file; raise StateError if that cannot be done."""
    try:
        with private_files():
            connection = duckdb.connect(str(path))
        # Nothing may spill: a temporary file would hold the attributes of open periods in the clear.
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_progress_bar = false")
        return connection
    except (duckdb.Error, OSError) as error:
        raise explained(error, path) from error


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
        raise StateHeld(_HELD.format(path=path)) from None
    return lock


def main(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the quoted name that DuckDB gave the state's own database."""
    row = connection.execute(
        "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'next'"
    ).fetchone()
    if row is None:
        raise StateError("the state has no database of its own; it was closed")
    return f'"{row[0]}"'


def quoted(path: Path) -> str:
    """Return a path as it stands between quotes in SQL."""
    return str(path).replace("'", "''")


def explained(error: Exception, path: Path) -> StateError:
    """Turn DuckDB's error into ours, without its text where that could quote data."""
    text = str(error)
    if "Conflicting lock" in text or "Could not set lock" in text:
        return StateHeld(_HELD.format(path=path))
    if any(sign in text for sign in ("No space left", "File too large", "disk is full")):
        return StateUnwritable(f"{path}: the disk is full; make room. Nothing was lost")
    if isinstance(error, duckdb.OutOfMemoryException):
        return StateError(
            f"{path}: not enough memory to work on the open periods; give the service more. Nothing was changed"
        )
    if any(sign in text.lower() for sign in ("corrupt", "not a valid duckdb", "bytes", "checksum", "magic")):
        return StateDamaged(_DAMAGED.format(path=path))
    if isinstance(error, (duckdb.IOException, OSError)):
        return StateUnwritable(
            f"{path}: cannot be opened or written; check that the folder exists, is writable, and the disk has room"
        )
    return StateDamaged(_DAMAGED.format(path=path))
