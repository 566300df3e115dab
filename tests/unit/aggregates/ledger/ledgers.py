"""Populations, releases and ledgers as the tests of the ledger's rules write them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tests.aggregates_world import SIGNING_KEY, TRIALS, MemoryLedger
from tests.populations import population_of

from quietcount_aggregates.catalogue import AskedTable, resolve
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Body, Entry, Released, Settled
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.places import LogPoint
from quietcount_aggregates.populations import Population, Table
from quietcount_schemas.events.periods import Period
from quietcount_schemas.log import LedgerLog

__all__ = [
    "END",
    "NOW",
    "ONE",
    "QUARTERS",
    "SINCE",
    "TrialLedger",
    "of",
    "opened",
    "read",
    "release",
    "release_of",
    "settlement",
]

NOW = dt.datetime(2023, 12, 1, tzinfo=dt.UTC)
SINCE = dt.date(2024, 1, 1)
ONE = Decimal(1)
END = LogPoint("memory", {0: 5})
"""Where the log ends."""
QUARTERS = (AskedTable("quarterly", 0.25, by=["urgent"], period=Period.QUARTER),)


def of(name: str, epsilon: float = 0.5, *, coarser: tuple[AskedTable, ...] = (), **more: Any) -> Population:
    """Return a monthly population with a table of its name, and with the given coarser tables."""
    written: dict[str, Any] = {"events": ["Asked"], "registry": TRIALS, "period": Period.MONTH, "since": SINCE, **more}
    if not coarser:
        return population_of(name, epsilon=epsilon, **written)
    own = AskedTable(name, epsilon, by=written.pop("by", ()))
    return resolve(name, tables=[own, *coarser], **written)


def release_of(population: Population, table: Table, start: dt.date, **changes: Any) -> Released:
    """Return the release of a table's period that begins on `start`."""
    made = Released(
        population=population.name,
        statistic=table.name,
        digest=population.digest,
        period_start=start,
        period_end=table.period.end(start),
        values=tuple(range(-1, table.cells - 1)),
        mechanism="test.exact",
        noise_scale=table.sensitivity(population.max_contributions) / table.epsilon,
    )
    return replace(made, **changes)


def release(population: Population, month: int = 1, **changes: Any) -> Released:
    """Return the release of a month of 2024 of the population's first table."""
    return release_of(population, population.tables[0], dt.date(2024, month, 1), **changes)


def settlement(population: Population, month: int) -> list[Released]:
    """Return all that the end of a month of 2024 releases, in the order of the ledger: the finest tables first."""
    start = dt.date(2024, month, 1)
    end = Period.MONTH.end(start)
    tables = sorted(population.tables, key=lambda table: list(Period).index(table.period))
    due = [table for table in tables if table.period.end(start) == end]
    return [release_of(population, table, table.period.start(start)) for table in due]


class TrialLedger(Ledger):
    """A ledger that puts a settlement before the releases of an append, and has all places where the log ends."""

    def __init__(self, log: LedgerLog, public_key: bytes = SIGNING_KEY.public) -> None:
        super().__init__(log, public_key)

    def append(self, bodies: Sequence[Body], now: dt.datetime, point: LogPoint | None = END) -> list[Entry]:
        first = next((at for at, body in enumerate(bodies) if isinstance(body, Released)), len(bodies))
        given = any(isinstance(body, Settled) for body in bodies) or first == len(bodies)
        return super().append(bodies if given else [*bodies[:first], Settled(), *bodies[first:]], now, point)


def opened(log: MemoryLedger | None = None, epsilon: str = "1") -> Ledger:
    """Return a fenced ledger, opened with a lifetime epsilon if it was empty."""
    ledger = TrialLedger(log or MemoryLedger())
    ledger.fence()
    if not ledger.chain.entries:
        ledger.declare([], Decimal(epsilon), NOW, end=END)
    return ledger


def read(entries: list[bytes]) -> Chain:
    """Return the chain that the bytes of entries add up to."""
    chain = Chain()
    for data in entries:
        chain.extend(data)
    return chain
