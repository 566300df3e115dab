"""Tables as a person wrote them, checked against the schemas, with their domains frozen."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from quietcount_aggregates.errors import PopulationError
from quietcount_aggregates.populations import Dimension, Epsilon, Filter, StatisticName, Sum, Table
from quietcount_schemas.events.event_types import PUBLISHED_COLUMNS, EventType, Field, FieldKind
from quietcount_schemas.events.numbers import Buckets, Summed
from quietcount_schemas.events.periods import Period

__all__ = ["NAME", "NAME_WANTED", "RESERVED_NAMES", "AskedTable", "Refuse", "conditions", "resolve_tables"]

# A vector of 100,000 cells takes OpenDP 0.65 s to draw; past that a catalogue is a mistake rather than a wish.
MAX_CELLS = 100_000
SMALLEST_EPSILON, LARGEST_EPSILON = 0.001, 20.0
# Noise of this scale hides any count that case work has.
MAX_SCALE = 100_000
# Of sums. The total of 100,000 cells over a year of days then stays within 18 digits, of which six are decimals.
MAX_SUM_SCALE = 10_000_000
# Within these ends, a sum over five million contributions does.
LARGEST_END = 100_000

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
NAME_WANTED: Final = "Write lower-case letters, digits and _, a letter first, and 63 at most"

_UNKNOWN: Final = "unknown"
"""The symbol of a number that is null."""

RESERVED_NAMES = frozenset(
    {
        *("statistics", "margins", "averages", "ledger", "data_dictionary", "about", "budget", "withheld"),
        *("descriptions", "labels", "buckets", "notes"),
        *("noise_symbols", "noise_periods", "noise_scales", "noise_responses", "noise_signals", "noise_weights"),
    }
)


class Refuse(Protocol):
    """Makes the error of a key: what is wrong with it, and what to write."""

    def __call__(self, key: str, reason: str, remedy: str, /) -> PopulationError: ...


class AskedTable(NamedTuple):
    """A table as a person wrote it; without a `period` it has the population's, or that of the table that counts."""

    name: str
    epsilon: float
    by: Sequence[str | Buckets] = ()
    where: Mapping[str, Sequence[str | bool]] = MappingProxyType({})
    period: Period | None = None
    sum: Summed | None = None


def resolve_tables(
    asked: Sequence[AskedTable],
    *,
    population: str,
    types: Sequence[EventType],
    period: Period,
    max_contributions: int,
) -> tuple[Table, ...]:
    """Return the tables of a population, in the order in which they were asked for; raise PopulationError."""
    counts: dict[str, Table] = {}
    for each in asked:
        if each.sum is None:
            counts[each.name] = _count(each, types, period, _refusing(population, each))
    _check_buckets(counts.values(), asked, population)
    tables = [
        counts[each.name] if each.sum is None else _sum(each, each.sum, types, counts, _refusing(population, each))
        for each in asked
    ]
    for table, each in zip(tables, asked, strict=True):
        if max_contributions / table.epsilon > MAX_SCALE:
            raise _refusing(population, each)(
                "epsilon",
                f"the noise scale, max_contributions / epsilon, would be above {MAX_SCALE:,}",
                "Write a larger epsilon or fewer contributions",
            )
        if table.sum is not None and table.sensitivity(max_contributions) / table.epsilon > MAX_SUM_SCALE:
            raise _refusing(population, each)(
                "epsilon",
                f"the noise scale, max_contributions x {table.sum.reach:,} / epsilon, would be above {MAX_SUM_SCALE:,}",
                "Write a larger epsilon, fewer contributions, or two ends in between that are closer",
            )
    return tuple(tables)


def _refusing(population: str, asked: AskedTable) -> Refuse:
    def refuse(key: str, reason: str, remedy: str) -> PopulationError:
        return PopulationError(f"population {population!r}, table {asked.name!r}, key {key!r}: {reason}", remedy)

    return refuse


def _checked_name(asked: AskedTable, refuse: Refuse) -> StatisticName:
    if not NAME.fullmatch(asked.name):
        raise refuse("name", "is no name", NAME_WANTED)
    if asked.name in RESERVED_NAMES:
        raise refuse("name", "this name belongs to a table of statistics.duckdb", "Choose another")
    if not (math.isfinite(asked.epsilon) and SMALLEST_EPSILON <= asked.epsilon <= LARGEST_EPSILON):
        raise refuse(
            "epsilon",
            "is too small, too large or no number",
            f"Write a number from {SMALLEST_EPSILON} to {LARGEST_EPSILON:.0f}",
        )
    return StatisticName(asked.name)


def _count(asked: AskedTable, types: Sequence[EventType], period: Period, refuse: Refuse) -> Table:
    name = _checked_name(asked, refuse)
    own = asked.period or period
    if not own.is_made_of(period):
        possible = " or ".join(f'"{each}"' for each in Period if each.is_made_of(period))
        raise refuse(
            "period",
            f"a {own} is not made of whole {period}s, by which the population settles",
            f"Write {possible}, or give the population a finer period",
        )
    names = [each if isinstance(each, str) else each.field for each in asked.by]
    if len(set(names)) != len(names):
        raise refuse("by", "a field is named twice", "Name it once")
    dimensions = sorted((_dimension(types, each, refuse) for each in asked.by), key=lambda each: each.name)
    for dimension in dimensions:
        if dimension.name in PUBLISHED_COLUMNS:
            raise refuse(
                "by", f"the field {dimension.name!r} has the name of a published column", "Break down by another field"
            )
    table = Table(
        name=name,
        where=conditions(types, asked.where, refuse),
        by=tuple(dimensions),
        period=own,
        epsilon=Epsilon(float(asked.epsilon)),
    )
    if table.cells > MAX_CELLS:
        raise refuse("by", f"the cross product has more than {MAX_CELLS:,} cells", "Break it down by fewer fields")
    return table


def _sum(
    asked: AskedTable, wanted: Summed, types: Sequence[EventType], counts: Mapping[str, Table], refuse: Refuse
) -> Table:
    name = _checked_name(asked, refuse)
    count = counts.get(wanted.count)
    if count is None:
        known = ", ".join(counts) or "none"
        raise refuse("sum", f"{wanted.count!r} is no table of the population that counts", f"Name one of: {known}")
    if asked.where:
        raise refuse("where", f"a sum has that of {count.name!r}, the table that counts", "Leave it out")
    own = asked.period or count.period
    if not own.is_made_of(count.period):
        possible = " or ".join(f'"{each}"' for each in Period if each.is_made_of(count.period))
        raise refuse(
            "period",
            f"a {own} is not made of whole {count.period}s, by which {count.name!r} counts",
            f"Write {possible}",
        )
    kept = {dimension.name: dimension for dimension in count.by}
    for each in asked.by:
        if isinstance(each, Buckets) and each.field in kept:
            raise refuse("by", f"a sum has the buckets of {count.name!r}", f'Write the field alone: "{each.field}"')
        if each not in kept:
            listed = ", ".join(kept) or "none"
            raise refuse("by", f"{count.name!r} does not count by that field", f"Name fields of its own: {listed}")
    if len(set(asked.by)) != len(asked.by):
        raise refuse("by", "a field is named twice", "Name it once")
    field = _shared_number(types, wanted.field, partial(refuse, "sum"))
    low, high = wanted.between
    if field.nullable:
        raise refuse(
            "sum",
            f"the field {field.name!r} may be null, and what is not known has no place in an average",
            "Break down by buckets of it, which have a cell for what is not known",
        )
    if low < field.minimum or high > field.maximum:
        raise refuse(
            "sum",
            f"between goes beyond {field.name!r}, which lies from {field.minimum} to {field.maximum}",
            "Write two numbers within these: the closer they are, the less noise there is",
        )
    if max(-low, high) > LARGEST_END:
        raise refuse(
            "sum",
            f"between goes beyond -{LARGEST_END:,} and {LARGEST_END:,}, and sums of such numbers have too many digits",
            "Count from a later beginning or in a larger unit, in a field of your schema",
        )
    return Table(
        name=name,
        where=count.where,
        by=tuple(dimension for dimension in count.by if dimension.name in asked.by),
        period=own,
        epsilon=Epsilon(float(asked.epsilon)),
        sum=Sum(field.name, low, high, count.name),
    )


def _check_buckets(tables: Iterable[Table], asked: Sequence[AskedTable], population: str) -> None:
    """Raise PopulationError for one field in two kinds of buckets: the tables could not be made to agree."""
    first: dict[str, tuple[Dimension, str]] = {}
    for table in tables:
        for dimension in table.by:
            known, other = first.setdefault(dimension.name, (dimension, table.name))
            if known != dimension:
                each = next(each for each in asked if each.name == table.name)
                raise _refusing(population, each)(
                    "by",
                    f"the field {dimension.name!r} has other buckets in table {other!r}, so that the two could not be "
                    "made to agree",
                    "Write the same buckets in both: what lies in several of them can be added up",
                )


def conditions(
    types: Sequence[EventType],
    where: Mapping[str, Sequence[str | bool]] | None,
    refuse: Refuse,
) -> tuple[Filter, ...]:
    """Return the conditions of a `where`; raise PopulationError."""
    found = []
    for field, accepted in sorted((where or {}).items()):
        dimension = _shared_dimension(types, field, partial(refuse, "where"))
        symbols = tuple(sorted({_symbol(symbol) for symbol in accepted}))
        unknown = [symbol for symbol in symbols if symbol not in dimension.symbols]
        if unknown or not symbols:
            raise refuse(
                f"where.{field}",
                "names a symbol that the field lacks, or none",
                f"Name one or more of {', '.join(dimension.symbols)}",
            )
        found.append(Filter(dimension, symbols))
    return tuple(found)


class _RefuseKey(Protocol):
    def __call__(self, reason: str, remedy: str, /) -> PopulationError: ...


def _dimension(types: Sequence[EventType], asked: str | Buckets, refuse: Refuse) -> Dimension:
    if isinstance(asked, str):
        return _shared_dimension(types, asked, partial(refuse, "by"))
    return _bucketed(_shared_number(types, asked.field, partial(refuse, "by")), asked.buckets, partial(refuse, "by"))


def _shared_dimension(types: Sequence[EventType], field: str, refuse: _RefuseKey) -> Dimension:
    """Return the one dimension that every event type has under this name, with the same symbols."""
    found: list[Dimension] = []
    for event_type in types:
        by_name = {dimension.name: dimension for dimension in event_type.dimensions}
        if any(each.name == field for each in event_type.numbers):
            raise refuse(
                f"{field!r} is a whole number",
                f'To break down by it, write where its buckets begin: {{ field = "{field}", buckets = [...] }}',
            )
        if field not in by_name:
            allowed = ", ".join(by_name) or "none"
            raise refuse(f"{event_type.name} has no enum or boolean field {field!r}", f"It has: {allowed}")
        found.append(_frozen(by_name[field]))
    if any(dimension != found[0] for dimension in found):
        raise refuse(f"the event types do not agree on the symbols of {field!r}", "Count each in a population")
    return found[0]


def _frozen(field: Field) -> Dimension:
    if field.kind is FieldKind.BOOLEAN:
        return Dimension(field.name, ("false", "true"), "true" if field.default is True else "false")
    # The lint lets no enum in that has no default symbol.
    return Dimension(field.name, tuple(sorted(field.symbols)), str(field.default_symbol))


def _shared_number(types: Sequence[EventType], name: str, refuse: _RefuseKey) -> Field:
    """Return the one whole number that every event type has under this name, with the same bounds."""
    found: list[Field] = []
    for event_type in types:
        by_name = {field.name: field for field in event_type.numbers}
        if name not in by_name:
            allowed = ", ".join(by_name) or "none"
            raise refuse(f"{event_type.name} has no whole number {name!r}", f"It has: {allowed}")
        found.append(by_name[name])
    if any((each.minimum, each.maximum, each.nullable) != _limits(found[0]) for each in found):
        raise refuse(f"the event types do not agree on the bounds of {name!r}", "Count each in a population")
    return found[0]


def _limits(field: Field) -> tuple[int, int, bool]:
    return field.minimum, field.maximum, field.nullable


def _bucketed(field: Field, begins: Sequence[int], refuse: _RefuseKey) -> Dimension:
    """Return a whole number in buckets; what lies below the first of `begins`, or above the last, has its own."""
    if begins[0] < field.minimum or begins[-1] > field.maximum:
        raise refuse(
            f"buckets of {field.name!r} begin outside its bounds, {field.minimum} and {field.maximum}",
            "Write where they begin within these",
        )
    symbols = [f"{least}" if most == least else f"{least}..{most}" for least, most in _inner(begins)]
    bounds = [*_inner(begins), (begins[-1], field.maximum)]
    symbols.append(f"{begins[-1]}+")
    if begins[0] > field.minimum:
        symbols.insert(0, f"<{begins[0]}")
        bounds.insert(0, (field.minimum, begins[0] - 1))
    if len(symbols) == 1:
        raise refuse(f"all of {field.name!r} would lie in one bucket", "Write where at least one more begins")
    if field.nullable:
        symbols.append(_UNKNOWN)
    # Every number lies in a bucket: only null stands for nothing.
    return Dimension(field.name, tuple(symbols), symbols[-1], tuple(bounds))


def _inner(begins: Sequence[int]) -> list[tuple[int, int]]:
    return [(least, following - 1) for least, following in itertools.pairwise(begins)]


def _symbol(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value
