"""Sentences: what is said of figures, in the words of a language, and no more than their intervals allow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from quietcount_consumers.report.figures import (
    Breakdown,
    Change,
    Figure,
    Headline,
    Lead,
    Median,
    Note,
    Series,
    Statistic,
)
from quietcount_consumers.report.markup import Content, element
from quietcount_consumers.report.pictures import hover
from quietcount_consumers.report.words import Words
from quietcount_schemas.events.periods import Period

__all__ = [
    "bound",
    "by",
    "capital",
    "counting",
    "headline",
    "limit",
    "median",
    "note",
    "odds",
    "part",
    "series_in_words",
    "subject",
]

_PLACE: Final = "\ue000"
"""Stands in a sentence for what is put in later: a character that no text has."""


def headline(said: Headline, words: Words) -> Iterator[list[Content]]:
    """Yield the sentences about a population: the total first, in pieces, because its number stands out."""
    statistic, period, total = said.statistic, said.period, said.total
    key = "average" if statistic.averaged else "total"
    text = words.text(
        f"headlines.{key}_provisional" if total.provisional else f"headlines.{key}",
        period=words.period(period, total.start),
        count=_PLACE,
        average=_PLACE,
        field=statistic.averaged,
        noun=words.form("case" if _of_cases(statistic, total) else "event", int(total.shown)),
        interval=words.interval(total.lower, total.upper, total.digits),
    )
    before, _, after = capital(text).partition(_PLACE)
    yield [before, element("strong", words.number(total.shown, total.digits)), after]
    if statistic.partial:
        yield [words.text("tables.only", conditions=statistic.conditions)]
    compared, year = _compared(said, words)
    yield from compared
    # "That" is the figure of the sentence before: the total, or the newest period by itself.
    if said.newest is None:
        yield from year
    if said.lead is not None:
        yield [capital(lead(said.lead, words))]
    for each in said.medians:
        yield [capital(median(each, words))]
    if said.newest is not None:
        newest = said.newest
        yield [
            words.text(
                "headlines.newest_provisional" if newest.provisional else "headlines.newest",
                period=words.period(statistic.period, newest.start),
                count=words.number(newest.shown, newest.digits),
                interval=words.interval(newest.lower, newest.upper, newest.digits),
            )
        ]
        yield from year


def _compared(said: Headline, words: Words) -> tuple[list[list[Content]], list[list[Content]]]:
    """Return what is said of the period before and of a year before, with one warning of the limit for both."""
    before: list[list[Content]] = []
    year: list[list[Content]] = []
    warnings: list[list[Content]] = []
    if said.change is not None:
        warnings = list(limit(said.change, said, said.total, words))
        before = [[change(said.change, said.period, words)], *warnings]
    if said.year is not None:
        year = [[change(said.year, said.statistic.period, words, year=True)]]
        if not warnings:
            year += limit(said.year, said, said.newest or said.total, words)
    return before, year


def change(said: Change, period: Period, words: Words, *, year: bool = False) -> str:
    """Return how a total differs from the period before, or a year before: by how much, or that nobody can tell."""
    before = {
        "before": words.text("periods.year_ago" if year else f"periods.before_{period}"),
        "period": words.period(period, said.before.start),
        "count": words.number(said.before.shown),
    }
    if said.lower <= 0 <= said.upper:
        return words.text("headlines.change_unknown", **before)
    fewer = said.upper < 0
    ends = (-said.upper, -said.lower) if fewer else (said.lower, said.upper)
    if said.percents is not None:
        low, high = said.percents
        percents = (-high, -low) if fewer else (low, high)
        if percents[0] > 0:
            key = "headlines.fewer_percent" if fewer else "headlines.more_percent"
            return words.text(key, percent=words.percents(*percents), **before)
    key = "headlines.fewer" if fewer else "headlines.more"
    return words.text(key, difference=words.between(*ends), **before)


def limit(said: Change, of: Headline, newest: Figure, words: Words) -> Iterator[list[Content]]:
    """Yield a warning if the limit alone could make the difference: those who reached it are missing."""
    fewer, more = said.upper < 0, said.lower > 0
    if not of.statistic.yearly:
        if fewer:
            yield [words.text("headlines.limit_lifetime")]
        return
    # The same part of two years has as many people at the limit.
    apart = newest.start.year - said.before.start.year
    same = (newest.start.month, newest.start.day) == (said.before.start.month, said.before.start.day)
    if not same and (more if apart else fewer):
        yield [words.text("headlines.limit_yearly")]


def lead(said: Lead, words: Words) -> str:
    """Return which symbol is the highest and how large its part is, or that nobody can tell."""
    label, figure = said.first
    if not said.leads:
        return words.text("headlines.lead_unknown", dimension=said.title, first=label, second=said.second)
    if said.share is None:
        return words.text(
            "headlines.lead_no_share",
            dimension=said.title,
            symbol=label,
            count=words.number(figure.shown),
            interval=words.interval(figure.lower, figure.upper),
        )
    percents = words.percents(*said.share)
    return words.text("headlines.lead", dimension=said.title, symbol=label, percent=percents)


def median(said: Median, words: Words) -> str:
    """Return between which values the median lies, as far as that can be told."""
    match said.lower, said.upper:
        case None, None:
            key = "median_unknown"
        case None, _:
            key = "median_most"
        case _, None:
            key = "median_least"
        case _:
            key = "median"
    return words.text(
        f"headlines.{key}",
        field=said.title,
        period=words.period(said.period, said.total.start),
        lower=words.number(said.lower or 0),
        upper=words.number(said.upper or 0),
        status=f", {words.text('tables.provisional')}" if said.total.provisional else "",
    )


def subject(statistic: Statistic, words: Words) -> str:
    """Return what the figures of a table are, all cells together: the total, or the average of something."""
    if statistic.averaged:
        return words.text("tables.average_of", field=statistic.averaged)
    return words.text("tables.total")


def part(statistic: Statistic, breakdown: Breakdown, words: Words) -> str:
    """Return what the figures of a dimension are: the dimension's title, after that of an average."""
    return ", ".join([subject(statistic, words)] * bool(statistic.averaged) + [breakdown.title])


def by(period: Period, words: Words) -> str:
    """Return "by month" and the like."""
    return words.text(f"periods.by_{period}")


def counting(statistic: Statistic, words: Words) -> Iterator[str]:
    """Yield what has to stand beside the figures of a table: how often a case counts, and which."""
    if statistic.description:
        yield statistic.description
    if statistic.conditions:
        yield words.text("tables.only", conditions=statistic.conditions)
    if statistic.ends is not None:
        low, high = statistic.ends
        yield words.text("tables.ends", low=words.number(low), high=words.number(high))
    most = statistic.max_contributions
    key = "tables.counting_year" if statistic.yearly else "tables.counting_lifetime"
    yield words.text(key, times=words.form("contribution", most))
    yield words.text("tables.late_carry" if statistic.carried else "tables.late_drop")
    yield words.text("tables.since", date=words.date(statistic.first_day))
    if statistic.retired:
        yield words.text("tables.retired")


def bound(about: Mapping[str, str], statistics: tuple[Statistic, ...], words: Words) -> Iterator[str]:
    """Yield the bound on what all figures tell about one person, as `about` has it, sentence by sentence."""
    losses = int(about["state_losses"])
    yield words.text("bound.sentence", bound=words.plain(Decimal(about["lifetime_epsilon"]) * (1 + losses)))
    yearly = sum((each.epsilon for each in statistics if each.yearly), Decimal(0))
    if yearly:
        yield words.text("bound.yearly", yearly=words.plain(yearly * (1 + losses)))
    if losses:
        yield words.text("bound.losses", times=words.form("loss", losses))


def odds(epsilon: Decimal, words: Words) -> str:
    """Return what even odds become at most; upwards, so that no bound looks lower than it is."""
    most = math.ceil(1000 / (1 + math.exp(-float(epsilon)))) / 10
    return words.percent(Decimal(str(min(most, 100.0))))


def series_in_words(series: Series, period: Period, words: Words) -> str:
    """Return what a line shows to somebody who does not see it."""
    figures = series.figures
    if len(figures) == 1:
        return words.text("alternative.one", first=hover(words, period, figures[0]))
    return words.text(
        "alternative.line",
        first=hover(words, period, figures[0]),
        last=hover(words, period, figures[-1]),
        highest=hover(words, period, max(figures, key=_shown)),
        lowest=hover(words, period, min(figures, key=_shown)),
    )


def note(said: Note, words: Words) -> str:
    """Return a note in words: our own are said in the language, those of the ledger as they are."""
    match said.kind:
        case "provisional" | "revised":
            return words.text(f"notes.{said.kind}")
        case "break" | "withheld":
            return words.text(f"notes.{said.kind}", note=said.text)
        case _:
            return said.text


def capital(text: str) -> str:
    """Return the text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def _of_cases(statistic: Statistic, figure: Figure) -> bool:
    """Return whether no case counts twice in the figure: then so many cases came."""
    once_a_year = statistic.yearly and statistic.max_contributions == 1
    return statistic.unit == "cases" or (once_a_year and figure.start.year == figure.end.year)


def _shown(figure: Figure) -> float:
    return figure.shown
