"""Words: what a report says, in one of three languages. The texts are in languages/*.toml, numbers and dates are here.

No library is asked for numbers and dates: the report needs four kinds of them, and each takes a line.
"""

from __future__ import annotations

import datetime as dt
import functools
import tomllib
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from importlib import resources
from typing import Any, Final

from quietcount_schemas.events.periods import Period

__all__ = ["LANGUAGES", "Number", "Words", "plural"]

LANGUAGES: Final = ("en", "ru", "uk")

Number = int | float | Decimal


class Words:
    """The texts of one language, and how it writes numbers, dates and periods."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = _texts(language)

    def text(self, key: str, **places: str) -> str:
        """Return the text `section.name` with its places filled. A wrong key or place is a KeyError: a defect."""
        section, _, name = key.partition(".")
        return str(self._texts[section][name]).format_map(places)

    def form(self, noun: str, count: int) -> str:
        """Return the form of a noun that stands beside the number `count`, or that holds it."""
        return str(self._texts["forms"][noun][plural(self.language, count)]).format(count=self.number(count))

    # Numbers

    def number(self, value: Number, digits: int = 0) -> str:
        """Return a number for people, with so many decimals, and its sign as a minus."""
        exact = Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
        whole, _, fraction = f"{abs(exact):f}".partition(".")
        grouped = f"{int(whole):,}".replace(",", self._texts["thousands"])
        sign = "−" if exact < 0 else ""
        return f"{sign}{grouped}{self._texts['decimal_point']}{fraction}" if fraction else f"{sign}{grouped}"

    def plain(self, value: Number) -> str:
        """Return a number with the decimals that it has."""
        exact = Decimal(str(value)).normalize()
        exponent = exact.as_tuple().exponent
        return self.number(exact, max(0, -exponent) if isinstance(exponent, int) else 0)

    def interval(self, lower: Number, upper: Number, digits: int = 0) -> str:
        """Return an interval within a sentence."""
        return self.text("numbers.interval", lower=self.number(lower, digits), upper=self.number(upper, digits))

    def span(self, lower: Number, upper: Number, digits: int = 0) -> str:
        """Return an interval in few characters, for a table."""
        if lower < 0:  # a dash and a minus in a row cannot be read
            return self.interval(lower, upper, digits)
        return f"{self.number(lower, digits)}–{self.number(upper, digits)}"

    def between(self, lower: Number, upper: Number) -> str:
        """Return a range within a sentence; a range without width is "about" its value."""
        if lower == upper:
            return self.text("numbers.about", number=self.plain(lower))
        return self.text("numbers.between", lower=self.plain(lower), upper=self.plain(upper))

    def percent(self, value: Number) -> str:
        """Return a percentage."""
        return self.text("numbers.percent", number=self.plain(value))

    def percents(self, lower: Number, upper: Number) -> str:
        """Return a range of percentages within a sentence."""
        if lower == upper:
            return self.text("numbers.about", number=self.percent(lower))
        return self.text("numbers.percents", lower=self.plain(lower), upper=self.plain(upper))

    # Dates and periods

    def date(self, day: dt.date) -> str:
        """Return a date within a sentence."""
        month = self._texts["months_of_days"][day.month - 1]
        return self.text("periods.day", day=str(day.day), month=month, year=str(day.year))

    def period(self, period: Period, start: dt.date) -> str:
        """Return the name of the period that begins on `start`."""
        months, year = self._texts["months"], str(start.year)
        match period:
            case Period.DAY:
                return self.date(start)
            case Period.WEEK:
                return self.text("periods.week", date=self.date(start))
            case Period.MONTH:
                return self.text("periods.month", month=months[start.month - 1], year=year)
            case Period.QUARTER:
                last = months[start.month + 1]
                return self.text("periods.quarter", first=months[start.month - 1], last=last, year=year)
            case Period.YEAR:
                return self.text("periods.year", year=year)

    def tick(self, period: Period, start: dt.date) -> str:
        """Return what stands at an axis for the period that begins on `start`, without its year."""
        match period:
            case Period.DAY | Period.WEEK:
                month = self._texts["months_short"][start.month - 1]
                return self.text("periods.day_short", day=str(start.day), month=month)
            case Period.MONTH:
                return str(self._texts["months_short"][start.month - 1])
            case Period.QUARTER:
                return str(self._texts["quarters_short"][(start.month - 1) // 3])
            case Period.YEAR:
                return str(start.year)

    @property
    def number_locale(self) -> dict[str, Any]:
        """How the axis of a picture writes numbers, as d3-format has it."""
        return {
            "decimal": self._texts["decimal_point"],
            "thousands": self._texts["thousands"],
            "grouping": [3],
            "currency": ["", ""],
        }


def plural(language: str, count: int) -> str:
    """Return the plural category of a whole number (Unicode CLDR: one, few, many or other)."""
    count = abs(count)
    if language == "en":
        return "one" if count == 1 else "other"
    if count % 10 == 1 and count % 100 != 11:
        return "one"
    if count % 10 in (2, 3, 4) and count % 100 not in (12, 13, 14):
        return "few"
    return "many"


@functools.cache
def _texts(language: str) -> Mapping[str, Any]:
    file = resources.files("quietcount_consumers.report").joinpath("languages", f"{language}.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))
