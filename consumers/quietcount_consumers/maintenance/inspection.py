"""Looking at a project without changing it: its ledger, and what is due."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable

from quietcount_aggregates.bound import bound_sentence, plain
from quietcount_aggregates.due_periods import DuePeriod, due_periods
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import (
    Completed,
    Declared,
    Described,
    Entry,
    Opened,
    Rekeyed,
    Released,
    Retired,
    Settled,
    StateLost,
)
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_consumers.configuration import Configuration, beginning_after
from quietcount_consumers.wiring import open_ledger

__all__ = ["budget_lines", "due_now", "ledger_rows", "ledger_runs"]


def ledger_rows(chain: Chain) -> tuple[list[str], list[tuple[object, ...]]]:
    """Return the columns and one row for each entry of the ledger."""
    columns = ["index", "recorded_at", "kind", "population", "statistic", "period_start", "what", "digest"]
    rows: list[tuple[object, ...]] = []
    for entry in chain.entries:
        population, statistic, period, what = _summary(entry)
        moment = entry.recorded_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        rows.append((entry.index, moment, entry.kind, population, statistic, period, what, entry.digest.hex()))
    return columns, rows


def ledger_runs(chain: Chain) -> tuple[list[str], list[tuple[object, ...]]]:
    """Return the columns and rows of the ledger in short, for 80 columns.

    A row is an entry, or the releases of one table up to the next entry that is neither a release nor a settlement.
    Settlements have none: there is one before each release.
    """
    runs: dict[tuple[int, str | None], list[Entry]] = {}
    newest = 0  # index of the newest entry that has a row of its own
    for entry in chain.entries:
        if isinstance(entry.body, Released):
            runs.setdefault((newest, entry.body.statistic), []).append(entry)
        elif not isinstance(entry.body, Settled):
            newest = entry.index
            runs[newest, None] = [entry]
    rows: list[tuple[object, ...]] = []
    for run in runs.values():
        population, statistic, _, what = _summary(run[0])
        first, last = run[0].body, run[-1].body
        if isinstance(first, Released) and isinstance(last, Released):
            what = f"{first.period_start}..{last.period_end} ({len(run)})"
        elif isinstance(first, Declared):
            what = f"epsilon {plain(first.population.epsilon)} by {first.population.period}"
        rows.append((run[0].index, run[0].recorded_at.date(), run[0].kind, statistic or population, what))
    return ["index", "day", "kind", "name", "what"], rows


def budget_lines(chain: Chain) -> list[str]:
    """Return what the declared populations spent, what is left to declare, and the bound, a line each."""
    spent = (
        f"{table.name} {table.epsilon:g}{' (retired)' if population.name in chain.retired else ''}"
        for population in chain.declarations.values()
        for table in population.tables
    )
    budget = chain.budget
    return [
        f"Spent when declared, for all releases together: {', '.join(spent) or 'nothing'}.",
        f"Left for populations that are declared later: epsilon {plain(budget.left)} "
        f"of {plain(budget.lifetime_epsilon)}.",
        bound_sentence(chain),
    ]


def due_now(
    configuration: Configuration, now: dt.datetime, admit: Callable[[Chain], None] = lambda _: None
) -> list[DuePeriod]:
    """Return what a release at `now` would release, without touching anything; `admit` may refuse the ledger."""
    chain = Chain()
    if configuration.kafka is not None or (configuration.private_dir / "ledger.sqlite").exists():
        with contextlib.closing(open_ledger(configuration, create=False)) as log:
            ledger = Ledger(log)
            ledger.refresh()
            chain = ledger.chain
    if chain.entries:
        admit(chain)
    populations = []
    first_open, waiting = dict(chain.first_open), set(chain.incomplete)
    for wanted in configuration.populations(configuration.registry()):
        population = chain.declarations.get(wanted.name) or beginning_after(wanted, now.date())
        first_open.setdefault(population.name, population.first_day)
        if wanted.name not in chain.declarations and chain.entries and population.first_day <= now.date():
            waiting.add(wanted.name)  # for its past, once it is declared
        if population.name not in chain.retired | waiting:
            populations.append(population)
    return due_periods(populations, first_open, now, configuration.grace, chain.withheld)


def _summary(entry: Entry) -> tuple[str | None, str | None, dt.date | None, str]:
    """Return the population, the table and the period that an entry is about, and what it says."""
    match entry.body:
        case Opened(lifetime_epsilon=epsilon):
            return None, None, None, f"lifetime epsilon {epsilon}"
        case Declared(population):
            tables = ", ".join(f"{table.name} by {table.period}" for table in population.tables)
            return population.name, None, None, f"epsilon {plain(population.epsilon)} spent, released as {tables}"
        case Released(population=name, statistic=statistic, period_start=start):
            return name, statistic, start, "noised values, drawn once"
        case Described():
            return None, None, None, "what is said of the figures"
        case Settled():
            return None, None, None, "a commitment to where in the log that was"
        case Retired(name):
            return name, None, None, "not released any more"
        case Rekeyed():
            return None, None, None, "heads are signed with another key from here on"
        case Completed(name):
            return name, None, None, "its past is in the log"
        case StateLost(losses=losses, partition=partition, kept=kept):
            which = ", this one of the pepper alone" if kept else ""
            which = which or (f", this one of partition {partition}" if partition is not None else "")
            return None, None, None, f"losses so far: {losses}{which}"
