"""Contribution bounding: which events of open periods count, settled over whole sets in SQL.

For each population, the standing versions of a case's events are taken period by period, the oldest first, and within
a period in the order of their first place in the log. The first k, less what the case has used up in settled periods,
count: each in at most one cell of each table. Everything is judged within one case, so that one case moves a table's
long vector of releases by at most k in L1, no matter what other cases do.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from importlib import resources

import numpy as np

from quietcount_aggregates.counting import contributions
from quietcount_aggregates.counting.contributions import Symbols, date, period_of, text
from quietcount_aggregates.errors import StateError
from quietcount_aggregates.populations import Horizon, Population, Table, counted_fields
from quietcount_aggregates.state.limits import LIFETIME, UsedUp, Words
from quietcount_aggregates.state.marks import YearSecrets
from quietcount_aggregates.state.state import State
from quietcount_aggregates.state.state_file import give_back, registered

__all__ = ["Bounding", "keep_year"]

_ENVELOPE = (
    *("event", "case_mark", "event_mark", "revision", "occurred_on"),
    *('"partition"', '"offset"', "first_offset"),
)


class Bounding:
    """The contributions of one state's open events to a set of populations, as they stand before a place in the log.

    `upto` is that place, an offset of the state's partition: what was folded from there on belongs to the next
    settlement. What is dated after `latest` counts nowhere. Builds temporary tables when made, so nothing may be folded
    until the object is done with.
    """

    def __init__(
        self,
        state: State,
        populations: Sequence[Population],
        symbols: Symbols,
        year_secrets: YearSecrets,
        *,
        upto: int,
        latest: dt.date = dt.date.max,
    ) -> None:
        self._state = state
        self._connection = state.connection
        self._connection.execute(f"SET VARIABLE settled_upto = {upto}::BIGINT")
        self._settled = f'"offset" < {upto} AND occurred_on <= {date(latest)}'
        self._populations: dict[str, Population] = {population.name: population for population in populations}
        self._connection.execute(_sql("contributions.sql"))
        first_open, begins = state.first_open, state.begins
        self._used_up = {(each.population, each.year): each for each in state.used_up}
        lost_open = state.lost_open
        self._versions: dict[str, list[str]] = {}
        tables: dict[str, str] = {}
        for population in populations:
            name = population.name
            condition = f"{self._settled} AND {_behind(begins.get(name, {}))}"
            if condition not in tables:
                tables[condition] = f"versions_{len(tables)}"
                self._connection.execute(_versions(tables[condition], condition))
            self._versions.setdefault(tables[condition], []).append(name)
            lost, versions = lost_open.get(name), tables[condition]
            placed = f"({contributions.placement(population, symbols, first_open[name], lost, versions)})"
            if population.horizon is Horizon.YEAR:
                self._mark_years(placed, year_secrets)
            self._look_up(population.name)
            self._connection.execute(contributions.insertion(population, placed))

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

    def discard(self) -> None:
        """Give back the memory; the object is of no use afterwards."""
        for table in ("contributions", "year_marks", "spent", *self._versions):
            self._connection.execute(f"DROP TABLE {table}")
        give_back(self._connection)

    def _sums(self, population: str, table: Table, before: dt.date = dt.date.max) -> str:
        """Return SQL for what each period and cell of a table comes to before a day; a pair may come twice."""
        declared = self._populations[population]
        place = [each.name for each in declared.tables].index(table.name) + 1
        amount = "count(*)"
        if table.sum is not None:
            amount = f"sum(amounts[{[each.name for each in declared.sums].index(table.name) + 1}])"
        return f"""
            SELECT period, cell, contributions FROM sums WHERE statistic = {text(table.name)}
            UNION ALL
            SELECT {period_of("period", table.period)} AS period, cells[{place}] AS cell, {amount} AS contributions
            FROM contributions
            WHERE population = {text(population)} AND counted AND cells[{place}] IS NOT NULL
                AND contributions.period < {date(before)}
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
            marks_from = period_of(contributions.year_before(day), population.period)
            connection.execute(
                f"INSERT INTO following VALUES (?, ?, ?, ?, {marks_from})",
                [population.name, day, year, population.max_contributions],
            )
            for table in population.tables:
                # The one period of the table of which a part is settled, and a part is not.
                period = table.period.start(day)
                if table.first_day(population.first_day) <= period < day and (table.name, period) not in withheld:
                    # What is open in that period counts when it is settled, and not now.
                    settled = f"SELECT * FROM ({self._sums(population.name, table, day)}) WHERE period = {date(period)}"
                    connection.execute(f"INSERT INTO waiting SELECT {text(table.name)}, * FROM ({settled})")
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
                    f"INSERT INTO spent SELECT {text(name)}, {year}, (high::UHUGEINT << 64) | low, used FROM batch"
                )

    def _using_up(self) -> list[UsedUp]:
        """Write what is settled now behind what was used up before; return the files that hold from then on."""
        settled = "FROM contributions JOIN following USING (population) WHERE counted AND period < day"
        oldest = dict(self._connection.execute("SELECT population, year_from FROM following").fetchall())
        kept = {key: listed for key, listed in self._used_up.items() if key[1] >= oldest.get(key[0], key[1] + 1)}
        grown = self._connection.execute(f"SELECT DISTINCT population, year {settled} AND year >= year_from").fetchall()
        for population, year in grown:
            cases = self._sorted(
                f"SELECT case_year_mark AS mark {settled} AND population = {text(population)} AND year = {year}"
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
            ANTI JOIN (SELECT case_mark FROM withdrawn WHERE "offset" < getvariable('settled_upto')) USING (case_mark)
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
    parts = [f"SELECT {wanted} FROM open_events WHERE \"offset\" >= getvariable('settled_upto')"] + [
        f"""
        SELECT {wanted} FROM {table} SEMI JOIN (
            SELECT event_mark FROM contributions JOIN following USING (population)
            WHERE period >= day AND population IN ({", ".join(map(text, names))})
        ) USING (event_mark)
        """
        for table, names in versions.items()
    ]
    # An event that populations count from different places on may have two rows, with its first place for each.
    return f"CREATE OR REPLACE TEMP TABLE remaining AS {' UNION '.join(parts)}"


def _close_script(columns: Sequence[str]) -> str:
    """Return the script that fills `next` with what is left after the periods before `following` are closed."""
    stored = "".join(f', "{column}" INTEGER' for column in columns)
    return _sql("close.sql").replace("-- values", stored)


def _sql(name: str) -> str:
    return resources.files("quietcount_aggregates.counting").joinpath(name).read_text(encoding="utf-8")
