"""From what stands in a cell to what a field takes: symbols, yes and no, numbers, days, identifiers."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from quietcount_producers.composing.composition import close_match, listed
from quietcount_producers.errors import EventRefused
from quietcount_producers.mapping.dates import Days, Unfit
from quietcount_producers.mapping.paths import at, same
from quietcount_schemas.events.event_types import Field, FieldKind

__all__ = [
    "NO",
    "NOTHING",
    "YES",
    "Choices",
    "Condition",
    "FieldSource",
    "is_empty",
    "number_of",
    "plain",
    "symbol_problem",
    "text_of",
    "truth_of",
]

NOTHING: Final = object()
"""Stands for a field that a row says nothing of: it takes its default."""

YES: Final = frozenset({"1", "true", "yes", "y", "x", "ja", "j", "oui", "si", "sí", "sim", "да", "так", "evet", "نعم"})
NO: Final = frozenset({"0", "false", "no", "n", "nein", "non", "não", "нет", "ні", "hayır", "لا"})
_INTEGER: Final = re.compile(r"([+-]?[0-9]{1,10})(?:[.,]0)?")
_APART: Final = frozenset(",;|")
_CACHED: Final = 4096


def is_empty(value: object) -> bool:
    """Return whether a cell says nothing."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value in ([], {})


def text_of(value: object) -> str:
    """Return a cell as text. A spreadsheet writes the number 17 as 17.0, and means 17. Raises Unfit."""
    match value:
        case str():
            return value.strip()
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case dt.datetime() | dt.date():
            return value.isoformat()
        case _:
            raise Unfit("is a list or has parts of its own; name the part, as in answers.reason or answers.0")


def truth_of(value: object) -> bool | None:
    """Return what a cell says as yes or no, or None."""
    text = same(text_of(value))
    return True if text in YES else False if text in NO else None


def plain(target: Field, value: object, days: Days | None = None) -> object:
    """Return what a cell says for a field, without any table of values. Raises Unfit."""
    match target.kind:
        case FieldKind.ENUM:
            wanted = same(text_of(value))
            for symbol in target.symbols:
                if symbol.casefold() == wanted:
                    return symbol
            raise Unfit(
                "holds a value that the mapping gives no symbol for; add it to `values`, or say what every other value "
                f"is with `otherwise`. The symbols of {target.name}: {listed(target.symbols)}"
            )
        case FieldKind.BOOLEAN:
            truth = truth_of(value)
            if truth is None:
                raise Unfit("is neither yes nor no; say in `values` which is which")
            return truth
        case FieldKind.DATE:
            return (days or Days()).day(value)
        case _:
            return number_of(value)


def number_of(value: object) -> int:
    """Return a cell as a whole number. Raises Unfit."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e10:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _INTEGER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise Unfit("is not a whole number; say in `values` what other texts stand for")
    return int(match[1])


@dataclass(frozen=True, slots=True)
class FieldSource:
    """Where one field of an event comes from."""

    target: Field
    column: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    """By a text as `same` has it, what it stands for."""
    otherwise: object = NOTHING
    empty: object = NOTHING
    required: bool = False
    always: object = NOTHING
    days: Days | None = None
    chosen: str = ""
    separator: str = ""
    _known: dict[object, object] = field(default_factory=dict, compare=False)

    def of(self, row: Mapping[str, object]) -> object:
        """Return what the row says for this field, or NOTHING. Raises EventRefused, which names the column."""
        if self.always is not NOTHING:
            return self.always
        value = at(row, self.column)
        if is_empty(value):
            if self.required:
                raise EventRefused(self.column, f"is empty; the mapping requires it for {self.target.name}")
            return False if self.chosen and self.empty is NOTHING else self.empty
        if isinstance(value, str) and value in self._known:
            return self._known[value]
        try:
            found = self.read(value)
        except Unfit as unfit:
            raise EventRefused(self.column, str(unfit)) from None
        if isinstance(value, str) and len(self._known) < _CACHED:
            self._known[value] = found
        return found

    def read(self, value: object) -> object:
        """Return what a cell that is not empty says for this field. Raises Unfit."""
        if self.chosen:
            return self.chosen in map(same, choices_of(value, self.separator))
        if self.values and not isinstance(value, (list, dict)):
            named = self.values.get(same(text_of(value)), NOTHING)
            if named is not NOTHING:
                return named
        try:
            found = plain(self.target, value, self.days)
        except Unfit:
            if self.otherwise is NOTHING:
                raise
            return self.otherwise
        problem = self.target.problem(found)
        if problem is not None:
            raise Unfit(problem)
        return found


def choices_of(value: object, separator: str) -> list[str]:
    """Return the choices in a cell of a question that takes several. Raises Unfit."""
    if isinstance(value, list):
        return [text_of(each) for each in value]
    text = text_of(value)
    if text.startswith("[") and text.endswith("]"):  # a list in a cell of CSV, as Primero writes it
        try:
            given: object = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, list):
            return [text_of(each) for each in given]
    if not separator and not _APART.isdisjoint(text):  # else "law, move" is an answer "law," that `otherwise` takes
        raise Unfit("has answers with more than spaces between them; name what stands there: `separator`")
    return [each.strip() for each in (text.split(separator) if separator else text.split()) if each.strip()]


@dataclass(frozen=True, slots=True)
class Choices:
    """A question that takes several answers, each an event of its own: one cell, or a column for each answer."""

    source: FieldSource
    columns: Mapping[str, object] = field(default_factory=dict)
    """By column, the symbol of the answer that it stands for; if there are any, `source.column` is empty."""

    def of(self, row: Mapping[str, object]) -> list[object]:
        """Return the symbols that are chosen, each once, in the order of the schema. Raises EventRefused."""
        found = set(self._marked(row) if self.columns else self._listed(row))
        if not found:
            if self.source.required:
                where = self.source.column or next(iter(self.columns))
                raise EventRefused(where, f"has no choice; the mapping requires one for {self.source.target.name}")
            found = set() if self.source.empty is NOTHING else {self.source.empty}
        return [symbol for symbol in self.source.target.symbols if symbol in found]

    def _marked(self, row: Mapping[str, object]) -> list[object]:
        found = []
        for column, symbol in self.columns.items():
            value = at(row, column)
            if is_empty(value):
                continue
            try:
                truth = truth_of(value)
            except Unfit as unfit:
                raise EventRefused(column, str(unfit)) from None
            if truth is None:
                raise EventRefused(column, "is neither yes nor no, as a column for one choice must be")
            if truth:
                found.append(symbol)
        return found

    def _listed(self, row: Mapping[str, object]) -> list[object]:
        value = at(row, self.source.column)
        if is_empty(value):
            return []
        try:
            return [self.source.read(each) for each in choices_of(value, self.source.separator)]
        except Unfit as unfit:
            raise EventRefused(self.source.column, str(unfit)) from None


@dataclass(frozen=True, slots=True)
class Condition:
    """What a row has to say in one column."""

    column: str
    values: frozenset[str] = frozenset()
    filled: bool | None = None

    def holds(self, row: Mapping[str, object]) -> bool:
        """Return whether the row says it. Raises EventRefused for a value that cannot be compared."""
        value = at(row, self.column)
        if self.filled is not None:
            return is_empty(value) is not self.filled
        if is_empty(value):
            return "" in self.values
        try:
            if isinstance(value, list):
                return not self.values.isdisjoint(same(text_of(each)) for each in value)
            return same(text_of(value)) in self.values
        except Unfit as unfit:
            raise EventRefused(self.column, str(unfit)) from None


def symbol_problem(target: Field, value: object) -> str | None:
    """Return why a mapping may not give `value` to a field, as the end of a sentence, or None."""
    problem = target.problem(value)
    if problem is None:
        return None
    return problem + (close_match(value, target.symbols) if isinstance(value, str) else "")
