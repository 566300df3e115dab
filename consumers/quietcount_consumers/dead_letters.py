"""Dead letters: what the strict codec rejected, with the reason and where it came from, and nothing more.

A rejection is written to the private state in the transaction that moves the offset past it, then relayed to the
dead-letter topic. A crash between the two repeats the relay, which skips what the topic already holds.
"""

from __future__ import annotations

from quietcount_aggregates.state import State
from quietcount_schemas.log import DEAD_LETTERS, LogReader, LogWriter, NewRecord

__all__ = ["relay"]

_BATCH = 1000


def relay(state: State, reader: LogReader, writer: LogWriter, topic: str) -> None:
    """Move the rejected records of `topic` from the state to the dead-letter topic, each once."""
    rows = state.connection.execute(
        'SELECT "partition", "offset", reason, value FROM dead_letters ORDER BY "partition", "offset"'
    ).fetchall()
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


def _held(reader: LogReader, topic: str) -> set[tuple[int, int]]:
    """Return the partition and offset of each record of `topic` that the dead-letter topic holds."""
    held = set()
    positions = reader.beginning_offsets(DEAD_LETTERS)
    ends = reader.end_offsets(DEAD_LETTERS)
    while records := reader.poll(DEAD_LETTERS, positions, ends, _BATCH):
        for record in records:
            headers = dict(record.headers)
            if headers.get("topic") == topic.encode():
                held.add((int(headers["partition"]), int(headers["offset"])))
            positions[record.partition] = record.offset + 1
    return held
