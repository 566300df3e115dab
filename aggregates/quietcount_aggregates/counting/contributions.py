"""Contributions: SQL for what each event would add to a population, and which of them count.

An event is placed in a period of the population and in a cell of each of its tables; then the first k of a case count.
bounding.py runs it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from quietcount_aggregates.populations import Dimension, Filter, Horizon, Late, Population, Sum, Table
from quietcount_aggregates.state.limits import LIFETIME
from quietcount_schemas.events.periods import Period

__all__ = ["Symbols", "date", "insertion", "period_of", "placement", "text", "year_before"]

Symbols = Mapping[str, Sequence[str]]
"""For each column "Event.field", the symbols that its codes stand for; a number has none."""


def placement(
    population: Population, symbols: Symbols, first_open: dt.date, lost_open: dt.date | None, versions: str
) -> str:
    """Return SQL for the standing versions with the population's period, membership and cells of each (null: none).

    `lost_open` is the population's first open day at the newest loss of a state, if there was one.
    """

    def by_event(of: Callable[[str], str]) -> str:
        return "CASE event " + " ".join(f"WHEN {text(each)} THEN {of(each)}" for each in population.events) + " END"

    own = period_of("occurred_on", population.period)
    late = "NULL"
    if population.late is Late.CARRY:
        # What is late goes into the earliest open period: the next settlement counts all that came before it. What is
        # older than a year may have no mark any more (see close.sql), and old history is not published as news.
        conditions = [f"occurred_on >= {year_before(first_open)}"]
        if lost_open is not None:
            # What was settled before may have counted, and the mark that would tell is lost.
            conditions.append(f"occurred_on >= {date(lost_open)}")
        if population.horizon is Horizon.YEAR:
            # What a year may tell of a case is told of the years in which its events lie, and of no other.
            conditions.append(f"year(occurred_on) = {first_open.year}")
        late = f"CASE WHEN {' AND '.join(conditions)} THEN {date(first_open)} END"
    cells = ", ".join(by_event(partial(_cell, table, symbols=symbols)) for table in population.tables)
    amounts = ", ".join(by_event(partial(_amount, table.sum)) for table in population.sums if table.sum is not None)
    member = by_event(partial(_holds, population.where, symbols=symbols))
    # What is late and does not belong here has nothing to wait for: if it is corrected, the correction is what is late.
    return f"""
        SELECT case_mark, event_mark, first_offset,
            CASE WHEN {own} >= {date(first_open)} THEN {own}
                WHEN {own} >= {date(population.first_day)} AND ({member}) THEN {late} END AS period,
            {member} AS member,
            [{cells}]::BIGINT[] AS cells,
            [{amounts}]::BIGINT[] AS amounts
        FROM {versions}
        WHERE event IN ({", ".join(map(text, population.events))}) OR revision > 0
    """


def insertion(population: Population, placed: str) -> str:
    """Return SQL that adds the contributions of what is placed: of each case the first k count."""
    name = text(population.name)
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


def period_of(column: str, period: Period) -> str:
    """Return SQL for the first day of the period of a date."""
    return f"date_trunc('{period.value}', {column})::DATE"


def text(value: str) -> str:
    """Return SQL for a text."""
    return "'" + value.replace("'", "''") + "'"


def year_before(day: dt.date) -> str:
    """Return SQL for the earliest date of an event that is still carried into a period that begins on `day`."""
    return f"({date(day)} - INTERVAL 1 YEAR)"


def date(day: dt.date) -> str:
    """Return SQL for a date."""
    return f"DATE '{day.isoformat()}'"
