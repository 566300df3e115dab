"""Which row of a table names its columns, and whether it does so in order.

Exports have rows above the header (a title, a date) and below it (HXL tags). A title is passed over if a row below it
is a header; a row of tags if it stands right below the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from quietcount_producers.composing.composition import close_match, listed
from quietcount_producers.errors import ProducersError
from quietcount_producers.mapping import Mapping
from quietcount_schemas.events.event_types import BAD_LINE_NOTES

__all__ = [
    "MOST_TITLE_ROWS",
    "Columns",
    "EventColumns",
    "MappedColumns",
    "are_tags",
    "ranges",
    "shortened",
    "without_notes",
]

MOST_TITLE_ROWS: Final = 20
"""How many rows are looked at for the header. A title has a few."""

_NEEDED: Final = ("event", "case", "occurred_on")
_TAG: Final = re.compile(r"#[A-Za-z][\w+ -]*")
_MOST_TOLD: Final = 5


class Columns(Protocol):
    """What judges a header."""

    def ignores(self, column: str) -> bool:
        """Return whether no event is made of the column; a cell there may hold line breaks."""
        ...

    def check(self, columns: Sequence[str]) -> None:
        """Raise ProducersError if a file with these columns cannot be read."""
        ...

    def is_header(self, columns: Sequence[str]) -> bool:
        """Return whether these are meant as the names of columns, in order or not."""
        ...

    def found(self, columns: Sequence[str]) -> int:
        """Return how many of the columns that a file needs are among these: of a title, none."""
        ...


class EventColumns:
    """The columns of a file that has one event a row; `known` are the names that a column may have."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self._name = name
        self._known = list(known)
        self._allowed = {*self._known, *BAD_LINE_NOTES}

    def ignores(self, column: str) -> bool:
        """Return whether the column is a note about a bad line."""
        return column in BAD_LINE_NOTES

    def is_header(self, columns: Sequence[str]) -> bool:
        """Return whether all columns that a file needs are there."""
        return self.found(columns) == len(_NEEDED)

    def found(self, columns: Sequence[str]) -> int:
        """Return how many of the columns that a file needs are among these."""
        return len({*_NEEDED} & {*columns})

    def check(self, columns: Sequence[str]) -> None:
        """Raise ProducersError that says of each column what is wrong, by its place.

        A name is not shown: without a header, the first line is somebody's case.
        """
        if not any(columns):
            raise ProducersError(
                f"{self._name} has no header", f"Name the columns in the first line: {listed(self._known)}"
            )
        problems: list[str] = []
        strange: list[int] = []
        for number, name in enumerate(columns, start=1):
            if name not in self._allowed:
                match = close_match(name, self._known)
                if match and len(problems) < _MOST_TOLD:
                    problems.append(f"column {number} is not a field of any event type{match}")
                else:
                    strange.append(number)
            elif name in columns[: number - 1]:
                problems.append(f"column {number} stands there twice ({name})")
        if strange:
            are = "columns {} are not fields" if len(strange) > 1 else "column {} is not a field"
            problems.append(f"{are.format(ranges((n, n) for n in strange))} of any event type")
        missing = [name for name in _NEEDED if name not in columns]
        problems += [f"the column {name} is missing" for name in missing]
        if problems:
            raise ProducersError(
                f"{self._name}: the header is not in order: {'; '.join(problems)}",
                "`quietcount schemas show EVENT` lists the fields of an event type, each a column. If the file has "
                "columns of its own, describe them once: `quietcount mapping new FILE` begins a mapping, and "
                "`--mapping` uses it",
            )


class MappedColumns:
    """The columns of a file that a mapping reads."""

    def __init__(self, name: str, mapping: Mapping) -> None:
        self._name = name
        self._mapping = mapping
        self._used = frozenset(mapping.columns)

    def ignores(self, column: str) -> bool:
        """Return whether the mapping makes nothing of the column."""
        return column not in self._used

    def is_header(self, columns: Sequence[str]) -> bool:
        """Return whether every column that the mapping uses is there."""
        return self._used <= {*columns}

    def found(self, columns: Sequence[str]) -> int:
        """Return how many of the columns that the mapping uses are among these."""
        return len(self._used & {*columns})

    def check(self, columns: Sequence[str]) -> None:
        """Raise ProducersError for columns that are missing, or that nobody decided on."""
        try:
            self._mapping.check_columns(without_notes(columns))
        except ProducersError as error:
            raise ProducersError(f"{self._name}: {error.what}", error.remedy) from None


def without_notes(columns: Sequence[str]) -> list[str]:
    """Return the columns of an export without those that a file of its bad lines has behind them.

    A form may have a column `reason` of its own, so only the last three are notes.
    """
    noted = tuple(columns[-len(BAD_LINE_NOTES) :]) == BAD_LINE_NOTES
    return list(columns[: -len(BAD_LINE_NOTES)] if noted else columns)


def shortened(cells: Sequence[str]) -> list[str]:
    """Return names of columns without outer spaces and without the empty ones at the end."""
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def are_tags(cells: Iterable[object]) -> bool:
    """Return whether a row holds HXL tags such as #affected+f, and nothing else."""
    filled = [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()]
    return bool(filled) and all(_TAG.fullmatch(each) for each in filled)


def ranges(spans: Iterable[tuple[int, int]], most: int | None = None) -> str:
    """Return numbers in words: `2-4, 7`. `spans` ascend; beyond `most` ranges, the others are left out with dots."""
    joined: list[list[int]] = []
    for first, last in spans:
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(last, joined[-1][1])
        else:
            joined.append([first, last])
    said = [str(first) if first == last else f"{first}-{last}" for first, last in joined]
    if most is not None and len(said) > most:
        said = [*said[:most], "..."]
    return ", ".join(said)
