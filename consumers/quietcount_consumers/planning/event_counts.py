"""What the populations would count of files of events, as if they were emitted before the first run.

Nothing leaves this process: the case keys are made under a secret that nobody keeps, and the counts are only used for
sizes and shares. The rules are those of counting/bounding.py: of an event the standing version counts, of a case the
first k, the oldest period first.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

from quietcount_aggregates.planning.margins import counted_cells
from quietcount_aggregates.planning.volume import IN_A_YEAR, Volume
from quietcount_aggregates.populations import Dimension, Filter, Horizon, Population, Sum, Table
from quietcount_producers.composing.composition import Composer, Precision
from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_producers.files.emission import Check, check
from quietcount_producers.files.event_files import FileFormat
from quietcount_producers.mapping import Mapping
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.events.event_types import Role
from quietcount_schemas.events.oddity import Oddity
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import NewRecord
from quietcount_schemas.registry import SchemaRegistry

__all__ = ["EventCounts", "PopulationCounts"]

_MOST_LIMITS: Final = 4
"""How many limits are compared: the population's own, and the next ones."""


class _Known(NamedTuple):
    """An event: its standing version, and the place of its first one among all lines."""

    event: CaseEvent
    place: int


@dataclass(frozen=True, slots=True)
class PopulationCounts:
    """What a population would count of the files.

    `uncounted` has, for its limit and the next ones, the share of its events that are beyond the limit. `before` is the
    share of its events that are dated before it begins.
    """

    volume: Volume
    uncounted: Sequence[tuple[int, float]]
    before: float


@dataclass(slots=True)
class EventCounts:
    """The events of some files, under keys that nobody can make again."""

    registry: SchemaRegistry
    precision: Precision
    allow: Collection[Oddity] = ()
    """Kinds of odd identifiers that count all the same, as emitters take them."""
    _events: dict[tuple[bytes, bytes], _Known] = field(default_factory=dict)
    _withdrawn: set[bytes] = field(default_factory=set)
    _codec: Codec = field(init=False)
    _composer: Composer = field(init=False)
    _lines: int = 0

    def __post_init__(self) -> None:
        self._codec = Codec(self.registry)
        self._composer = Composer(self.registry, Pepper(secrets.token_bytes(32)), self.precision, allow=self.allow)

    def read(
        self,
        stream: BinaryIO,
        name: str,
        file_format: FileFormat,
        mapping: Mapping | None = None,
        advance: Callable[[], None] = lambda: None,
    ) -> Check:
        """Add the events of a file, and return what is wrong with its lines: those are left out.

        Raises ProducersError for a file whose header or encoding is not in order.
        """
        reading = None if mapping is None else mapping.reading
        return check(
            *(stream, name, file_format, self._composer),
            reading=reading,
            mapping=mapping,
            records=self,
            advance=advance,
        )

    def add(self, record: NewRecord) -> None:
        """Add one event, in the order of the lines."""
        event = self._codec.decode(record.value)
        self._lines += 1
        if self.registry.event_types[event.event].role is Role.WITHDRAWAL:
            self._withdrawn.add(event.case_key)
            return
        key = event.case_key, event.event_id
        known = self._events.get(key)
        if known is None:
            self._events[key] = _Known(event, self._lines)
        elif event.revision > known.event.revision:
            self._events[key] = _Known(event, known.place)

    def of(self, population: Population) -> PopulationCounts | None:
        """Return what a population would count; None if there is nothing.

        A population without `since` is taken to begin with the earliest event.
        """
        members = [(known.event, known.place) for known in self._events.values() if self._is_member(population, known)]
        if not members:
            return None
        period = population.period
        first = population.since or min(period.start(event.occurred_on) for event, _ in members)
        since = [each for each in members if period.start(each[0].occurred_on) >= first]
        if not since:
            return None
        since.sort(key=lambda each: (period.start(each[0].occurred_on), each[1], each[0].event_id))
        turns: Counter[tuple[int, bytes]] = Counter()
        counted = []
        for event, _ in since:
            year = event.occurred_on.year if population.horizon is Horizon.YEAR else 0
            turns[year, event.case_key] += 1
            if turns[year, event.case_key] <= population.max_contributions:
                counted.append(event)
        periods = list(_periods(period, first, since[-1][0].occurred_on))
        return PopulationCounts(
            _volume(population, counted, periods),
            list(_uncounted(turns.values(), population.max_contributions)),
            1 - len(since) / len(members),
        )

    def _is_member(self, population: Population, known: _Known) -> bool:
        event = known.event
        return (
            event.event in population.events
            and event.case_key not in self._withdrawn
            and _holds(population.where, event)
        )


def _volume(population: Population, counted: Sequence[CaseEvent], periods: Sequence[dt.date]) -> Volume:
    """Return the volume of what is counted in these periods of the population."""
    years = len(periods) / IN_A_YEAR[population.period]
    yearly: dict[str, float] = {}
    cells: dict[str, Counter[int]] = {}
    for table in population.counts:
        own = [event for event in counted if _holds(table.where, event)]
        yearly[table.name] = len(own) / years
        whole = set(_whole(table, periods, population.period))
        sizes: Counter[tuple[dt.date, tuple[str, ...]]] = Counter()
        for event in own:
            start = table.period.start(event.occurred_on)
            if start in whole:
                sizes[start, tuple(_symbol(each, event) for each in table.by)] += 1
        cells[table.name] = Counter(sizes.values())
        empty = len(whole) * counted_cells(population, table) - len(sizes)
        if empty:
            cells[table.name][0] = empty
    averages: dict[str, float] = {}
    for table in population.sums:
        if table.sum is not None:
            numbers = [_number(table.sum, event) for event in counted if _holds(table.where, event)]
            averages[table.name] = sum(numbers) / len(numbers) if numbers else table.sum.middle
    return Volume(yearly, averages, cells)


def _uncounted(contributions: Iterable[int], limit: int) -> Iterator[tuple[int, float]]:
    """Yield limits from the population's own on, with the share of the events that each leaves uncounted."""
    numbers = Counter(contributions)
    whole = sum(number * cases for number, cases in numbers.items())
    for each in range(limit, limit + _MOST_LIMITS):
        left = sum((number - each) * cases for number, cases in numbers.items() if number > each)
        yield each, left / whole
        if not left:
            return


def _periods(period: Period, first: dt.date, last: dt.date) -> Iterator[dt.date]:
    while first <= last:
        yield first
        first = period.next(first)


def _whole(table: Table, periods: Sequence[dt.date], finest: Period) -> Iterator[dt.date]:
    """Yield the periods of a table that lie in the periods of its population as a whole."""
    start, end = table.first_day(periods[0]), finest.end(periods[-1])
    while table.period.end(start) <= end:
        yield start
        start = table.period.next(start)


def _holds(where: Sequence[Filter], event: CaseEvent) -> bool:
    return all(_symbol(each.field, event) in each.accepted for each in where)


def _symbol(dimension: Dimension, event: CaseEvent) -> str:
    """Return the symbol in which an event counts: the default for null, as in counting/bounding.py."""
    value = event.attributes[dimension.name]
    if dimension.bounds:
        # `unknown`, the symbol of null, has no bounds, and is the default.
        bounded = zip(dimension.symbols, dimension.bounds, strict=False)
        return next((s for s, (least, most) in bounded if _lies(value, least, most)), dimension.default)
    symbol = str(value).lower() if isinstance(value, bool) else value
    return symbol if isinstance(symbol, str) and symbol in dimension.symbols else dimension.default


def _number(asked: Sum, event: CaseEvent) -> int:
    """Return what an event adds to a sum, before its middle is taken off."""
    value = event.attributes[asked.field]
    return min(max(value, asked.low), asked.high) if isinstance(value, int) else asked.middle


def _lies(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and least <= value <= most
