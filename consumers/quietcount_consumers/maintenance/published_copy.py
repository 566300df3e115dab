"""A copy of a published file from somebody who may want to deceive: bounded, opened safely, and read once.

What is verified are the bytes of the copy, so nobody can exchange them meanwhile, and no lock on the file matters.
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
from quietcount_aggregates.publication.published_file import changes_beside
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance.published_objects import attached

__all__ = ["DISTRUST", "ChangedBeside", "NotVerified", "PublishedCopy", "published_copy"]

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
_MAGIC: Final = slice(8, 12)

_COLUMNS: Final = """
    SELECT list(column_name || ' ' || data_type ORDER BY column_index)
    FROM duckdb_columns() JOIN duckdb_tables() USING (database_name, schema_name, table_name)
    WHERE database_name = 'copy' AND schema_name = 'main' AND table_name = ?
"""
_TABLES: Final = {
    "ledger": ["index BIGINT", "entry BLOB"],
    "about": ["key VARCHAR", "value VARCHAR"],
}
"""The columns that are read, and their types: what else there is comes out when the file is built again."""

_STRANGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the replay of entries that nobody wrote in good faith may raise."""


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
        chain, together = Chain(), 0
        try:
            with attached(copy=self.file) as connection:
                entries = connection.execute("SELECT entry FROM copy.main.ledger")
                while rows := entries.fetchmany(_FETCHED):
                    for (entry,) in rows:
                        together += len(entry or b"")
                        self._admit(chain, entry, together)
        except duckdb.Error:
            raise _no_publication(self.path) from None
        if not chain.entries:
            raise NotVerified(f"{self.path}: its ledger is empty", DISTRUST)
        return chain

    def _admit(self, chain: Chain, entry: bytes | None, together: int) -> None:
        place = len(chain.entries)
        if entry is None or len(entry) > _LONGEST_ENTRY or together > _MOST_TOGETHER or place >= _MOST_ENTRIES:
            raise NotVerified(f"{self.path}: ledger entry {place} is longer than any that quietcount writes", DISTRUST)
        try:
            chain.extend(entry)
        except LedgerNewer as error:
            raise NotVerified(f"{self.path}: {error.what}", error.remedy) from None
        except LedgerError as error:
            raise NotVerified(f"{self.path}: {error.what}", DISTRUST) from None
        except _STRANGE as error:
            raise NotVerified(
                f"{self.path}: ledger entry {place} says what no ledger may say ({type(error).__name__})", DISTRUST
            ) from None


@contextlib.contextmanager
def published_copy(path: Path) -> Iterator[PublishedCopy]:
    """Copy the file at `path` into a folder for temporary files, and lend what it says.

    Raises NotVerified for what is no published file, and ChangedBeside for one beside which a program left its changes.
    """
    if (beside := changes_beside(path)) is not None:
        raise ChangedBeside(
            f"{beside}: another program wrote to the published file, and whoever opens that file reads this on top of "
            "it",
            "End that program and delete this file: nothing of ours is in it",
        )
    with tempfile.TemporaryDirectory(prefix="quietcount-verify-") as folder:
        copy = Path(folder) / "copy.duckdb"
        _copy(path, copy)
        yield PublishedCopy(path, copy, _about(path, copy))


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
        magic = written_back.read(_MAGIC.stop)[_MAGIC]
    if size <= _HEADERS or magic != b"DUCK":
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
            rows = connection.execute("SELECT key, value FROM copy.main.about LIMIT 100").fetchall()
    except duckdb.Error:
        raise _no_publication(path) from None
    return {str(key): str(value) for key, value in rows}


def _no_publication(path: Path) -> NotVerified:
    return NotVerified(
        f"{path}: is damaged, or not a file that quietcount published",
        "Name the file that was published, statistics.duckdb, or get it again",
    )
