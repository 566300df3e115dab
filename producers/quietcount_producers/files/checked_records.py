"""Records that wait on disk until the whole file is checked."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from quietcount_producers.embedded.sqlite_file import explained
from quietcount_schemas.log import NewRecord

__all__ = ["CheckedRecords"]

_BATCH: Final = 1000
"""How many records are appended at once."""
_HEAD: Final = struct.Struct("<qBH")
"""What stands before a record in the temporary file: its timestamp, the key's length, the value's length."""


class CheckedRecords:
    """Records that wait on disk, in an unlinked file in `folder`; they are read back in the order they were added."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.count = 0
        try:
            # Closed by `close`: it outlives this call on purpose.
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except OSError as error:
            raise explained(error, folder, "make a temporary file for") from error

    def add(self, record: NewRecord) -> None:
        """Add one record. Raises LogError when the disk is full."""
        key = record.key or b""
        try:
            self._file.write(_HEAD.pack(record.timestamp, len(key), len(record.value)) + key + record.value)
        except OSError as error:
            raise explained(error, self._folder, "write a temporary file for") from error
        self.count += 1

    def batches(self) -> Iterator[list[NewRecord]]:
        """Yield all records in batches."""
        try:
            self._file.seek(0)
            batch = []
            while head := self._file.read(_HEAD.size):
                timestamp, key, value = _HEAD.unpack(head)
                batch.append(NewRecord(self._file.read(key), self._file.read(value), timestamp))
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
            if batch:
                yield batch
        except OSError as error:
            raise explained(error, self._folder, "read a temporary file for") from error

    def close(self) -> None:
        """Give the room back."""
        with contextlib.suppress(OSError):  # `add` has reported what a full disk did not take
            self._file.close()
