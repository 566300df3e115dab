"""Published files of others: the ledger in one, and the signed head, read without trusting the file.

It comes from a web server or a partner. It is opened for reading only, with nothing to load, and what is read has to be
a table: a view would be somebody's program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import duckdb

from quietcount_aggregates.errors import NoteError, PublicationHeld
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_aggregates.publication.published_file import Settings, opened
from quietcount_consumers.errors import WitnessError

__all__ = ["DATABASE", "is_database", "published_ledger", "published_note"]

DATABASE: Final = 12
"""How many bytes tell a DuckDB file from a note or a request."""

_MAGIC: Final = b"DUCK"
_MAGIC_AT: Final = 8
_MOST_BYTES: Final = 64 << 20
_MOST_ENTRIES: Final = 1_000_000
_SETTINGS: Final[Settings] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "memory_limit": "1GB",
    "threads": 1,
}
_ANOTHER: Final = "Get it again from those who publish it"


def is_database(beginning: bytes) -> bool:
    """Return whether a file that begins so is one of DuckDB."""
    return beginning[_MAGIC_AT:DATABASE] == _MAGIC


def published_note(path: Path) -> SignedNote:
    """Return the signed head that the published file at `path` states. Raises WitnessError."""
    return _read(path, entries=False)[1]


def published_ledger(path: Path) -> tuple[tuple[bytes, ...], SignedNote]:
    """Return the entries and the signed head in the published file at `path`. Raises WitnessError."""
    return _read(path, entries=True)


def _read(path: Path, *, entries: bool) -> tuple[tuple[bytes, ...], SignedNote]:
    try:
        with opened(path, _SETTINGS) as connection:
            _check_tables(connection, path)
            heads = connection.execute("SELECT value FROM about WHERE key = 'signed_head' LIMIT 2").fetchall()
            found: list[tuple[Any, ...]] = []
            if entries:
                size = connection.execute("SELECT sum(octet_length(entry)) FROM ledger").fetchone()
                if size is not None and (size[0] or 0) > _MOST_BYTES:  # a small file can hold it, compressed
                    raise WitnessError(f"{path}: its ledger is larger than any of ours", _ANOTHER)
                found = connection.execute(
                    f'SELECT entry FROM ledger ORDER BY "index" LIMIT {_MOST_ENTRIES}'
                ).fetchall()
    except PublicationHeld as error:
        raise WitnessError(error.what, error.remedy) from None
    except duckdb.Error:
        raise WitnessError(f"{path}: is damaged, or not a file that quietcount published", _ANOTHER) from None
    if len(heads) != 1 or not heads[0][0]:
        raise WitnessError(f"{path}: has no signed head, so nobody vouches for it", _ANOTHER)
    try:
        return tuple(bytes(entry) for (entry,) in found), SignedNote.parse(str(heads[0][0]))
    except (NoteError, TypeError, ValueError):
        raise WitnessError(f"{path}: was altered: its signed head or its ledger cannot be read", _ANOTHER) from None


def _check_tables(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    rows = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND schema_name = 'main' AND NOT temporary"
    ).fetchall()
    if not {"about", "ledger"} <= {name for (name,) in rows}:
        raise WitnessError(f"{path}: is not a file that quietcount published", _ANOTHER)
