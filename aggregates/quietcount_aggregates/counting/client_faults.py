"""Client faults: what a client got wrong about records that are counted all the same.

A client of another make can write events that the strict decoder takes, and still put into the log what should not be
there: the exact day or the present in a record's timestamp, headers, a day where the month would do. Nobody would
notice: no record is rejected. So the fold looks, for whole batches at once. What it finds follows from each record's
bytes alone.
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

__all__ = ["ClientFaults"]

_DAY_MS: Final = 86_400_000
_TIMESTAMP, _HEADERS = attrgetter("timestamp"), attrgetter("headers")


class ClientFaults:
    """Looks at the records of batches, for one set of populations."""

    def __init__(self, populations: Sequence[Population]) -> None:
        self._precision = precision_of(populations)

    def seen(
        self,
        columns: EventColumns,
        kept: npt.NDArray[np.bool_],
        timestamps: npt.NDArray[np.int64],
    ) -> Iterator[ClientFault]:
        """Yield what is wrong with the records of one event type, of which those that are `kept` count.

        `timestamps` are those of the whole batch.
        """
        rows, days = columns.rows[kept], columns.occurred_on[kept]
        if (timestamps[rows] != days * _DAY_MS).any():
            yield ClientFault.TIMESTAMP
        if not _first_days(self._precision.get(columns.event, Period.MONTH))[days].all():
            yield ClientFault.DATE_TOO_EXACT


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
