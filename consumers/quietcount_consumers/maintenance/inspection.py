"""Looking at a project without changing it: its ledger, what is due, whether the public file agrees."""

from __future__ import annotations

import contextlib
import datetime as dt
import filecmp
import tempfile
from collections.abc import Callable
from pathlib import Path

from quietcount_aggregates.bound import bound_sentence, plain
from quietcount_aggregates.due_periods import DuePeriod, due_periods
from quietcount_aggregates.errors import NoteError
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
from quietcount_aggregates.ledger.signed_heads import check_signed
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_aggregates.publication.publication import publish
from quietcount_aggregates.publication.published_file import changes_beside, holder_of
from quietcount_consumers.configuration import Configuration, beginning_after
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.queries import QueryError, query
from quietcount_consumers.wiring import open_ledger

__all__ = ["agreement", "budget_lines", "due_now", "held_open", "ledger_rows", "ledger_runs", "verify_ledger"]

# What the public file says without being a row of a table: a view or a macro can lie as well as a number.
_CATALOG = {
    "table": "SELECT table_name, sql, comment FROM duckdb_tables() WHERE NOT internal ORDER BY ALL",
    "view": "SELECT view_name, sql, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL",
    "macro": "SELECT function_name, parameters, macro_definition, comment FROM duckdb_functions() "
    "WHERE NOT internal ORDER BY ALL",
    "column": "SELECT table_name || '.' || column_name, data_type, comment FROM duckdb_columns() "
    "WHERE NOT internal ORDER BY ALL",
}


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


def verify_ledger(chain: Chain, public: Path) -> list[str]:
    """Return what was verified, a line each, of a chain that was read and of the public file beside it.

    Raises ServiceError when the public file does not hold exactly what the ledger says, and nothing beside it more.
    """
    lines = [f"The ledger's chain holds; its head is {chain.head.digest.hex()}.", bound_sentence(chain)]
    if not public.exists():
        return [*lines, f"{public} is not there; `quietcount run` brings it back with the same values."]
    if (beside := changes_beside(public)) is not None:
        raise ServiceError(
            f"{beside}: another program wrote to the published file, and whoever opens that file reads this on top of "
            "it",
            "End that program and delete this file, then run again: nothing of ours is in it",
        )
    # Not beside the public file, whose folder may be read-only: what is built here is as public as that one.
    with tempfile.TemporaryDirectory(prefix="quietcount-verify-") as folder:
        again = Path(folder) / "statistics.duckdb"
        publish(chain, again, _signed_head(chain, public))
        altered = _difference(public, again)
    if altered:
        raise ServiceError(
            f"{public}: {altered} does not hold what the ledger says; it is older (a service that runs publishes at "
            "its next tick), or was altered",
            "Delete it: `quietcount run` brings it back from the ledger",
        )
    return [*lines, f"{agreement(public)}.", *(f"{what}. {remedy}." for what, remedy in held_open(public))]


def _signed_head(chain: Chain, public: Path) -> str:
    """Return the signed head that the public file carries, if it is that of this chain; empty otherwise."""
    try:
        rows = query(public, "SELECT value FROM about WHERE key = 'signed_head'")[1]
        note = SignedNote.parse(str(rows[0][0]))
        check_signed(chain, note)
    except (QueryError, IndexError, NoteError):
        return ""
    return note.data


def held_open(public: Path) -> list[tuple[str, str]]:
    """Return what there is to say, and what to do, if another program holds the public file open to write."""
    holder = holder_of(public)
    if holder is None:
        return []
    return [
        (
            f"{public} is held open to write by {holder}, so DuckDB opens it for nobody else. The service publishes "
            "all the same, and that program keeps the old file",
            "Ask its user to open the file for reading only, as in duckdb.connect(..., read_only=True) or duckdb "
            "-readonly",
        )
    ]


def agreement(public: Path) -> str:
    """Return the sentence about a public file that was verified, without its full stop."""
    return f"{public} holds exactly what the ledger says"


def _difference(public: Path, again: Path) -> str | None:
    """Return the first thing that is not the same in both files, or None."""
    if filecmp.cmp(public, again, shallow=False):
        return None
    # Another version of DuckDB may have laid the same out in another way.
    for kind, sql in _CATALOG.items():
        found, wanted = query(public, sql)[1], query(again, sql)[1]
        for name, *_ in [row for row in wanted if row not in found] + [row for row in found if row not in wanted]:
            return f"{kind} {name}"
    for (table,) in query(again, "SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL")[1]:
        sql = f'SELECT * FROM "{table}" ORDER BY ALL'
        wanted = query(again, sql)[1]
        try:
            same = query(public, sql)[1] == wanted
        except QueryError:  # the file opens, and the blocks of this table are damaged
            same = False
        if not same:
            return f"table {table}"
    return None


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
        case StateLost(losses=losses, kept=kept):
            return None, None, None, f"losses so far: {losses}{', this one of the pepper alone' if kept else ''}"
