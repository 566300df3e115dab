"""state.duckdb: the private state of the fold.

It holds the offsets in the same transaction as what was folded up to them, the events of open periods (as marks and
small codes), and the two kinds of marks that remain of closed ones. It is forgotten from by being written anew without
what is to be forgotten: DuckDB leaves the bytes of dropped tables in free blocks of a file that lives on.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import IO

import duckdb
import numpy as np
import numpy.typing as npt

from .entries import Head
from .errors import StateError
from .statistics import Statistic

__all__ = ["OPEN_EVENT_COLUMNS", "State", "counted_events", "counted_fields", "registered"]

FORMAT = 1

OPEN_EVENT_COLUMNS = (
    "event VARCHAR NOT NULL, case_mark UHUGEINT NOT NULL, event_mark UHUGEINT NOT NULL, revision INTEGER NOT NULL, "
    # carried_on is the fold's clock for an event that came late for a statistic, and null otherwise.
    "occurred_on DATE NOT NULL, carried_on DATE, "
    # The place in the log: of this version, and of the event's first version, which decides its turn.
    '"partition" INTEGER NOT NULL, "offset" BIGINT NOT NULL, first_offset BIGINT NOT NULL'
)

_META = {"format": str(FORMAT), "intent": "", "purge_due": "", "fields": "", "head_length": "0", "head_digest": ""}


_HELD = "{path}: another quietcount service holds it; one service runs on a data folder at a time"


class State:
    """An open state file. One process at a time; use `close` or a with statement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _locked(path)
        try:
            if not path.exists():
                _create(path)
            self.connection = _connect(path)
        except BaseException:
            self._lock.close()
            raise
        # Only now, holding the file: before, it could be what another process is writing its state anew into.
        for leftover in path.parent.glob(path.name + ".ne[wx]*"):
            leftover.unlink(missing_ok=True)
        if self["format"] != str(FORMAT):
            found = self["format"]
            self.close()
            raise StateError(
                f"{path}: written in format {found}; this version reads format {FORMAT}. Use the newer quietcount"
            )

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was committed is kept."""
        self.connection.close()
        self._lock.close()

    @property
    def _next_path(self) -> Path:
        return self.path.with_name(self.path.name + ".next")

    def __getitem__(self, key: str) -> str:
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
        return row[0] if row else ""

    def __setitem__(self, key: str, value: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, value])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Run the body in one transaction: all of it is kept, or nothing."""
        with self.guarded():
            self.connection.execute("BEGIN")
            try:
                yield self.connection
                # The write-ahead log is made when there is first something to write.
                with _private_files():
                    self.connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self.connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def guarded(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Turn what DuckDB raises in the body into a StateError, whose text quotes no data."""
        try:
            yield self.connection
        except duckdb.Error as error:
            raise _explained(error, self.path) from error

    def bind(self, **identities: str) -> None:
        """Remember, or compare, what this state belongs to: the log's topic, the ledger, the secret.

        Raises StateError when one differs from what the state was made with.
        """
        for key, value in identities.items():
            known = self[key]
            if not known:
                with self.transaction():
                    self[key] = value
            elif known != value:
                what = {
                    "topic_id": "the topic was deleted and created again, or belongs to another log",
                    "ledger_id": "the ledger is another one",
                    "secret_check": "the consumer's secret is another one",
                }[key]
                raise StateError(
                    f"{self.path}: {what} than this state was made with. Put the right one back; folding on would "
                    "count cases anew that have used up their contributions"
                )

    @property
    def offsets(self) -> dict[int, int]:
        """Return the next offset of each partition that was read from."""
        return dict(self.connection.execute('SELECT "partition", next_offset FROM offsets').fetchall())

    @property
    def first_open(self) -> dict[str, dt.date]:
        """Return the first open day of each statistic that the state knows."""
        return dict(self.connection.execute("SELECT statistic, day FROM first_open").fetchall())

    @property
    def columns(self) -> list[str]:
        """Return the columns "Event.field" that the open events have, in order."""
        described = self.connection.execute("SELECT * FROM open_events LIMIT 0").description
        return [name for name, *_ in described if "." in name]

    @property
    def head(self) -> Head:
        """Return the head of the ledger as this state last saw it."""
        return Head(int(self["head_length"]), bytes.fromhex(self["head_digest"]))

    def see(self, head: Head) -> None:
        """Remember how far the ledger went; within a transaction."""
        self["head_length"], self["head_digest"] = str(head.length), head.digest.hex()

    @property
    def intent(self) -> bytes:
        """Return the intent of a release that may have been appended and is not closed here, or nothing."""
        return bytes.fromhex(self["intent"])

    def adopt(self, statistics: Sequence[Statistic], symbols: Mapping[str, Sequence[str]]) -> bool:
        """Make room for what `statistics` count; return whether the log is to be folded again from its beginning.

        `symbols` holds, for each column "Event.field", the codes' meanings. When a statistic is new or a schema's
        symbols changed, the open events are dropped and the offsets forgotten in one transaction: while a period is
        open, the log is its truth.
        """
        wanted = json.dumps(
            {
                "columns": {c: list(symbols[c]) for c in counted_fields(statistics)},
                "events": sorted(counted_events(statistics)),
            },
            sort_keys=True,
        )
        known = self.first_open
        if self["fields"] == wanted and all(s.name in known for s in statistics):
            return False
        folded = bool(self.offsets)
        columns = "".join(f', "{column}" UTINYINT' for column in counted_fields(statistics))
        with self.transaction() as connection:
            connection.execute("DROP TABLE open_events")
            connection.execute(f"CREATE TABLE open_events ({OPEN_EVENT_COLUMNS}{columns})")
            connection.execute("DELETE FROM offsets")
            for statistic in statistics:
                if statistic.name not in known:
                    connection.execute("INSERT INTO first_open VALUES (?, ?)", [statistic.name, statistic.since])
            self["fields"] = wanted
        return folded

    def begin_anew(self, first_open: Mapping[str, dt.date]) -> None:
        """Start after a recorded loss: from the log's beginning, with the ledger's first open days.

        Marks that are left are kept; they only ever lower what a case may still add.
        """
        with self.transaction() as connection:
            for table in ("open_events", "offsets", "first_open", "dead_letters"):
                connection.execute(f"DELETE FROM {table}")
            for statistic, day in first_open.items():
                connection.execute("INSERT INTO first_open VALUES (?, ?)", [statistic, day])
            for key in ("intent", "topic_id", "ledger_id", "secret_check"):
                self[key] = ""

    def rewrite(self, fill: str) -> None:
        """Replace the file by a new one that the SQL script `fill` has filled (its schema is named `next`).

        The old file is closed, and its write-ahead log gone, before the new one takes its name: DuckDB would replay a
        leftover log into the wrong file. A crash before the last step leaves the old file as it was.
        """
        following = self._next_path
        try:
            with _private_files():
                self.connection.execute(f"ATTACH '{_quoted(following)}' AS next")
                self.connection.execute("USE next")
                try:
                    self.connection.execute(_schema())
                finally:
                    self.connection.execute(f"USE {_main(self.connection)}")
                self.connection.execute(fill)
                self.connection.execute("DETACH next")
                self.connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            raise _explained(error, following) from error
        self.connection.close()
        try:
            for path in (following, self.path):
                if path.with_name(path.name + ".wal").exists():
                    raise StateError(
                        f"{path}: its write-ahead log could not be folded in; check the disk, then start again"
                    )
            with following.open("rb") as file:
                os.fsync(file.fileno())
            following.replace(self.path)
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StateError(
                f"{self.path}: cannot be replaced ({error.strerror}); check the folder and the disk"
            ) from error
        self.connection = _connect(self.path)


@contextlib.contextmanager
def registered(connection: duckdb.DuckDBPyConnection, table: Mapping[str, npt.NDArray[np.generic]]) -> Iterator[None]:
    """Lend contiguous arrays of one length to DuckDB as the table `batch`, for the length of a with statement."""
    connection.register("batch", dict(table))
    try:
        yield
    finally:
        connection.unregister("batch")


def counted_events(statistics: Sequence[Statistic]) -> set[str]:
    """Return the event types that any of `statistics` counts."""
    return {event for statistic in statistics for event in statistic.events}


def counted_fields(statistics: Sequence[Statistic]) -> list[str]:
    """Return the columns "Event.field" that any of `statistics` refers to, sorted."""
    return sorted({f"{e}.{f}" for s in statistics for e in s.events for f in s.fields_of(e)})


def _schema() -> str:
    return resources.files("quietcount_aggregates").joinpath("state.sql").read_text(encoding="utf-8")


def _create(path: Path) -> None:
    """Make an empty state, whole or not at all, and keep the one that another process made first.

    DuckDB cannot open what it leaves behind when it is killed, or the disk is full, while it makes a file.
    """
    fresh = path.with_name(f"{path.name}.new-{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        connection = _connect(fresh)
        try:
            connection.execute(_schema())
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
        raise _explained(error, path) from error
    finally:
        for leftover in (fresh, fresh.with_name(fresh.name + ".wal")):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        with _private_files():
            connection = duckdb.connect(str(path))
        # Nothing may spill: a temporary file would hold the attributes of open periods in the clear.
        connection.execute("SET temp_directory = ''")
        connection.execute("SET enable_progress_bar = false")
        return connection
    except (duckdb.Error, OSError) as error:
        raise _explained(error, path) from error


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """Let files made in the body be for their owner only; DuckDB would make them 0644."""
    old = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(old)


def _locked(path: Path) -> IO[bytes]:
    """Take the lock beside the state file and return the open file that holds it.

    DuckDB locks the file itself, but that lock is gone for a moment while a new file takes the old one's name.
    """
    try:
        with _private_files():
            lock = path.with_name(path.name + ".lock").open("ab")
    except OSError as error:
        raise _explained(error, path) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StateError(_HELD.format(path=path)) from None
    return lock


def _main(connection: duckdb.DuckDBPyConnection) -> str:
    row = connection.execute(
        "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'next'"
    ).fetchone()
    if row is None:
        raise StateError("the state has no database of its own; it was closed")
    return f'"{row[0]}"'


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _explained(error: Exception, path: Path) -> StateError:
    """Turn DuckDB's error into ours, without its text where that could quote data."""
    text = str(error)
    if "Conflicting lock" in text or "Could not set lock" in text:
        return StateError(_HELD.format(path=path))
    if any(sign in text for sign in ("No space left", "File too large", "disk is full")):
        return StateError(f"{path}: the disk is full; make room and start again. Nothing was lost")
    if isinstance(error, duckdb.OutOfMemoryException):
        return StateError(
            f"{path}: not enough memory to work on the open periods; give the service more. Nothing was changed"
        )
    if isinstance(error, (duckdb.IOException, OSError)):
        return StateError(
            f"{path}: cannot be opened or written; check that the folder exists, is writable, and the disk has room"
        )
    return StateError(f"{path}: DuckDB refused an operation ({type(error).__name__}); the file may be damaged")
