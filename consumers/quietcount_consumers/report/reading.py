"""Reading: what a report says, from a published file by its public tables, views and macros alone."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Final

import duckdb

from quietcount_consumers.queries import QueryError, connected
from quietcount_consumers.report.figures import (
    ALL,
    NONE,
    Breakdown,
    Figure,
    Gap,
    Headline,
    Note,
    Publication,
    Series,
    Statistic,
)
from quietcount_consumers.report.headlines import Headlines, leading
from quietcount_consumers.report.markup import clean
from quietcount_schemas.events.periods import Period

__all__ = ["read"]

_DRAWN: Final = 120
"""How many points a line may have at most: on a phone each then has three pixels."""

_CONNECTIONS: Final = 2
"""How many questions are asked at a time: each takes a processor for a tenth of a second."""

_Figures = dict[tuple[str, str], dict[Period, list[Figure | Gap]]]
"""By dimension and symbol, by period."""


@contextmanager
def read(path: Path, language: str, *, alone: bool = False) -> Iterator[Publication]:
    """Lend what the published file at `path` says, with labels in `language` as far as it has them.

    Raises QueryError if it is not there, cannot be read, or is not such a file.
    """
    with (
        connected(path, alone=alone) as connection,
        ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="quietcount-report") as pool,
    ):
        with _understood(path):
            publication = _Reading(connection, language, path).publication(pool)
        yield publication


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, KeyError, ValueError):
        remedy = "Name another file, or publish it again with this version of quietcount"
        raise QueryError(f"{path}: lacks what a report needs, or is damaged", remedy) from None


class _Reading:
    """What has been read so far of a file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, language: str, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._about = {str(key): _line(str(value)) for key, value in self._rows("SELECT key, value FROM about")}
        self._tables = {name for (name,) in self._rows("SELECT table_name FROM duckdb_tables()")}
        self._labels = self._labelled(language)
        self._places = self._ordered()
        self._withheld: dict[str, list[Gap]] = {}
        for statistic, start, end, reason in self._rows("FROM withheld ORDER BY ALL"):
            self._withheld.setdefault(statistic, []).append(Gap(start, end, _line(reason)))

    def publication(self, pool: ThreadPoolExecutor) -> Publication:
        statistics = tuple(self._statistics())
        asked = pool.map(Headlines(self._rows, self._label, statistics).of, leading(statistics))

        def headlines() -> tuple[Headline, ...]:
            with _understood(self._path):
                return tuple(each for each in asked if each is not None)

        notes = self._rows(
            # Where a series begins stands beside it.
            "SELECT statistic, period_start, period_end, kind, note FROM notes "
            "WHERE kind <> 'first period' ORDER BY ALL"
        )
        return Publication(
            about=self._about,
            statistics=statistics,
            headlines=headlines,
            notes=tuple(_joined([Note(name, start, end, kind, _line(text)) for name, start, end, kind, text in notes])),
        )

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        # A cursor of its own: questions are asked side by side.
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, list(parameters)).fetchall()

    def _labelled(self, language: str) -> dict[tuple[str, str, str], str]:
        """Return what people read: in the language, else in English."""
        rows = self._rows(
            "SELECT population, dimension, symbol, label FROM labels WHERE language IN (?, 'en') ORDER BY language = ?",
            [language, language],
        )
        return {(population, dimension, symbol): _line(label) for population, dimension, symbol, label in rows}

    def _label(self, population: str, dimension: str, symbol: str = "") -> str:
        """Return what people read for a symbol, or for the dimension itself; a field's name has spaces for people."""
        return self._labels.get((population, dimension, symbol)) or symbol or dimension.replace("_", " ")

    def _ordered(self) -> dict[tuple[str, str], list[str]]:
        """Return the symbols of each dimension that is made of buckets, in their order."""
        places: dict[tuple[str, str], list[str]] = {}
        if "buckets" in self._tables:
            for population, dimension, symbol in self._rows(
                "SELECT population, dimension, symbol FROM buckets ORDER BY population, dimension, place"
            ):
                places.setdefault((population, dimension), []).append(symbol)
        return places

    def _statistics(self) -> Iterator[Statistic]:
        counts = self._counts()
        sums = self._sums()
        for row in self._rows(
            "SELECT d.population, d.statistic, d.events, d.dimensions, d.description, d.unit, d.conditions, d.period, "
            "d.first_period, d.citation, b.epsilon, b.max_contributions, b.horizon, b.retired, b.declaration "
            "FROM descriptions d JOIN budget b USING (population, statistic) ORDER BY b.rowid"
        ):
            population, name, events, by, description, unit, conditions, own, first, citation, epsilon, most = row[:12]
            horizon, retired, declaration = row[12:]
            declared = json.loads(declaration)
            field = "" if unit in ("cases", "events") else unit
            found = sums.get(name, {}) if field else counts.get(name, {})
            period = Period(own)
            whole: dict[Period, list[Figure | Gap]] = {period: [], **found.get((ALL, ALL), {})}
            totals = {each: self._series(name, "", each, rows) for each, rows in whole.items()}
            # The finest that can be drawn, and of which there is something to draw.
            few = [each for each in Period if each in totals and len(totals[each].points) <= _DRAWN]
            drawn = next((each for each in few if totals[each].figures), next(iter(few), period))
            yield Statistic(
                name=name,
                population=population,
                title=_line(str(declared.get("title") or events)),
                description="" if description == NONE else _line(description),
                unit=unit,
                conditions="" if conditions == NONE else _line(conditions),
                partial=any(each["where"] for each in declared["tables"] if each["name"] == name),
                citation=_line(citation),
                period=period,
                first_day=first,
                began=dt.date.fromisoformat(declared["since"]),
                epsilon=Decimal(str(epsilon)),
                max_contributions=most,
                yearly=horizon == "year",
                carried=declared.get("late") == "carry",
                retired=retired,
                totals=totals,
                drawn=drawn,
                dimensions=() if by == NONE else tuple(self._label(population, each) for each in by.split(", ")),
                breakdowns=tuple(self._breakdowns(population, name, drawn, found)),
                averaged=field and self._label(population, field),
                ends=_ends(declared, name) if field else None,
            )

    def _counts(self) -> dict[str, _Figures]:
        """Return the figures of counts: by table, by dimension and symbol, by period."""
        found: dict[str, _Figures] = {}
        text = resources.files("quietcount_consumers.report").joinpath("figures.sql").read_text(encoding="utf-8")
        for name, dimension, symbol, period, start, end, _, shown, lower, upper, status in self._rows(text):
            figure = Figure(start, end, shown, lower, upper, status == "provisional")
            by_period = found.setdefault(name, {}).setdefault((dimension, symbol), {})
            by_period.setdefault(Period(period), []).append(figure)
        return found

    def _sums(self) -> dict[str, _Figures]:
        """Return the averages of each table that sums, as `_counts` has figures."""
        found: dict[str, _Figures] = {}
        for name, cell, period, start, end, average, lower, upper, status in self._rows(
            "SELECT statistic, cell, period, period_start, period_end, average, average_lower, average_upper, "
            "status FROM averages WHERE NOT contains(cell, ', ') ORDER BY ALL"
        ):
            dimension, _, symbol = cell.partition("=")
            by_period = (
                found.setdefault(name, {}).setdefault((dimension, symbol or ALL), {}).setdefault(Period(period), [])
            )
            if average is None:
                by_period.append(Gap(start, end))
            else:
                values = (float(average), float(lower), float(upper))
                by_period.append(Figure(start, end, *values, status == "provisional", digits=1))
        return found

    def _breakdowns(
        self,
        population: str,
        name: str,
        drawn: Period,
        found: Mapping[tuple[str, str], dict[Period, list[Figure | Gap]]],
    ) -> Iterator[Breakdown]:
        for dimension in dict.fromkeys(dimension for dimension, _ in found if dimension != ALL):
            symbols = {
                symbol: by_period[drawn]
                for (of, symbol), by_period in found.items()
                if of == dimension and by_period.get(drawn)
            }
            if not symbols:
                continue
            order = self._places.get((population, dimension))
            if order is not None:
                names = [each for each in order if each in symbols]
            else:  # the largest first, by what it comes to altogether
                names = sorted(
                    symbols,
                    key=lambda each: (-sum(point.shown for point in symbols[each] if isinstance(point, Figure)), each),
                )
            yield Breakdown(
                dimension,
                self._label(population, dimension),
                order is not None,
                drawn,
                tuple(
                    self._series(name, each, drawn, symbols[each], self._label(population, dimension, each))
                    for each in names
                ),
            )

    def _series(
        self, name: str, symbol: str, period: Period, figures: Sequence[Figure | Gap], label: str = ""
    ) -> Series:
        """Return the series with a gap for each period that is not there; between released ones that is a loss."""
        withheld = self._withheld.get(name, [])
        by_start = {each.start: each for each in figures}
        own = [gap for gap in withheld if period.start(gap.start) == gap.start and period.end(gap.start) == gap.end]
        if not by_start and not own:
            return Series(symbol, label, ())
        starts = [*by_start, *(gap.start for gap in own)]
        day, last, points = min(starts), max(starts), list[Figure | Gap]()
        while day <= last:
            end = period.end(day)
            reason = next((gap.reason for gap in withheld if gap.start <= end and day <= gap.end), "")
            points.append(by_start.get(day) or Gap(day, end, reason))
            day = period.next(day)
        return Series(symbol, label, tuple(points))


def _ends(declared: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Return between which numbers a table moves what it sums, as the population's declaration has them."""
    (low, high), *_ = [each["sum"][1:3] for each in declared["tables"] if each["name"] == name]
    return low, high


def _line(text: str) -> str:
    """Return what people wrote as one line."""
    return " ".join(clean(text).split())


def _joined(notes: Sequence[Note]) -> Iterator[Note]:
    """Yield the notes, those that say the same of neighbouring periods as one."""
    ordered = sorted(notes, key=lambda each: (each.statistic, each.kind, each.text, each.start))
    merged: list[Note] = []
    for note in ordered:
        last = merged[-1] if merged else None
        if (
            last
            and (last.statistic, last.kind, last.text) == (note.statistic, note.kind, note.text)
            and note.start <= last.end + dt.timedelta(days=1)
        ):
            merged[-1] = last._replace(end=note.end)
        else:
            merged.append(note)
    yield from sorted(merged)
