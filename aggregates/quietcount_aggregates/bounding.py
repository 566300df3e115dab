"""Contribution bounding: which events of open periods count, settled over whole sets in SQL.

For each population, the standing versions of a case's events are taken period by period, the oldest first, and within
a period in the order of their first place in the log. The first k, less what the case has used up in settled periods,
count: each in at most one cell of each table. Everything is judged within one case, so that one case moves a table's
long vector of releases by at most k in L1, no matter what other cases do.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib import resources

import numpy as np

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.marks import YearSecrets
from quietcount_aggregates.populations import Dimension, Filter, Horizon, Late, Population, Table
from quietcount_aggregates.state import State, registered
from quietcount_schemas.periods import Period

__all__ = ["LIFETIME", "Bounding", "keep_year"]

LIFETIME = 0
"""What stands in place of a year where the horizon is a lifetime."""

Symbols = Mapping[str, Sequence[str]]


class Bounding:
    """The contributions of one state's open events to a set of populations.

    Builds temporary tables when made; they describe the state as it was then, so nothing may be folded until the
    object is done with.
    """

    def __init__(
        self, state: State, populations: Sequence[Population], symbols: Symbols, year_secrets: YearSecrets
    ) -> None:
        self._state = state
        self._connection = state.connection
        self._populations: dict[str, Population] = {population.name: population for population in populations}
        self._connection.execute(_sql("versions.sql"))
        first_open = state.first_open
        for population in populations:
            placed = f"({_placed(population, symbols, first_open[population.name])})"
            if population.horizon is Horizon.YEAR:
                self._mark_years(placed, year_secrets)
            self._connection.execute(_contributions(population, placed))

    def counts(self, population: str, table: Table, periods: Sequence[dt.date]) -> dict[dt.date, list[int]]:
        """Return, for each of the table's periods (by its first day), the exact count of each cell of the domain.

        What was settled of a period before is in the state as a sum, and counts with it.
        """
        counts = {period: [0] * table.cells for period in periods}
        rows = self._connection.execute(
            f"""
            SELECT period, cell, sum(contributions)::BIGINT FROM ({self._sums(population, table)})
            WHERE period IN (SELECT unnest(?::DATE[])) GROUP BY ALL
            """,
            [list(periods)],
        ).fetchall()
        for period, cell, count in rows:
            counts[period][cell] = count
        return counts

    def _sums(self, population: str, table: Table, before: dt.date = dt.date.max) -> str:
        """Return SQL for what is counted before a day in each period and cell of a table; a pair may come twice."""
        place = [each.name for each in self._populations[population].tables].index(table.name) + 1
        return f"""
            SELECT period, cell, contributions FROM sums WHERE statistic = {_text(table.name)}
            UNION ALL
            SELECT {_period_of("period", table.period)} AS period, cells[{place}] AS cell, count(*) AS contributions
            FROM contributions
            WHERE population = {_text(population)} AND counted AND cells[{place}] IS NOT NULL
                AND contributions.period < {_date(before)}
            GROUP BY ALL
        """

    def close(self, first_open: Mapping[str, dt.date], withheld: Collection[tuple[str, dt.date]] = ()) -> None:
        """Write the state again without what was counted before `first_open`, except for its sums and marks.

        `first_open` holds the new first open day of every population, `withheld` the periods, by table and first day,
        that are never released. Attributes, places in the log and superseded versions of settled periods are gone
        afterwards, and so are the marks of years that a yearly horizon has behind it. What a table of a coarser period
        waits for stays as sums, without any person in them. Retired populations, which release nothing any more, keep
        no sums and no marks.
        """
        connection = self._connection
        connection.execute("CREATE OR REPLACE TEMP TABLE following (population VARCHAR, day DATE, year_from INTEGER)")
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE waiting (statistic VARCHAR, period DATE, cell BIGINT, contributions BIGINT)"
        )
        for population in self._populations.values():
            day = first_open[population.name]
            year = day.year if population.horizon is Horizon.YEAR else LIFETIME
            connection.execute("INSERT INTO following VALUES (?, ?, ?)", [population.name, day, year])
            for table in population.tables:
                # The one period of the table of which a part is settled, and a part is not.
                period = table.period.start(day)
                if table.first_day(population.first_day) <= period < day and (table.name, period) not in withheld:
                    # What is open in that period counts when it is settled, and not now.
                    settled = (
                        f"SELECT * FROM ({self._sums(population.name, table, day)}) WHERE period = {_date(period)}"
                    )
                    connection.execute(f"INSERT INTO waiting SELECT {_text(table.name)}, * FROM ({settled})")
        # Retired populations move on too: a period that the ledger has released must not look unknown to this state.
        connection.execute("CREATE OR REPLACE TEMP TABLE opened (population VARCHAR, day DATE)")
        for name in self._state.first_open:
            connection.execute("INSERT INTO opened VALUES (?, ?)", [name, first_open[name]])
        self._state.rewrite(_close_script(self._state.columns))

    def _mark_years(self, placed: str, year_secrets: YearSecrets) -> None:
        """Add the marks, under each year's secret, of the cases that have events in that year."""
        years = self._connection.execute(
            f"SELECT DISTINCT year(period)::INTEGER FROM {placed} WHERE period IS NOT NULL ORDER BY 1"
        ).fetchall()
        for (year,) in years:
            keep_year(self._state, year_secrets, year)
            cases = self._connection.execute(
                f"""
                SELECT (case_mark >> 64)::UBIGINT AS high, (case_mark & 18446744073709551615)::UBIGINT AS low
                FROM (
                    SELECT DISTINCT case_mark FROM {placed} WHERE year(period) = {year}
                    EXCEPT SELECT case_mark FROM year_marks WHERE year = {year}
                )
                """
            ).fetchnumpy()
            high, low = np.asarray(cases["high"], dtype=np.uint64), np.asarray(cases["low"], dtype=np.uint64)
            marks = year_secrets.marks(year, np.stack([high, low], axis=1))
            batch = {"high": high, "low": low, "year_high": marks[:, 0].copy(), "year_low": marks[:, 1].copy()}
            with registered(self._connection, batch):
                self._connection.execute(
                    f"INSERT INTO year_marks SELECT {year}, (high::UHUGEINT << 64) | low, (year_high::UHUGEINT << 64) "
                    "| year_low FROM batch"
                )


def keep_year(state: State, year_secrets: YearSecrets, year: int) -> None:
    """Make the secret of a year that has none yet; refuse one that is not the one with which its marks were made.

    Raises StateError: the limits that were used up would be forgotten.
    """
    key = f"year {year:04d}"
    known, found = state[key], year_secrets.check(year)
    if not known:
        year_secrets.create(year)
        with state.transaction():
            state[key] = year_secrets.check(year)
    elif known != found:
        raise StateError(
            f"{year_secrets.path(year)}: the secret of {year} is {'another one' if found else 'missing'}; the "
            "limits that cases have used up in that year are kept under it",
            "Restore it. If it is lost permanently, run: quietcount ledger record-loss --lost year",
        )


def _placed(population: Population, symbols: Symbols, first_open: dt.date) -> str:
    """Return SQL for the standing versions with the population's period, membership and cells of each (null: none)."""

    def by_event(of: Callable[[str], str]) -> str:
        return "CASE event " + " ".join(f"WHEN {_text(each)} THEN {of(each)}" for each in population.events) + " END"

    own = _period_of("occurred_on", population.period)
    late = "NULL"
    if population.late is Late.CARRY:
        carried = _period_of("carried_on", population.period)
        late = f"greatest(coalesce({carried}, {_date(first_open)}), {_date(first_open)})"
        if population.horizon is Horizon.YEAR:
            # What a year may tell of a case is told of the years in which its events lie, and of no other.
            late = f"CASE WHEN year({late}) = year(occurred_on) THEN {late} END"
    cells = ", ".join(by_event(partial(_cell, table, symbols=symbols)) for table in population.tables)
    return f"""
        SELECT case_mark, event_mark, first_offset,
            CASE WHEN {own} >= {_date(first_open)} THEN {own}
                WHEN {own} >= {_date(population.first_day)} THEN {late} END AS period,
            {by_event(partial(_holds, population.where, symbols=symbols))} AS member,
            [{cells}]::BIGINT[] AS cells
        FROM versions
        WHERE event IN ({", ".join(map(_text, population.events))}) OR revision > 0
    """


def _contributions(population: Population, placed: str) -> str:
    name = _text(population.name)
    if population.horizon is Horizon.YEAR:
        year, mark, marks = "year(period)::INTEGER", "mark", "JOIN year_marks USING (year, case_mark)"
    else:
        year, mark, marks = str(LIFETIME), "case_mark", ""
    return f"""
        INSERT INTO contributions
        WITH placed AS (
            SELECT *, {year} AS year FROM {placed}
            ANTI JOIN (SELECT event_mark FROM closed_events WHERE population = {name}) USING (event_mark)
            WHERE period IS NOT NULL
        ), turned AS (
            SELECT *, count(*) FILTER (member) OVER (
                PARTITION BY year, case_mark ORDER BY period, first_offset, event_mark ROWS UNBOUNDED PRECEDING
            ) AS turn
            FROM placed
        ), marked AS (
            SELECT *, {mark} AS case_year_mark FROM turned {marks}
        )
        SELECT {name}, year, case_mark, case_year_mark, event_mark, period, cells,
            coalesce(member, false) AND turn + coalesce(used.contributions, 0) <= {population.max_contributions}
        FROM marked
        LEFT JOIN (SELECT year, case_mark AS case_year_mark, contributions FROM spent WHERE population = {name}) used
            USING (year, case_year_mark)
    """


def _cell(table: Table, event: str, *, symbols: Symbols) -> str:
    """Return SQL for the index of an event's cell in the domain, or null where the table's `where` does not hold."""
    stride = table.cells
    terms = ["0"]
    for dimension in table.by:
        stride //= len(dimension.symbols)
        terms.append(f"{stride} * {_index(dimension, event, symbols)}")
    return f"CASE WHEN {_holds(table.where, event, symbols=symbols)} THEN {' + '.join(terms)} END"


def _holds(where: Sequence[Filter], event: str, *, symbols: Symbols) -> str:
    """Return SQL for whether all conditions hold of an event."""
    conditions = ["true"]
    for condition in where:
        accepted = [condition.field.symbols.index(symbol) for symbol in condition.accepted]
        conditions.append(f"{_index(condition.field, event, symbols)} IN ({', '.join(map(str, accepted))})")
    return " AND ".join(conditions)


def _index(dimension: Dimension, event: str, symbols: Symbols) -> str:
    """Return SQL that turns a stored code into the index of its symbol in the frozen domain.

    A symbol that the schema gained since the declaration, and null, stand for the default symbol.
    """
    column = f"{event}.{dimension.name}"
    default = dimension.symbols.index(dimension.default)
    known = {symbol: index for index, symbol in enumerate(dimension.symbols)}
    table = [known.get(symbol, default) for symbol in symbols[column]]
    return f'coalesce({table}[("{column}")::INTEGER + 1], {default})'


def _period_of(column: str, period: Period) -> str:
    return f"date_trunc('{period.value}', {column})::DATE"


def _close_script(columns: Sequence[str]) -> str:
    """Return the script that fills `next` with what is left after the periods before `following` are closed."""
    codes = "".join(f', "{column}" UTINYINT' for column in columns)
    return _sql("close.sql").replace("-- codes", codes)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _date(day: dt.date) -> str:
    return f"DATE '{day.isoformat()}'"


def _sql(name: str) -> str:
    return resources.files("quietcount_aggregates").joinpath(name).read_text(encoding="utf-8")
