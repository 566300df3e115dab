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
from quietcount_aggregates.populations import Dimension, Filter, Horizon, Late, Population, Sum, Table, counted_fields
from quietcount_aggregates.state.limits import LIFETIME, UsedUp, Words
from quietcount_aggregates.state.marks import YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_aggregates.state.state_file import registered
from quietcount_schemas.periods import Period

__all__ = ["Bounding", "keep_year"]

_ENVELOPE = (
    *("event", "case_mark", "event_mark", "revision", "occurred_on"),
    *('"partition"', '"offset"', "first_offset"),
)

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
        self._connection.execute(_sql("contributions.sql"))
        first_open, begins = state.first_open, state.begins
        self._used_up = {(each.population, each.year): each for each in state.used_up}
        lost_open = state.lost_open
        self._versions: dict[str, list[str]] = {}
        tables: dict[str, str] = {}
        for population in populations:
            name = population.name
            condition = _behind(begins.get(name, {}))
            if condition not in tables:
                tables[condition] = f"versions_{len(tables)}"
                self._connection.execute(_versions(tables[condition], condition))
            self._versions.setdefault(tables[condition], []).append(name)
            placed = f"({_placed(population, symbols, first_open[name], lost_open.get(name), tables[condition])})"
            if population.horizon is Horizon.YEAR:
                self._mark_years(placed, year_secrets)
            self._look_up(population.name)
            self._connection.execute(_contributions(population, placed))

    def counts(self, population: str, table: Table, periods: Sequence[dt.date]) -> dict[dt.date, list[int]]:
        """Return, for each of the table's periods (by its first day), what each cell of the domain comes to, exactly.

        That is a count, or for a table that sums up, the sum of the values less their middle. What was settled of a
        period before is in the state, and is part of it.
        """
        counts = {period: [0] * table.cells for period in periods}
        rows = self._connection.execute(
            f"""
            SELECT period, cell, sum(contributions)::BIGINT FROM ({self._sums(population, table)})
            WHERE period IN (SELECT unnest(?::DATE[])) GROUP BY ALL
            """,
            [list(periods)],
        ).fetchall()
        for period, cell, exact in rows:
            counts[period][cell] = exact
        return counts

    def _sums(self, population: str, table: Table, before: dt.date = dt.date.max) -> str:
        """Return SQL for what each period and cell of a table comes to before a day; a pair may come twice."""
        declared = self._populations[population]
        place = [each.name for each in declared.tables].index(table.name) + 1
        amount = "count(*)"
        if table.sum is not None:
            amount = f"sum(amounts[{[each.name for each in declared.sums].index(table.name) + 1}])"
        return f"""
            SELECT period, cell, contributions FROM sums WHERE statistic = {_text(table.name)}
            UNION ALL
            SELECT {_period_of("period", table.period)} AS period, cells[{place}] AS cell, {amount} AS contributions
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
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE following "
            "(population VARCHAR, day DATE, year_from INTEGER, max_contributions INTEGER, marks_from DATE)"
        )
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE waiting (statistic VARCHAR, period DATE, cell BIGINT, contributions BIGINT)"
        )
        for population in self._populations.values():
            day = first_open[population.name]
            year = day.year if population.horizon is Horizon.YEAR else LIFETIME
            # A mark is needed while an event of its period may still be carried: see `_placed`.
            marks_from = _period_of(_year_before(day), population.period)
            connection.execute(
                f"INSERT INTO following VALUES (?, ?, ?, ?, {marks_from})",
                [population.name, day, year, population.max_contributions],
            )
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
        columns = counted_fields(list(self._populations.values()))
        connection.execute(_remaining(self._versions, columns))
        self._state.rewrite(_close_script(columns), self._using_up())

    def _look_up(self, population: str) -> None:
        """Fill `spent` with what the cases of open events have used up of their limits in a population."""
        for (name, year), listed in self._used_up.items():
            if name != population:
                continue
            cases = "SELECT DISTINCT case_mark AS mark FROM open_events"
            if year != LIFETIME:
                cases = f"SELECT mark FROM year_marks WHERE year = {year}"
            marks = self._sorted(cases)
            used = self._state.limits.used(listed, marks)
            found = marks[used > 0]
            batch = {"high": found[:, 0].copy(), "low": found[:, 1].copy(), "used": used[used > 0]}
            with registered(self._connection, batch):
                self._connection.execute(
                    f"INSERT INTO spent SELECT {_text(name)}, {year}, (high::UHUGEINT << 64) | low, used FROM batch"
                )

    def _using_up(self) -> list[UsedUp]:
        """Write what is settled now behind what was used up before; return the files that hold from then on."""
        settled = "FROM contributions JOIN following USING (population) WHERE counted AND period < day"
        oldest = dict(self._connection.execute("SELECT population, year_from FROM following").fetchall())
        kept = {key: listed for key, listed in self._used_up.items() if key[1] >= oldest.get(key[0], key[1] + 1)}
        grown = self._connection.execute(f"SELECT DISTINCT population, year {settled} AND year >= year_from").fetchall()
        for population, year in grown:
            cases = self._sorted(
                f"SELECT case_year_mark AS mark {settled} AND population = {_text(population)} AND year = {year}"
            )
            listed = kept.get((population, year))
            kept[population, year] = self._state.limits.extended(population, year, listed, cases)
        return [kept[key] for key in sorted(kept)]

    def _sorted(self, marks: str) -> Words:
        """Return the marks that a query finds in ascending order, as words (high, low)."""
        found = self._connection.execute(
            "SELECT (mark >> 64)::UBIGINT AS high, (mark & 18446744073709551615)::UBIGINT AS low "
            f"FROM ({marks}) ORDER BY mark"
        ).fetchnumpy()
        high, low = np.asarray(found["high"], dtype=np.uint64), np.asarray(found["low"], dtype=np.uint64)
        return np.stack([high, low], axis=1)

    def _mark_years(self, placed: str, year_secrets: YearSecrets) -> None:
        """Add the marks, under each year's secret, of the cases that have events in that year."""
        years = self._connection.execute(
            f"SELECT DISTINCT year(period)::INTEGER FROM {placed} WHERE period IS NOT NULL ORDER BY 1"
        ).fetchall()
        for (year,) in years:
            keep_year(self._state, year_secrets, year)
            cases = self._sorted(
                f"""
                SELECT DISTINCT case_mark AS mark FROM {placed} WHERE year(period) = {year}
                EXCEPT SELECT case_mark FROM year_marks WHERE year = {year}
                """
            )
            marks = year_secrets.marks(year, cases)
            (high, low), (year_high, year_low) = cases.T.copy(), marks.T.copy()
            batch = {"high": high, "low": low, "year_high": year_high, "year_low": year_low}
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


def _versions(table: str, counted: str) -> str:
    """Return SQL that makes a table of the standing versions, of the records for which `counted` holds."""
    return f"""
        CREATE OR REPLACE TEMP TABLE {table} AS
        SELECT * EXCLUDE (first_place) REPLACE (first_place AS first_offset)
        FROM (
            SELECT *, min(first_offset) OVER (PARTITION BY event_mark) AS first_place
            FROM open_events
            ANTI JOIN withdrawn USING (case_mark)
            WHERE {counted}
            QUALIFY row_number() OVER (PARTITION BY event_mark ORDER BY revision DESC, "offset", "partition") = 1
        )
    """


def _behind(places: Mapping[int, int]) -> str:
    """Return SQL for whether an event first came at its partition's place or behind it; true where there is none."""
    if not places:
        return "true"
    begins = " ".join(f"WHEN {partition} THEN {offset}" for partition, offset in sorted(places.items()))
    return f'coalesce(first_offset >= CASE "partition" {begins} END, true)'


def _remaining(versions: Mapping[str, Sequence[str]], columns: Sequence[str]) -> str:
    """Return SQL that makes the table of the events that stay open, with the `columns` that a population refers to."""
    wanted = ", ".join([*_ENVELOPE, *(f'"{column}"' for column in columns)])
    parts = [f"SELECT {wanted} FROM open_events WHERE false"] + [
        f"""
        SELECT {wanted} FROM {table} SEMI JOIN (
            SELECT event_mark FROM contributions JOIN following USING (population)
            WHERE period >= day AND population IN ({", ".join(map(_text, names))})
        ) USING (event_mark)
        """
        for table, names in versions.items()
    ]
    # An event that populations count from different places on may have two rows, with its first place for each.
    return f"CREATE OR REPLACE TEMP TABLE remaining AS {' UNION '.join(parts)}"


def _placed(
    population: Population, symbols: Symbols, first_open: dt.date, lost_open: dt.date | None, versions: str
) -> str:
    """Return SQL for the standing versions with the population's period, membership and cells of each (null: none).

    `lost_open` is the population's first open day at the newest loss of a state, if there was one.
    """

    def by_event(of: Callable[[str], str]) -> str:
        return "CASE event " + " ".join(f"WHEN {_text(each)} THEN {of(each)}" for each in population.events) + " END"

    own = _period_of("occurred_on", population.period)
    late = "NULL"
    if population.late is Late.CARRY:
        # What is late goes into the earliest open period: the next settlement counts all that came before it. What is
        # older than a year may have no mark any more (see close.sql), and old history is not published as news.
        conditions = [f"occurred_on >= {_year_before(first_open)}"]
        if lost_open is not None:
            # What was settled before may have counted, and the mark that would tell is lost.
            conditions.append(f"occurred_on >= {_date(lost_open)}")
        if population.horizon is Horizon.YEAR:
            # What a year may tell of a case is told of the years in which its events lie, and of no other.
            conditions.append(f"year(occurred_on) = {first_open.year}")
        late = f"CASE WHEN {' AND '.join(conditions)} THEN {_date(first_open)} END"
    cells = ", ".join(by_event(partial(_cell, table, symbols=symbols)) for table in population.tables)
    amounts = ", ".join(by_event(partial(_amount, table.sum)) for table in population.sums if table.sum is not None)
    member = by_event(partial(_holds, population.where, symbols=symbols))
    # What is late and does not belong here has nothing to wait for: if it is corrected, the correction is what is late.
    return f"""
        SELECT case_mark, event_mark, first_offset,
            CASE WHEN {own} >= {_date(first_open)} THEN {own}
                WHEN {own} >= {_date(population.first_day)} AND ({member}) THEN {late} END AS period,
            {member} AS member,
            [{cells}]::BIGINT[] AS cells,
            [{amounts}]::BIGINT[] AS amounts
        FROM {versions}
        WHERE event IN ({", ".join(map(_text, population.events))}) OR revision > 0
    """


def _contributions(population: Population, placed: str) -> str:
    name = _text(population.name)
    if population.horizon is Horizon.YEAR:
        year, mark, marks = "year(period)::INTEGER", "mark", "JOIN year_marks USING (year, case_mark)"
        used_up = ""
    else:
        year, mark, marks = str(LIFETIME), "case_mark", ""
        # Such a case counts no more and has no marks of its events. Without this its settled events, which another
        # population may still need, would look late to this one and be kept as if they were open.
        used_up = (
            f"ANTI JOIN (SELECT case_mark FROM spent WHERE population = {name} "
            f"AND contributions >= {population.max_contributions}) USING (case_mark)"
        )
    return f"""
        INSERT INTO contributions
        WITH placed AS (
            SELECT *, {year} AS year FROM {placed}
            ANTI JOIN (SELECT event_mark FROM closed_events WHERE population = {name}) USING (event_mark)
            {used_up}
            WHERE period IS NOT NULL
        ), turned AS (
            SELECT *, count(*) FILTER (member) OVER (
                PARTITION BY year, case_mark ORDER BY period, first_offset, event_mark ROWS UNBOUNDED PRECEDING
            ) AS turn
            FROM placed
        ), marked AS (
            SELECT *, {mark} AS case_year_mark FROM turned {marks}
        )
        SELECT {name}, year, case_mark, case_year_mark, event_mark, period, cells, amounts, coalesce(member, false),
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


def _amount(asked: Sum, event: str) -> str:
    """Return SQL for what an event adds to a sum: its value, moved to between the two ends, less their middle."""
    return f'least(greatest("{event}.{asked.field}", {asked.low}), {asked.high}) - {asked.middle}'


def _holds(where: Sequence[Filter], event: str, *, symbols: Symbols) -> str:
    """Return SQL for whether all conditions hold of an event."""
    conditions = ["true"]
    for condition in where:
        accepted = [condition.field.symbols.index(symbol) for symbol in condition.accepted]
        conditions.append(f"{_index(condition.field, event, symbols)} IN ({', '.join(map(str, accepted))})")
    return " AND ".join(conditions)


def _index(dimension: Dimension, event: str, symbols: Symbols) -> str:
    """Return SQL that turns a stored code or number into the index of its symbol in the frozen domain.

    A symbol that the schema gained since the declaration, and null, stand for the default symbol. The bounds of a
    number never change.
    """
    column = f"{event}.{dimension.name}"
    default = dimension.symbols.index(dimension.default)
    if dimension.bounds:
        begun = " + ".join(f'("{column}" >= {least})::INTEGER' for least, _ in dimension.bounds[1:])
        return f"coalesce({begun}, {default})"
    known = {symbol: index for index, symbol in enumerate(dimension.symbols)}
    table = [known.get(symbol, default) for symbol in symbols[column]]
    return f'coalesce({table}[("{column}")::INTEGER + 1], {default})'


def _period_of(column: str, period: Period) -> str:
    return f"date_trunc('{period.value}', {column})::DATE"


def _close_script(columns: Sequence[str]) -> str:
    """Return the script that fills `next` with what is left after the periods before `following` are closed."""
    stored = "".join(f', "{column}" INTEGER' for column in columns)
    return _sql("close.sql").replace("-- values", stored)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _year_before(day: dt.date) -> str:
    """Return SQL for the earliest date of an event that is still carried into a period that begins on `day`."""
    return f"({_date(day)} - INTERVAL 1 YEAR)"


def _date(day: dt.date) -> str:
    return f"DATE '{day.isoformat()}'"


def _sql(name: str) -> str:
    return resources.files("quietcount_aggregates.counting").joinpath(name).read_text(encoding="utf-8")
