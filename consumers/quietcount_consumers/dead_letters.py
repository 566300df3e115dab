"""Dead letters: what the strict codec rejected, with the reason and where it came from, and nothing more.

A rejection is written to the private state in the transaction that moves the offset past it, then relayed to the
dead-letter topic. A crash between the two repeats the relay, which skips what the topic already holds.

A dead letter holds the original bytes, and with them a case key: it is purged at the first release at least RETENTION
after the release that found it there.
"""

from __future__ import annotations

import datetime as dt

from quietcount_aggregates.state import State
from quietcount_schemas.log import DEAD_LETTERS, LogReader, LogWriter, NewRecord

__all__ = ["RETENTION", "purge", "relay"]

RETENTION = dt.timedelta(days=30)
"""How long an operator has, at least, to look at a dead letter, or to give the service the schema that it lacked."""

_BATCH = 1000


def relay(state: State, reader: LogReader, writer: LogWriter, topic: str) -> None:
    """Move the rejected records of `topic` from the state to the dead-letter topic, each once."""
    rows = state.rows('SELECT "partition", "offset", reason, value FROM dead_letters ORDER BY "partition", "offset"')
    if not rows:
        return
    held = _held(reader, topic)
    fresh = [
        NewRecord(
            key=None,
            value=value,
            # Not the moment of arrival: a dead letter has no date that may be told.
            timestamp=0,
            headers=(
                ("reason", reason.encode()),
                ("topic", topic.encode()),
                ("partition", str(partition).encode()),
                ("offset", str(offset).encode()),
            ),
        )
        for partition, offset, reason, value in rows
        if (partition, offset) not in held
    ]
    for start in range(0, len(fresh), _BATCH):
        writer.append(DEAD_LETTERS, fresh[start : start + _BATCH])
    with state.transaction() as connection:
        connection.execute("DELETE FROM dead_letters")


def purge(state: State, reader: LogReader, today: dt.date) -> None:
    """Purge the dead letters that were there at a release RETENTION before `today`; to be called at each release."""
    last_day = today - RETENTION
    old = 'SELECT "partition", max(next_offset) FROM dead_letter_ends WHERE seen_on <= ? GROUP BY ALL'
    before = dict(state.rows(old, [last_day]))
    if before and not reader.purge(DEAD_LETTERS, before, {}):
        return
    with state.transaction() as connection:
        connection.execute("DELETE FROM dead_letter_ends WHERE seen_on <= ?", [last_day])
        connection.execute("DELETE FROM unresolved WHERE seen_on <= ?", [last_day])
        for partition, end in reader.end_offsets(DEAD_LETTERS).items():
            connection.execute("INSERT INTO dead_letter_ends VALUES (?, ?, ?)", [partition, end, today])


def _held(reader: LogReader, topic: str) -> set[tuple[int, int]]:
    """Return the partition and offset of each record of `topic` that the dead-letter topic holds."""
    held = set()
    positions = reader.beginning_offsets(DEAD_LETTERS)
    ends = reader.end_offsets(DEAD_LETTERS)
    while records := reader.poll(DEAD_LETTERS, positions, ends, _BATCH):
        for record in records:
            headers = dict(record.headers)
            partition, offset = headers.get("partition", b""), headers.get("offset", b"")
            if headers.get("topic") == topic.encode() and partition.isdigit() and offset.isdigit():
                held.add((int(partition), int(offset)))
            positions[record.partition] = record.offset + 1
    return held
