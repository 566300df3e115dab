"""statistics.duckdb: the public projection of the ledger.

The file is always built new beside the old one and swapped in, so that a reader sees one release or the next and never
half of either. Nothing but the ledger goes into it: deleted, it comes back with the same values.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
import secrets
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib import resources
from pathlib import Path

import duckdb

from quietcount_aggregates.errors import (
    PublicationDefect,
    PublicationError,
    PublicationHeld,
    PublicationUnwritable,
)
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.entries import Completed, Declared, Entry, Head, Released, Retired
from quietcount_aggregates.noise import margin, standard_deviation, sum_margin
from quietcount_aggregates.populations import Population, Table
from quietcount_aggregates.published_bytes import REPEATABLE, clear_remnants
from quietcount_aggregates.published_file import changes_beside, opened
from quietcount_schemas.defects import described

__all__ = [
    "STORAGE_VERSION",
    "HeldPublication",
    "Publish",
    "bound_sentence",
    "plain",
    "publish",
    "published_figures",
    "published_head",
]

STORAGE_VERSION = "v1.2.0"
"""The storage version that DuckDB 1.2 and every later one reads."""

FORMAT = 1

_VIEW_COLUMNS = {
    "period_start": "The first day of the period (UTC).",
    "period_end": "The last day of the period (UTC), inclusive.",
    "estimate": "The published figure: noisy, or 0 where noisy is negative.",
    "lower": "The lower end of the 95 % interval for the true count.",
    "upper": "The upper end of the 95 % interval for the true count; at least a margin above the estimate.",
    "noisy": "The count as drawn, with its sign: add these up, not the estimates.",
    "reliability": "The margin relative to the estimate: good, fair or poor.",
}


Publish = Callable[[Chain, Path], None]
"""Publishes what a verified chain holds as the file at a path: `publish`, or a HeldPublication."""


def publish(chain: Chain, path: Path) -> None:
    """Build the public file from a verified chain and put it in the place of `path`.

    A program that has the old file open keeps it. Raises PublicationError; the file that was there is then still whole.
    """
    with _explained(path):
        _clear(path.parent, f"{path.name}.next*")
        with _draft(path.with_name(f"{path.name}.next")) as draft:
            _build(chain, draft)
            # DuckDB would put on top of the new file what another program had written beside the old one.
            if (beside := changes_beside(path)) is not None:
                beside.unlink(missing_ok=True)
            draft.replace(path)


class HeldPublication:
    """Remembers what is to be published, and publishes it when `show` is called.

    A file system says since when a file has been there, to a fraction of a second. If the file were put in its place as
    soon as the release is done, that would say how long the fold and the release took.
    """

    def __init__(self) -> None:
        self._held: tuple[Chain, Path] | None = None

    def __call__(self, chain: Chain, path: Path) -> None:
        """Remember that `chain` is to be published at `path`."""
        self._held = chain, path

    def show(self) -> None:
        """Publish what is held, if it is not published yet. Raises PublicationError; it is held still."""
        if self._held is not None:
            publish(*self._held)
        self._held = None


@contextlib.contextmanager
def _draft(following: Path) -> Iterator[Path]:
    """Lend a path beside `following` that nothing else writes to; what is left there is removed in the end."""
    draft = following.with_name(f"{following.name}-{secrets.token_hex(4)}")
    try:
        yield draft
    finally:
        with contextlib.suppress(OSError):
            _clear(draft.parent, f"{draft.name}*")


def _clear(folder: Path, pattern: str) -> None:
    for leftover in folder.glob(pattern):
        leftover.unlink(missing_ok=True)


def _build(chain: Chain, draft: Path) -> None:
    """Build the public file at `draft`."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET temp_directory = ''")
        connection.execute(REPEATABLE)
        _fill(connection, chain, draft)
    clear_remnants(draft)
    # The public file may be read by everyone; what must not be read lies in the folder `private`.
    draft.chmod(0o644)
    # Not the moment of writing, which would tell how long the release took.
    moment = chain.entries[-1].recorded_at.timestamp()
    os.utime(draft, (moment, moment))
    with draft.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what DuckDB or the system raises in the body into a PublicationError about `path`."""
    try:
        yield
    except duckdb.Error as error:
        # A commit that finds no room is no IOException.
        if isinstance(error, duckdb.IOException) or "Could not write file" in str(error):
            raise PublicationUnwritable(
                f"{path}: cannot be written",
                "Check that the folder is writable and the disk has room, then run again. The release is in the ledger "
                "and is not lost",
            ) from error
        raise PublicationDefect(
            f"a defect of quietcount: {described(error)}. {path} was not changed",
            "Report this line. The release is in the ledger and is not lost",
        ) from error
    except OSError as error:
        raise PublicationUnwritable(
            f"{path}: cannot be written ({error.strerror})",
            "Make room or mend the disk, then run again. Nothing is lost",
        ) from error


def published_head(path: Path) -> Head | None:
    """Return the head of the ledger that the public file was built from; None if there is no file.

    Another program may hold the file open to write. Raises PublicationError for a file that is there and cannot be
    read: what it was built from must not be guessed. PublicationHeld means that nothing is wrong with the file.
    """
    if not path.exists():
        return None
    try:
        with opened(path) as connection:
            rows = dict(connection.execute("SELECT key, value FROM about").fetchall())
        return Head(int(rows["ledger_length"]), bytes.fromhex(rows["ledger_head"]))
    except (duckdb.Error, KeyError, ValueError) as error:
        # DuckDB says so of a file that it may not read, though nothing is wrong with it.
        if isinstance(error, duckdb.IOException) and "Permission denied" in str(error):
            raise PublicationHeld(
                f"{path}: cannot be read: its rights do not allow it", "Mend its rights, then run again"
            ) from None
        raise PublicationError(
            f"{path}: is not a file that quietcount published, or is damaged",
            "Move it away: it comes back from the ledger",
        ) from None


def published_figures(noisy: int, margin: int) -> tuple[int, int, int]:
    """Return estimate, lower and upper end of a cell, as the public file has them (see _PUBLISHED_FIGURES)."""
    return max(noisy, 0), max(noisy - margin, 0), max(noisy, 0) + margin


# Beside each other so that they stay one: a test compares what they say of the same releases.
_PUBLISHED_FIGURES = "greatest(noisy, 0), greatest(noisy - margin, 0), greatest(noisy, 0) + margin"


def bound_sentence(chain: Chain) -> str:
    """Return what the numbers can tell anyone about one person, in one sentence."""
    budget = chain.budget
    times = 1 + budget.losses
    sentence = (
        "However many numbers are published, what they tell about whether one person came stays under epsilon "
        f"{plain(budget.bound)}"
    )
    if budget.yearly:
        sentence += (
            f" for a person who came in one calendar year, and rises by {plain(budget.yearly * times)} for each "
            "further year in which the person came"
        )
    sentence += f"; the declared populations spend {plain(budget.declared)} of {plain(budget.lifetime_epsilon)}"
    if budget.losses:
        how_often = "once" if budget.losses == 1 else f"{budget.losses} times"
        sentence += (
            f". The bound was raised: the record of past contributions, or the emitters' pepper, was lost {how_often}"
        )
    return sentence + "."


def plain(number: Decimal) -> str:
    """Return an epsilon as a person writes it: no exponent, and no zeros at its end."""
    return f"{number.normalize():f}"


def _fill(connection: duckdb.DuckDBPyConnection, chain: Chain, path: Path) -> None:
    quoted = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS public (STORAGE_VERSION '{STORAGE_VERSION}')")
    # Views and macros keep the names they are written with: unqualified, they resolve in the file that is opened.
    connection.execute("USE public")
    connection.execute("BEGIN")
    connection.execute(_sql("publication.sql"))
    _fill_ledger(connection, chain)
    for population in chain.declarations.values():
        for table in population.tables:
            _fill_table(connection, chain, population, table)
    about = {
        "format": str(FORMAT),
        "bound": bound_sentence(chain),
        "lifetime_epsilon": f"{chain.budget.lifetime_epsilon:f}",
        "epsilon_declared": f"{chain.budget.declared:f}",
        "state_losses": str(chain.losses),
        "mechanisms": ", ".join(sorted({e.body.mechanism for e in chain.entries if isinstance(e.body, Released)})),
        "ledger_id": chain.opened.ledger_id.hex(),
        "ledger_length": str(chain.head.length),
        "ledger_head": chain.head.digest.hex(),
    }
    connection.execute("INSERT INTO about SELECT unnest(?), unnest(?)", [list(about), list(about.values())])
    connection.execute(_sql("macros.sql"))
    connection.execute(_sql("dictionary.sql"))
    connection.execute("COMMIT")
    connection.execute("USE memory")
    connection.execute("DETACH public")


def _fill_ledger(connection: duckdb.DuckDBPyConnection, chain: Chain) -> None:
    entries = chain.entries
    connection.execute(
        "INSERT INTO ledger SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), "
        "unnest(?::VARCHAR[]), unnest(?::DATE[]), "
        "unnest(?::TIMESTAMP[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::BLOB[])",
        [
            [entry.index for entry in entries],
            [entry.kind for entry in entries],
            [_population(entry) for entry in entries],
            [entry.body.statistic if isinstance(entry.body, Released) else None for entry in entries],
            [entry.body.period_start if isinstance(entry.body, Released) else None for entry in entries],
            [_naive(entry.recorded_at) for entry in entries],
            [entry.digest.hex() for entry in entries],
            [entry.previous.hex() for entry in entries],
            [entry.data for entry in entries],
        ],
    )


def _fill_table(connection: duckdb.DuckDBPyConnection, chain: Chain, population: Population, table: Table) -> None:
    connection.execute(
        "INSERT INTO budget VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
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
        ],
    )
    for (name, start), loss in chain.withheld.items():
        if name == table.name:
            reason = f"a part of it was counted in a state that was lost (ledger entry {loss.index})"
            span = [start, table.period.end(start)]
            connection.execute("INSERT INTO withheld VALUES (?, ?, ?, ?)", [name, *span, reason])
    releases = [
        (entry, entry.body)
        for entry in chain.entries
        if isinstance(entry.body, Released) and entry.body.statistic == table.name
    ]
    _describe_view(connection, population, table)
    if not releases:
        return
    scale = releases[0][1].noise_scale
    connection.execute(
        f"""
        INSERT INTO statistics
        WITH released AS (
            SELECT unnest(?::DATE[]) AS period_start, unnest(?::DATE[]) AS period_end,
                unnest(?::DOUBLE[]) AS noise_scale, unnest(?::VARCHAR[]) AS release_id,
                unnest(?::TIMESTAMP[]) AS released_at, unnest(?::BIGINT[][]) AS drawn,
                unnest(?::BIGINT[]) AS margin
        ), cells AS (
            SELECT * EXCLUDE (drawn), unnest(?::VARCHAR[]) AS cell, unnest(drawn) AS noisy FROM released
        )
        SELECT ?, ?, period_start, period_end, cell, {_PUBLISHED_FIGURES}, noisy, noise_scale, ?, ?,
            CASE WHEN margin <= 0.1 * noisy THEN 'good' WHEN margin <= 0.3 * noisy THEN 'fair' ELSE 'poor' END,
            release_id, released_at
        FROM cells
        ORDER BY period_start, cell
        """,
        [
            [body.period_start for _, body in releases],
            [body.period_end for _, body in releases],
            [body.noise_scale for _, body in releases],
            [entry.digest.hex() for entry, _ in releases],
            [_naive(entry.recorded_at) for entry, _ in releases],
            [list(body.values) for _, body in releases],
            [margin(body.noise_scale) for _, body in releases],
            table.domain,
            population.name,
            table.name,
            table.epsilon,
            population.max_contributions,
        ],
    )
    terms = list(_terms(len(releases) * table.cells))
    connection.execute(
        "INSERT INTO margins SELECT ?, unnest(?::BIGINT[]), unnest(?::BIGINT[]), ?",
        [table.name, terms, [sum_margin(scale, n) for n in terms], standard_deviation(scale)],
    )


def _describe_view(connection: duckdb.DuckDBPyConnection, population: Population, table: Table) -> None:
    dimensions = "".join(f", json_extract_string(cell, '$.{d.name}') AS \"{d.name}\"" for d in table.by)
    columns = ", ".join(list(_VIEW_COLUMNS)[2:])
    connection.execute(
        f'CREATE VIEW "{table.name}" AS SELECT period_start, period_end{dimensions}, {columns} '
        f"FROM statistics WHERE statistic = '{table.name}'"
    )
    text = f"{', '.join(population.events)} by {table.period.value}"
    conditions = [f"{f.field.name} is {' or '.join(f.accepted)}" for f in (*population.where, *table.where)]
    if conditions:
        text += ", where " + " and ".join(conditions)
    if population.title:
        text = f"{population.title}: {text}"
    text += f". {population.counting}. Noised counts with 95 % intervals."
    if population.description:
        text += f" {population.description}"
    connection.execute(f'COMMENT ON VIEW "{table.name}" IS {_quoted(text)}')
    for column, comment in _VIEW_COLUMNS.items():
        connection.execute(f'COMMENT ON COLUMN "{table.name}"."{column}" IS {_quoted(comment)}')
    for dimension in table.by:
        symbols = ", ".join(dimension.symbols)
        connection.execute(f'COMMENT ON COLUMN "{table.name}"."{dimension.name}" IS {_quoted(f"One of {symbols}.")}')


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _terms(total: int) -> Iterator[int]:
    """Yield each number of terms up to 64, then steps of two in a hundred, up to one not below `total`."""
    terms = 1
    while terms < total:
        yield terms
        terms += 1 if terms < 64 else math.ceil(terms * 0.02)
    yield terms


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


def _sql(name: str) -> str:
    return resources.files("quietcount_aggregates").joinpath(name).read_text(encoding="utf-8")
