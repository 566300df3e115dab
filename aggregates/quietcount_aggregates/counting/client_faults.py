"""Client faults: what a client got wrong about records that are counted all the same.

A client of another make can write events that the strict decoder takes, and still put into the log what should not be
there: the exact day or the present in a record's timestamp, headers, a day where the month would do. Or it can choose
partitions in another way, and then the order of a case's events is lost. Nobody would notice: no record is rejected.
So the fold looks, for whole batches at once. What it finds follows from each record's bytes and place alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final

import numpy as np
import numpy.typing as npt

from quietcount_aggregates.counting.columns import EventColumns
from quietcount_aggregates.populations import Population
from quietcount_schemas.events.event_types import EARLIEST, LATEST
from quietcount_schemas.events.periods import Period, coarsest_that_serves
from quietcount_schemas.log import Record
from quietcount_schemas.rejection import ClientFault

__all__ = ["ClientFaults", "partitions_of"]

_DAY_MS: Final = 86_400_000
_TIMESTAMP, _HEADERS = attrgetter("timestamp"), attrgetter("headers")

# murmur2 with the seed of Kafka's Java client, for keys of 16 bytes: four words of four.
_SEED: Final = np.uint32(0x9747B28C ^ 16)
_MULTIPLIER: Final = np.uint32(0x5BD1E995)
_POSITIVE: Final = np.uint32(0x7FFFFFFF)


class ClientFaults:
    """Looks at the records of batches, for one set of populations and a log of so many `partitions`."""

    def __init__(self, populations: Sequence[Population], partitions: int) -> None:
        self._partitions = partitions
        self._precision = precision_of(populations)

    def seen(
        self,
        columns: EventColumns,
        kept: npt.NDArray[np.bool_],
        partitions: npt.NDArray[np.int32],
        timestamps: npt.NDArray[np.int64],
    ) -> Iterator[ClientFault]:
        """Yield what is wrong with the records of one event type, of which those that are `kept` count.

        `partitions` and `timestamps` are those of the whole batch.
        """
        rows, days = columns.rows[kept], columns.occurred_on[kept]
        if (timestamps[rows] != days * _DAY_MS).any():
            yield ClientFault.TIMESTAMP
        if not _first_days(self._precision.get(columns.event, Period.MONTH))[days].all():
            yield ClientFault.DATE_TOO_EXACT
        if (partitions[rows] != partitions_of(columns.case_keys[kept], self._partitions)).any():
            yield ClientFault.PARTITION


def timestamps_of(records: Sequence[Record]) -> npt.NDArray[np.int64]:
    """Return the timestamp of each record of a batch, in milliseconds."""
    return np.fromiter(map(_TIMESTAMP, records), np.int64, len(records))


def have_headers(records: Sequence[Record]) -> bool:
    """Return whether any record of a batch has a header."""
    return any(map(_HEADERS, records))


def precision_of(populations: Sequence[Population]) -> Mapping[str, Period]:
    """Return, by event type, the period that emitters coarsen its dates to."""
    wanted: dict[str, set[Period]] = {}
    for population in populations:
        for event in population.events:
            wanted.setdefault(event, set()).add(population.period)
    return {event: coarsest_that_serves(periods) for event, periods in wanted.items()}


def partitions_of(keys: npt.NDArray[np.uint8], partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each case key, (n, 16) bytes, as Kafka's Java client chooses it."""
    if partitions == 1:
        return np.zeros(len(keys), np.int64)
    words = np.ascontiguousarray(keys).view("<u4").astype(np.uint32)
    value = np.full(len(keys), _SEED, np.uint32)
    for index in range(words.shape[1]):
        word = words[:, index] * _MULTIPLIER
        word ^= word >> np.uint32(24)
        value = (value * _MULTIPLIER) ^ (word * _MULTIPLIER)
    value ^= value >> np.uint32(13)
    value *= _MULTIPLIER
    value ^= value >> np.uint32(15)
    return (value & _POSITIVE).astype(np.int64) % partitions


@functools.cache
def _first_days(period: Period) -> npt.NDArray[np.bool_]:
    """Return, for each day that an event may have, whether it is the first of its period.

    The first of them is one in any case: emitters give it to what lies in the same period before it.
    """
    days = (LATEST - EARLIEST).days + 1
    if period is Period.DAY:
        return np.ones(days, np.bool_)
    first = np.zeros(days, np.bool_)
    day = EARLIEST
    while day <= LATEST:
        first[(day - EARLIEST).days] = True
        day = period.next(day)
    return first
