"""The projection: what the ledger says, written into a database file by SQL over whole sets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt

from quietcount_aggregates.bound import bound_sentence
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Completed, Declared, Entry, Released, Retired, Settled
from quietcount_aggregates.populations import ALL, Population, Sum
from quietcount_aggregates.publication.buckets import bucket_label_rows, bucket_rows
from quietcount_aggregates.publication.metadata import (
    about_rows,
    description_rows,
    label_rows,
    note_rows,
    withheld_rows,
)
from quietcount_aggregates.publication.published_bytes import detach
from quietcount_aggregates.publication.template import sql_of, template
from quietcount_aggregates.publication.views import describe_view
from quietcount_aggregates.reconciliation.averages import AverageFigures, averages
from quietcount_aggregates.reconciliation.estimates import MILLION
from quietcount_aggregates.reconciliation.figures import CellFigures, MarginFigures, Reconciliation
from quietcount_aggregates.reconciliation.kernel import kernel_rows

__all__ = ["project", "published_figures", "reconciled"]

_FORMAT: Final = 2

_COLUMN_TYPES: Final = """
    SELECT table_name, list(data_type ORDER BY column_index)
    FROM duckdb_columns() WHERE database_name = 'public' AND NOT internal
    GROUP BY table_name
"""
_Types = Mapping[str, Sequence[str]]
"""The types of the columns of each table."""

_ASKED: Final[dict[str, Sequence[str]]] = {}
"""The types, once they are asked: they are the template's. To answer, DuckDB parses all views of its own first."""


def published_figures(estimate: int, around: int) -> tuple[int, int, int]:
    """Return what is shown of a figure, its lower and its upper end, as the public file has them (see figures.sql).

    `estimate` and its margin `around` are in millionths.
    """
    above = max(estimate, 0)
    shown = (2 * above + MILLION) // (2 * MILLION)
    # Under a margin below a half no whole number may lie around a fraction: what is shown is always inside.
    return shown, max(min(-((around - estimate) // MILLION), shown), 0), max((above + around) // MILLION, shown)


def reconciled(chain: Chain, population: Population) -> tuple[Reconciliation, list[Entry]]:
    """Return the reconciliation of all released counts of a population, and their entries in the same order."""
    entries, settlements, newest = [], [], -1
    counts = {table.name for table in population.counts}
    for entry in chain.entries:
        if isinstance(entry.body, Settled):
            newest = entry.index
        elif isinstance(entry.body, Released) and entry.body.statistic in counts:
            entries.append(entry)
            settlements.append(newest)
    return Reconciliation(population, _bodies(entries), settlements), entries


def project(
    connection: duckdb.DuckDBPyConnection, chain: Chain, path: Path, signed_head: str = "", version: str = ""
) -> None:
    """Write the public file at `path`, which is not there yet, from a verified chain and its signed head.

    `version` is the one of quietcount that the file names; this one if it is empty.
    """
    path.write_bytes(template())
    quoted = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS public")
    # Names of a ledger that somebody else wrote stand in statements here, and must reach no other file.
    connection.execute("SET enable_external_access = false")
    connection.execute(sql_of("figures.sql"))
    # Views and macros keep the names they are written with: unqualified, they resolve in the file that is opened.
    connection.execute("USE public")
    types = _column_types(connection)
    connection.execute("BEGIN")
    _insert(connection, types, "ledger", _ledger_rows(chain))
    _insert(connection, types, "budget", _budget_rows(chain))
    _insert(connection, types, "withheld", withheld_rows(chain))
    _insert(connection, types, "descriptions", description_rows(chain))
    _insert(connection, types, "labels", [*label_rows(chain), *bucket_label_rows(chain)])
    _insert(connection, types, "buckets", bucket_rows(chain))
    for population in chain.declarations.values():
        meanings = [row for table in population.tables for row in describe_view(connection, population, table)]
        _insert(connection, types, "data_dictionary", meanings)
        _fill(connection, types, chain, population)
    notes = list(note_rows(chain))
    columns = enumerate(("statistics", "starts", "ends", "kinds", "notes"))
    connection.execute(sql_of("notes.sql"), {name: [note[place] for note in notes] for place, name in columns})
    _insert(connection, types, "about", [*_about_rows(chain, signed_head, version), *about_rows(chain)])
    connection.execute("COMMIT")
    detach(connection, path, types)


def _fill(connection: duckdb.DuckDBPyConnection, types: _Types, chain: Chain, population: Population) -> None:
    """Insert the figures of a population, and what their noise is made of."""
    reconciliation, entries = reconciled(chain, population)
    for name, rows in kernel_rows(reconciliation).items():
        _insert(connection, types, name, [(population.name, *row) for row in rows])
    counts: dict[str, CellFigures] = {}
    for cells in reconciliation.cells():
        counts[cells.table.name] = cells
        _insert_cells(connection, chain, population, cells, [entries[place] for place in cells.places])
        for margins in reconciliation.margins(cells):
            _insert_margins(connection, chain, population, margins)
    for table in population.sums:
        released = [body for body in _bodies(chain.entries) if body.statistic == table.name]
        if table.sum is not None and table.sum.count in counts:
            for figures in averages(reconciliation, counts[table.sum.count], table, released):
                _insert_averages(connection, chain, population, table.sum, figures)


def _insert_cells(
    connection: duckdb.DuckDBPyConnection,
    chain: Chain,
    population: Population,
    cells: CellFigures,
    entries: Sequence[Entry],
) -> None:
    bodies = _bodies(entries)
    lists = {
        "population": population.name,
        "statistic": cells.table.name,
        "scale": bodies[0].noise_scale,
        "epsilon": cells.table.epsilon,
        "most": population.max_contributions,
        "starts": [body.period_start for body in bodies],
        "ends": [body.period_end for body in bodies],
        "statuses": [_status(chain, population, body.period_end) for body in bodies],
        "digests": [entry.digest.hex() for entry in entries],
        "moments": [_naive(entry.recorded_at) for entry in entries],
        "domain": cells.table.domain,
    }
    arrays = {"noisy": cells.noisy, "estimate": cells.estimates, "first": cells.first, "around": cells.around}
    _load(connection, "cells.sql", arrays, lists)


def _insert_margins(
    connection: duckdb.DuckDBPyConnection, chain: Chain, population: Population, margins: MarginFigures
) -> None:
    ends = [margins.period.end(start) for start in margins.starts]
    lists = {
        "population": population.name,
        "statistic": margins.table.name,
        "dimension": margins.dimension.name if margins.dimension else ALL,
        "period": margins.period.value,
        "starts": list(margins.starts),
        "ends": ends,
        "statuses": [_status(chain, population, end) for end in ends],
        "domain": list(margins.dimension.symbols) if margins.dimension else [ALL],
    }
    _load(connection, "margins.sql", {"estimate": margins.estimates, "around": margins.around}, lists)


def _insert_averages(
    connection: duckdb.DuckDBPyConnection, chain: Chain, population: Population, asked: Sum, figures: AverageFigures
) -> None:
    ends = [figures.period.end(start) for start in figures.starts]
    lists = {
        "population": population.name,
        "statistic": figures.table.name,
        "field": asked.field,
        "low": asked.low,
        "high": asked.high,
        "period": figures.period.value,
        "starts": list(figures.starts),
        "ends": ends,
        "statuses": [_status(chain, population, end) for end in ends],
        "domain": list(figures.cells),
        "released": figures.noisy is not None,
    }
    arrays = {
        "noisy": figures.sums if figures.noisy is None else figures.noisy,
        "total": figures.sums,
        "around": figures.around,
        "average": figures.averages,
        "low_end": figures.lower,
        "high_end": figures.upper,
        "told": figures.told,
    }
    _load(connection, "averages.sql", arrays, lists)


def _load(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    arrays: Mapping[str, npt.NDArray[Any]],
    lists: Mapping[str, object],
) -> None:
    """Run an SQL file on arrays of one shape (releases x cells): without making a Python object of each element."""
    rows, columns = next(iter(arrays.values())).shape
    loaded: dict[str, Any] = {
        "release": np.repeat(np.arange(1, rows + 1, dtype=np.int32), columns),
        "number": np.tile(np.arange(1, columns + 1, dtype=np.int32), rows),
    }
    connection.register("loaded", loaded | {key: array.reshape(-1) for key, array in arrays.items()})
    connection.execute(sql_of(name), dict(lists))
    connection.unregister("loaded")


def _insert(
    connection: duckdb.DuckDBPyConnection, types: _Types, table: str, rows: Iterable[tuple[object, ...]]
) -> None:
    """Insert all rows of a table at once, in their order."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    if columns:
        values = ", ".join(f"unnest(?::{kind}[])" for kind in types[table])
        connection.execute(f"INSERT INTO {table} SELECT {values}", columns)


def _column_types(connection: duckdb.DuckDBPyConnection) -> _Types:
    if not _ASKED:
        _ASKED.update(connection.execute(_COLUMN_TYPES).fetchall())
    return _ASKED


def _ledger_rows(chain: Chain) -> Iterable[tuple[object, ...]]:
    for entry in chain.entries:
        released = entry.body if isinstance(entry.body, Released) else None
        yield (
            entry.index,
            entry.kind,
            _population(entry),
            released and released.statistic,
            released and released.period_start,
            _naive(entry.recorded_at),
            entry.digest.hex(),
            entry.previous.hex(),
            entry.data,
        )


def _budget_rows(chain: Chain) -> Iterable[tuple[object, ...]]:
    for population in chain.declarations.values():
        for table in population.tables:
            yield (
                population.name,
                table.name,
                table.epsilon,
                population.max_contributions,
                population.horizon.value,
                table.period.value,
                table.first_day(population.first_day),
                population.name in chain.retired,
                population.counting,
                population.canonical,
            )


def _about_rows(chain: Chain, signed_head: str, version: str) -> Iterable[tuple[str, str]]:
    yield "format", str(_FORMAT)
    yield "quietcount", version or metadata.version("quietcount-aggregates")
    yield "bound", bound_sentence(chain)
    yield "lifetime_epsilon", f"{chain.budget.lifetime_epsilon:f}"
    yield "epsilon_declared", f"{chain.budget.declared:f}"
    yield "state_losses", str(chain.worst)
    yield "mechanisms", ", ".join(sorted({body.mechanism for body in _bodies(chain.entries)}))
    yield "ledger_id", chain.opened.ledger_id.hex()
    yield "ledger_length", str(chain.head.length)
    yield "ledger_head", chain.head.digest.hex()
    yield "signer", chain.signer.text
    yield "signed_head", signed_head or "none"


def _status(chain: Chain, population: Population, end: dt.date) -> str:
    """Return whether the figures of a period that ends on `end` are final: no release will revise them any more."""
    following = chain.following
    waiting = any(table.period.start(end) >= following[table.name] for table in population.counts)
    return "provisional" if waiting and population.name not in chain.retired else "final"


def _bodies(entries: Sequence[Entry]) -> list[Released]:
    return [entry.body for entry in entries if isinstance(entry.body, Released)]


def _population(entry: Entry) -> str | None:
    match entry.body:
        case Declared(population):
            return population.name
        case Released(population=name) | Retired(name) | Completed(name):
            return name
        case _:
            return None


def _naive(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(tzinfo=None)
