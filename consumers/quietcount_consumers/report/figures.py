"""Figures: what a report says, read from a published file by its public tables, views and macros alone."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb

from quietcount_consumers.queries import QueryError, connected
from quietcount_consumers.report.markup import clean
from quietcount_schemas.periods import Period

__all__ = [
    "ALL",
    "Breakdown",
    "Change",
    "Figure",
    "Gap",
    "Headline",
    "Lead",
    "Note",
    "Publication",
    "Series",
    "Share",
    "Statistic",
    "read",
]

ALL: Final = "all"
"""The dimension, and the symbol, of a total."""

NONE: Final = "none"
_NOT_STATED: Final = "not stated"

_DRAWN: Final = 120
"""How many points a line may have at most: on a phone each then has three pixels."""

_CONNECTIONS: Final = 2
"""How many questions are asked at a time: each takes a processor for a tenth of a second."""


class Figure(NamedTuple):
    """A published figure of one period, with its 95 % interval. `digits` is how many decimals people read of it."""

    start: dt.date
    end: dt.date
    shown: float
    lower: float
    upper: float
    provisional: bool
    digits: int = 0


class Gap(NamedTuple):
    """A period without a figure, and why."""

    start: dt.date
    end: dt.date
    reason: str


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one symbol, or in total, period after period; a period that has none is a gap."""

    symbol: str
    label: str
    points: tuple[Figure | Gap, ...]

    @property
    def figures(self) -> list[Figure]:
        """Return the figures alone."""
        return [each for each in self.points if isinstance(each, Figure)]

    @property
    def newest(self) -> Figure | None:
        """Return the newest figure."""
        return self.figures[-1] if self.figures else None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What a table says by one dimension. `ordered` symbols stand in the order of their buckets."""

    dimension: str
    title: str
    ordered: bool
    period: Period
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One table of a population. `totals` has the series by each period; `drawn` is the finest that can be drawn."""

    name: str
    population: str
    title: str
    description: str
    unit: str
    conditions: str
    citation: str
    period: Period
    first_day: dt.date
    epsilon: Decimal
    max_contributions: int
    yearly: bool
    carried: bool
    retired: bool
    totals: Mapping[Period, Series]
    drawn: Period
    breakdowns: tuple[Breakdown, ...]
    averaged: str = ""
    """The title of the field whose average the table gives; none if it counts."""


class Change(NamedTuple):
    """What came of the comparison with the period before; no percentages if those cannot be told."""

    before: Figure
    lower: int
    upper: int
    percents: tuple[Decimal, Decimal] | None


class Share(NamedTuple):
    """Which part of all is the first symbol's, in percent."""

    lower: Decimal
    upper: Decimal


class Lead(NamedTuple):
    """The two highest symbols of a dimension; `leads` if their intervals do not meet."""

    title: str
    first: tuple[str, Figure]
    second: tuple[str, Figure]
    leads: bool
    share: Share | None


@dataclass(frozen=True, slots=True)
class Headline:
    """What is said of a population before anything else."""

    statistic: Statistic
    period: Period
    total: Figure
    change: Change | None
    lead: Lead | None
    newest: Figure | None
    """The newest figure by the table's own period, if that is finer."""


class Note(NamedTuple):
    """What has to be known about a period of a table, or about a run of them."""

    statistic: str
    start: dt.date
    end: dt.date
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Publication:
    """All that a report says, in the order in which it says it."""

    about: Mapping[str, str]
    statistics: tuple[Statistic, ...]
    headlines: tuple[Headline, ...]
    notes: tuple[Note, ...]

    def stated(self, key: str) -> str:
        """Return what `about` says under `key`; empty if nothing is stated."""
        said = self.about.get(key, "")
        return "" if said in (_NOT_STATED, NONE) else said

    @property
    def populations(self) -> Iterator[tuple[Statistic, ...]]:
        """Yield the tables of each population."""
        names = dict.fromkeys(each.population for each in self.statistics)
        for name in names:
            yield tuple(each for each in self.statistics if each.population == name)


def read(path: Path, language: str, *, alone: bool = False) -> Publication:
    """Read what the published file at `path` says, with labels in `language` as far as it has them.

    Raises QueryError if it is not there, cannot be read, or is not such a file.
    """
    with connected(path, alone=alone) as connection:
        try:
            return _Reading(connection, language).publication()
        except (duckdb.Error, KeyError, ValueError):
            remedy = "Name another file, or publish it again with this version of quietcount"
            raise QueryError(f"{path}: lacks what a report needs, or is damaged", remedy) from None


class _Reading:
    """What has been read so far of a file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, language: str) -> None:
        self._connection = connection
        self._about = {str(key): clean(str(value)) for key, value in self._rows("SELECT key, value FROM about")}
        self._tables = {name for (name,) in self._rows("SELECT table_name FROM duckdb_tables()")}
        self._labels = self._labelled(language)
        self._places = self._ordered()
        self._withheld: dict[str, list[Gap]] = {}
        for statistic, start, end, reason in self._rows("FROM withheld ORDER BY ALL"):
            self._withheld.setdefault(statistic, []).append(Gap(start, end, clean(reason)))

    def publication(self) -> Publication:
        statistics = tuple(self._statistics())
        with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="quietcount-report") as pool:
            headlines = tuple(each for each in pool.map(self._headline, _leading(statistics)) if each is not None)
        notes = self._rows("SELECT statistic, period_start, period_end, kind, note FROM notes ORDER BY ALL")
        return Publication(
            about=self._about,
            statistics=statistics,
            headlines=headlines,
            notes=tuple(_joined([Note(*row[:4], clean(row[4])) for row in notes])),
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
        return {(population, dimension, symbol): clean(label) for population, dimension, symbol, label in rows}

    def _label(self, population: str, dimension: str, symbol: str = "") -> str:
        return self._labels.get((population, dimension, symbol)) or symbol or dimension

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
            "SELECT d.population, d.statistic, d.title, d.description, d.unit, d.conditions, d.period, d.first_period, "
            "d.citation, b.epsilon, b.max_contributions, b.horizon, b.retired, b.declaration "
            "FROM descriptions d JOIN budget b USING (population, statistic) ORDER BY d.population, d.statistic"
        ):
            population, name, title, description, unit, conditions, own, first, citation, epsilon, most = row[:11]
            horizon, retired, declaration = row[11:]
            declared = json.loads(declaration)
            field, found = sums.get(name, ("", counts.get(name, {})))
            period = Period(own)
            totals = {each: self._series(name, "", each, rows) for each, rows in found.get((ALL, ALL), {}).items()}
            drawn = next((each for each in Period if each in totals and len(totals[each].points) <= _DRAWN), period)
            yield Statistic(
                name=name,
                population=population,
                title=clean(str(declared.get("title") or "") or title),
                description="" if description == NONE else clean(description),
                unit=unit,
                conditions="" if conditions == NONE else clean(conditions),
                citation=clean(citation),
                period=period,
                first_day=first,
                epsilon=Decimal(str(epsilon)),
                max_contributions=most,
                yearly=horizon == "year",
                carried=declared.get("late") == "carry",
                retired=retired,
                totals=totals,
                drawn=drawn,
                breakdowns=tuple(self._breakdowns(population, name, drawn, found)),
                averaged=field and self._label(population, field),
            )

    def _counts(self) -> dict[str, dict[tuple[str, str], dict[Period, list[Figure]]]]:
        """Return the figures of counts: by table, by dimension and symbol, by period."""
        found: dict[str, dict[tuple[str, str], dict[Period, list[Figure]]]] = {}
        text = resources.files("quietcount_consumers.report").joinpath("figures.sql").read_text(encoding="utf-8")
        for name, dimension, symbol, period, start, end, _, shown, lower, upper, status in self._rows(text):
            figure = Figure(start, end, shown, lower, upper, status == "provisional")
            by_period = found.setdefault(name, {}).setdefault((dimension, symbol), {})
            by_period.setdefault(Period(period), []).append(figure)
        return found

    def _sums(self) -> dict[str, tuple[str, dict[tuple[str, str], dict[Period, list[Figure]]]]]:
        """Return the averages of each table that sums: the field, and figures as `_counts` has them."""
        found: dict[str, tuple[str, dict[tuple[str, str], dict[Period, list[Figure]]]]] = {}
        if "averages" not in self._tables:
            return found
        for name, field, cell, period, start, end, average, lower, upper, status in self._rows(
            "SELECT statistic, field, cell, period, period_start, period_end, average, average_lower, average_upper, "
            "status FROM averages WHERE NOT contains(cell, ', ') ORDER BY ALL"
        ):
            _, of_table = found.setdefault(name, (field, {}))
            dimension, _, symbol = cell.partition("=")
            by_period = of_table.setdefault((dimension, symbol or ALL), {}).setdefault(Period(period), [])
            if average is not None and lower is not None and upper is not None:
                values = (float(average), float(lower), float(upper))
                by_period.append(Figure(start, end, *values, provisional=status == "provisional", digits=1))
        return found

    def _breakdowns(
        self, population: str, name: str, drawn: Period, found: Mapping[tuple[str, str], dict[Period, list[Figure]]]
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
                names = sorted(symbols, key=lambda each: (-sum(figure.shown for figure in symbols[each]), each))
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

    def _series(self, name: str, symbol: str, period: Period, figures: Sequence[Figure], label: str = "") -> Series:
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

    # Headlines

    def _headline(self, statistic: Statistic) -> Headline | None:
        total = _newest_whole(statistic)
        if total is None:
            return None
        period, before, newest = total
        own = statistic.totals[statistic.period].newest
        change = self._change(statistic, before, newest) if before is not None else None
        leads = (self._lead(statistic, each, newest) for each in statistic.breakdowns if not statistic.averaged)
        return Headline(
            statistic,
            period,
            newest,
            change,
            next((each for each in leads if each is not None), None),
            own if own is not None and own.end > newest.end else None,
        )

    def _change(self, statistic: Statistic, before: Figure, newest: Figure) -> Change | None:
        if statistic.averaged:
            return None
        ((lower, upper, percent_lower, percent_upper),) = self._rows(
            "SELECT difference_lower, difference_upper, percent_lower, percent_upper FROM compare(?, ?, ?, ?, ?)",
            [statistic.name, before.start, before.end, newest.start, newest.end],
        )
        if percent_lower is None or percent_upper is None:
            return Change(before, lower, upper, None)
        return Change(before, lower, upper, (Decimal(str(percent_lower)), Decimal(str(percent_upper))))

    def _lead(self, statistic: Statistic, breakdown: Breakdown, total: Figure) -> Lead | None:
        """Return who leads in the span of `total`, as far as that is drawn period by period or whole."""
        sums = []
        counts = self._rows(
            "SELECT symbol, shown, lower, upper, status FROM margins "
            "WHERE statistic = ? AND dimension = ? AND period_start = ? AND period_end = ?",
            [statistic.name, breakdown.dimension, total.start, total.end],
        )
        if counts:
            sums = [
                (self._label(statistic.population, breakdown.dimension, symbol), symbol, shown, lower, upper)
                for symbol, shown, lower, upper, _ in counts
            ]
        else:
            sums = [
                (series.label, series.symbol, figure.shown, figure.lower, figure.upper)
                for series in breakdown.series
                for figure in series.figures
                if (figure.start, figure.end) == (total.start, total.end)
            ]
        if len(sums) < 2:
            return None
        sums.sort(key=lambda each: (-each[2], each[1]))
        (label, symbol, *first), (second_label, _, *second) = sums[:2]
        # Two intervals of 95 % that do not meet are wrong about their order far less often than once in 20.
        leads = all(first[1] > upper for _, _, _, _, upper in sums[1:])
        share = None
        if leads:
            ((lower, upper),) = self._rows(
                "SELECT share_lower, share_upper FROM share(?, ?, ?, ?)",
                [statistic.name, total.start, total.end, f"{breakdown.dimension}={symbol}"],
            )
            if lower is not None and upper is not None:
                share = Share(Decimal(str(lower)), Decimal(str(upper)))
        return Lead(
            breakdown.title,
            (label, Figure(total.start, total.end, *first, provisional=total.provisional)),
            (second_label, Figure(total.start, total.end, *second, provisional=total.provisional)),
            leads,
            share,
        )


def _leading(statistics: Sequence[Statistic]) -> list[Statistic]:
    """Return the table of each population that its headline is about, and each that gives averages.

    The tables of a population agree. The one with the most to say is the one with the finest period.
    """
    leading: list[Statistic] = []
    for name in dict.fromkeys(each.population for each in statistics):
        tables = [each for each in statistics if each.population == name]
        counts = [each for each in tables if not each.averaged]
        if counts:
            # A table with a condition of its own counts a part of the population only.
            leading.append(min(counts, key=lambda each: (len(each.conditions), list(Period).index(each.period))))
        leading += [each for each in tables if each.averaged]
    return leading


def _newest_whole(statistic: Statistic) -> tuple[Period, Figure | None, Figure] | None:
    """Return the longest period of which the newest figure can be compared with one before it, and both.

    Spans are compared if they hold as many periods of the table; without such a pair, the newest figure of the longest.
    """
    alone: tuple[Period, Figure | None, Figure] | None = None
    for period in reversed(Period):
        points = statistic.totals[period].points if period in statistic.totals else ()
        figures = [each for each in points if isinstance(each, Figure)]
        if not figures:
            continue
        newest = figures[-1]
        alone = alone or (period, None, newest)
        before = points[points.index(newest) - 1] if points.index(newest) else None
        if isinstance(before, Figure) and _length(statistic.period, before) == _length(statistic.period, newest):
            return period, before, newest
    return alone


def _length(period: Period, span: Figure) -> int:
    """Return how many periods the span holds."""
    day, count = span.start, 0
    while day <= span.end:
        day, count = period.next(day), count + 1
    return count


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
