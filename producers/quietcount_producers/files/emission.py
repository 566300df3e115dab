"""Emitting a file: every row is checked and made a record before the first record is appended.

The checked records wait in an unlinked temporary file beside the log. So what is sent is what was checked, even if the
file changes meanwhile, and a file of any length needs little memory. The temporary file holds pseudonyms only, and the
system frees its room however the process ends.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol

from quietcount_producers.composition import Composer, Facts, day_of
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.files.bad_lines import BadLines, is_not_mended
from quietcount_producers.files.event_files import FileFormat, Row, rows
from quietcount_producers.sqlite_file import explained
from quietcount_schemas.event_types import BAD_LINE_NOTES, EMITTED_KEYS, FieldKind
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord

__all__ = ["Check", "CheckedRecords", "Records", "check", "plain_file", "send"]

_MOST_SHOWN: Final = 20
"""How many reasons are shown, and of each how many lines: a person mends no more at once."""

_BATCH: Final = 1000
"""How many records are appended at once."""
_HEAD: Final = struct.Struct("<qBH")
"""What stands before a record in the temporary file: its timestamp, the key's length, the value's length."""


class Records(Protocol):
    """Takes the records of good rows, in their order."""

    def add(self, record: NewRecord) -> None: ...


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


@dataclass(slots=True)
class Check:
    """What a check found in the file that messages call `name`.

    How many rows were good and how many problems there are, the first of these by their reasons, the earliest date
    that is sent of each event type, and which of its numbers a good row left out, with the default that it took.
    """

    name: str
    good: int = 0
    problems: int = 0
    reasons: dict[str, _Lines] = field(default_factory=dict)
    earliest: dict[str, dt.date] = field(default_factory=dict)
    left_out: dict[tuple[str, str], object] = field(default_factory=dict)

    def add(self, line: int, refused: EventRefused) -> None:
        """Note one problem."""
        self.problems += 1
        reason = _said(refused)
        if len(self.reasons) < _MOST_SHOWN or reason in self.reasons:
            self.reasons.setdefault(reason, _Lines()).add(line)

    def shown(self) -> Iterator[str]:
        """Yield a line of text for each reason, with the lines of the file that it holds for.

        A column that is wrong throughout is one mistake. Said again for each of its lines, it would hide the others.
        """
        for reason, lines in self.reasons.items():
            yield f"{self.name} {lines}: {reason}"
        left = self.problems - sum(lines.count for lines in self.reasons.values())
        if left:
            yield f"... and {left} more problem{'s' if left > 1 else ''}, for other reasons."

    def notes(self) -> Iterator[str]:
        """Yield a line of text for each number that rows left out. That is no mistake, but an average believes it."""
        for (event, name), default in sorted(self.left_out.items()):
            yield (
                f"Note: {event}: a line without {name} counts with {default}, its default. If the number is not known, "
                "let the field be null (schemas/README.md), or leave the line out"
            )


@dataclass(slots=True)
class _Lines:
    """The lines of one reason: the first of them, and how many there are."""

    first: list[int] = field(default_factory=list)
    count: int = 0

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.first) < _MOST_SHOWN:
            self.first.append(line)

    def __str__(self) -> str:
        more = self.count - len(self.first)
        numbers = ", ".join(map(str, self.first))
        return f"line{'s' if self.count > 1 else ''} {numbers}{f' and {more} more' if more else ''}"


def check(
    stream: BinaryIO,
    name: str,
    file_format: FileFormat,
    composer: Composer,
    *,
    records: Records | None = None,
    bad: BadLines | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Check:
    """Check every row of `stream`; add the records of the good ones to `records` and write the bad rows to `bad`.

    `name` is what messages call the file; `advance` is called after each row. Raises ProducersError
    for a file whose header or encoding is not in order, and for one that changed while it was read.
    """
    found = Check(name)
    earliest: dict[str, int] = {}
    occurrences = _Occurrences()
    before = _stamp(stream)
    known = _known_names(composer)
    numbers = {
        kind.name: [each for each in composer.fields(kind).values() if each.kind is FieldKind.INT and not each.nullable]
        for kind in composer.registry.event_types.values()
    }
    try:
        for row in rows(stream, name, file_format, known):
            made = _composed(row, file_format, composer, occurrences)
            if isinstance(made, list):
                for refused in made:
                    found.add(row.line, refused)
                if bad is not None:
                    bad.write(row, _reason(made))
            else:
                found.good += 1
                event = str(row.values["event"])
                if made.timestamp < earliest.get(event, made.timestamp + 1):
                    earliest[event] = made.timestamp
                for number in numbers[event]:
                    if number.name not in row.values:
                        found.left_out[event, number.name] = number.default
                if records is not None:
                    records.add(made)
            advance()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ProducersError(f"{name}: cannot be read: {reason}", "Check the file and its disk") from error
    if _stamp(stream) != before:
        raise ProducersError(
            f"{name} changed while it was read; nothing was sent", "Wait until it is whole, and run again"
        )
    found.earliest = {event: day_of(timestamp) for event, timestamp in earliest.items()}
    return found


def send(log: LogWriter, records: CheckedRecords, advance: Callable[[int], None] = lambda _: None) -> None:
    """Append every record of `records` to the log, durably; call `advance` with the number of each batch.

    Raises ProducersError if the log fails midway: what was sent stays, and emitting the same file again completes it.
    """
    for batch in records.batches():
        try:
            log.append(CASE_EVENTS, batch)
        except ProducersError as error:
            after = "Afterwards emit the same file again: what is in the log already counts once"
            raise ProducersError(error.what, f"{error.remedy}. {after}" if error.remedy else after) from error
        advance(len(batch))


class _Occurrences:
    """How often the same facts came before, by a 16-byte digest: equal lines are different events."""

    def __init__(self) -> None:
        self._once: set[bytes] = set()
        self._more: dict[bytes, int] = {}

    def next(self, canonical: bytes) -> int:
        digest = hashlib.blake2b(canonical, digest_size=16).digest()
        if digest not in self._once:
            self._once.add(digest)
            return 0
        self._more[digest] = self._more.get(digest, 0) + 1
        return self._more[digest]


_ENVELOPE: Final = frozenset({*EMITTED_KEYS, *BAD_LINE_NOTES})
"""The keys of a row that are not attributes."""
_NOT_MENDED: Final = "is a bad line that nobody has mended yet; put the event that `original` stands for in its place"


def _composed(
    row: Row, file_format: FileFormat, composer: Composer, occurrences: _Occurrences
) -> NewRecord | list[EventRefused]:
    """Return the record of `row`, or everything that is wrong with it."""
    if row.problem is not None:
        return [row.problem]
    given, keys = row.values, list(row.values)
    if is_not_mended(row):
        return [EventRefused("", _NOT_MENDED)]
    facts = Facts(
        *(given.get("event"), given.get("case"), given.get("occurred_on")),
        attributes={name: value for name, value in given.items() if name not in _ENVELOPE},
        event_id=given.get("event_id"),
        revision=given.get("revision"),
        text=file_format is FileFormat.CSV,
        # The names of CSV columns were checked. A JSON key may be anything, so it is not shown.
        label=str if file_format is FileFormat.CSV else lambda name: f"key {keys.index(name) + 1}",
    )
    return composer.composed(facts, occurrences.next)


def _reason(problems: list[EventRefused]) -> str:
    """Return what is wrong with one row; numbered if it is more than one thing, for a reason may be a long sentence."""
    said = [_said(refused) for refused in problems]
    return said[0] if len(said) == 1 else " ".join(f"({number}) {each}" for number, each in enumerate(said, start=1))


def _said(refused: EventRefused) -> str:
    return f"{refused.field}: {refused.reason}" if refused.field else refused.reason


def _known_names(composer: Composer) -> list[str]:
    names = dict.fromkeys(EMITTED_KEYS)
    for kind in composer.registry.event_types.values():
        names |= dict.fromkeys(composer.fields(kind))
    return list(names)


def plain_file(stream: BinaryIO) -> os.stat_result | None:
    """Return the status of `stream` if it is a plain file; a pipe has no size or time worth asking for."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, io.UnsupportedOperation):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _stamp(stream: BinaryIO) -> tuple[int, int] | None:
    status = plain_file(stream)
    return None if status is None else (status.st_size, status.st_mtime_ns)
