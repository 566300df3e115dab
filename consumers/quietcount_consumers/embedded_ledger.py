"""The ledger on the embedded log: an append-only table in an SQLite file of its own, and one of places beside it.

It is a file of its own because emitters write to the log's file, and nothing but the releaser may touch the ledger.
The fence is an epoch in the file: taking it raises the epoch, and an append under an older one is refused.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

from quietcount_aggregates.errors import (
    RESTORE_LEDGER,
    LedgerBroken,
    LedgerError,
    LedgerFenced,
    LedgerMissing,
    LedgerUnwritable,
)
from quietcount_producers.embedded import sqlite_file

__all__ = ["APPLICATION_ID", "EmbeddedLedger"]

APPLICATION_ID = 0x51434C52  # "QCLR": marks our file; no other SQLite database has it, nor a log of quietcount
FORMAT = 1
# How long to wait for another releaser's transaction, which takes milliseconds, before calling the file stuck.
BUSY_TIMEOUT_SECONDS = 10.0


class EmbeddedLedger:
    """A LedgerLog in one SQLite file (WAL, every commit synced, mode 0600).

    `create=False` refuses a missing file: a reader must not bring an empty ledger into being. `named` is the path that
    messages name, if the file at `path` is a copy of it.
    """

    def __init__(self, path: Path, *, create: bool = True, named: Path | None = None) -> None:
        self.path = path
        self._named = named or path
        if not create and _inode(path) is None:
            raise _missing(self._named)
        old = os.umask(0o077)
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
            self._prepare(create)
            sqlite_file.tighten(path)
            self._inode = _inode(path)
        except _UNREADABLE as error:
            self._connection_closed()
            if create or not _is_still(path):
                raise self._explained(error) from error
            self._open_still()
        except BaseException:
            self._connection_closed()
            raise
        finally:
            os.umask(old)

    @property
    def place(self) -> str:
        """Where the ledger is, for messages."""
        return str(self._named)

    def __enter__(self) -> EmbeddedLedger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fence(self) -> int:
        """Raise the epoch and return it."""
        with self._transaction() as cursor:
            epoch = self._epoch(cursor) + 1
            cursor.execute("UPDATE fence SET epoch = ?", (epoch,))
            return epoch

    def read(self, start: int = 0) -> list[bytes]:
        """Return every entry from index `start` on.

        Raises LedgerBroken if another file is in this one's place now, LedgerUnwritable if that cannot be seen.
        """
        return self._read("entry", "entries", start)

    def _read(self, column: str, table: str, start: int) -> list[bytes]:
        if self._inode != _inode(self.path):
            # SQLite would go on with the file that it has open, even if it was renamed or deleted.
            raise LedgerBroken(
                f"{self._named}: was moved away or replaced while it was open", "Put the newest ledger back"
            )
        try:
            rows = self._connection.execute(
                f'SELECT {column} FROM {table} WHERE "index" >= ? ORDER BY "index"', (start,)
            ).fetchall()
        except _UNREADABLE as error:
            raise self._explained(error) from error
        if not all(isinstance(value, bytes) for (value,) in rows):
            raise self._damaged()
        return [value for (value,) in rows]

    def read_places(self, start: int = 0) -> list[bytes]:
        """Return every place from the `start`-th on. Raises as `read` does."""
        return self._read("place", "places", start)

    def append(self, entries: Sequence[bytes], places: Sequence[bytes] = (), *, epoch: int, expected: int) -> None:
        """Append `entries` and `places`, all or none.

        Raises LedgerFenced if the epoch or the length is not as expected.
        """
        with self._transaction() as cursor:
            length = cursor.execute("SELECT count(*) FROM entries").fetchone()[0]
            if self._epoch(cursor) != epoch or length != expected:
                raise LedgerFenced(
                    f"{self._named}: another releaser has taken over the ledger; this one released nothing",
                    "Run one service on a ledger",
                )
            cursor.executemany("INSERT INTO entries VALUES (?, ?)", list(enumerate(entries, start=expected)))
            first = cursor.execute("SELECT count(*) FROM places").fetchone()[0]
            cursor.executemany("INSERT INTO places VALUES (?, ?)", list(enumerate(places, start=first)))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _open_still(self) -> None:
        """Open for a reader on a disk that cannot be written: SQLite may not lock there, and nobody else can write."""
        uri = f"{self.path.resolve().as_uri()}?immutable=1"
        try:
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            if self._check_kind():
                raise _missing(self._named)
            self._inode = _inode(self.path)
        except _UNREADABLE as error:
            self._connection_closed()
            raise self._explained(error) from error
        except LedgerError:
            self._connection_closed()
            raise

    def _connection_closed(self) -> None:
        with suppress(AttributeError, sqlite3.Error):
            self._connection.close()

    def _prepare(self, create: bool) -> None:
        # Looked at before anything is set: a file that is not ours is left as it is.
        fresh = self._check_kind()
        if fresh and not create:
            raise _missing(self._named)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if not fresh:
            return
        with self._transaction() as cursor:
            # Another process may have made the tables while this one waited for its turn.
            if cursor.execute("PRAGMA user_version").fetchone()[0] == 0:
                script = (
                    resources.files("quietcount_consumers").joinpath("embedded_ledger.sql").read_text(encoding="utf-8")
                )
                for statement in _statements(script):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                cursor.execute(f"PRAGMA user_version = {FORMAT}")

    def _check_kind(self) -> bool:
        """Return whether the file holds nothing yet; raise LedgerError if it holds something else than a ledger."""
        kind = self._connection.execute("PRAGMA application_id").fetchone()[0]
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if (kind, version, tables) == (0, 0, 0):
            return True
        if kind == sqlite_file.APPLICATION_ID:
            raise LedgerBroken(
                f"{self._named}: is a log of events and not a ledger; a copy of log.sqlite was put in its place",
                RESTORE_LEDGER,
            )
        if kind != APPLICATION_ID:
            raise self._damaged()
        if version != FORMAT:
            raise LedgerError(
                f"{self._named}: written in format {version}; this version reads format {FORMAT}",
                "Use the newer quietcount",
            )
        return False

    def _epoch(self, cursor: sqlite3.Cursor) -> int:
        row = cursor.execute("SELECT epoch FROM fence").fetchone()
        if row is None or not isinstance(row[0], int):
            raise self._damaged()
        return row[0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        cursor = self._connection.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    cursor.execute("ROLLBACK")
                raise
        except _UNREADABLE as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error | UnicodeDecodeError) -> LedgerError:
        code = getattr(error, "sqlite_errorcode", None)
        # The low byte is the primary code. What has no code is Python's own: it could not make sense of the file.
        primary = sqlite3.SQLITE_CORRUPT if code is None else int(code) & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            return LedgerUnwritable(f"{self._named}: the disk is full. Nothing was appended", "Make room")
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LedgerUnwritable(f"{self._named}: another process holds the ledger", "End that process")
        if primary in _DAMAGED:
            return self._damaged()
        if primary == sqlite3.SQLITE_IOERR:
            return LedgerUnwritable(
                f"{self._named}: the disk failed, is full, or a limit on file sizes was met. Nothing was appended",
                "Mend that, then run again",
            )
        return LedgerUnwritable(
            f"{self._named}: cannot be opened or written",
            "Check that the folder exists, that it can be written, and that the disk has room",
        )

    def _damaged(self) -> LedgerBroken:
        return LedgerBroken(f"{self._named}: is damaged or not a ledger", RESTORE_LEDGER)


# SQLite's own messages are decoded too, and quote what stands in a damaged file.
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)

# SQLITE_ERROR is what a missing table or column gives: the statements themselves are right.
_DAMAGED = (
    sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT,
)  # fmt: skip


def _missing(path: Path) -> LedgerMissing:
    return LedgerMissing(f"{path}: there is no ledger yet", "`quietcount run` opens it")


def _inode(path: Path) -> tuple[int, int] | None:
    """Return what identifies the file at `path`, even beside one of the same content; None if there is none.

    Raises LedgerUnwritable where the system does not let us look: a right that was lost is no ledger that was replaced.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LedgerUnwritable(
            f"{path}: cannot be looked at ({error.strerror})", "Mend the rights of its folders, or the disk"
        ) from None
    return status.st_dev, status.st_ino


def _is_still(path: Path) -> bool:
    """Return whether a ledger lies where nothing can be written, with every entry in its one file."""
    wal = path.with_name(path.name + "-wal")
    try:
        return os.statvfs(path).f_flag & os.ST_RDONLY != 0 and not (wal.exists() and wal.stat().st_size)
    except OSError:
        return False


def _statements(script: str) -> list[str]:
    """Split a script into statements; executescript would commit the transaction it runs in."""
    statements = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
