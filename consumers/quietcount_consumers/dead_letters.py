"""Dead letters: what the strict codec rejected, with the reason and where it came from, and nothing more.

A rejection is written to the private state in the transaction that moves the offset past it, then relayed to the
dead-letter topic. A crash between the two repeats the relay, which skips what the topic already holds.

A dead letter holds the original bytes, and with them a case key: it is purged at the first release at least RETENTION
after the release that found it there.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from quietcount_aggregates.fold import REJECTED_BYTES
from quietcount_aggregates.state import State
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

NO_DATE = -1
"""Not the moment of arrival: a dead letter has no date that may be told. To Kafka it is no timestamp at all, so that a
segment is closed by its age, and what was purged leaves the disk; by a timestamp of 0 none would ever be old."""
RETENTION = dt.timedelta(days=30)
"""How long an operator has, at least, to look at a dead letter, or to give the service the schema that it lacked."""

LARGEST: Final = REJECTED_BYTES
"""How many bytes of a record a dead letter keeps."""

_BATCH: Final = 1000
# So many bytes go to the topic at once, and are in memory at once, however many records were rejected. Below what a
# topic takes as one batch.
_BATCH_BYTES: Final = 500_000
_DIGITS: Final = 18  # of an offset: 63 bits

# Keys of the state: see _begin and purge.
_RELAYED: Final = "letters_relayed"
_PURGED: Final = "letters_purged"

_Place = tuple[int, int]
"""A partition and an offset."""


class Letter(NamedTuple):
    """A dead letter. What its headers say is None where it is not what the service writes there."""

    reason: RejectReason | None
    topic: str | None
    partition: int | None
    offset: int | None
    value: bytes


class Replayed(NamedTuple):
    """What a replay did with a dead letter: `rejected` says why it is still none of ours, None that it is appended."""

    letter: Letter
    rejected: RejectReason | None


def relay(state: State, reader: LogReader, writer: LogWriter, topic: str) -> None:
    """Move the rejected records of `topic` from the state to the dead-letter topic, each once."""
    # A record is there twice when the log was folded again before its first rejection was relayed.
    sizes = state.rows(
        'SELECT "partition", "offset", max(octet_length(value)) FROM dead_letters GROUP BY ALL ORDER BY ALL'
    )
    if not sizes:
        return
    places = {(partition, offset) for partition, offset, _ in sizes}
    relayed = _begin(state, reader, topic, places)
    held = _held(reader, topic, places, relayed["since"])
    for run in _runs(sizes):
        rows = state.rows(
            'SELECT DISTINCT ON ("partition", "offset") "partition", "offset", reason, value FROM dead_letters '
            'WHERE ("partition", "offset") IN (SELECT unnest(?::INTEGER[]), unnest(?::BIGINT[])) '
            'ORDER BY "partition", "offset", reason',
            [[partition for partition, _ in run], [offset for _, offset in run]],
        )
        fresh = [
            _record(topic, partition, offset, reason, value[:LARGEST])
            for partition, offset, reason, value in rows
            if (partition, offset, _digest(value[:LARGEST])) not in held
        ]
        if fresh:
            writer.append(DEAD_LETTERS, fresh)
    with state.transaction() as connection:
        connection.execute("DELETE FROM dead_letters")
        before = relayed["before"]
        for partition, offset in places:
            before[partition] = max(offset + 1, before.get(partition, 0))
        state[_RELAYED] = json.dumps({**relayed, "since": None})


def _begin(state: State, reader: LogReader, topic: str, places: Collection[_Place]) -> dict[str, Any]:
    """Return what is remembered of relays, with the offsets from which the letters of `places` may be there already.

    To look through all letters in each tick would take longer with each one that somebody makes the service reject. So
    the ends of the dead-letter topic are written down before a relay appends, and it looks behind them when it is
    repeated. All letters are looked through when records are rejected again that were relayed before: when the log is
    folded again, or was by a state that was lost, which the offsets `before` tell.
    """
    known = json.loads(state[_RELAYED] or "{}")
    events, letters_id = state["topic_id"], reader.topic_id(DEAD_LETTERS)
    beginnings = reader.beginning_offsets(DEAD_LETTERS)
    if known.get("events") == events:
        before = {int(partition): offset for partition, offset in known["before"].items()}
        again = any(offset < before.get(partition, 0) for partition, offset in places)
    else:
        before, again = reader.end_offsets(topic), True
    if again or known["letters"] != letters_id:
        since = beginnings
    elif known["since"] is not None:
        since = {int(partition): offset for partition, offset in known["since"].items()}
        since = {partition: max(offset, since.get(partition, 0)) for partition, offset in beginnings.items()}
    else:
        since = reader.end_offsets(DEAD_LETTERS)
    begun = {"events": events, "before": before, "letters": letters_id, "since": since}
    with state.transaction():
        state[_RELAYED] = json.dumps(begun)
    return begun


def purge(state: State, reader: LogReader, today: dt.date) -> None:
    """Purge the dead letters that were there at a release RETENTION before `today`; to be called at each release."""
    last_day = today - RETENTION
    old = 'SELECT "partition", max(next_offset) FROM dead_letter_ends WHERE seen_on <= ? GROUP BY ALL'
    ends = reader.end_offsets(DEAD_LETTERS)
    # An end that is beyond the topic's was another topic's, in the place of which this one is: its letters are younger.
    before = {partition: end for partition, end in state.rows(old, [last_day]) if end <= ends.get(partition, -1)}
    topic_id = reader.topic_id(DEAD_LETTERS)
    if before and not reader.purge(DEAD_LETTERS, before, {}):
        return
    with state.transaction() as connection:
        if before:
            state[_PURGED] = json.dumps({"topic": topic_id, "before": {**_purged(state, topic_id), **before}})
        connection.execute("DELETE FROM dead_letter_ends WHERE seen_on <= ?", [last_day])
        connection.execute("DELETE FROM unresolved WHERE seen_on <= ?", [last_day])
        for partition, end in ends.items():
            connection.execute("INSERT INTO dead_letter_ends VALUES (?, ?, ?)", [partition, end, today])


def purge_again(state: State, reader: LogReader) -> None:
    """Repeat what `purge` did where the log has forgotten it, as brokers that were killed do; see Releaser.purge."""
    purged = _purged(state, reader.topic_id(DEAD_LETTERS)) if state[_PURGED] else {}
    if purged:
        beginnings = reader.beginning_offsets(DEAD_LETTERS)
        before = {
            partition: offset for partition, offset in purged.items() if beginnings.get(partition, offset) < offset
        }
        if before:
            reader.purge(DEAD_LETTERS, before, {})


def _purged(state: State, topic_id: str) -> dict[int, int]:
    """Return, per partition, up to where the dead-letter topic of this identity was purged."""
    known = json.loads(state[_PURGED] or "{}")
    if known.get("topic") != topic_id:
        return {}
    return {int(partition): offset for partition, offset in known["before"].items()}


def letters(reader: LogReader) -> Iterator[Letter]:
    """Yield the dead letters that are there now, oldest first."""
    for record in _records(reader, reader.beginning_offsets(DEAD_LETTERS)):
        headers = dict(record.headers)
        reason = headers.get("reason", b"").decode("utf-8", "replace")
        yield Letter(
            reason=RejectReason(reason) if reason in list(RejectReason) else None,
            topic=CASE_EVENTS if headers.get("topic") == CASE_EVENTS.encode() else None,
            partition=_number(headers.get("partition")),
            offset=_number(headers.get("offset")),
            value=record.value,
        )


def replay(
    reader: LogReader,
    writer: LogWriter | None,
    codec: Codec,
    timestamp: Callable[[str, dt.date], int],
    only: RejectReason | None = None,
) -> Iterator[Replayed]:
    """Append to the case events, with their bytes as they are, the dead letters that `codec` takes now; yield each.

    The key is the case key in the event, and `timestamp` says the record's from the event type and its day. `only`
    leaves out the dead letters of other reasons. What was rejected for its key is replayed only when `only` says so:
    nothing that was learned since makes it good, and whether its key or its content was right somebody has to judge.
    Without `writer` nothing is appended.

    Nothing marks what was replayed. An event that is there twice counts once, so a replay may be repeated, and may be
    ended at any moment.
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
            # As this program calls it: the prefix of the names on the broker is the dead letter's own topic's, too.
            ("topic", topic.encode()),
            ("partition", str(partition).encode()),
            ("offset", str(offset).encode()),
        ),
    )


def _runs(sizes: Sequence[tuple[int, int, int]]) -> Iterator[list[_Place]]:
    """Yield the places of `sizes` (partition, offset, bytes) in runs that are small enough to be appended at once."""
    run: list[_Place] = []
    total = 0
    for partition, offset, whole in sizes:
        size = min(whole, LARGEST)
        if run and (total + size > _BATCH_BYTES or len(run) == _BATCH):
            yield run
            run, total = [], 0
        run.append((partition, offset))
        total += size
    yield run


def _held(
    reader: LogReader, topic: str, places: Collection[_Place], since: Mapping[int, int]
) -> set[tuple[int | None, int | None, bytes]]:
    """Return which of `places` of `topic` the dead-letter topic holds from `since` on, each with a digest.

    The place alone does not tell: after the topic of case events was made anew its offsets begin again.
    """
    held: set[tuple[int | None, int | None, bytes]] = set()
    for record in _records(reader, since):
        headers = dict(record.headers)
        partition, offset = _number(headers.get("partition")), _number(headers.get("offset"))
        if headers.get("topic") == topic.encode() and (partition, offset) in places:
            held.add((partition, offset, _digest(record.value)))
    return held


def _records(reader: LogReader, since: Mapping[int, int]) -> Iterator[Record]:
    positions = dict(since)
    ends = reader.end_offsets(DEAD_LETTERS)
    while records := reader.poll(DEAD_LETTERS, positions, ends, _BATCH):
        for record in records:
            yield record
            positions[record.partition] = record.offset + 1


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()


def _number(header: bytes | None) -> int | None:
    """Return the whole number in a header, or None: whoever may write to the topic may write anything."""
    if header is None or not header.isdigit() or len(header) > _DIGITS:
        return None
    return int(header)
