"""The embedded log's SQLite file: how it is created, opened, and what its failures mean to a person."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sqlite3
import struct
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

from quietcount_producers.errors import LogError, LogUnavailable, LogUnwritable
from quietcount_schemas.private_files import sync_folder

__all__ = ["APPLICATION_ID", "FAILURES", "VERSION", "connect", "create", "explained", "is_busy", "tighten"]

APPLICATION_ID: Final = 0x51434C47
"""QCLG in ASCII: it marks our file among all SQLite databases."""
VERSION: Final = 1
FILE_MODE: Final = 0o600
_SCHEMA_VERSION_BELOW: Final = 1 << 30
"""SQLite counts to 2**32 and then begins again; this leaves room."""

FAILURES: Final = (sqlite3.Error, OSError, UnicodeDecodeError, struct.error)
"""What work with a log file may raise; `explained` puts it into words."""

_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NO_ACCESS: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_NO_SPACE_ERRNO: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ACCESS_ERRNO: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


def create(path: Path, timeout: float) -> None:
    """Create an empty log file at `path`, whole or not at all; if another process was faster, keep its file.

    The file is built beside its final name and then linked. Two processes that prepare one file at the same time get
    errors that no timeout covers, for example when they switch to WAL. Raises LogError.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=".log-", suffix=".new", dir=path.parent)  # mode 0600
    except OSError as error:
        raise explained(error, path, "create") from error
    fresh = Path(name)
    os.close(descriptor)
    try:
        connection = sqlite3.connect(fresh, timeout=timeout, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # possible before the first table only
            connection.execute("PRAGMA journal_mode = WAL")
            script = resources.files("quietcount_producers.embedded").joinpath("embedded_log.sql").read_text("utf-8")
            connection.executescript(
                f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {script} COMMIT;"
            )
            # Each purge adds 1 to this number. From 0 it would show how often there was something to purge.
            connection.execute(f"PRAGMA schema_version = {secrets.randbelow(_SCHEMA_VERSION_BELOW)}")
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)  # unlike a rename, never replaces a log that is already in use
        sync_folder(path.parent)
    except FAILURES as error:
        raise explained(error, path, "create") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                Path(f"{fresh}{suffix}").unlink()


def connect(path: Path, timeout: float) -> sqlite3.Connection:
    """Open the log file at `path`, which exists."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")  # an acknowledged record survives power loss
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")  # nothing of a record in a temporary folder
        connection.execute("PRAGMA cache_size = -16000")  # KiB: index pages of a long log stay in memory
    except BaseException:
        connection.close()
        raise
    return connection


def tighten(path: Path) -> None:
    """Take the rights of group and others away; SQLite gives the -wal and -shm files the mode of their database."""
    for suffix in ("", "-wal", "-shm"):
        file = Path(f"{path}{suffix}")
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mode & 0o077:
                file.chmod(FILE_MODE)


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether `error` means that another process holds the file."""
    return _code(error) in _BUSY


def explained(error: Exception, path: Path, act: str) -> LogError:
    """Return the LogError that says what `error` means and what to do."""
    prefix = f"Cannot {act} the log {path}:"
    if isinstance(error, OSError):
        if error.errno in _NO_SPACE_ERRNO:
            return LogUnwritable(f"{prefix} no space is left", _FREE_SPACE)
        return LogError(f"{prefix} {os.strerror(error.errno or 0).lower()}", _CHECK_FOLDER)
    code = _code(error) if isinstance(error, sqlite3.Error) else None
    if code in _DAMAGED or _is_undecodable(error):
        what = f"{prefix} it is not a log of quietcount, or it is damaged"
        return LogError(what, "Check data_dir, or move it away")
    if code in _BUSY:
        what = f"{prefix} another process has held it for too long"
        return LogUnavailable(what, "Find that process, and run again")
    if code == sqlite3.SQLITE_FULL:
        return LogUnwritable(f"{prefix} no space is left", _FREE_SPACE)
    if code in _NO_ACCESS:
        return LogError(f"{prefix} it or its folder cannot be written", _CHECK_FOLDER)
    if code == sqlite3.SQLITE_IOERR:
        what = f"{prefix} the disk failed or is full, or the file would exceed a limit on file sizes"
        return LogUnwritable(what, "Mend that and run again; nothing was stored in part")
    # SQLite's own words name tables and constraints; they hold no value of ours.
    return LogError(f"{prefix} {error}", "Report this as a defect; quietcount does not expect this error of SQLite")


_FREE_SPACE: Final = "Free space and run again; nothing was stored in part"
_CHECK_FOLDER: Final = "Check that the folder exists, is on a disk that can be written, and belongs to this user"


def _is_undecodable(error: Exception) -> bool:
    # Text that is not UTF-8: in a message of SQLite, in a column (the driver's own words would repeat it), or in the
    # headers of a record. Or headers that end too early.
    return isinstance(error, UnicodeDecodeError | struct.error) or (
        isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode")
    )


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF  # the low byte is the primary code
