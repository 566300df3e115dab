"""The embedded log's file as a process has it open: one connection, shared by its threads, and never by a fork.

SQLite must not meet an open file in a forked child (see `forks`). So the file is closed before a fork, and parent and
child open it again when they use it next.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from quietcount_producers import forks
from quietcount_producers.embedded import sqlite_file
from quietcount_producers.errors import LogError

__all__ = ["LogFile"]


class LogFile:
    """The log file at `path`, open; `timeout` is how many seconds to wait for another process that holds it.

    Raises LogError if it cannot be opened, is not a log of quietcount, or is one of a later version.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._closed = False
        self._process = os.getpid()
        if any(isinstance(each, LogFile) and each.stranded for each in forks.known()):
            raise self._left_open()
        with forks.held_off():
            self._connect()
            forks.watch(self)

    @contextlib.contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """Keep other threads out, and yield the connection, opened again if there was a fork. Raises LogError."""
        if self.stranded:  # before the lock: if another thread held it at the fork, it stays locked
            raise self._left_open()
        with self._lock:
            if self._closed:
                raise LogError(f"The log {self._path} is closed", "Open it again")
            if (
                self._connection is not None
                and not self._connection.in_transaction
                and self._identity() != self._opened
            ):
                self._disconnect()  # the file was removed or replaced: what is written to the open one would be lost
            yield self._connection or self._connect()

    def close(self) -> None:
        """Close the file; the last process to close it folds the WAL into it. Closing twice does no harm."""
        if self.stranded:
            return  # it is its parent's
        with self._lock:
            self._closed = True
            self._disconnect()

    def _connect(self) -> sqlite3.Connection:
        try:
            sqlite_file.tighten(self._path)
            connection = sqlite_file.connect(self._path, self._timeout)
        except sqlite_file.FAILURES as error:
            raise sqlite_file.explained(error, self._path, "open") from error
        try:
            self._check_kind(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._opened = self._identity()
        return connection

    def _identity(self) -> tuple[int, int] | None:
        """Return what tells the file at the path from another one, None if there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        try:
            kind = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite_file.FAILURES as error:
            raise sqlite_file.explained(error, self._path, "read") from error
        if kind != sqlite_file.APPLICATION_ID:
            raise LogError(f"{self._path} is not a quietcount log", "Check data_dir, or move that file away")
        if version > sqlite_file.VERSION:
            raise LogError(
                f"{self._path} has format {version} and this version of quietcount writes format {sqlite_file.VERSION}",
                "Upgrade quietcount on this machine",
            )

    # Around a fork

    @property
    def stranded(self) -> bool:
        """Whether this process got the file open from its parent, because whatever forked it did not tell Python."""
        return self._connection is not None and self._process != os.getpid()

    def _left_open(self) -> LogError:
        return LogError(
            f"The log {self._path} cannot be used: a log was open when this process was forked, and whatever forked it "
            "did not tell Python, so that SQLite could damage the file",
            "Open logs and publishers after the fork (with uWSGI: lazy-apps = true)",
        )

    def before_fork(self) -> None:
        """Close the file, as soon as the thread that uses it is done."""
        self._lock.acquire()
        if self._connection is not None and not self._connection.in_transaction:  # it may be this very thread's
            with contextlib.suppress(sqlite3.Error):
                self._disconnect()

    def after_fork(self) -> None:
        """Let the other threads go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Make the file the child's own, which opens it when it uses it."""
        self._lock.release()
        if self._connection is None:
            self._process = os.getpid()
