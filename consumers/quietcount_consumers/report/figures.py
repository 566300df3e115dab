"""Figures: what a report says, as values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from quietcount_schemas.events.periods import Period

__all__ = [
    "ALL",
    "NONE",
    "Breakdown",
    "Change",
    "Figure",
    "Gap",
    "Headline",
    "Lead",
    "Median",
    "Note",
    "Publication",
    "Series",
    "Share",
    "Statistic",
]

ALL: Final = "all"
"""The dimension, and the symbol, of a total."""

NONE: Final = "none"
"""What the file says where there is nothing to say."""

_NOT_STATED: Final = "not stated"


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
    """A period without a figure: withheld for a reason, or, without one, of too few to tell an average."""

    start: dt.date
    end: dt.date
    reason: str = ""


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
    def gaps(self) -> list[Gap]:
        """Return the periods without a figure."""
        return [each for each in self.points if isinstance(each, Gap)]

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
    partial: bool
    """Whether some of them are of the table alone, so that it counts a part of its population."""
    citation: str
    period: Period
    first_day: dt.date
    began: dt.date
    """When its population began to count, and so to use up what a case may add."""
    epsilon: Decimal
    max_contributions: int
    yearly: bool
    carried: bool
    retired: bool
    totals: Mapping[Period, Series]
    drawn: Period
    dimensions: tuple[str, ...]
    """What people read for what it is broken down by, also before anything is released."""
    breakdowns: tuple[Breakdown, ...]
    averaged: str = ""
    """The title of the field whose average the table gives; none if it counts."""
    ends: tuple[int, int] | None = None
    """Between which numbers the values of that field were moved."""


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
    """The two highest symbols of a dimension; the first leads if its interval meets no other's."""

    title: str
    first: tuple[str, Figure]
    second: str
    leads: bool
    share: Share | None


class Median(NamedTuple):
    """Between which values half of all lie below and half above, as far as the buckets and the noise tell it."""

    title: str
    period: Period
    total: Figure
    lower: int | None
    upper: int | None


@dataclass(frozen=True, slots=True)
class Headline:
    """What is said of a population before anything else."""

    statistic: Statistic
    period: Period
    total: Figure
    change: Change | None
    lead: Lead | None
    newest: Figure | None
    """The newest figure by the table's own period, if that ends later than the total's."""
    year: Change | None
    """How that figure, or else the total, differs from a year before."""
    medians: tuple[Median, ...] = ()
    """Of each number that the population's tables have in buckets."""


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
    headlines: Callable[[], tuple[Headline, ...]]
    """Returns them, when the database has worked them out."""
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
