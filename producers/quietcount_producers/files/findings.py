"""What a check found in a file, said once for all the lines that it holds for."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from quietcount_producers.errors import EventRefused
from quietcount_producers.files.columns import ranges
from quietcount_producers.files.occurrences import LookAlikes
from quietcount_schemas.events.event_types import Field, FieldKind

__all__ = ["Check", "Tally", "said"]

_MOST_SHOWN: Final = 20
"""How many reasons are shown, and of each how many ranges of lines: a person mends no more at once."""


@dataclass(slots=True)
class Check:
    """What a check found in the file that messages call `name`.

    How many rows were good, how many events these are, how many stood there before, and how many rows stand for nobody;
    how many problems there are, the first of these by their reasons; the earliest date that is sent of each event type;
    which of its numbers a good row left out, with the default that it took; and which identifiers look alike.
    """

    name: str
    good: int = 0
    events: int = 0
    repeated: int = 0
    nobody: int = 0
    bad: int = 0
    problems: int = 0
    reasons: dict[str, _Lines] = field(default_factory=dict)
    earliest: dict[str, dt.date] = field(default_factory=dict)
    left_out: dict[tuple[str, str], object] = field(default_factory=dict)
    look_alikes: LookAlikes = field(default_factory=LookAlikes)

    def add(self, line: int, refused: EventRefused, last: int = 0) -> None:
        """Note one problem of the row from `line` to `last`."""
        self.problems += 1
        reason = said(refused)
        if len(self.reasons) < _MOST_SHOWN or reason in self.reasons:
            self.reasons.setdefault(reason, _Lines()).add(line, max(line, last))

    def shown(self) -> Iterator[str]:
        """Yield a line of text for each reason, with the lines of the file that it holds for.

        A column that is wrong throughout is one mistake. Said again for each of its lines, it would hide the others.
        """
        for reason, lines in self.reasons.items():
            yield f"{self.name} {lines}: {reason}"
        left = self.problems - sum(lines.count for lines in self.reasons.values())
        if left:
            yield f"... and {left} more problem{'s' if left > 1 else ''}, for other reasons."
        if pairs := self.look_alikes.pairs():
            told = ", ".join(f"{first} and {other}" for first, other in pairs[:_MOST_SHOWN])
            more = f", and {len(pairs) - _MOST_SHOWN} more pairs" if len(pairs) > _MOST_SHOWN else ""
            yield (
                f"Note: {self.name} lines {told}{more}: the identifiers differ only in capitals, or in letters of "
                "another alphabet that look the same, so they count as different people. If they are one, write the "
                "identifier alike in each line"
            )

    def notes(self) -> Iterator[str]:
        """Yield a line of text for each number that rows left out. That is no mistake, but an average believes it."""
        for (event, name), default in sorted(self.left_out.items()):
            yield (
                f"Note: {event}: a line without {name} counts with {default}, its default. If the number is not known, "
                "let the field be null (schemas/README.md), or leave the line out"
            )

    @property
    def held(self) -> str:
        """How many events the good rows hold, for the person who has the file, and for nobody else."""
        events = f"{self.events:,} event{'' if self.events == 1 else 's'}"
        if self.repeated:
            events += f", and {self.repeated:,} more that stood there before under the same id and count once"
        if self.nobody:
            rows = "1 row that stands" if self.nobody == 1 else f"{self.nobody:,} rows that stand"
            events += f", and {rows} for nobody"
        return events


def said(refused: EventRefused) -> str:
    """Return what is wrong, with the field or column before it."""
    return f"{refused.field}: {refused.reason}" if refused.field else refused.reason


@dataclass(slots=True)
class _Lines:
    """The lines of one reason: the first ranges of them, and how many rows there are behind these."""

    spans: list[list[int]] = field(default_factory=list)
    count: int = 0
    more: int = 0

    def add(self, line: int, last: int) -> None:
        self.count += 1
        if self.spans and line <= self.spans[-1][1] + 1:
            self.spans[-1][1] = max(last, self.spans[-1][1])
        elif len(self.spans) < _MOST_SHOWN:
            self.spans.append([line, last])
        else:
            self.more += 1

    def __str__(self) -> str:
        numbers = ranges((first, last) for first, last in self.spans)
        several = len(self.spans) > 1 or self.spans[0][0] != self.spans[0][1]
        return f"line{'s' if several else ''} {numbers}{f' and {self.more} more' if self.more else ''}"


class Tally:
    """How many events of each type a file holds, and how many of them have each symbol."""

    def __init__(self) -> None:
        self._events: Counter[str] = Counter()
        self._symbols: dict[tuple[str, str], Counter[str]] = {}

    def add(self, event: str, fields: Mapping[str, Field], given: Mapping[str, object]) -> None:
        """Count one good event with the attributes that were given; the others have their defaults."""
        self._events[event] += 1
        for name, its in fields.items():
            if its.kind in (FieldKind.ENUM, FieldKind.BOOLEAN):
                value = given.get(name, its.default_value)
                symbol = "null" if value is None else str(value)
                if its.kind is FieldKind.BOOLEAN:
                    symbol = symbol.casefold()
                self._symbols.setdefault((event, name), Counter())[symbol] += 1

    def table(self) -> Iterator[str]:
        """Yield the lines of a table: an event type with its events, below it each field with its symbols."""
        rows: list[tuple[str, str, int]] = []
        for event in sorted(self._events):
            rows.append((event, "", self._events[event]))
            for (owner, name), symbols in self._symbols.items():
                if owner == event:
                    rows += [(f"  {name}", symbol, symbols[symbol]) for symbol in sorted(symbols)]
        left = max((len(first) for first, _, _ in rows), default=0)
        middle = max((len(second) for _, second, _ in rows), default=0)
        for first, second, number in rows:
            yield f"{first:<{left}}  {second:<{middle}}  {number:>9,}"
