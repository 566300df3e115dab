"""A copy of a published file from somebody who may want to deceive: bounded, opened safely, and read once.

What is read are the bytes of the copy, so nobody can exchange them meanwhile, and no lock on the file matters. It is
opened for reading only, attached beside an empty database, so that no table, view or macro of it stands in the place of
one of DuckDB's, and nothing of it is executed.
"""

from __future__ import annotations

import contextlib
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from quietcount_aggregates.errors import LedgerError, LedgerNewer, NoteError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_aggregates.publication.published_file import Settings, changes_beside
from quietcount_consumers.errors import ServiceError

__all__ = [
    "DATABASE",
    "DISTRUST",
    "ChangedBeside",
    "NotVerified",
    "PublishedCopy",
    "attached",
    "check_beside",
    "is_database",
    "published_copy",
]

DATABASE: Final = 12
"""How many bytes tell a DuckDB file from a note or a request."""

DISTRUST: Final = (
    "Do not rely on this copy. Get the file again from its publisher, and ask a partner for the copy that they keep"
)
"""The remedy for a file that does not hold what it says."""

_MOST_BYTES: Final = 2 << 30
"""Two million cells, more than thirty years of a large catalogue, take 51 MB."""
_MOST_ENTRIES: Final = 1_000_000
_LONGEST_ENTRY: Final = 1 << 20
"""Kafka takes a megabyte as one record, so no ledger holds a longer entry."""
_MOST_TOGETHER: Final = 1 << 29
_FETCHED: Final = 64
"""Entries that are in memory at once before they are looked at."""
_CHUNK: Final = 1 << 20
_BLOCK: Final = 256 * 1024
_HEADERS: Final = 3 * 4096
_MAGIC: Final = b"DUCK"
_MAGIC_AT: Final = 8

_SETTINGS: Final[Settings] = {
    "threads": 1,  # rows come in the order in which they lie
    "memory_limit": "1GB",
    "temp_directory": "",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


_COLUMNS: Final = """
    SELECT list(column_name || ' ' || data_type ORDER BY column_index)
    FROM duckdb_columns() JOIN duckdb_tables() USING (database_name, schema_name, table_name)
    WHERE database_name = 'copy' AND schema_name = 'main' AND table_name = ? AND column_default IS NULL
"""
"""Columns with something stored in them: whoever reads a generated one computes what its maker wrote, without end."""

_TABLES: Final = {
    "ledger": ["index BIGINT", "entry BLOB"],
    "about": ["key VARCHAR", "value VARCHAR"],
}
"""The columns that are read, and their types: what else there is comes out when the file is built again."""

_ABOUT: Final = "SELECT key, value FROM copy.main.about WHERE strlen(value) <= 524288 LIMIT 100"
_ENTRIES: Final = "SELECT CASE WHEN octet_length(entry) <= ? THEN entry END FROM copy.main.ledger"
"""A small file can hold long values, compressed: these stay out of our memory."""


class NotVerified(ServiceError):
    """A published file that does not hold what it says, or is none."""


class ChangedBeside(NotVerified):
    """A published file beside which another program left its changes: the file itself may be sound."""


@dataclass(frozen=True, slots=True)
class PublishedCopy:
    """The copy of a published file at `path`: the copy itself, and what its rows of `about` say. All is unverified."""

    path: Path
    file: Path
    about: dict[str, str]

    @property
    def note(self) -> SignedNote:
        """Return the signed head that the file carries. Raises NotVerified if there is none, or more than that."""
        try:
            note = SignedNote.parse(self.about["signed_head"])
        except KeyError:
            raise NotVerified(f"{self.path}: carries no signed head of its ledger", DISTRUST) from None
        except NoteError as error:
            raise NotVerified(
                f"{self.path}: the signed head that it carries is not one: {error.what}", DISTRUST
            ) from None
        if len(note.signatures) != 1:
            # The name of a signature is free text, and no key vouches for it.
            raise NotVerified(f"{self.path}: another signature stands beside that of the ledger's key", DISTRUST)
        return note

    def chain(self) -> Chain:
        """Replay the entries, in the order in which they lie. Raises NotVerified for the first that may not stand."""
        chain = Chain()
        try:
            for entry in self.entries():
                chain.extend(entry)
        except LedgerNewer as error:
            raise NotVerified(f"{self.path}: {error.what}", error.remedy) from None
        except LedgerError as error:
            raise NotVerified(f"{self.path}: {error.what}", DISTRUST) from None
        if not chain.entries:
            raise NotVerified(f"{self.path}: its ledger is empty", DISTRUST)
        return chain

    def entries(self) -> Iterator[bytes]:
        """Yield the bytes of the entries, in the order in which they lie. Raises NotVerified for what cannot be one."""
        place = together = 0
        try:
            with attached(copy=self.file) as connection:
                entries = connection.execute(_ENTRIES, [_LONGEST_ENTRY])
                while rows := entries.fetchmany(_FETCHED):
                    for (entry,) in rows:
                        together += len(entry or b"")
                        if entry is None or together > _MOST_TOGETHER or place >= _MOST_ENTRIES:
                            raise NotVerified(
                                f"{self.path}: ledger entry {place} is longer than any that quietcount writes", DISTRUST
                            )
                        yield bytes(entry)
                        place += 1
        except duckdb.Error:
            raise _no_publication(self.path) from None


@contextlib.contextmanager
def published_copy(path: Path) -> Iterator[PublishedCopy]:
    """Copy the file at `path` into a folder for temporary files, and lend what it says.

    What another program left beside the file is not looked at. Raises NotVerified for what is no published file.
    """
    with tempfile.TemporaryDirectory(prefix="quietcount-verify-") as folder:
        copy = Path(folder) / "copy.duckdb"
        _copy(path, copy)
        yield PublishedCopy(path, copy, _about(path, copy))


def check_beside(path: Path) -> None:
    """Raise ChangedBeside if another program left its changes beside the published file at `path`."""
    if (beside := changes_beside(path)) is not None:
        raise ChangedBeside(
            f"{beside}: another program wrote to the published file, and whoever opens that file reads this on top of "
            "it",
            "End that program and delete this file: nothing of ours is in it",
        )


def is_database(beginning: bytes) -> bool:
    """Return whether a file that begins so is one of DuckDB."""
    return beginning[_MAGIC_AT:DATABASE] == _MAGIC


@contextlib.contextmanager
def attached(**files: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach files under the given names to an empty database, for reading only; nothing else can be reached."""
    with duckdb.connect(":memory:", config=_SETTINGS) as connection:
        for name, path in files.items():
            quoted = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY, TYPE duckdb)")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET lock_configuration = true")
        yield connection


def _copy(path: Path, copy: Path) -> None:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise NotVerified(f"{path}: is no file", "Name the file that was published, statistics.duckdb")
    size = 0
    with path.open("rb") as file, copy.open("wb") as written:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            if size > _MOST_BYTES:
                raise NotVerified(f"{path}: is larger than any file that quietcount publishes", DISTRUST)
            written.write(chunk)
    with copy.open("rb") as written_back:
        beginning = written_back.read(DATABASE)
    if size <= _HEADERS or not is_database(beginning):
        raise _no_publication(path)
    if (size - _HEADERS) % _BLOCK:
        raise NotVerified(f"{path}: was cut short, or ends with bytes that belong to nothing", DISTRUST)


def _about(path: Path, copy: Path) -> dict[str, str]:
    """Return the rows of `about`, if that and the ledger are tables as they have to be. Raises NotVerified."""
    try:
        with attached(copy=copy) as connection:
            # Tables first: DuckDB looks into a view to list its columns.
            for table, wanted in _TABLES.items():
                kind = connection.execute(
                    "SELECT 1 FROM duckdb_tables() WHERE database_name = 'copy' AND schema_name = 'main' "
                    "AND table_name = ?",
                    [table],
                ).fetchone()
                found = connection.execute(_COLUMNS, [table]).fetchone() if kind else None
                if found is None or not set(wanted) <= set(found[0] or ()):
                    raise _no_publication(path)
            rows = connection.execute(_ABOUT).fetchall()
    except duckdb.Error:
        raise _no_publication(path) from None
    return {str(key): str(value) for key, value in rows}


def _no_publication(path: Path) -> NotVerified:
    return NotVerified(
        f"{path}: is damaged, or not a file that quietcount published",
        "Name the file that was published, statistics.duckdb, or get it again",
    )
