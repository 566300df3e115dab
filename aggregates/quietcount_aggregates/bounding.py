"""Contribution bounding: which events of open periods count, settled over whole sets in SQL.

For each statistic, the standing versions of a case's events are taken in the order of their first place in the log;
the first k, less what the case has used up in closed periods, count. Everything is judged within one case, so that one
case moves a statistic's long vector of releases by at most k in L1, no matter what other cases do.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.marks import YearSecrets
from quietcount_aggregates.state import State, registered
from quietcount_aggregates.statistics import Dimension, Horizon, Late, Statistic
from quietcount_schemas.periods import Period

__all__ = ["LIFETIME", "Bounding", "keep_year"]

LIFETIME = 0
"""What stands in place of a year where the horizon is a lifetime."""

Symbols = Mapping[str, Sequence[str]]


class Bounding:
    """The contributions of one state's open events to a set of statistics.

    Builds temporary tables when made; they describe the state as it was then, so nothing may be folded until the
    object is done with.
    """

    def __init__(
        self, state: State, statistics: Sequence[Statistic], symbols: Symbols, year_secrets: YearSecrets
    ) -> None:
        self._state = state
        self._connection = state.connection
        self._statistics: dict[str, Statistic] = {statistic.name: statistic for statistic in statistics}
        self._connection.execute(_sql("versions.sql"))
        first_open = state.first_open
        for statistic in statistics:
            placed = f"({_placed(statistic, symbols, first_open[statistic.name])})"
            if statistic.horizon is Horizon.YEAR:
                self._mark_years(placed, year_secrets)
            self._connection.execute(_contributions(statistic, placed))

    def counts(self, name: str, periods: Sequence[dt.date]) -> dict[dt.date, list[int]]:
        """Return, for each period (by its first day), the exact count of each cell of the domain."""
        statistic = self._statistics[name]
        counts = {period: [0] * statistic.cells for period in periods}
        rows = self._connection.execute(
            "SELECT period, cell, count(*) FROM contributions WHERE statistic = ? AND counted AND period IN "
            "(SELECT unnest(?::DATE[])) GROUP BY ALL",
            [name, list(periods)],
        ).fetchall()
        for period, cell, count in rows:
            counts[period][cell] = count
        return counts

    def close(self, first_open: Mapping[str, dt.date]) -> None:
        """Write the state again without what was counted before `first_open`, except for its marks.

        `first_open` holds the new first open day of every statistic. Attributes, places in the log and superseded
        versions of closed periods are gone afterwards, and so are the marks of years that a yearly horizon has behind
        it. Retired statistics, which release nothing any more, keep no marks.
        """
        connection = self._connection
        connection.execute("CREATE OR REPLACE TEMP TABLE following (statistic VARCHAR, day DATE, year_from INTEGER)")
        for statistic in self._statistics.values():
            day = first_open[statistic.name]
            year = day.year if statistic.horizon is Horizon.YEAR else LIFETIME
            connection.execute("INSERT INTO following VALUES (?, ?, ?)", [statistic.name, day, year])
        # Retired statistics move on too: a period that the ledger has released must not look unknown to this state.
        connection.execute("CREATE OR REPLACE TEMP TABLE opened (statistic VARCHAR, day DATE)")
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


def _placed(statistic: Statistic, symbols: Symbols, first_open: dt.date) -> str:
    """Return SQL for the standing versions with the statistic's period and cell of each (null: none)."""
    by_event = "\n".join(f"WHEN {_text(event)} THEN {_cell(statistic, event, symbols)}" for event in statistic.events)
    own = _period_of("occurred_on", statistic.period)
    late = "NULL"
    if statistic.late is Late.CARRY:
        carried = _period_of("carried_on", statistic.period)
        late = f"greatest(coalesce({carried}, {_date(first_open)}), {_date(first_open)})"
        if statistic.horizon is Horizon.YEAR:
            # What a year may tell of a case is told of the years in which its events lie, and of no other.
            late = f"CASE WHEN year({late}) = year(occurred_on) THEN {late} END"
    return f"""
        SELECT case_mark, event_mark, first_offset,
            CASE WHEN {own} >= {_date(first_open)} THEN {own}
                WHEN {own} >= {_date(statistic.first_day)} THEN {late} END AS period,
            CASE event {by_event} END AS cell
        FROM versions
        WHERE event IN ({", ".join(map(_text, statistic.events))}) OR revision > 0
    """


def _contributions(statistic: Statistic, placed: str) -> str:
    name = _text(statistic.name)
    if statistic.horizon is Horizon.YEAR:
        year, mark, marks = "year(period)::INTEGER", "mark", "JOIN year_marks USING (year, case_mark)"
    else:
        year, mark, marks = str(LIFETIME), "case_mark", ""
    return f"""
        INSERT INTO contributions
        WITH placed AS (
            SELECT *, {year} AS year FROM {placed}
            ANTI JOIN (SELECT event_mark FROM closed_events WHERE statistic = {name}) USING (event_mark)
            WHERE period IS NOT NULL
        ), turned AS (
            SELECT *, count(cell) OVER (
                PARTITION BY year, case_mark ORDER BY first_offset, event_mark ROWS UNBOUNDED PRECEDING
            ) AS turn
            FROM placed
        ), marked AS (
            SELECT *, {mark} AS case_year_mark FROM turned {marks}
        )
        SELECT {name}, year, case_mark, case_year_mark, event_mark, period, cell,
            cell IS NOT NULL AND turn + coalesce(used.contributions, 0) <= {statistic.max_contributions}
        FROM marked
        LEFT JOIN (SELECT year, case_mark AS case_year_mark, contributions FROM spent WHERE statistic = {name}) used
            USING (year, case_year_mark)
    """


def _cell(statistic: Statistic, event: str, symbols: Symbols) -> str:
    """Return SQL for the index of an event's cell in the domain, or null where `where` does not hold."""
    stride = statistic.cells
    terms = ["0"]
    for dimension in statistic.by:
        stride //= len(dimension.symbols)
        terms.append(f"{stride} * {_index(dimension, event, symbols)}")
    conditions = ["true"]
    for condition in statistic.where:
        accepted = [condition.field.symbols.index(symbol) for symbol in condition.accepted]
        conditions.append(f"{_index(condition.field, event, symbols)} IN ({', '.join(map(str, accepted))})")
    return f"CASE WHEN {' AND '.join(conditions)} THEN {' + '.join(terms)} END"


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
