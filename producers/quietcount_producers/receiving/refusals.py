"""Refusals: what a mapping refused, kept in a private file until somebody mends it.

A tool that was told "refused" would send the same again, or drop it. So the door takes everything, and what it cannot
make events of stays here, a line of JSON each, which has the record as it came and the reason. So the file can be
mended and emitted with the same mapping. It holds identifiers, so nobody else may read it.

The file's modification time is the midnight (UTC) before the first refusal, and nothing else keeps a time: this is the
day that an operator is told.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from quietcount_producers.composing.composition import utc_today
from quietcount_producers.errors import LogUnwritable
from quietcount_schemas.events.event_types import BAD_LINE_NOTES
from quietcount_schemas.private_files import make_private_folder, sync_folder

__all__ = ["Refusals"]

_LINE, _REASON, _ORIGINAL = BAD_LINE_NOTES
_MIDNIGHT: Final = dt.time(tzinfo=dt.UTC)


class Refusals:
    """The refused records of one path in `file` (mode 0600), which is made with the first of them.

    Somebody may move the file away at any time: the next refusal makes another. One thread keeps; `since` is for any.
    """

    def __init__(self, file: Path, today: Callable[[], dt.date] = utc_today) -> None:
        self.file = file
        self._today = today

    def prepare(self) -> None:
        """Make the folder, before anything is refused: others see when the folder around it was changed.

        Raises LogUnwritable.
        """
        try:
            make_private_folder(self.file.parent)
        except OSError as error:
            raise LogUnwritable(
                f"Cannot make {self.file.parent}: {os.strerror(error.errno or 0).lower()}",
                "Give its disk space, and check the rights of the folder",
            ) from error

    def keep(self, refused: Iterable[tuple[Mapping[str, object] | str, str]]) -> None:
        """Add records, or bodies as text, each with the reason; all or none, durably. Raises LogUnwritable."""
        lines = "".join(_line(record, reason) for record, reason in refused).encode()
        try:
            make_private_folder(self.file.parent)
            self._append(lines)
        except OSError as error:
            raise LogUnwritable(
                f"Cannot write {self.file}: {os.strerror(error.errno or 0).lower()}",
                "Give its disk space, and check the rights of the file",
            ) from error

    def since(self) -> dt.date | None:
        """Return the UTC day of the first refusal that lies in the file, None if none does. Raises LogUnwritable."""
        try:
            status = self.file.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LogUnwritable(
                f"Cannot look at {self.file}: {os.strerror(error.errno or 0).lower()}", "Check the rights of its folder"
            ) from error
        return dt.datetime.fromtimestamp(status.st_mtime, dt.UTC).date() if status.st_size else None

    def _append(self, lines: bytes) -> None:
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            status = os.fstat(descriptor)
            size = status.st_size
            first = dt.datetime.fromtimestamp(status.st_mtime, dt.UTC).date() if size else self._today()
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a power cut, or an editor
                lines = b"\n" + lines
            try:
                view = memoryview(lines)
                while view:
                    view = view[os.write(descriptor, view) :]
                midnight = int(dt.datetime.combine(first, _MIDNIGHT).timestamp())
                os.utime(descriptor, (midnight, midnight))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)  # half a line would be mended into something else
                raise
        finally:
            os.close(descriptor)
        if not size:
            for folder in (self.file.parent, self.file.parent.parent):
                sync_folder(folder)


def _line(record: Mapping[str, object] | str, reason: str) -> str:
    # As `emit --mapping` writes its bad lines, so that it takes these. There is no line, and ASCII escapes are for half
    # of a surrogate pair, which JSON can hold and UTF-8 cannot.
    return json.dumps({_ORIGINAL: record, _LINE: None, _REASON: reason}, ensure_ascii=True) + "\n"
