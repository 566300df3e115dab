"""The ledger on the embedded log: an append-only table in an SQLite file of its own.

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

from quietcount_aggregates.errors import LedgerError, LedgerFenced

__all__ = ["EmbeddedLedger"]

FORMAT = 1
# How long to wait for another releaser's transaction, which takes milliseconds, before calling the file stuck.
BUSY_TIMEOUT_SECONDS = 10.0


class EmbeddedLedger:
    """A LedgerLog in one SQLite file (WAL, every commit synced, mode 0600).

    `create=False` refuses a missing file: a reader must not bring an empty ledger into being.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if not create and not path.exists():
            raise LedgerError(f"{path}: there is no ledger yet; `quietcount run` opens it")
        old = os.umask(0o077)
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            if create or not _is_still(path):
                raise self._explained(error) from error
            # A reader on a disk that cannot be written: SQLite may not lock there, and nobody else can write either.
            uri = f"{path.resolve().as_uri()}?immutable=1"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        finally:
            os.umask(old)

    def __enter__(self) -> EmbeddedLedger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fence(self) -> int:
        """Raise the epoch and return it."""
        with self._transaction() as cursor:
            cursor.execute("UPDATE fence SET epoch = epoch + 1")
            return int(cursor.execute("SELECT epoch FROM fence").fetchone()[0])

    def read(self, start: int = 0) -> list[bytes]:
        """Return every entry from index `start` on."""
        try:
            rows = self._connection.execute('SELECT entry FROM entries WHERE "index" >= ? ORDER BY "index"', (start,))
            return [bytes(row[0]) for row in rows]
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def append(self, entries: Sequence[bytes], *, epoch: int, expected: int) -> None:
        """Append `entries`, all or none. Raises LedgerFenced if the epoch or the length is not as expected."""
        with self._transaction() as cursor:
            current = cursor.execute("SELECT epoch FROM fence").fetchone()[0]
            length = cursor.execute("SELECT count(*) FROM entries").fetchone()[0]
            if current != epoch or length != expected:
                raise LedgerFenced(
                    f"{self.path}: another releaser has taken over the ledger; this one released nothing. Run one "
                    "service on a ledger"
                )
            cursor.executemany("INSERT INTO entries VALUES (?, ?)", list(enumerate(entries, start=expected)))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise LedgerError(
                f"{self.path}: written in format {version}; this version reads format {FORMAT}. Use the newer "
                "quietcount"
            )
        if version == FORMAT:
            return
        with self._transaction() as cursor:
            # Another process may have made the tables while this one waited for its turn.
            if cursor.execute("PRAGMA user_version").fetchone()[0] == 0:
                script = (
                    resources.files("quietcount_consumers").joinpath("embedded_ledger.sql").read_text(encoding="utf-8")
                )
                for statement in _statements(script):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA user_version = {FORMAT}")

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
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> LedgerError:
        text = str(error).lower()
        if "full" in text:
            return LedgerError(f"{self.path}: the disk is full; make room and start again. Nothing was appended")
        if "locked" in text or "busy" in text:
            return LedgerError(f"{self.path}: another process holds the ledger; end it, then start again")
        if "malformed" in text or "not a database" in text:
            return LedgerError(f"{self.path}: is damaged or not a ledger; restore it from a copy that is up to date")
        return LedgerError(
            f"{self.path}: cannot be opened or written ({error}); check that the folder exists, is writable, and the "
            "disk has room"
        )


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
