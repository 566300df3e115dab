"""Publications of made-up counts: drawn by the mechanism of the service into a ledger, and published from it.

Only the fold is left out, which knows no noise. So the true value of every figure of the public file is known.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt

from quietcount_aggregates.ledger.entries import Released, Settled
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.ledger.signed_heads import sign_head
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.noise import NoiseMechanism
from quietcount_aggregates.populations import Population, Table
from quietcount_aggregates.publication.publication import publish
from quietcount_aggregates.publication.published_file import opened
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_consumers.trials.made_up_counts import MadeUp
from quietcount_schemas.events.periods import Period

__all__ = ["BEGIN", "Publication", "published"]

BEGIN: Final = dt.date(2001, 1, 1)
"""A Monday, so that periods of every kind begin on it."""

_YEARS: Final = {Period.DAY: 1, Period.WEEK: 2, Period.MONTH: 8, Period.QUARTER: 8, Period.YEAR: 12}
"""How many years of a population are published, by the period by which it settles; a year of days is twice as many."""

_Integers = npt.NDArray[np.int64]
Span = tuple[dt.date, dt.date]
"""First and last day."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A public file, open to be asked, and what is true of it."""

    connection: duckdb.DuckDBPyConnection
    truths: Mapping[str, MadeUp]
    """By population."""

    def spans(self, population: Population) -> list[Span]:
        """Return the span of each release of a population."""
        made = self.truths[population.name]
        days = zip(made.starts, made.ends, strict=True)
        found = {(first, last) for first, last in days}
        for table in population.tables:
            found |= {(start, table.period.end(start)) for start in map(table.period.start, made.starts)}
        return sorted(found)

    def spans_of(self, population: Population, table: Table) -> list[Span]:
        """Return the span of each release of a table, the earliest first."""
        starts = sorted({table.period.start(start) for start in self.truths[population.name].starts})
        return [(start, table.period.end(start)) for start in starts]


@contextlib.contextmanager
def published(
    folder: Path, populations: Sequence[Population], mechanism: NoiseMechanism, rng: np.random.Generator
) -> Iterator[Publication]:
    """Publish years of made-up counts of populations that begin at BEGIN, and open the file."""
    truths: dict[str, MadeUp] = {each.name: MadeUp.of(each, _behind(each), rng) for each in populations}
    now = dt.datetime.combine(max(_behind(each) for each in populations), dt.time(), dt.UTC)
    file = folder / "statistics.duckdb"
    with EmbeddedLedger(folder / "ledger.sqlite") as log:
        key = SigningKey.generate(folder / "signing")
        ledger = Ledger(log, key.public)
        ledger.fence()
        epsilon = sum((each.epsilon for each in populations), Decimal(0))
        point = LogPoint("made up", {0: 0})
        ledger.declare(populations, epsilon, now, end=point)
        bodies = [body for each in populations for body in _drawn(truths[each.name], mechanism)]
        ledger.append([Settled(), *bodies], now, point)
        publish(ledger.chain, file, sign_head(ledger.chain, key).data)
    with contextlib.closing(opened(file)) as connection:
        connection.execute("SET threads = 1")
        yield Publication(connection, truths)


def _behind(population: Population) -> dt.date:
    """Return the first day that is not published: behind a whole period of each table."""
    return dt.date(BEGIN.year + _YEARS[population.period] * (2 if population.period is Period.DAY else 1), 1, 1)


def _drawn(made: MadeUp, mechanism: NoiseMechanism) -> Iterator[Released]:
    """Draw the releases of a population in the order in which they fall due, as a release draws them."""
    population = made.population
    values = {table.name: _by_its_own_period(made, table) for table in population.tables}
    scales = {
        table.name: mechanism.scale(
            cells=table.cells, sensitivity=table.sensitivity(population.max_contributions), epsilon=table.epsilon
        )
        for table in population.tables
    }
    for end in made.ends:
        for table in population.tables:
            start = table.period.start(end)
            if table.period.end(end) != end or start < made.starts[0]:
                continue
            drawn = mechanism.draw(
                values[table.name][start],
                scale=scales[table.name],
                sensitivity=table.sensitivity(population.max_contributions),
                epsilon=table.epsilon,
            )
            yield Released(
                population=population.name,
                statistic=table.name,
                digest=population.digest,
                period_start=start,
                period_end=end,
                values=tuple(drawn),
                mechanism=mechanism.name,
                noise_scale=scales[table.name],
            )


def _by_its_own_period(made: MadeUp, table: Table) -> dict[dt.date, list[int]]:
    found: dict[dt.date, _Integers] = {}
    for start, row in zip(map(table.period.start, made.starts), made.values(table), strict=True):
        found[start] = found[start] + row if start in found else row
    return {start: row.tolist() for start, row in found.items()}
