"""The memory of a witness: for each ledger the key, the newest head that it signed, and all entries up to that.

It is one SQLite file. Each change is a transaction that holds off every other one, also of another process, and that is
on the disk before it ends. So a cosignature is made of what no crash takes back, and no two of them contradict.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from quietcount_aggregates.ledger.signed_notes import SignedNote, VerifierKey
from quietcount_consumers.errors import WitnessError, WitnessHeld
from quietcount_schemas.private_files import sync_folder

__all__ = ["Memory", "Seen", "Writing"]

_MARK: Final = 0x51435754
"""QCWT in ASCII: it marks our file among all SQLite databases."""

_PATIENCE: Final = 20.0
"""Seconds to wait for another process of the same witness: it verifies a long ledger in a few."""

_TABLES: Final = """
CREATE TABLE witness (name TEXT NOT NULL);
CREATE TABLE ledgers (
    origin TEXT PRIMARY KEY, key TEXT NOT NULL, length INTEGER NOT NULL, note TEXT, timestamp INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE entries (
    origin TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (origin, number)
) WITHOUT ROWID;
"""
_SEEN: Final = "SELECT origin, key, length, note, timestamp FROM ledgers"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a witness knows of a ledger.

    `note` is the newest head that it signed, with the owner's signature alone, and `timestamp` when it did (seconds
    since 1970); None and 0 for a ledger that it only knows by its key.
    """

    origin: str
    key: VerifierKey
    length: int = 0
    note: SignedNote | None = None
    timestamp: int = 0


class Memory:
    """The file at `path`. Each call has a connection of its own, so threads may share it. Raises WitnessError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, name: str) -> None:
        """Make the file for a witness of this name, whole or not at all."""
        draft = self.path.with_name(f".{self.path.name}.new")
        with self._explained():
            for leftover in (draft, draft.with_name(f"{draft.name}-journal")):
                leftover.unlink(missing_ok=True)
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.executescript(f"BEGIN; {_TABLES} PRAGMA application_id = {_MARK}; COMMIT;")
                connection.execute("INSERT INTO witness VALUES (?)", [name])
            draft.replace(self.path)
            sync_folder(self.path.parent)

    @property
    def name(self) -> str:
        """Return the name of the witness."""
        with self._connected() as connection:
            return str(connection.execute("SELECT name FROM witness").fetchone()[0])

    def ledgers(self) -> list[Seen]:
        """Return what is known of each ledger, in the order of their names."""
        with self._connected() as connection:
            return [_seen(row) for row in connection.execute(f"{_SEEN} ORDER BY origin")]

    def seen(self, origin: str) -> Seen | None:
        """Return what is known of a ledger; None for an unknown one."""
        with self._connected() as connection:
            return Writing(connection).seen(origin)

    def held(self, origin: str) -> tuple[Seen, list[bytes]] | None:
        """Return what is known of a ledger with all entries, as of one moment; None for an unknown one."""
        with self._connected() as connection:
            connection.execute("BEGIN")
            writing = Writing(connection)
            seen = writing.seen(origin)
            return None if seen is None else (seen, writing.entries(origin))

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """Hold off all other changes; what the body changed is on the disk, or undone, when it is left."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield Writing(connection)
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            # Never make an empty file in the place of one that is lost: it would have seen nothing.
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            with contextlib.closing(
                sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
            ) as connection:
                if connection.execute("PRAGMA application_id").fetchone() != (_MARK,):
                    raise WitnessError(f"{self.path}: is not the memory of a witness", "Restore it from a backup")
                connection.execute("PRAGMA synchronous = EXTRA")
                yield connection  # closing it undoes a transaction that did not end

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite or the system raises in the body into a WitnessError."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise WitnessHeld(f"{self.path}: another process holds it", "Run this again") from None
            if not self.path.exists():
                raise WitnessError(
                    f"{self.path}: there is no witness here",
                    "Name its folder with --dir, or make one: quietcount witness init",
                ) from None
            raise WitnessError(
                f"{self.path}: cannot be read or written ({error})", "Look at the disk and the file's rights"
            ) from None
        except OSError as error:
            raise WitnessError(f"{self.path}: cannot be written ({error.strerror})", "Look at the disk") from None


class Writing:
    """A transaction on the memory of a witness."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def seen(self, origin: str) -> Seen | None:
        """Return what is known of a ledger."""
        row = self._connection.execute(f"{_SEEN} WHERE origin = ?", [origin]).fetchone()
        return None if row is None else _seen(row)

    def entries(self, origin: str) -> list[bytes]:
        """Return all entries of a ledger."""
        rows = self._connection.execute("SELECT data FROM entries WHERE origin = ? ORDER BY number", [origin])
        return [bytes(data) for (data,) in rows]

    def keep(self, seen: Seen, entries: Sequence[bytes] = (), start: int = 0) -> None:
        """Remember a ledger as it is seen now, and its entries from number `start` on."""
        self._connection.executemany(
            "INSERT INTO entries VALUES (?, ?, ?)",
            [(seen.origin, number, data) for number, data in enumerate(entries, start)],
        )
        note = None if seen.note is None else seen.note.data
        self._connection.execute(
            "INSERT OR REPLACE INTO ledgers VALUES (?, ?, ?, ?, ?)",
            [seen.origin, seen.key.text, seen.length, note, seen.timestamp],
        )


def _seen(row: tuple[str, str, int, str | None, int]) -> Seen:
    origin, key, length, note, timestamp = row
    return Seen(origin, VerifierKey.parse(key), length, None if note is None else SignedNote.parse(note), timestamp)
