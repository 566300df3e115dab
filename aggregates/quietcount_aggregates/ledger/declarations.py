"""Declarations that somebody else wrote: what holds for every population, whoever declared it.

A catalogue checks what a person writes against the schemas. A ledger may also come from a published file, and so from
anybody. Then a negative epsilon would hide what other tables spend, a name could end a statement of SQL and begin
another, and a domain without end would take all memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from quietcount_aggregates.errors import PopulationError
from quietcount_aggregates.populations import Dimension, Population, Table
from quietcount_schemas.events.event_types import EARLIEST, LATEST, PUBLISHED_COLUMNS

__all__ = ["objection_to"]

_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_SYMBOL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}|<?-?[0-9]{1,10}(?:\.\.-?[0-9]{1,10}|\+)?")
"""A symbol of an enum, or a bucket."""

_WORDS: Final = re.compile(r"(?s).{0,10000}")
"""A title or a description."""


def objection_to(population: Population) -> str | None:
    """Return why no catalogue could have declared `population`, or None."""
    return next(_objections(population), None)


def _objections(population: Population) -> Iterator[str]:
    # Here: a ledger without declarations, and `--help`, start faster without the catalogue.
    from quietcount_aggregates.catalogue import MAX_CONTRIBUTIONS, check
    from quietcount_aggregates.tables import NAME

    name = ascii(population.name)[:80]
    names = [population.name, *(table.name for table in population.tables)]
    if not all(_is(NAME, each) for each in names):
        yield f"population {name} has a name that is none"
    if not population.events or not all(_is(_FIELD, each) for each in population.events):
        yield f"population {name} counts what is no type of event"
    for words in (population.title, population.description):
        if not _is(_WORDS, words):
            yield f"population {name} has a title, or a description, that is too long or no text"
    if not 1 <= population.max_contributions <= MAX_CONTRIBUTIONS:
        yield f"population {name} lets one case count no possible number of times"
    if not EARLIEST <= population.first_day <= LATEST or population.period.start(population.first_day) != (
        population.first_day
    ):
        yield f"population {name} begins on a day on which no period of it does"
    for table in population.tables:
        yield from _objections_to_table(name, population, table)
    try:
        check(population)
    except PopulationError as error:
        yield error.what


def _objections_to_table(name: str, population: Population, table: Table) -> Iterator[str]:
    from quietcount_aggregates.tables import (
        LARGEST_END,
        LARGEST_EPSILON,
        MAX_CELLS,
        MAX_SCALE,
        MAX_SUM_SCALE,
        RESERVED_NAMES,
        SMALLEST_EPSILON,
    )

    where = f"table {ascii(table.name)[:80]} of population {name}"
    if table.name in RESERVED_NAMES:
        yield f"{where} has the name of a table of every published file"
    if not SMALLEST_EPSILON <= table.epsilon <= LARGEST_EPSILON:  # nor is it "nan"
        yield f"the epsilon of {where} is none that can be declared"
    elif table.sensitivity(population.max_contributions) / table.epsilon > (MAX_SUM_SCALE if table.sum else MAX_SCALE):
        yield f"the noise of {where} would hide everything"
    if table.sum is not None and (
        max(-table.sum.low, table.sum.high) > LARGEST_END or not _is(_FIELD, table.sum.field)
    ):
        yield f"{where} sums up what is no field, or has too many digits"
    fields = [each.name for each in table.by]
    if fields != sorted(set(fields)) or PUBLISHED_COLUMNS.intersection(fields):
        yield f"{where} is not broken down by fields, each once"
    for dimension in (*table.by, *(each.field for each in (*table.where, *population.where))):
        yield from _objections_to_dimension(where, dimension)
    if table.cells > MAX_CELLS:
        yield f"{where} has more cells than a table may have"
    for condition in (*table.where, *population.where):
        if not condition.accepted or not set(condition.accepted) <= set(condition.field.symbols):
            yield f"{where} has a condition that no event meets"


def _objections_to_dimension(where: str, dimension: Dimension) -> Iterator[str]:
    symbols = dimension.symbols
    if not _is(_FIELD, dimension.name) or not all(_is(_SYMBOL, each) for each in symbols):
        yield f"{where} has a field, or a symbol, with a name that is none"
    elif len(set(symbols)) != len(symbols) or dimension.default not in symbols:
        yield f"{where} has a field with one symbol twice, or without its default"


def _is(pattern: re.Pattern[str], name: object) -> bool:
    """Return whether a name is text, which JSON does not promise, and fits a pattern from end to end."""
    return isinstance(name, str) and pattern.fullmatch(name) is not None
