"""statistics.duckdb: the public projection of the ledger.

The file is always built new beside the old one and swapped in, so that a reader sees one release or the next and never
half of either. Nothing but the ledger goes into it: deleted, it comes back with the same values.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from quietcount_aggregates.errors import (
    PublicationDefect,
    PublicationError,
    PublicationHeld,
    PublicationUnwritable,
)
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Head
from quietcount_aggregates.publication.projection import project
from quietcount_aggregates.publication.published_bytes import REPEATABLE
from quietcount_aggregates.publication.published_file import changes_beside, opened
from quietcount_schemas.defects import described

__all__ = [
    "HeldPublication",
    "Publish",
    "publish",
    "published_head",
]

Publish = Callable[[Chain, Path, str], None]
"""Publishes what a verified chain holds, with its signed head, as a file: `publish`, or a HeldPublication."""


def publish(chain: Chain, path: Path, signed_head: str = "", version: str = "") -> None:
    """Build the public file from a verified chain and put it in the place of `path`.

    `signed_head` is the note that signs the head of the chain; a file without one is nobody's word. `version` is the
    one of quietcount that the file is to name, in the place of this one: for a comparison. A program that has the old
    file open keeps it. Raises PublicationError; the file that was there is then still whole.
    """
    with _explained(path):
        _clear(path.parent, f"{path.name}.next*")
        with _draft(path.with_name(f"{path.name}.next")) as draft:
            _build(chain, draft, signed_head, version)
            # DuckDB would put on top of the new file what another program had written beside the old one.
            if (beside := changes_beside(path)) is not None:
                beside.unlink(missing_ok=True)
            draft.replace(path)


class HeldPublication:
    """Remembers what is to be published, and publishes it when `show` is called.

    A file system says since when a file has been there, to a fraction of a second. If the file were put in its place as
    soon as the release is done, that would say how long the fold and the release took.
    """

    def __init__(self) -> None:
        self._held: tuple[Chain, Path, str] | None = None

    def __call__(self, chain: Chain, path: Path, signed_head: str = "") -> None:
        """Remember that `chain` is to be published at `path`, with its signed head."""
        # A copy: what the ledger gains until then is not under this signature.
        self._held = chain.copy(), path, signed_head

    def show(self) -> str:
        """Publish what is held, if it is not published yet. Raises PublicationError; it is held still.

        Returns "": it waits for nobody.
        """
        if self._held is not None:
            publish(*self._held)
        self._held = None
        return ""


@contextlib.contextmanager
def _draft(following: Path) -> Iterator[Path]:
    """Lend a path beside `following` that nothing else writes to; what is left there is removed in the end."""
    draft = following.with_name(f"{following.name}-{secrets.token_hex(4)}")
    try:
        yield draft
    finally:
        with contextlib.suppress(OSError):
            _clear(draft.parent, f"{draft.name}*")


def _clear(folder: Path, pattern: str) -> None:
    for leftover in folder.glob(pattern):
        leftover.unlink(missing_ok=True)


def _build(chain: Chain, draft: Path, signed_head: str, version: str) -> None:
    """Build the public file at `draft`."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET temp_directory = ''")
        connection.execute(REPEATABLE)
        project(connection, chain, draft, signed_head, version)
    # The public file may be read by everyone; what must not be read lies in the folder `private`.
    draft.chmod(0o644)
    # Not the moment of writing, which would tell how long the release took.
    moment = chain.entries[-1].recorded_at.timestamp()
    os.utime(draft, (moment, moment))
    with draft.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what DuckDB or the system raises in the body into a PublicationError about `path`."""
    try:
        yield
    except duckdb.Error as error:
        # A commit that finds no room is no IOException.
        if isinstance(error, duckdb.IOException) or "Could not write file" in str(error):
            raise PublicationUnwritable(
                f"{path}: cannot be written",
                "Check that the folder is writable and the disk has room, then run again. The release is in the ledger "
                "and is not lost",
            ) from error
        raise PublicationDefect(
            f"a defect of quietcount: {described(error)}. {path} was not changed",
            "Report this line. The release is in the ledger and is not lost",
        ) from error
    except OSError as error:
        raise PublicationUnwritable(
            f"{path}: cannot be written ({error.strerror})",
            "Make room or mend the disk, then run again. Nothing is lost",
        ) from error


def published_head(path: Path) -> Head | None:
    """Return the head of the ledger that the public file was built from; None if there is no file.

    Another program may hold the file open to write. Raises PublicationError for a file that is there and cannot be
    read: what it was built from must not be guessed. PublicationHeld means that nothing is wrong with the file.
    """
    if not path.exists():
        return None
    try:
        with opened(path) as connection:
            rows = dict(connection.execute("SELECT key, value FROM about").fetchall())
        return Head(int(rows["ledger_length"]), bytes.fromhex(rows["ledger_head"]))
    except (duckdb.Error, KeyError, ValueError) as error:
        # DuckDB says so of a file that it may not read, though nothing is wrong with it.
        if isinstance(error, duckdb.IOException) and "Permission denied" in str(error):
            raise PublicationHeld(
                f"{path}: cannot be read: its rights do not allow it", "Mend its rights, then run again"
            ) from None
        raise PublicationError(
            f"{path}: is not a file that quietcount published, or is damaged",
            "Move it away: it comes back from the ledger",
        ) from None
