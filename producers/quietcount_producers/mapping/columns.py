"""What stands in the columns of an export, as far as a draft of a mapping may know it: kinds, and no identifiers."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from quietcount_producers.mapping.dates import EXCEL, MILLISECONDS, SECONDS, Days, Unfit
from quietcount_producers.mapping.paths import same
from quietcount_producers.mapping.values import is_empty, text_of, truth_of

__all__ = ["Column", "Kind", "looked_at"]

_MOST_VALUES: Final = 40
_LEAST_REPEATS: Final = 5
"""A value is shown to the person who drafts a mapping if it repeats so often. A name among answers rarely does."""
_MOST_ROWS: Final = 5_000
_MOST_KEPT: Final = 400
"""Distinct values of a column that are kept in memory; one with more is shown by its kind alone anyway."""
_BLANKS: Final = frozenset({"---", "n/a", "na", "null", "none", "-", "?"})

_ORDERS: Final = ("day month year", "month day year", "year month day", "day monthname year", "day month yy")
_DAYS: Final = (
    *(order.replace(" ", apart) for order in _ORDERS for apart in (".", "/", "-")),
    *("day monthname year", "monthname day, year", "month/day/yy"),
)
_TIMES: Final = (
    *("", " hour:minute", " hour:minute:second", " hour:minute ampm", " hour:minute:second ampm"),
    *(", hour:minute", ", hour:minute:second"),
)
_READERS: Final = tuple(
    (written, Days((written,))) for written in ("iso", *(f"{day}{time}" for time in _TIMES for day in _DAYS))
)
_DATED: Final = re.compile(r"date|day|time|datum|tag|дата|день|час|fecha|jour|تاريخ|_at$|_on$", re.IGNORECASE)


class Kind(StrEnum):
    """What stands in a column, in words for the person who has the file."""

    EMPTY = "empty"
    DAY = "a day"
    TRUTH = "yes or no"
    NUMBER = "a whole number"
    FEW = "a few values that repeat"
    DIFFERENT = "different in each row"
    TEXT = "text"


@dataclass(slots=True)
class Column:
    """A column: its name, what kind of values it holds, and which formats read all of them if they are days."""

    name: str
    kind: Kind
    formats: tuple[str, ...] = ()
    in_utc: bool = False
    values: tuple[str, ...] = ()
    """The values, most frequent first; only of a column with few that all repeat."""
    blanks: frozenset[str] = frozenset()
    always_filled: bool = False


@dataclass(slots=True)
class _Seen:
    filled: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    overflowed: bool = False
    readers: list[tuple[str, Days]] = field(default_factory=lambda: list(_READERS))
    in_utc: bool = False
    numbers: bool = True
    truths: bool = True
    least: float = float("inf")
    most: float = float("-inf")
    blanks: set[str] = field(default_factory=set)

    def add(self, value: object) -> None:
        try:
            text = text_of(value)
        except Unfit:
            self.numbers = self.truths = False
            self.readers = []
            self.filled += 1
            return
        if same(text) in _BLANKS:
            self.blanks.add(text)
            return
        self.filled += 1
        if self.overflowed or (text not in self.counts and len(self.counts) >= _MOST_KEPT):
            self.overflowed = True
        else:
            self.counts[text] += 1
        self.truths = self.truths and truth_of(value) is not None
        try:
            number = float(text)
            self.least, self.most = min(self.least, number), max(self.most, number)
            self.numbers = self.numbers and number.is_integer()
        except (ValueError, OverflowError):
            self.numbers = False
            self.least = float("-inf")
        if isinstance(value, (dt.date, dt.datetime)):
            self.readers = [each for each in self.readers if each[0] == "iso"]
        elif self.readers:
            self.readers = [each for each in self.readers if self._reads(each[1], value)]

    def _reads(self, days: Days, value: object) -> bool:
        try:
            moment = days.moment(value)
        except Unfit:
            return False
        self.in_utc = self.in_utc or (
            isinstance(moment, dt.datetime) and moment.tzinfo is not None and not moment.utcoffset()
        )
        return 1900 <= moment.year <= 2100


def looked_at(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> tuple[list[Column], int]:
    """Return what stands in each column, and how many rows were looked at: the first thousands."""
    seen = {name: _Seen() for name in columns}
    count = 0
    for row in rows:
        if count == _MOST_ROWS:
            break
        count += 1
        for name, value in row.items():
            if name in seen and not is_empty(value):
                seen[name].add(value)
    return [_column(name, each, count) for name, each in seen.items()], count


def _column(name: str, seen: _Seen, rows: int) -> Column:
    column = Column(name, Kind.TEXT, blanks=frozenset(seen.blanks), always_filled=seen.filled == rows > 0)
    numeric = _numeric_days(name, seen)
    if not seen.filled:
        column.kind = Kind.EMPTY
    elif seen.readers:
        column.kind, column.formats = Kind.DAY, tuple(written for written, _ in seen.readers)
        if "iso" in column.formats:  # another order of the same parts says nothing else
            column.formats = ("iso",)
        column.in_utc = seen.in_utc
    elif numeric:
        column.kind, column.formats, column.in_utc = Kind.DAY, (numeric,), numeric != EXCEL
    elif seen.truths:
        column.kind = Kind.TRUTH
    elif not seen.overflowed and len(seen.counts) <= _MOST_VALUES and min(seen.counts.values(), default=0) >= 2:
        column.kind = Kind.FEW
        if min(seen.counts.values()) >= _LEAST_REPEATS:
            column.values = tuple(text for text, _ in seen.counts.most_common())
    elif not seen.overflowed and seen.filled == len(seen.counts) and seen.filled > 1:
        column.kind = Kind.DIFFERENT
    elif seen.numbers:
        column.kind = Kind.NUMBER
    if seen.overflowed and not seen.readers:
        repeats = seen.filled > 2 * _MOST_KEPT and sum(seen.counts.values()) > _MOST_KEPT
        column.kind = Kind.NUMBER if seen.numbers and repeats else Kind.TEXT if repeats else Kind.DIFFERENT
    return column


def _numeric_days(name: str, seen: _Seen) -> str:
    """Return the format of a column of numbers that are days by its name and their size, or nothing."""
    if _DATED.search(name) is None or seen.least == float("-inf"):
        return ""
    for written, least, most in (
        (EXCEL, 25_000, 60_000),
        (SECONDS, 3e8, 4.2e9),
        (MILLISECONDS, 3e11, 4.2e12),
    ):
        if least <= seen.least and seen.most <= most:
            return written
    return ""
