"""Dead letters: each record that strict decoding rejected, with the reason and its place, and nothing more.

The fold writes a rejection to the private state in the transaction that moves the offset past the record. `relay` then
appends it to the dead-letter topic, and forgets it in the state afterwards. A crash between the two, or folding the log
again, appends a letter a second time. That does no harm: a reader of the letters sees only the first one, and an event
that is replayed twice counts once.

A dead letter holds the original bytes, and with them a case key. It is purged at the first release at least RETENTION
after the release that found it in the topic.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from quietcount_aggregates.counting.fold import REJECTED_BYTES
from quietcount_aggregates.state.state import State
from quietcount_schemas.codec import Codec, Rejected, RejectReason
from quietcount_schemas.log import CASE_EVENTS, DEAD_LETTERS, LogReader, LogWriter, NewRecord, Record

__all__ = [
    "LARGEST",
    "NO_DATE",
    "RETENTION",
    "Letter",
    "Replayed",
    "letters",
    "purge",
    "purge_again",
    "relay",
    "replay",
]

NO_DATE: Final = -1
"""The timestamp of a dead letter: none, because the moment of arrival must not show. Kafka closes a segment without
timestamps by its age, so what was purged leaves the disk; with a timestamp of 0 it would never close one."""
RETENTION: Final = dt.timedelta(days=30)
"""How long an operator has, at least, to look at a dead letter, or to give the service the schema that it lacked."""
LARGEST: Final = REJECTED_BYTES
"""How many bytes of a record a dead letter keeps; the fold cuts off the rest."""

_BATCH: Final = 1000
"""How many letters are appended at once, or read at once."""
_BATCH_BYTES: Final = 500_000
"""How many bytes of letters are appended at once, and so are in memory: a topic takes twice as many as one batch."""
_DIGITS: Final = 18
"""The most digits of an offset that is believed: 63 bits hold any number of so many."""
_PURGED: Final = "letters_purged"
"""The key of the state under which `purge` remembers what it purged."""

_AT_PLACES: Final = '("partition", "offset") IN (SELECT unnest(?::INTEGER[]), unnest(?::BIGINT[]))'

_Place = tuple[int, int]
"""A partition and an offset."""


class Letter(NamedTuple):
    """A dead letter. A header is None if the service would not have written it so."""

    reason: RejectReason | None
    topic: str | None
    partition: int | None
    offset: int | None
    value: bytes


class Replayed(NamedTuple):
    """What a replay did with a dead letter: `rejected` is why it is still no event, or None if it was appended."""

    letter: Letter
    rejected: RejectReason | None


def relay(state: State, writer: LogWriter, topic: str) -> None:
    """Append the rejected records of `topic` to the dead-letter topic, and forget each in the state once it is there.

    No letter is lost wherever this is interrupted; a letter may be appended twice. Raises what the log raises.
    """
    sizes = state.rows(
        'SELECT "partition", "offset", sum(octet_length(value)) FROM dead_letters GROUP BY ALL ORDER BY ALL'
    )
    for run in _runs(sizes):
        places = [[partition for partition, _ in run], [offset for _, offset in run]]
        rows = state.rows(
            f'SELECT "partition", "offset", reason, value FROM dead_letters WHERE {_AT_PLACES} ORDER BY ALL', places
        )
        writer.append(DEAD_LETTERS, [_record(topic, *row) for row in rows])
        with state.transaction() as connection:
            connection.execute(f"DELETE FROM dead_letters WHERE {_AT_PLACES}", places)


def purge(state: State, reader: LogReader, today: dt.date) -> None:
    """Purge the dead letters that a release found RETENTION before `today`, or earlier; call it at each release."""
    last_day = today - RETENTION
    old = 'SELECT "partition", max(next_offset) FROM dead_letter_ends WHERE seen_on <= ? GROUP BY ALL'
    ends = reader.end_offsets(DEAD_LETTERS)
    # An end beyond this topic's own is of a topic that this one replaced, and these letters are younger.
    before = {partition: end for partition, end in state.rows(old, [last_day]) if end <= ends.get(partition, -1)}
    topic_id = reader.topic_id(DEAD_LETTERS)
    if before and not reader.purge(DEAD_LETTERS, before):
        return
    with state.transaction() as connection:
        if before:
            state[_PURGED] = json.dumps({"topic": topic_id, "before": {**_purged(state, topic_id), **before}})
        connection.execute("DELETE FROM dead_letter_ends WHERE seen_on <= ?", [last_day])
        for partition, end in ends.items():
            connection.execute("INSERT INTO dead_letter_ends VALUES (?, ?, ?)", [partition, end, today])


def purge_again(state: State, reader: LogReader) -> None:
    """Purge again what the log has brought back: a broker that was killed may forget a purge. See Releaser.purge."""
    purged = _purged(state, reader.topic_id(DEAD_LETTERS)) if state[_PURGED] else {}
    if purged:
        beginnings = reader.beginning_offsets(DEAD_LETTERS)
        before = {
            partition: offset for partition, offset in purged.items() if beginnings.get(partition, offset) < offset
        }
        if before:
            reader.purge(DEAD_LETTERS, before)


def _purged(state: State, topic_id: str) -> dict[int, int]:
    """Return, per partition, up to where the dead-letter topic of this identity was purged."""
    known = json.loads(state[_PURGED] or "{}")
    if known.get("topic") != topic_id:
        return {}
    return {int(partition): offset for partition, offset in known["before"].items()}


def letters(reader: LogReader) -> Iterator[Letter]:
    """Yield the dead letters that are there now, oldest first; of those that were appended twice, the first alone.

    It remembers a digest of each letter. The place alone is not enough to know a letter again: if somebody makes the
    topic of case events anew, its offsets begin again. A record that was ever rejected for its key is yielded with that
    reason: folded under other schemas, the same record may have been rejected for another one before.
    """
    mismatched = _mismatched(reader)
    seen: set[bytes] = set()
    for letter, identity in _identified(reader):
        if identity is not None:  # else the service did not write it, and may not fold it with another
            if identity in seen:
                continue
            seen.add(identity)
        yield letter._replace(reason=RejectReason.KEY_MISMATCH) if identity in mismatched else letter


def _mismatched(reader: LogReader) -> set[bytes]:
    """Return the identities of the letters of which a copy was rejected for its key, which a person has to judge."""
    return {
        identity
        for letter, identity in _identified(reader)
        if identity is not None and letter.reason is RejectReason.KEY_MISMATCH
    }


def _identified(reader: LogReader) -> Iterator[tuple[Letter, bytes | None]]:
    """Yield every dead letter, copies too, with its identity; None if it has no place."""
    for record in _records(reader):
        headers = dict(record.headers)
        reason = headers.get("reason", b"").decode("utf-8", "replace")
        letter = Letter(
            reason=RejectReason(reason) if reason in list(RejectReason) else None,
            topic=CASE_EVENTS if headers.get("topic") == CASE_EVENTS.encode() else None,
            partition=_number(headers.get("partition")),
            offset=_number(headers.get("offset")),
            value=record.value,
        )
        yield letter, None if None in letter[1:4] else _identity(letter)


def _identity(letter: Letter) -> bytes:
    """Return a digest of a letter's place and bytes."""
    place = f"{letter.partition} {letter.offset} ".encode()
    return hashlib.blake2b(place + letter.value, digest_size=32).digest()


def replay(
    reader: LogReader,
    writer: LogWriter | None,
    codec: Codec,
    timestamp: Callable[[str, dt.date], int],
    only: RejectReason | None = None,
) -> Iterator[Replayed]:
    """Append to the case events, with their bytes as they are, the dead letters that `codec` takes now; yield each.

    The key is the case key in the event. `timestamp` gives the record's timestamp from the event type and its day.
    `only` leaves out the dead letters of other reasons. A record that was rejected for its key is replayed only if
    `only` asks for it: no schema makes it good, and a person has to judge whether its key or its content was right.
    Without `writer` nothing is appended.

    Nothing marks what was replayed. An event that is there twice counts once, so a replay may be repeated, and may end
    at any moment.
    """
    batch: list[tuple[Letter, NewRecord | RejectReason]] = []
    size = 0
    for letter in letters(reader):
        if only is None or letter.reason is only:
            batch.append((letter, _good(letter, codec, timestamp, only)))
            size += len(letter.value)
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield from _replayed(writer, batch)
            batch, size = [], 0
    yield from _replayed(writer, batch)


def _good(
    letter: Letter, codec: Codec, timestamp: Callable[[str, dt.date], int], only: RejectReason | None
) -> NewRecord | RejectReason:
    """Return the record to append for a dead letter, or why there is none."""
    if letter.reason is RejectReason.KEY_MISMATCH and only is None:
        return letter.reason
    try:
        event = codec.decode(letter.value)
    except Rejected as rejected:
        return rejected.reason
    return NewRecord(event.case_key, letter.value, timestamp(event.event, event.occurred_on))


def _replayed(writer: LogWriter | None, batch: Sequence[tuple[Letter, NewRecord | RejectReason]]) -> Iterator[Replayed]:
    good = [outcome for _, outcome in batch if isinstance(outcome, NewRecord)]
    if good and writer is not None:
        writer.append(CASE_EVENTS, good)
    for letter, outcome in batch:
        yield Replayed(letter, None if isinstance(outcome, NewRecord) else outcome)


def _record(topic: str, partition: int, offset: int, reason: str, value: bytes) -> NewRecord:
    return NewRecord(
        key=None,
        value=value,
        timestamp=NO_DATE,
        headers=(
            ("reason", reason.encode()),
            # The plain name: the dead-letter topic has the same prefix on the broker.
            ("topic", topic.encode()),
            ("partition", str(partition).encode()),
            ("offset", str(offset).encode()),
        ),
    )


def _runs(sizes: Sequence[tuple[int, int, int]]) -> Iterator[list[_Place]]:
    """Yield the places of `sizes` (partition, offset, bytes) in runs that are small enough to be appended at once."""
    run: list[_Place] = []
    total = 0
    for partition, offset, size in sizes:
        if run and (total + size > _BATCH_BYTES or len(run) == _BATCH):
            yield run
            run, total = [], 0
        run.append((partition, offset))
        total += size
    if run:
        yield run


def _records(reader: LogReader) -> Iterator[Record]:
    positions = dict(reader.beginning_offsets(DEAD_LETTERS))
    ends = reader.end_offsets(DEAD_LETTERS)
    while records := reader.poll(DEAD_LETTERS, positions, ends, _BATCH):
        for record in records:
            yield record
            positions[record.partition] = record.offset + 1


def _number(header: bytes | None) -> int | None:
    """Return the whole number in a header, or None: anyone with the right to write to the topic may write anything."""
    if header is None or not header.isdigit() or len(header) > _DIGITS:
        return None
    return int(header)
