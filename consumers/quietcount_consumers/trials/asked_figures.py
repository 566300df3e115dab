"""Figures of a public file, asked as an analyst asks, and whether the interval of each holds what is true.

Tables are read as they stand. Macros are asked with spans and cells chosen at random, before anything of the noise is
known.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from quietcount_aggregates.noise import margin
from quietcount_aggregates.populations import ALL, Dimension, Population, Table
from quietcount_consumers.trials.made_up_publications import Publication, Span
from quietcount_schemas.events.periods import Period

__all__ = ["CONDITIONAL", "QUESTIONS", "Answer", "answers"]

BETWEEN_CELLS: Final = " between cells"
"""Ends the kinds of what is compared in one span: there are few of them, and they would be lost among the others."""

CONDITIONAL: Final = frozenset({"percent changes", f"percent changes{BETWEEN_CELLS}", "shares", "averages"})
"""The kinds of which only the told ones are counted, if the true whole is so large that one in twenty is told."""

NUMBERS: Final = ("distribution", "percentile", "mean")
"""The macros that ask for a number in buckets."""

QUESTIONS: Final = {
    "series": 2, "year_on_year": 2, "cumulative": 1, "total": 2, "compare": 3, "share": 2, "ranking": 2,
    **dict.fromkeys(NUMBERS, 1),
}  # fmt: skip
"""How often each macro is asked of a publication, about a table chosen at random: each answer takes some 50 ms."""

_LARGE: Final = 1.5
"""How many margins of error a true whole has to be for that: noise of half a margin then lets a ratio be told."""

_Integers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


class Answer(NamedTuple):
    """One figure: its kind, the periods whose noise it holds, and whether its interval missed the true value.

    `missed` is None if nothing was told.
    """

    kind: str
    population: str
    spans: tuple[Span, ...]
    missed: bool | None


@dataclass(frozen=True, slots=True)
class _Truth:
    """The exact values of a table by its own periods: `values` has a row for each of `spans`, a column for a cell."""

    population: Population
    table: Table
    spans: Sequence[Span]
    values: _Integers
    counted: _Mask
    """Of each cell, whether the table counts it: all of its conditions and its population's accept the symbols."""

    @classmethod
    def of(cls, publication: Publication, population: Population, table: Table, *, middle: bool = False) -> _Truth:
        made = publication.truths[population.name]
        spans = publication.spans_of(population, table)
        rows = {start: row for row, (start, _) in enumerate(spans)}
        values = np.zeros((len(spans), table.cells), dtype=np.int64)
        places = [rows[table.period.start(start)] for start in made.starts]
        np.add.at(values, places, made.values(table, middle=middle))
        accepted = {each.name: set(each.symbols) for each in table.by}
        for each in (*population.where, *table.where):
            if each.field.name in accepted:
                accepted[each.field.name] &= set(each.accepted)
        cells = itertools.product(*(each.symbols for each in table.by))
        names = [each.name for each in table.by]
        counted = [all(s in accepted[n] for n, s in zip(names, cell, strict=True)) for cell in cells]
        return cls(population, table, spans, values, np.array(counted))

    def rows(self, start: dt.date, end: dt.date) -> _Mask:
        """Return which periods lie within two days."""
        return np.array([start <= first and last <= end for first, last in self.spans])

    def cells(self, chosen: dict[str, set[str]]) -> _Mask:
        """Return which cells have a chosen symbol in each dimension that is named."""
        names = [each.name for each in self.table.by]
        return np.array(
            [
                all(symbol in chosen.get(name, {symbol}) for name, symbol in zip(names, cell, strict=True))
                for cell in itertools.product(*(each.symbols for each in self.table.by))
            ]
        )

    def total(self, start: dt.date, end: dt.date, cells: _Mask | slice = slice(None)) -> int:
        return int(self.values[self.rows(start, end)][:, cells].sum())

    def symbols(self, dimension: Dimension) -> list[str]:
        """Return the symbols of a dimension that the table counts."""
        return [each for each in dimension.symbols if self.counted[self.cells({dimension.name: {each}})].any()]


def answers(
    publication: Publication, populations: Sequence[Population], rng: np.random.Generator, asked: Mapping[str, int]
) -> Iterator[Answer]:
    """Yield the figures of a publication: all that stand in its tables, and of each macro so many answers."""
    truths = [_Truth.of(publication, population, table) for population in populations for table in population.counts]
    yield from _cells(publication, truths)
    yield from _margins(publication, truths)
    yield from _averages(publication, populations)
    asking = _Asking(publication, rng)
    by = {
        "share": [each for each in truths if any(len(each.symbols(dimension)) > 1 for dimension in each.table.by)],
    }
    for macro in NUMBERS:
        by[macro] = [each for each in truths if any(dimension.bounds for dimension in each.table.by)]
    for macro, times in asked.items():
        fitting = by.get(macro, truths)
        for _ in range(times if fitting else 0):
            yield from getattr(asking, macro)(fitting[rng.integers(len(fitting))])


def _outside(true: float, lower: Any, upper: Any) -> bool:
    """Return whether a value lies outside; an end that is missing is endless. Ends of decimals are exact to 1e-6."""
    return (lower is not None and true < float(lower) - 1e-6) or (upper is not None and true > float(upper) + 1e-6)


# ---------------------------------------------------------------- what stands in the tables


def _cells(publication: Publication, truths: Iterable[_Truth]) -> Iterator[Answer]:
    """Yield each cell that the table counts. One that is left out misses: it reads as if nothing had been there."""
    for truth in truths:
        rows = publication.connection.execute(
            "SELECT period_start, cell, lower, upper FROM statistics WHERE statistic = ?", [truth.table.name]
        ).fetchall()
        found = {(start, cell): ends for start, cell, *ends in rows}
        for span, values in zip(truth.spans, truth.values.tolist(), strict=True):
            for cell, true, counted in zip(truth.table.domain, values, truth.counted, strict=True):
                if counted:
                    ends = found.get((span[0], cell))
                    yield Answer("cells", truth.population.name, (span,), ends is None or _outside(true, *ends))


def _margins(publication: Publication, truths: Iterable[_Truth]) -> Iterator[Answer]:
    for truth in truths:
        chosen = {
            (dimension.name, symbol): truth.cells({dimension.name: {symbol}})
            for dimension in truth.table.by
            for symbol in truth.symbols(dimension)
        }
        chosen[ALL, ALL] = np.ones(truth.table.cells, dtype=np.bool_)
        rows = publication.connection.execute(
            "SELECT period, period_start, period_end, dimension, symbol, lower, upper FROM margins WHERE statistic = ?",
            [truth.table.name],
        ).fetchall()
        for period, start, end, dimension, symbol, lower, upper in rows:
            if (dimension, symbol) in chosen:
                kind = "margins" if Period(period) is truth.table.period else f"margins by {period}"
                true = truth.total(start, end, chosen[dimension, symbol])
                yield Answer(kind, truth.population.name, ((start, end),), _outside(true, lower, upper))


def _averages(publication: Publication, populations: Iterable[Population]) -> Iterator[Answer]:
    for population in populations:
        for table in population.sums:
            count = next(each for each in population.counts if table.sum and each.name == table.sum.count)
            sums = _Truth.of(publication, population, table, middle=True)
            counts = _Truth.of(publication, population, count)
            width = margin(population.max_contributions / count.epsilon)
            rows = publication.connection.execute(
                "SELECT period_start, period_end, cell, sum_lower, sum_upper, average IS NOT NULL, average_lower, "
                "average_upper FROM averages WHERE statistic = ?",
                [table.name],
            ).fetchall()
            for start, end, cell, sum_lower, sum_upper, told, lower, upper in rows:
                symbols = dict(each.split("=", 1) for each in cell.split(", ")) if cell != ALL else {}
                chosen = {name: {symbol} for name, symbol in symbols.items()}
                if not sums.counted[sums.cells(chosen)].any():
                    continue
                added, spans = counts.cells(chosen), ((start, end),)
                total, of = sums.total(start, end, sums.cells(chosen)), counts.total(start, end, added)
                yield Answer("sums", population.name, spans, _outside(total, sum_lower, sum_upper))
                large = of >= 3 * width * np.sqrt(added.sum() * counts.rows(start, end).sum())
                missed = not of or _outside(total / of, lower, upper)
                if large:
                    yield Answer("averages", population.name, spans, missed if told else None)
                else:
                    yield Answer("averages of few", population.name, spans, bool(told and missed))


# ---------------------------------------------------------------- what macros answer


@dataclass(frozen=True, slots=True)
class _Asking:
    """Asks the macros of a file, with arguments at random."""

    publication: Publication
    rng: np.random.Generator

    def _rows(self, question: str, *arguments: object) -> list[dict[str, Any]]:
        found = self.publication.connection.execute(question, [str(each) for each in arguments])
        names = [each[0] for each in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _chosen(self, truth: _Truth, *, all_cells: float = 0.4) -> tuple[str, _Mask]:
        """Choose cells by one dimension, or all: as a macro is told, and as a mask."""
        dimensions = [each for each in truth.table.by if len(truth.symbols(each)) > 1]
        if not dimensions or self.rng.random() < all_cells:
            return "", np.ones(truth.table.cells, dtype=np.bool_)
        dimension = dimensions[self.rng.integers(len(dimensions))]
        symbols = truth.symbols(dimension)
        some = self.rng.choice(symbols, self.rng.integers(1, len(symbols)), replace=False).tolist()
        return f"{dimension.name}={'|'.join(some)}", truth.cells({dimension.name: set(some)})

    def _span(self, truth: _Truth, most: int = 4) -> tuple[int, int]:
        """Choose some periods in a row, by their places; the second is behind the last."""
        length = int(self.rng.integers(1, min(most, len(truth.spans)) + 1))
        first = int(self.rng.integers(len(truth.spans) - length + 1))
        return first, first + length

    def series(self, truth: _Truth) -> Iterator[Answer]:
        cells, mask = self._chosen(truth)
        for row in self._rows("FROM series(?, cells := ?)", truth.table.name, cells):
            span = row["period_start"], row["period_end"]
            yield self._sum("sums of cells", truth, (span,), truth.total(*span, mask), row)

    def cumulative(self, truth: _Truth) -> Iterator[Answer]:
        cells, mask = self._chosen(truth)
        for row in self._rows("FROM cumulative(?, cells := ?)", truth.table.name, cells):
            span = truth.spans[0][0], row["period_end"]
            yield self._sum("cumulative sums", truth, (span,), truth.total(*span, mask), row)

    def total(self, truth: _Truth) -> Iterator[Answer]:
        cells, mask = self._chosen(truth)
        first, behind = self._span(truth, 12)
        span = truth.spans[first][0], truth.spans[behind - 1][1]
        (row,) = self._rows("FROM total(?, ?, ?, cells := ?)", truth.table.name, *span, cells)
        yield self._sum("totals", truth, (span,), truth.total(*span, mask), row)

    def _sum(self, kind: str, truth: _Truth, spans: tuple[Span, ...], true: int, row: dict[str, Any]) -> Answer:
        return Answer(kind, truth.population.name, spans, _outside(true, row["lower"], row["upper"]))

    def compare(self, truth: _Truth) -> Iterator[Answer]:
        """Compare two spans that do not overlap, or two sets of cells of one span."""
        cells, mask = self._chosen(truth)
        first, behind = self._span(truth, len(truth.spans) // 2)
        length = behind - first
        others = [at for at in range(len(truth.spans) - length + 1) if at >= behind or at + length <= first]
        of, against, base = "", cells, mask
        if cells and (not others or self.rng.random() < 0.4):
            # The cells that are named second are those of the first sum: what the others are compared with.
            of, against, base, later = BETWEEN_CELLS, cells.replace("=", "!=", 1), ~mask, first
        elif others:
            later = int(self.rng.choice(others))
        else:
            return
        one, two = ((truth.spans[at][0], truth.spans[at + length - 1][1]) for at in (first, later))
        (row,) = self._rows(
            "FROM compare(?, ?, ?, ?, ?, cells := ?, against := ?)", truth.table.name, *one, *two, cells, against
        )
        yield from self._compared(truth, (one, two), (truth.total(*one, base), truth.total(*two, mask)), row, of)

    def year_on_year(self, truth: _Truth) -> Iterator[Answer]:
        """Compare each period of every second year with the one a year before: no two comparisons share a period."""
        cells, mask = self._chosen(truth)
        if truth.table.period is Period.WEEK:
            return  # 52 weeks before is no calendar year before
        begin = truth.spans[0][0].year
        for row in self._rows("FROM year_on_year(?, cells := ?)", truth.table.name, cells):
            two = row["period_start"], row["period_end"]
            if (two[0].year - begin) % 2:
                start = two[0].replace(year=two[0].year - 1)
                one = start, truth.table.period.end(start)
                yield from self._compared(truth, (one, two), (truth.total(*one, mask), truth.total(*two, mask)), row)

    def _compared(
        self, truth: _Truth, spans: tuple[Span, ...], true: tuple[int, int], row: dict[str, Any], of: str = ""
    ) -> Iterator[Answer]:
        name, (one, two) = truth.population.name, true
        missed = _outside(two - one, row["difference_lower"], row["difference_upper"])
        yield Answer(f"differences{of}", name, spans, missed)
        told = row["percent_change"] is not None
        percent = 100 * (two / one - 1) if one else float("inf")
        missed = not one or _outside(percent, row["percent_lower"], row["percent_upper"])
        if one >= _LARGE * float(row["from_upper"] - row["from_estimate"]):
            yield Answer(f"percent changes{of}", name, spans, missed if told else None)
        else:
            yield Answer(f"percent changes{of} of few", name, spans, told and missed)

    def share(self, truth: _Truth) -> Iterator[Answer]:
        cells, mask = self._chosen(truth, all_cells=0)
        first, behind = self._span(truth)
        span = truth.spans[first][0], truth.spans[behind - 1][1]
        (row,) = self._rows("FROM share(?, ?, ?, ?)", truth.table.name, *span, cells)
        whole, part = truth.total(*span), truth.total(*span, mask)
        told = row["share_percent"] is not None
        missed = not whole or _outside(100 * part / whole, row["share_lower"], row["share_upper"])
        if whole >= _LARGE * float(row["whole_upper"] - row["whole_estimate"]):
            yield Answer("shares", truth.population.name, (span,), missed if told else None)
        else:
            yield Answer("shares of few", truth.population.name, (span,), told and missed)

    def ranking(self, truth: _Truth) -> Iterator[Answer]:
        """Rank the symbols of a dimension, or periods: each rank has an interval, and a lead may be claimed."""
        dimensions = [each for each in truth.table.by if len(truth.symbols(each)) > 1]
        if dimensions and self.rng.random() < 0.6:
            dimension = dimensions[self.rng.integers(len(dimensions))]
            first, behind = self._span(truth)
            by = dimension.name
            span = truth.spans[first][0], truth.spans[behind - 1][1]
            true = {each: truth.total(*span, truth.cells({by: {each}})) for each in dimension.symbols}
        else:
            first, behind = self._span(truth, 6)
            by, span = "period", (truth.spans[first][0], truth.spans[behind - 1][1])
            true = {start.isoformat(): truth.total(start, end) for start, end in truth.spans[first:behind]}
        rows = self._rows('FROM ranking(?, ?, ?, "by" := ?)', truth.table.name, *span, by)
        true = {row["item"]: true[row["item"]] for row in rows}
        for row in rows:
            rank = 1 + sum(each > true[row["item"]] for each in true.values())
            yield Answer("ranks", truth.population.name, (span,), _outside(rank, row["rank_lower"], row["rank_upper"]))
        claims = [row for row in rows if row["rank"] == 1 and row["lead_confidence"] in ("95 %", "99 %", "99.9 %")]
        wrong = any(true[row["item"]] < max(true.values()) for row in claims)
        yield Answer("leads", truth.population.name, (span,), wrong)

    # ------------------------------------------------------------ numbers in buckets

    def _buckets(self, truth: _Truth) -> tuple[Dimension, Span, list[int]]:
        """Choose a dimension of buckets and a span; return with them how many are in each bucket, unknown left out."""
        dimensions = [each for each in truth.table.by if each.bounds]
        dimension = dimensions[self.rng.integers(len(dimensions))]
        first, behind = self._span(truth)
        span = truth.spans[first][0], truth.spans[behind - 1][1]
        known = dimension.symbols[: len(dimension.bounds)]
        return dimension, span, [truth.total(*span, truth.cells({dimension.name: {each}})) for each in known]

    def distribution(self, truth: _Truth) -> Iterator[Answer]:
        dimension, span, counts = self._buckets(truth)
        true = dict(zip(dimension.symbols, counts, strict=False))
        up_to = dict(zip(dimension.symbols, itertools.accumulate(counts), strict=False))
        for row in self._rows("FROM distribution(?, ?, ?, ?)", truth.table.name, dimension.name, *span):
            if row["symbol"] not in true or not sum(counts):
                continue
            for kind, share, prefix in (
                ("parts of a distribution", true, "share"),
                ("parts up to a bucket", up_to, "cumulative"),
            ):
                percent = 100 * share[row["symbol"]] / sum(counts)
                missed = _outside(percent, row[f"{prefix}_lower"], row[f"{prefix}_upper"])
                yield Answer(kind, truth.population.name, (span,), missed)

    def percentile(self, truth: _Truth) -> Iterator[Answer]:
        dimension, span, counts = self._buckets(truth)
        percent = int(self.rng.choice([25, 50, 90]))
        (row,) = self._rows("FROM percentile(?, ?, ?, ?, ?)", truth.table.name, dimension.name, *span, percent)
        if sum(counts):
            place = int(np.argmax(np.cumsum(counts) >= sum(counts) * percent / 100 - 1e-9))
            least, most = dimension.bounds[place]
            missed = _outside(least, row["lower"], None) or _outside(most, None, row["upper"])
            yield Answer("percentiles", truth.population.name, (span,), missed)

    def mean(self, truth: _Truth) -> Iterator[Answer]:
        dimension, span, counts = self._buckets(truth)
        (row,) = self._rows("FROM mean(?, ?, ?, ?)", truth.table.name, dimension.name, *span)
        if sum(counts):
            least, most = (
                sum(n * pair[end] for n, pair in zip(counts, dimension.bounds, strict=True)) / sum(counts)
                for end in (0, 1)
            )
            missed = _outside(least, row["lower"], None) or _outside(most, None, row["upper"])
            yield Answer("means", truth.population.name, (span,), missed)
