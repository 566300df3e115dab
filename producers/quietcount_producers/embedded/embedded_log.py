"""The embedded log: the log protocol on one SQLite file, with nothing to install.

The file is in WAL mode, so several processes may append while another reads. A commit is synced before `append`
returns: what was acknowledged survives kill -9 and power loss.

A purge must leave no byte behind. `secure_delete` alone does not achieve that: when SQLite splits or merges pages it
leaves copies of cells in the unused part of a page, and a later DELETE zeroes only the live copy. So `purge` writes
what is kept into a new table and drops the old one. SQLite then zeroes the pages of the old table whole. Last, `purge`
gives the free pages back and truncates the WAL.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from quietcount_producers import forks
from quietcount_producers.embedded import sqlite_file
from quietcount_producers.embedded.log_file import LogFile
from quietcount_producers.errors import LogError
from quietcount_producers.partitioner import partition_for
from quietcount_schemas.log import Mark, NewRecord, Position, Record

__all__ = ["EmbeddedLog"]

_HEADER: Final = struct.Struct("<HI")
"""The length of the name, the length of the value."""

_RECORDS_AGAIN: Final = """
CREATE TABLE records_kept (
    topic INTEGER NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    key BLOB, value BLOB NOT NULL, headers BLOB, PRIMARY KEY (topic, partition, "offset")
) WITHOUT ROWID
"""
_GONE: Final = 'c.before IS NOT NULL AND r."offset" < c.before'
_FROM: Final = "FROM records r LEFT JOIN temp.cut c ON r.topic = :topic AND c.partition = r.partition"


class EmbeddedLog:
    """A log in one SQLite file; a LogWriter and a LogReader. Safe to share between threads, and across a fork.

    `path` is created with mode 0600 (its folder must exist) unless `create` is false. `timeout` is how many seconds
    to wait for another process that holds the file. The file is closed before a fork, and each process that goes on to
    use the log opens it again. Raises LogError.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True, timeout: float = 30.0) -> None:
        self.path = path = Path(path)
        self._turn = 0
        if not path.exists():
            if not create:
                raise LogError(f"There is no log at {path}", "Check data_dir. The first event that is emitted makes it")
            with forks.held_off():
                sqlite_file.create(path, timeout)
        self._file = LogFile(path, timeout)

    def __enter__(self) -> EmbeddedLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the last process to close it folds the WAL into it."""
        self._file.close()

    @property
    def place(self) -> str:
        """Where the log is, for messages."""
        return str(self.path)

    # Topics

    def create_topic(self, name: str, partitions: int = 1, *, first: int = 0) -> str:
        """Create topic `name` unless it is there, and return its id. Raises LogError for another partition count.

        `first` is the offset of a new topic's first record in each partition.
        """
        if partitions < 1:
            raise LogError(f"Topic {name} has no partition", "Give it one or more")
        with self._transaction("create a topic in") as cursor:
            row = cursor.execute("SELECT id, partitions FROM topics WHERE name = ?", (name,)).fetchone()
            if row is not None:
                if row[1] != partitions:
                    raise LogError(
                        f"Topic {name} of {self.path} has {row[1]} partition(s), not {partitions}; the number cannot "
                        "change, because it decides where the records of a key are",
                        "Ask for the number that it has",
                    )
                return str(row[0])
            identity = uuid.uuid4().hex
            number = cursor.execute(
                "INSERT INTO topics (name, id, partitions) VALUES (?, ?, ?)", (name, identity, partitions)
            ).lastrowid
            cursor.executemany("INSERT INTO ends VALUES (?, ?, ?)", [(number, p, first) for p in range(partitions)])
        return identity

    def topic_id(self, topic: str) -> str:
        """Return the topic's identity, which differs after it was deleted and created again."""
        with self._reading() as cursor:
            row = cursor.execute("SELECT id FROM topics WHERE name = ?", (topic,)).fetchone()
        if row is None:
            raise self._unknown(topic)
        return str(row[0])

    def partitions(self, topic: str) -> list[int]:
        """Return the numbers of the topic's partitions, in order."""
        with self._reading() as cursor:
            return list(range(self._topic(cursor, topic)[1]))

    # Reading

    def beginning_offsets(self, topic: str) -> dict[int, int]:
        """Return, per partition, the lowest offset that may still be asked for."""
        with self._reading() as cursor:
            number, _ = self._topic(cursor, topic)
            rows = cursor.execute(
                'SELECT e.partition, coalesce((SELECT min("offset") FROM records r WHERE r.topic = e.topic '
                "AND r.partition = e.partition), e.next) FROM ends e WHERE e.topic = ? ORDER BY e.partition",
                (number,),
            ).fetchall()
        return dict(rows)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return, per partition, the offset that the next appended record will have."""
        with self._reading() as cursor:
            number, _ = self._topic(cursor, topic)
            rows = cursor.execute(
                "SELECT partition, next FROM ends WHERE topic = ? ORDER BY partition", (number,)
            ).fetchall()
        return dict(rows)

    def poll(self, topic: str, positions: Mapping[int, int], ends: Mapping[int, int], limit: int) -> list[Record]:
        """Return at most `limit` records at or after `positions` and before `ends`, in order within a partition.

        A partition without an entry in `positions` or `ends` is not read. The limit is shared among the partitions
        that have records left, and the first turn goes round, so that a long partition cannot starve another.
        """
        found: list[Record] = []
        new = tuple.__new__  # a NamedTuple's own constructor costs as much as SQLite's work for the row
        with self._reading() as cursor:
            number, count = self._topic(cursor, topic)
            at = {p: positions[p] for p in positions if p in ends and 0 <= p < count and positions[p] < ends[p]}
            order = sorted(at)
            if order:
                self._turn = (self._turn + 1) % len(order)
                order = order[self._turn :] + order[: self._turn]
            while order and len(found) < limit:
                share = -(-(limit - len(found)) // len(order))
                more = []
                for partition in order:
                    wanted = min(share, limit - len(found))
                    if wanted <= 0:
                        break
                    rows = cursor.execute(
                        'SELECT "offset", timestamp, key, value, headers FROM records WHERE topic = ? AND partition = ?'
                        ' AND "offset" >= ? AND "offset" < ? ORDER BY "offset" LIMIT ?',
                        (number, partition, at[partition], ends[partition], wanted),
                    )
                    before = len(found)
                    found += [
                        new(Record, (partition, offset, timestamp, key, value, _unpacked(headers) if headers else ()))
                        for offset, timestamp, key, value, headers in rows
                    ]
                    if len(found) - before == wanted:
                        at[partition] = found[-1].offset + 1
                        more.append(partition)
                order = more
        return found

    def marks(self, topic: str) -> dict[int, Mark]:  # noqa: ARG002 (the protocol's)
        """Return nothing: the ends reveal a file that was put back, and the id of the topic one that was made again."""
        return {}

    def diverged(self, topic: str, marks: Mapping[int, Mark]) -> list[int]:  # noqa: ARG002 (the protocol's)
        """Return nothing, as `marks` does."""
        return []

    def report(self, topic: str, positions: Mapping[int, int]) -> None:
        """Do nothing: nobody watches."""

    # Writing

    def append(self, topic: str, records: Sequence[NewRecord]) -> list[Position]:
        """Store `records` durably, all or none, and return their positions in the order given."""
        if not records:
            return []
        with self._transaction("append to") as cursor:
            number, count = self._topic(cursor, topic)
            following = dict(cursor.execute("SELECT partition, next FROM ends WHERE topic = ?", (number,)).fetchall())
            stored = []
            rows = []
            for record in records:
                partition = partition_for(record.key, count)
                offset = following[partition]
                following[partition] = offset + 1
                stored.append(Position(topic, partition, offset))
                headers = _packed(record.headers) if record.headers else None
                rows.append((number, partition, offset, record.timestamp, record.key, record.value, headers))
            cursor.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            cursor.executemany(
                "UPDATE ends SET next = ? WHERE topic = ? AND partition = ?",
                [(following[p], number, p) for p in sorted({position.partition for position in stored})],
            )
        return stored

    # Forgetting

    def purge(self, topic: str, before: Mapping[int, int]) -> bool:
        """Forget, per partition, the records before offset `before[partition]`.

        Returns whether every byte of them has left the files. If not, another process was reading all the time: the
        records are gone from the log, and `scrub` finishes the work later.
        """
        with self._transaction("purge") as cursor:
            number, _ = self._topic(cursor, topic)
            cursor.execute("CREATE TEMP TABLE cut (partition INTEGER PRIMARY KEY, before INTEGER NOT NULL)")
            cursor.executemany("INSERT INTO temp.cut VALUES (?, ?)", before.items())
            here = {"topic": number}
            if cursor.execute(f"SELECT EXISTS (SELECT 1 {_FROM} WHERE {_GONE})", here).fetchone()[0]:
                cursor.execute(_RECORDS_AGAIN)
                cursor.execute(
                    f"INSERT INTO records_kept SELECT r.* {_FROM} WHERE NOT ({_GONE}) "
                    'ORDER BY r.topic, r.partition, r."offset"',
                    here,
                )
                cursor.execute("DROP TABLE records")
                cursor.execute("ALTER TABLE records_kept RENAME TO records")
            cursor.execute("DROP TABLE temp.cut")
        return self.scrub()

    def delete_topic(self, name: str) -> bool:
        """Delete topic `name` with all its records; returns as `purge` does."""
        self.purge(name, self.end_offsets(name))
        with self._transaction("delete a topic from") as cursor:
            number, _ = self._topic(cursor, name)
            cursor.execute("DELETE FROM records WHERE topic = ?", (number,))  # what came since the purge
            cursor.execute("DELETE FROM ends WHERE topic = ?", (number,))
            cursor.execute("DELETE FROM topics WHERE number = ?", (number,))
        return self.scrub()

    def scrub(self) -> bool:
        """Give free pages back and empty the WAL; return whether it was emptied.

        Call it once at start too, because a process that is killed between a purge and its scrub leaves purged records
        in the WAL.
        """
        with self._file.held() as connection:
            try:
                # Each page is a step of this pragma, and `execute` takes one step of a statement without columns.
                connection.executescript("PRAGMA incremental_vacuum")
                blocked, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError as error:
                if sqlite_file.is_busy(error):
                    return False
                raise sqlite_file.explained(error, self.path, "scrub") from error
            except sqlite_file.FAILURES as error:
                raise sqlite_file.explained(error, self.path, "scrub") from error
        return not blocked

    # Inside

    def _topic(self, cursor: sqlite3.Cursor, name: str) -> tuple[int, int]:
        row = cursor.execute("SELECT number, partitions FROM topics WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise self._unknown(name)
        return int(row[0]), int(row[1])

    def _unknown(self, topic: str) -> LogError:
        return LogError(f"There is no topic {topic!r} in {self.path}", "Create it first, or check its name")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Cursor]:
        with self._file.held() as connection:
            try:
                yield connection.cursor()
            except sqlite_file.FAILURES as error:
                raise sqlite_file.explained(error, self.path, "read") from error

    @contextlib.contextmanager
    def _transaction(self, act: str) -> Iterator[sqlite3.Cursor]:
        with self._file.held() as connection:
            try:
                cursor = connection.cursor()
                cursor.execute("BEGIN IMMEDIATE")
                try:
                    yield cursor
                    cursor.execute("COMMIT")
                except BaseException:
                    # SQLite has rolled back by itself after some failures (a full disk is one).
                    if connection.in_transaction:
                        with contextlib.suppress(sqlite3.Error):
                            cursor.execute("ROLLBACK")
                    raise
            except sqlite_file.FAILURES as error:
                raise sqlite_file.explained(error, self.path, act) from error


def _packed(headers: tuple[tuple[str, bytes], ...]) -> bytes:
    parts = []
    for name, value in headers:
        encoded = name.encode()
        parts += [_HEADER.pack(len(encoded), len(value)), encoded, value]
    return b"".join(parts)


def _unpacked(data: bytes) -> tuple[tuple[str, bytes], ...]:
    headers = []
    at = 0
    while at < len(data):
        name_length, value_length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        middle, end = at + name_length, at + name_length + value_length
        headers.append((data[at:middle].decode(), data[middle:end]))
        at = end
    return tuple(headers)
