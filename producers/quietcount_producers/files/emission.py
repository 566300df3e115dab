"""Emitting a file: every row is checked and made a record before the first record is appended.

The checked records wait in an unlinked temporary file beside the log. So what is sent is what was checked, even if the
file changes meanwhile, and a file of any length needs little memory. The temporary file holds pseudonyms only, and the
system frees its room however the process ends.
"""

from __future__ import annotations

import datetime as dt
import io
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final, Protocol

from quietcount_producers.composing.composition import Composer, Facts, day_of
from quietcount_producers.composing.pseudonyms import record_name
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.files.bad_lines import BadLines, is_not_mended, mended
from quietcount_producers.files.checked_records import CheckedRecords
from quietcount_producers.files.columns import Columns, EventColumns, MappedColumns
from quietcount_producers.files.event_files import FileFormat, Row, rows
from quietcount_producers.files.findings import Check, Tally, said
from quietcount_producers.files.occurrences import Identities, Occurrences
from quietcount_producers.files.rows import cell_text
from quietcount_producers.mapping import Mapping as ColumnMapping
from quietcount_producers.mapping import Reading
from quietcount_schemas.events.event_types import BAD_LINE_NOTES, EMITTED_KEYS, Field, FieldKind
from quietcount_schemas.log import CASE_EVENTS, LogWriter, NewRecord

__all__ = ["Check", "CheckedRecords", "Identities", "Records", "check", "plain_file", "send"]

_ENVELOPE: Final = frozenset({*EMITTED_KEYS, *BAD_LINE_NOTES})
"""The keys of a row that are not attributes."""
_NOT_MENDED: Final = "is a bad line that nobody has mended yet; put the event that `original` stands for in its place"


_AROUND: Final = (
    "is an object around others, and no event. A mapping says where its records lie (`records`) and what they mean"
)


class Records(Protocol):
    """Takes the records of good rows, in their order."""

    def add(self, record: NewRecord) -> None: ...


def check(
    stream: BinaryIO,
    name: str,
    file_format: FileFormat,
    composer: Composer,
    *,
    reading: Reading | None = None,
    mapping: ColumnMapping | None = None,
    records: Records | None = None,
    bad: BadLines | None = None,
    identities: Identities | None = None,
    tally: Tally | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Check:
    """Check every row of `stream`; add the records of the good ones to `records` and write the bad rows to `bad`.

    `name` is what messages call the file. `identities` are those of the files before it; `tally` counts what would be
    sent. `advance` is called after each row. Raises ProducersError for a file that is not in order as a whole, and for
    one that changed while it was read.
    """
    found = Check(name)
    before = _stamp(stream)
    columns: Columns = EventColumns(name, _known_names(composer)) if mapping is None else MappedColumns(name, mapping)
    identities = Identities() if identities is None else identities
    identities.begin(name)
    work = _Rows(file_format, composer, columns, mapping, identities)
    alike = found.look_alikes.add
    try:
        for row in rows(stream, name, file_format, columns, reading or Reading()):
            made = work.made(row)
            if isinstance(made, _Refused):
                found.bad += 1
                for refused in made.problems:
                    found.add(row.line, refused, row.last)
                if bad is not None:
                    if file_format is FileFormat.XLSX and mapping is None:
                        row.cells = [cell_text(_plain(each, row.values.get(each))) for each in row.columns]
                    bad.write(row, _reason(made.problems))
            elif not made:
                found.nobody += 1
            else:
                found.good += 1
                for facts, record in made:
                    # Equal lines of one file are different events, unless they say themselves which they are.
                    own = facts.event_id is not None or facts.record is not None
                    if (own or identities.several) and identities.repeats(record.value):
                        found.repeated += 1
                        if records is not None:
                            records.add(record)  # it counts once by its id; only what is shown leaves it out
                        continue
                    found.events += 1
                    work.note(found, facts, record)
                    alike(str(facts.case), row.line)
                    if tally is not None:
                        tally.add(str(facts.event), work.fields[str(facts.event)], facts.attributes)
                    if records is not None:
                        records.add(record)
            advance()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ProducersError(f"{name}: cannot be read: {reason}", "Check the file and its disk") from error
    if _stamp(stream) != before:
        raise ProducersError(
            f"{name} changed while it was read; nothing was sent", "Wait until it is whole, and run again"
        )
    found.earliest = {event: day_of(timestamp) for event, timestamp in work.earliest.items()}
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


class _Refused:
    """Everything that is wrong with a row."""

    __slots__ = ("problems",)

    def __init__(self, problems: list[EventRefused]) -> None:
        self.problems = problems


class _Places:
    """Names a key by its place in the row."""

    __slots__ = ("_keys",)

    def __init__(self, given: Mapping[str, object]) -> None:
        self._keys = given

    def __call__(self, name: str) -> str:
        return f"key {list(self._keys).index(name) + 1}"


class _Rows:
    """Makes the events of rows; a row is sent whole or not at all."""

    def __init__(
        self,
        file_format: FileFormat,
        composer: Composer,
        columns: Columns,
        mapping: ColumnMapping | None,
        identities: Identities,
    ) -> None:
        self._format = file_format
        self._composer = composer
        self._columns = columns
        self._mapping = mapping
        self._identities = identities
        self._occurrences = Occurrences()
        self._text = file_format in (FileFormat.CSV, FileFormat.XLSX)
        kinds = composer.registry.event_types.values()
        self.fields: dict[str, Mapping[str, Field]] = {kind.name: composer.fields(kind) for kind in kinds}
        self._numbers = {
            kind: [each for each in its.values() if each.kind is FieldKind.INT and not each.nullable]
            for kind, its in self.fields.items()
        }
        self.earliest: dict[str, int] = {}

    def made(self, row: Row) -> list[tuple[Facts, NewRecord]] | _Refused:
        """Return the events of `row` with their records, or everything that is wrong with it."""
        if row.problem is not None:
            return _Refused([row.problem])
        if is_not_mended(row):
            return _Refused([EventRefused("", _NOT_MENDED)])
        if row.faulty:
            faulty = [each for each in row.faulty if not self._columns.ignores(each.field)]
            if faulty:
                return _Refused(faulty)
        told: list[Facts] = []
        problems: list[EventRefused] = []
        if self._mapping is None:
            if not self._text and "event" not in row.values and _is_around_others(row.values):
                return _Refused([EventRefused("", _AROUND)])
            told.append(self._facts(row))
        else:
            for each in self._mapping.events(mended(row)):
                if isinstance(each, EventRefused):
                    problems.append(each)
                else:
                    told.append(each)
            if problems:
                return _Refused(problems)
        events: list[tuple[Facts, NewRecord]] = []
        for facts in told:
            record = self._composer.composed(facts, self._occurrences.next)
            if isinstance(record, list):
                problems += record if self._mapping is None else map(self._mapping.located, record)
            elif facts.event_id is not None or facts.record is not None:
                other = self._identities.other(_identity(facts), record.value, row.line)
                if other is None:
                    events.append((facts, record))
                else:
                    problems.append(self._changed(other))
            else:
                events.append((facts, record))
        return _Refused(_once(problems)) if problems else events

    def note(self, found: Check, facts: Facts, record: NewRecord) -> None:
        """Note what of a good event is told at the end."""
        event = str(facts.event)
        if record.timestamp < self.earliest.get(event, record.timestamp + 1):
            self.earliest[event] = record.timestamp
        for number in self._numbers[event]:
            if number.name not in facts.attributes:
                found.left_out[event, number.name] = number.default

    def _facts(self, row: Row) -> Facts:
        given: Mapping[str, object] = row.values
        if self._format is FileFormat.XLSX:
            given = {name: _plain(name, value) for name, value in given.items()}
        label: Callable[[str], str] = str
        if not self._text:  # the names of columns were checked. A JSON key may be anything, so it is not shown
            label = _Places(given)
        return Facts(
            *(given.get("event"), given.get("case"), given.get("occurred_on")),
            attributes={name: value for name, value in given.items() if name not in _ENVELOPE},
            event_id=given.get("event_id"),
            revision=given.get("revision"),
            text=self._text,
            label=label,
        )

    def _changed(self, place: str) -> EventRefused:
        refused = EventRefused(
            "event_id",
            f"stands on {place} already with the same revision and other facts. A correction needs a higher "
            "revision, and another event another id",
        )
        return refused if self._mapping is None else self._mapping.located(refused)


def _plain(name: str, value: object) -> object:
    """Return the value of a spreadsheet's cell as the text that it would be in a CSV file."""
    if name == "case" and not isinstance(value, (str, int, float)):
        return value
    if name == "case" and (isinstance(value, bool) or (isinstance(value, float) and not value.is_integer())):
        return value
    if isinstance(value, dt.datetime):
        return value.date().isoformat()
    return cell_text(value)


def _identity(facts: Facts) -> bytes:
    """Return what an event of one identity and revision is told by, however the id is spelt."""
    own: object = facts.event_id
    if isinstance(own, str):
        own = uuid.UUID(own)
    record = "" if facts.record is None else f"{facts.event}\0{record_name(str(facts.record))}"
    return f"{own}\0{record}\0{int(str(facts.revision or 0))}".encode("utf-8", "surrogatepass")


def _is_around_others(values: Mapping[str, object]) -> bool:
    return any(isinstance(each, (dict, list)) for each in values.values())


def _once(problems: list[EventRefused]) -> list[EventRefused]:
    # A column that is wrong for two events of a row is wrong once.
    return list({(each.field, each.reason): each for each in problems}.values())


def _reason(problems: list[EventRefused]) -> str:
    """Return what is wrong with one row; numbered if it is more than one thing, for a reason may be a long sentence."""
    reasons = [said(refused) for refused in problems]
    if len(reasons) == 1:
        return reasons[0]
    return " ".join(f"({number}) {each}" for number, each in enumerate(reasons, start=1))


def _known_names(composer: Composer) -> Iterator[str]:
    names = dict.fromkeys(EMITTED_KEYS)
    for kind in composer.registry.event_types.values():
        names |= dict.fromkeys(composer.fields(kind))
    return iter(names)


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
