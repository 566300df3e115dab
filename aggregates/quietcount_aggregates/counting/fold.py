"""The fold: what a batch of log records does to the private state.

The work is set-at-a-time and only ever appends: a batch is decoded into columns, marked, and inserted together with
the offsets that follow it, in one transaction. Duplicates, corrections and the contribution bound are settled over
whole sets when a period is released (see bounding.py), so that the work of a batch does not grow with what was folded
before it, and folding the same records in other batches gives the same state.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt

from quietcount_aggregates.counting.client_faults import ClientFaults, have_headers, timestamps_of
from quietcount_aggregates.counting.columns import NO_NUMBER, ColumnDecoder, EventColumns, Rejection
from quietcount_aggregates.counting.placing import partitions_of
from quietcount_aggregates.populations import Population, counted_events
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_aggregates.state.state import State
from quietcount_aggregates.state.state_file import give_back, registered
from quietcount_schemas.events.event_types import Role
from quietcount_schemas.log import Mark, Record
from quietcount_schemas.registry import SchemaRegistry
from quietcount_schemas.rejection import ClientFault, RejectReason

__all__ = ["REJECTED_BYTES", "Fold"]

REJECTED_BYTES: Final = 65_536
"""How many bytes of a rejected record are kept. An event has 512 at most, so what is larger is none and never will be;
records of a megabyte each would fill memory, this file and the dead-letter topic with what nobody asked for."""

_GIVE_BACK_EVERY: Final = 16
"""After so many batches memory is given back: 320,000 events take 11 MB, and reading again what went costs a third of a
batch."""

# A C-level getter: the fold has two microseconds for each record.
_OFFSET = attrgetter("offset")


class Fold:
    """Folds batches of one partition, of so many `partitions` of a log, into its state, for one set of populations."""

    def __init__(
        self,
        state: State,
        populations: Sequence[Population],
        registry: SchemaRegistry,
        secret: ConsumerSecret,
        *,
        partitions: int,
    ) -> None:
        self._state = state
        self._partitions = partitions
        self._client_faults = ClientFaults(populations)
        self._decoder = ColumnDecoder(registry)
        self._secret = secret
        self._counted = counted_events(populations)
        self._columns = {
            event: sorted({field for each in populations for field in each.fields_of(event)}) for event in self._counted
        }
        self._batches = 0
        self._withdrawals = {name for name, kind in registry.event_types.items() if kind.role is Role.WITHDRAWAL}

    def batch(self, records: Sequence[Record], clock: dt.date, marks: Mapping[int, Mark] | None = None) -> bool:
        """Fold `records` in one transaction with the offsets after them; return whether some were rejected.

        `clock` is the day on which a rejected record or a client's fault was seen; nothing else follows from it.
        `marks` are the log's after these records, which must be in order. Raises StateError, and then nothing of the
        batch was folded.
        """
        events, rejections = self._decoder.decode([record.value for record in records])
        offsets = np.fromiter(map(_OFFSET, records), np.int64, len(records))
        timestamps = timestamps_of(records)
        noted: set[RejectReason | ClientFault] = {ClientFault.HEADERS} if have_headers(records) else set()
        with self._state.transaction() as connection:
            for columns in events:
                kept, refused = self._checked(columns, records)
                rejections.extend(refused)
                noted.update(self._client_faults.seen(columns, kept, timestamps))
                if columns.event in self._withdrawals:
                    self._withdraw(connection, columns, kept, offsets)
                else:
                    self._append(connection, columns, kept, offsets)
            if rejections:
                _reject(connection, rejections, records)
                noted.update(rejection.reason for rejection in rejections)
            if noted:
                self._state.note(noted, clock)
            if records:
                place = [self._state.partition, int(offsets.max()) + 1]
                connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", place)
            if marks:
                self._state.mark(marks)
        self._batches += 1
        if self._batches % _GIVE_BACK_EVERY == 0:
            with self._state.guarded() as connection:
                give_back(connection)
        return bool(rejections)

    def _checked(
        self, columns: EventColumns, records: Sequence[Record]
    ) -> tuple[npt.NDArray[np.bool_], list[Rejection]]:
        """Return which rows lie under their case key and in its partition, and a rejection for each other."""
        keyed = _keyed(columns, records)
        placed = partitions_of(columns.case_keys, self._partitions) == self._state.partition
        refused = [Rejection(row, RejectReason.KEY_MISMATCH) for row in columns.rows[~keyed].tolist()]
        refused += [Rejection(row, RejectReason.WRONG_PARTITION) for row in columns.rows[keyed & ~placed].tolist()]
        return keyed & placed, refused

    def _withdraw(
        self,
        connection: duckdb.DuckDBPyConnection,
        columns: EventColumns,
        kept: npt.NDArray[np.bool_],
        offsets: npt.NDArray[np.int64],
    ) -> None:
        marks = self._secret.case_marks(columns.case_keys[kept])
        if len(marks):
            table = {
                "high": marks[:, 0].copy(),
                "low": marks[:, 1].copy(),
                "offset": offsets[columns.rows[kept]],
            }
            with registered(connection, table):
                connection.execute('INSERT INTO withdrawn SELECT (high::UHUGEINT << 64) | low, "offset" FROM batch')

    def _append(
        self,
        connection: duckdb.DuckDBPyConnection,
        columns: EventColumns,
        kept: npt.NDArray[np.bool_],
        offsets: npt.NDArray[np.int64],
    ) -> None:
        counted = columns.event in self._counted
        if not counted:
            # A correction may turn an event of a counted type into one of another type: only then is it kept.
            kept = kept & (columns.revisions > 0)
        if not kept.any():
            return
        rows = columns.rows[kept]
        case_keys = columns.case_keys[kept]
        case_marks = self._secret.case_marks(case_keys)
        event_marks = self._secret.event_marks(case_keys, columns.event_ids[kept])
        table: dict[str, npt.NDArray[np.generic]] = {
            "case_high": case_marks[:, 0].copy(),
            "case_low": case_marks[:, 1].copy(),
            "event_high": event_marks[:, 0].copy(),
            "event_low": event_marks[:, 1].copy(),
            "revision": columns.revisions[kept].astype(np.int32),
            "occurred": columns.occurred_on[kept].astype(np.int32),
            "offset": offsets[rows],
        }
        names = self._columns.get(columns.event, [])
        stored = ""
        for index, name in enumerate(names):
            number = columns.numbers.get(name)
            table[f"value_{index}"] = (columns.codes[name] if number is None else number)[kept]
            value = f"value_{index}" if number is None else f"nullif(value_{index}, {NO_NUMBER})"
            stored += f', {value} AS "{columns.event}.{name}"'
        with registered(connection, table):
            connection.execute(
                f"""
                INSERT INTO open_events BY NAME
                SELECT ? AS event, (case_high::UHUGEINT << 64) | case_low AS case_mark,
                    (event_high::UHUGEINT << 64) | event_low AS event_mark, revision,
                    DATE '1970-01-01' + occurred AS occurred_on,
                    {self._state.partition} AS "partition", "offset", "offset" AS first_offset{stored}
                FROM batch
                """,
                [columns.event],
            )


def _reject(connection: duckdb.DuckDBPyConnection, rejections: Sequence[Rejection], records: Sequence[Record]) -> None:
    """Put the rejected records on their way to the dead letters."""
    rejected = [records[rejection.row] for rejection in rejections]
    connection.execute(
        "INSERT INTO dead_letters "
        "SELECT unnest(?::INTEGER[]), unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::BLOB[])",
        [
            [record.partition for record in rejected],
            [record.offset for record in rejected],
            [rejection.reason.value for rejection in rejections],
            [record.value[:REJECTED_BYTES] for record in rejected],
        ],
    )


def _keyed(columns: EventColumns, records: Sequence[Record]) -> npt.NDArray[np.bool_]:
    """Return which rows have their case key as the record's key.

    A record that landed in the partition of another case's key would be judged out of its case's order.
    """
    rows = columns.rows.tolist()
    claimed = [records[row].key or b"" for row in rows]
    if set(map(len, claimed)) <= {16}:
        matrix = np.frombuffer(b"".join(claimed), dtype=np.uint8).reshape(-1, 16)
        return np.asarray((matrix == columns.case_keys).all(axis=1))
    own = [key.tobytes() for key in columns.case_keys]
    return np.array([a == b for a, b in zip(claimed, own, strict=True)], dtype=np.bool_)
