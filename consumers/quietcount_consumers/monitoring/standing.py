"""The standing of a service after a tick: its status, from the ledger's chain, the state and the clock.

The work follows the number of tables and of new ledger entries, and nothing that comes from events.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Released
from quietcount_aggregates.populations import Table, exact_epsilon
from quietcount_aggregates.publication.projection import published_figures, reconciled
from quietcount_aggregates.reconciliation.figures import Reconciliation
from quietcount_aggregates.state.state import State
from quietcount_consumers.monitoring.status import NEVER, BudgetStatus, CellStatus, StatisticStatus, Status, shown_cells
from quietcount_schemas.rejection import ClientFault, RejectReason

__all__ = ["PATIENCE", "WORKERS_PATIENCE", "Standing"]

PATIENCE = dt.timedelta(days=1)
"""For how long a purge may be put off and count as done. A program that reads or writes the embedded log at that moment
puts it off, and a time as precise as the tick would show that an emitter was at work."""

WORKERS_PATIENCE = dt.timedelta(hours=1)
"""For how long a release waits for a worker before that is called missing: workers have ticks of their own."""
_DAY = dt.timedelta(days=1)
_LATER = dt.datetime.max.replace(tzinfo=dt.UTC)


class Standing:
    """Makes the status of one service, which was opened and had published at the tick `opened`.

    `interval` is the length of a tick, and `digest` the hash of the configuration. `disk_free` returns by folder the
    share of its disk that is free.
    """

    def __init__(
        self,
        chain: Chain,
        states: Sequence[State],
        opened: dt.datetime,
        *,
        interval: dt.timedelta,
        grace: dt.timedelta,
        digest: str,
        disk_free: Callable[[], tuple[tuple[str, float], ...]],
        publishes: bool = True,
    ) -> None:
        self._interval = interval
        self._grace = grace
        self._digest = digest
        self._disk_free = disk_free
        self._chain = chain
        self._states = states
        self._published = opened if publishes else NEVER
        self._missing_since: dict[int, dt.datetime] = {}
        self._fold = self._purge = self._release = NEVER
        self._purge_owed: dt.datetime | None = None
        self._seen = 0
        self._statistics: dict[str, StatisticStatus] = {}

    def after(
        self, now: dt.datetime, *, caught_up: bool, released: bool, purged: bool, missing: Collection[int] | None = None
    ) -> Status:
        """Return the status after the tick at `now`.

        `caught_up` says whether the log was folded to its end, `released` whether anything was released and
        published, `purged` whether nothing is left to purge. `missing` are the partitions that a settlement waits for,
        None if there are no workers. They are shown once that has lasted for an hour: workers have ticks of their own.
        """
        self._missing_since = {partition: self._missing_since.get(partition, now) for partition in missing or ()}
        if caught_up:
            self._fold = now
        if released:
            self._published = now
        # A service that is opened again goes by the day of the newest release, which left something to purge.
        self._purge_owed = None if purged else self._purge_owed or min(now, self._release_over())
        if self._purge_owed is None or now - self._purge_owed < PATIENCE:
            self._purge = now
        chain = self._chain
        budget = chain.budget
        # Yesterday's, never today's: a flag that rose at once would show when a record arrived.
        noted = {note for state in self._states for note in state.noted_on(now.date() - _DAY)}
        return Status(
            interval=self._interval,
            grace=self._grace,
            configuration=self._digest,
            tick=now,
            caught_up=caught_up,
            state_open=True,
            broker_reachable=True,
            ledger_verified=True,
            ledger_entries=len(chain.entries),
            state_losses=chain.losses,
            fold=self._fold,
            release=self._newest_release(),
            publication=self._published,
            purge=self._purge,
            rejects_seen=frozenset(each for each in noted if isinstance(each, RejectReason)),
            faults_seen=frozenset(each for each in noted if isinstance(each, ClientFault)),
            budget=BudgetStatus(budget.lifetime_epsilon, budget.bound, budget.left),
            statistics=self._figures(),
            disk_free=self._disk_free(),
            missing=() if missing is None else tuple(self._missing(now)),
        )

    def _missing(self, now: dt.datetime) -> Iterator[tuple[int, bool]]:
        for partition in range(self._chain.opened.partitions):
            yield partition, now - self._missing_since.get(partition, now) >= WORKERS_PATIENCE

    def _release_over(self) -> dt.datetime:
        """Return when the day of the newest release was over."""
        days = [day for state in self._states if (day := state.released_on) is not None]
        return _LATER if not days else dt.datetime.combine(max(days) + _DAY, dt.time(), dt.UTC)

    def _newest_release(self) -> dt.datetime:
        """Return the tick of the newest release; one made by hand between two ticks counts for the first of them."""
        entries = self._chain.entries
        for entry in entries[self._seen :]:
            if isinstance(entry.body, Released):
                self._release = entry.recorded_at - (entry.recorded_at - NEVER) % self._interval
        self._seen = len(entries)
        return self._release

    def _figures(self) -> tuple[StatisticStatus, ...]:
        """Return the status of each table; it is made again when a release or the retirement changes it."""
        chain, made = self._chain, dict[str, Reconciliation]()
        for population, table in chain.tables:
            first_open = None if population.name in chain.retired else chain.following[table.name]
            known = self._statistics.get(table.name)
            if known is None or known.first_open != first_open:
                if population.name not in made:
                    made[population.name] = reconciled(chain, population)[0]
                self._statistics[table.name] = _status_of(table, first_open, chain, made[population.name])
        return tuple(self._statistics[table.name] for _, table in chain.tables)


def _status_of(
    table: Table, first_open: dt.date | None, chain: Chain, reconciliation: Reconciliation
) -> StatisticStatus:
    """Return the status of a table whose earliest period that is to be released begins on `first_open`."""
    cells = shown_cells(table)
    start = table.period.start(chain.following[table.name] - _DAY)
    while (table.name, start) in chain.withheld:
        start = table.period.start(start - _DAY)
    entry = chain.releases.get((table.name, start))
    newest = entry.body if entry is not None and isinstance(entry.body, Released) else None
    released: tuple[CellStatus, ...] = ()
    figures = reconciliation.newest(table.name) if newest is not None and cells else None
    if figures is not None:
        released = tuple(
            CellStatus(cell, *published_figures(int(estimate), int(around)))
            for cell, estimate, around in zip(cells, *figures, strict=True)
        )
    return StatisticStatus(
        name=table.name,
        period=table.period,
        cells=cells,
        epsilon=exact_epsilon(table.epsilon),
        retired=first_open is None,
        first_open=first_open,
        period_start=None if newest is None else newest.period_start,
        period_end=None if newest is None else newest.period_end,
        released=released,
    )
