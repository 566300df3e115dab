"""The metadata: what a careful reader needs beside the figures, as rows of the public file, from the ledger alone.

Nothing of it depends on what events hold. It follows from declarations, the description and the clock of entries.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Final

from quietcount_aggregates.ledger.chain import Chain, worst_of
from quietcount_aggregates.ledger.entries import Declared, Released, StateLost
from quietcount_aggregates.populations import Filter, Horizon, Population, Table

__all__ = [
    "about_rows",
    "condition_of",
    "contribution_sentences",
    "description_rows",
    "label_rows",
    "note_rows",
    "withheld_rows",
]

_NOT_STATED: Final = "not stated"
_NONE: Final = "none"


def description_rows(chain: Chain) -> Iterator[tuple[object, ...]]:
    """Yield a row of `descriptions` for each statistic."""
    newest, moved = _newest(chain), contribution_sentences(chain)
    for population, table in chain.tables:
        title = _title(population, table)
        until = newest.get(table.name, _NONE)
        conditions = (*population.where, *table.where)
        yield (
            population.name,
            table.name,
            title,
            population.description or _NONE,
            table.sum.field if table.sum else "cases" if _once(population) else "events",
            ", ".join(population.events),
            condition_of(conditions) or _NONE,
            ", ".join(dimension.name for dimension in table.by) or _NONE,
            table.period.value,
            table.first_day(population.first_day),
            population.counting,
            moved[table.name],
            until,
            _next_release(chain, population, table),
            *_said(chain),
            _citation(chain, title, until),
        )


def about_rows(chain: Chain) -> Iterator[tuple[str, str]]:
    """Yield the rows of `about` on who publishes the file, and how new it is."""
    until = max(_newest(chain).values(), default=_NONE)
    releases = {_next_release(chain, population, table) for population, table in chain.tables}
    days = sorted(day for day in releases if day[:1].isdigit())
    publisher, licence = _said(chain)
    yield "publisher", publisher
    yield "licence", licence
    yield "contact", chain.described.contact if chain.described and chain.described.contact else _NOT_STATED
    yield "citation", _citation(chain, "Statistics", until)
    yield "edition", str(chain.head.length)
    yield "edition_date", _edition_date(chain).isoformat()
    yield "data_until", until
    yield "next_release", days[0] if days else min(releases, default=_NONE)


def label_rows(chain: Chain) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the rows of `labels`."""
    for label in chain.described.labels if chain.described else ():
        yield label.population, label.dimension, label.symbol, label.language, label.text


def withheld_rows(chain: Chain) -> Iterator[tuple[str, dt.date, dt.date, str]]:
    """Yield the rows of `withheld`."""
    periods = {str(table.name): table.period for _, table in chain.tables}
    for (name, start), loss in chain.withheld.items():
        reason = f"a part of it was counted in a state that was lost (ledger entry {loss.index})"
        yield name, start, periods[name].end(start), reason


def note_rows(chain: Chain) -> Iterator[tuple[str, dt.date, dt.date, str, str]]:
    """Yield the rows of `notes` that do not depend on estimates: notes.sql adds the others."""
    for population, table in chain.tables:
        start = table.first_day(population.first_day)
        if (table.name, start) in chain.releases or (table.name, start) in chain.withheld:
            note = "The first period: there is none before it."
            yield table.name, start, table.period.end(start), "first period", note
    for name, start, end, reason in withheld_rows(chain):
        yield name, start, end, "withheld", f"Never released: {reason}."
    yield from _breaks(chain)


def contribution_sentences(chain: Chain) -> dict[str, str]:
    """Return how far one case moves each table, in a sentence, by the name of the table."""
    losses = _losses(chain)
    return {table.name: _contribution(population, table, losses[population.name]) for population, table in chain.tables}


def condition_of(conditions: Iterable[Filter]) -> str:
    """Return in words what `where` accepts; empty if there is none."""
    return " and ".join(f"{each.field.name} is {' or '.join(each.accepted)}" for each in conditions)


def _breaks(chain: Chain) -> Iterator[tuple[str, dt.date, dt.date, str, str]]:
    """Yield a note for the first period of each statistic that was released after a loss: the limits began again."""
    counted: set[str] = set()  # populations with a release
    losses: dict[str, list[tuple[int, str]]] = {}  # by statistic, since its newest release
    for entry in chain.entries:
        match entry.body:
            case StateLost(kept=kept):
                lost = "the emitters' pepper was lost" if kept else "the record of past contributions was lost"
                for population, table in chain.tables:
                    if population.name in counted:
                        losses.setdefault(table.name, []).append((entry.index, lost))
            case Released(population=name, statistic=statistic, period_start=start, period_end=end):
                counted.add(name)
                for place, lost in losses.pop(statistic, ()):
                    note = f"From here on a case that counted earlier may count again: {lost} (ledger entry {place})."
                    yield statistic, start, end, "break", note
            case _:
                pass


def _title(population: Population, table: Table) -> str:
    by = [*(dimension.name for dimension in table.by), table.period.value]
    listed = " and ".join(filter(None, [", ".join(by[:-1]), by[-1]]))
    counted = population.title or ", ".join(population.events)
    return f"{counted}, average of {table.sum.field} by {listed}" if table.sum else f"{counted}, by {listed}"


def _once(population: Population) -> bool:
    return population.max_contributions == 1 and population.horizon is Horizon.LIFETIME


def _contribution(population: Population, table: Table, losses: int) -> str:
    span = "over its lifetime" if population.horizon is Horizon.LIFETIME else "for each calendar year"
    most = population.max_contributions
    sentence = f"One case adds at most {most} to the true counts of all cells and periods together, {span}"
    if table.sum:
        moved = "sums, of values less their middle,"
        sentence = f"One case moves the true {moved} of all cells and periods together by at most "
        sentence += f"{table.sensitivity(most)}, {span}"
    if losses:
        each = "the loss" if losses == 1 else f"each of the {losses} losses"
        sentence += f"; after {each} of the record of past contributions, or of the emitters' pepper, as much again"
    return f"{sentence}."


def _losses(chain: Chain) -> dict[str, int]:
    """Return how often that of one case, or the pepper, was lost at most since the declaration, by population."""
    since: dict[str, tuple[int, dict[int | None, int]]] = {}
    for entry in chain.entries:
        match entry.body:
            case Declared(population):
                since[population.name] = 0, {}
            case StateLost(kept=True):  # under a new pepper a case may lie in another partition
                since = {name: (earlier + 1 + worst_of(lost), {}) for name, (earlier, lost) in since.items()}
            case StateLost(partition=partition):
                since = {
                    name: (earlier, {**lost, partition: lost.get(partition, 0) + 1})
                    for name, (earlier, lost) in since.items()
                }
            case _:
                pass
    return {name: earlier + worst_of(lost) for name, (earlier, lost) in since.items()}


def _newest(chain: Chain) -> dict[str, str]:
    """Return the last released day by statistic: periods are released in order."""
    bodies = (entry.body for entry in chain.entries)
    return {body.statistic: body.period_end.isoformat() for body in bodies if isinstance(body, Released)}


def _next_release(chain: Chain, population: Population, table: Table) -> str:
    """Return the day (UTC) on which the next period is due by the clock, or why there is no such day."""
    if population.name in chain.retired:
        return "none: it is retired"
    if population.name in chain.incomplete:
        return "not before its past is complete"
    if chain.described is None:
        return _NOT_STATED
    behind = table.period.next(chain.following[table.name])
    return (dt.datetime.combine(behind, dt.time(), dt.UTC) + chain.described.grace).date().isoformat()


def _said(chain: Chain) -> tuple[str, str]:
    """Return the publisher and the licence."""
    said = chain.described
    return (said.publisher if said else "") or _NOT_STATED, (said.licence if said else "") or _NOT_STATED


def _citation(chain: Chain, title: str, until: str) -> str:
    said = chain.described
    if said is not None and said.citation:
        return said.citation
    publisher = f"{said.publisher}: " if said is not None and said.publisher else ""
    data = "no data yet" if until == _NONE else f"data until {until}"
    edition = f"Edition {chain.head.length} of {_edition_date(chain)} (ledger {chain.head.digest.hex()[:16]})"
    return f"{publisher}{title}; {data}. {edition}."


def _edition_date(chain: Chain) -> dt.date:
    return chain.entries[-1].recorded_at.astimezone(dt.UTC).date()
