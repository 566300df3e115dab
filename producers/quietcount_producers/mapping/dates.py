"""Days as exports write them: by formats in words, with times and offsets, as serial numbers, since the epoch.

The local day decides. A person who asked for help at 23:30 in Berlin asked on that day, though UTC had it as 21:30, and
one who asked at 00:30 asked on the next.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

__all__ = ["DATE_WORDS", "Days", "Unfit", "format_problem", "needs_timezone", "same_shape", "zone_of"]


class Unfit(Exception):
    """A value that stands for nothing; the text says why, and never shows it."""


ISO: Final = "iso"
EXCEL: Final = "excel"
EXCEL_1904: Final = "excel 1904"
SECONDS: Final = "epoch seconds"
MILLISECONDS: Final = "epoch milliseconds"
_NUMERIC: Final = (EXCEL, EXCEL_1904, SECONDS, MILLISECONDS)

_PARTS: Final = {
    "monthname": r"(?P<monthname>[A-Za-z]{3,9})\.?",
    "weekday": r"[A-Za-z]{2,9}\.?",
    "minute": r"(?P<minute>[0-9]{2})",
    "second": r"(?P<second>[0-9]{2})(?:[.,][0-9]{1,9})?",
    "offset": r"(?P<offset>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)",
    "month": r"(?P<month>[0-9]{1,2})",
    "year": r"(?P<year>[0-9]{4})",
    "hour": r"(?P<hour>[0-9]{1,2})",
    "ampm": r"(?P<ampm>[AaPp]\.?[Mm]\.?)",
    "day": r"(?P<day>[0-9]{1,2})",
    "yy": r"(?P<yy>[0-9]{2})",
}
DATE_WORDS: Final = tuple(_PARTS)
"""The words that a format is made of; longer ones first, because `month` begins `monthname`.

A format without a day stands for the first day of its month.
"""

_WORD: Final = re.compile("|".join(_PARTS))
_ISO: Final = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:[T ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,][0-9]{1,9})?)?"
    r" ?(?P<offset>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,20})?")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_EXCEL_START: Final = dt.datetime(1899, 12, 30)  # noqa: DTZ001 (a spreadsheet knows no zone)
_EXCEL_1904_START: Final = dt.datetime(1904, 1, 1)  # noqa: DTZ001
_EXCEL_LEAST: Final = 61
"""Excel has a 29 February 1900 that never was: below this number its days are off by one."""
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SHORT_YEARS: Final = 70
"""`yy` from 70 is 19yy, below it 20yy, as POSIX reads it."""
_CACHED: Final = 4096
"""Texts. An export has some hundred days; one with times has as many texts as rows."""


@dataclass(slots=True)
class Days:
    """Reads the day of a value. `zone` is whose day counts, `written_in` where times without an offset are from."""

    formats: tuple[str, ...] = (ISO,)
    zone: ZoneInfo | None = None
    written_in: ZoneInfo | None = None
    _patterns: tuple[re.Pattern[str], ...] = field(init=False)
    _numeric: str | None = field(init=False)
    _cache: dict[str, dt.date] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._patterns = tuple(_pattern(each) for each in self.formats if each not in _NUMERIC)
        self._numeric = next((each for each in self.formats if each in _NUMERIC), None)

    def day(self, value: object) -> dt.date:
        """Return the local day that `value` stands for. Raises Unfit."""
        if isinstance(value, str):
            known = self._cache.get(value)
            if known is None:
                known = self._local(self.moment(value))
                if len(self._cache) < _CACHED:
                    self._cache[value] = known
            return known
        return self._local(self.moment(value))

    def moment(self, value: object) -> dt.datetime | dt.date:
        """Return what `value` says: a day, or a day with a time, with an offset if it has one. Raises Unfit."""
        if isinstance(value, (dt.datetime, dt.date)):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self._of_number(value)
        if not isinstance(value, str):
            raise Unfit("is not a date")
        text = value.strip()
        if self._numeric is not None and _NUMBER.fullmatch(text):
            return self._of_number(float(text))
        for pattern in self._patterns:
            match = pattern.fullmatch(text)
            if match is not None:
                try:
                    return _moment(match.groupdict())
                except ValueError:
                    raise Unfit("is not a day of the calendar, or not a time of the day") from None
        raise Unfit(f"is not a date in the form {' or '.join(map(repr, self.formats))}, which the mapping says")

    def instant(self, value: object) -> dt.datetime:
        """Return the moment in UTC, for a measure of time that passed. Without any zone, take it as UTC."""
        found = self.moment(value)
        if not isinstance(found, dt.datetime):
            found = dt.datetime.combine(found, dt.time())
        if found.tzinfo is None:
            found = found.replace(tzinfo=self.written_in or self.zone or dt.UTC)
        try:
            return found.astimezone(dt.UTC)
        except OverflowError:
            raise Unfit("is not a day that can be counted with") from None

    def _of_number(self, written: float) -> dt.datetime:
        try:
            number = float(written)
            match self._numeric:
                case "excel" if number < _EXCEL_LEAST:
                    raise Unfit("is a number of the first weeks of 1900, whose days a spreadsheet has wrong")
                case "excel":
                    return _EXCEL_START + dt.timedelta(days=number)
                case "excel 1904":
                    return _EXCEL_1904_START + dt.timedelta(days=number)
                case "epoch seconds":
                    return _EPOCH + dt.timedelta(seconds=number)
                case "epoch milliseconds":
                    return _EPOCH + dt.timedelta(milliseconds=number)
                case _:
                    pass
        except (OverflowError, ValueError):
            raise Unfit("is a number too large for a date") from None
        raise Unfit("is a number, and the mapping names no format of dates that are numbers, as 'excel'")

    def _local(self, moment: dt.datetime | dt.date) -> dt.date:
        if not isinstance(moment, dt.datetime):
            return moment
        if moment.tzinfo is None and self.written_in is not None:
            moment = moment.replace(tzinfo=self.written_in)
        if moment.tzinfo is None:
            return moment.date()
        if self.zone is None:
            if not moment.utcoffset():
                raise Unfit('is a time in UTC; say in the mapping whose day counts, as timezone = "Europe/Berlin"')
            return moment.date()
        try:
            return moment.astimezone(self.zone).date()
        except OverflowError:
            raise Unfit("is not a day that can be counted with") from None


def zone_of(name: str) -> ZoneInfo | None:
    """Return the time zone `name`, or None if the system knows none of that name."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        return None


def format_problem(written: str) -> str | None:
    """Return why `written` is no format, or None."""
    if written == ISO or written in _NUMERIC:
        return None
    words = _WORD.findall(written)
    between = _WORD.sub("", written).replace("T", "")
    if any(each.isalnum() for each in between):
        return f"has letters or digits that are none of the words {', '.join(DATE_WORDS)}"
    if len(set(words)) != len(words):
        return "has a word twice"
    if not ({"month", "monthname"} & set(words) and {"year", "yy"} & set(words)):
        return 'needs a month and a year, as in "day.month.year"'
    if {"month", "monthname"} <= set(words) or {"year", "yy"} <= set(words):
        return "has the month or the year twice"
    if ("minute" in words and "hour" not in words) or ("ampm" in words and "hour" not in words):
        return "has a part of a time without its hour"
    return None


def same_shape(formats: Iterable[str]) -> bool:
    """Return whether two of `formats` would read the same text as different days."""
    shapes = [
        "a number" if each in _NUMERIC else re.sub("month(?!name)|(?<!week)day|yy", "#", each) for each in formats
    ]
    return len(set(shapes)) != len(shapes)


def needs_timezone(formats: Iterable[str]) -> bool:
    """Return whether a format gives moments in UTC, of which only a time zone makes days."""
    return any(each in (SECONDS, MILLISECONDS) for each in formats)


def _pattern(written: str) -> re.Pattern[str]:
    if written == ISO:
        return _ISO
    pieces = []
    end = 0
    for word in _WORD.finditer(written):
        pieces.append(re.escape(written[end : word.start()]).replace(r"\ ", r" +"))
        pieces.append(_PARTS[word[0]])
        end = word.end()
    pieces.append(re.escape(written[end:]))
    return re.compile("".join(pieces))


def _moment(parts: dict[str, str | None]) -> dt.datetime | dt.date:
    year = int(parts.get("year") or 0)
    if not year:
        short = int(parts.get("yy") or 0)
        year = short + (1900 if short >= _SHORT_YEARS else 2000)
    name = (parts.get("monthname") or "").casefold()
    day = dt.date(year, _month(name) if name else int(parts["month"] or 0), int(parts.get("day") or 1))
    if parts.get("hour") is None:
        return day
    hour = int(parts["hour"] or 0)
    half = (parts.get("ampm") or "").casefold()[:1]
    if half:
        if not 1 <= hour <= 12:
            raise ValueError
        hour = hour % 12 + (12 if half == "p" else 0)
    second = min(int(parts.get("second") or 0), 59)  # a leap second is in no clock of Python
    zone = _offset(parts.get("offset"))
    return dt.datetime(day.year, day.month, day.day, hour, int(parts.get("minute") or 0), second, tzinfo=zone)


def _month(name: str) -> int:
    if name in _FULL_MONTHS:
        return _FULL_MONTHS.index(name) + 1
    return _MONTHS.index("sep" if name == "sept" else name) + 1


def _offset(written: str | None) -> dt.tzinfo | None:
    if written is None:
        return None
    if written in ("Z", "UTC", "GMT"):
        return dt.UTC
    digits = written[1:].replace(":", "").ljust(4, "0")
    east = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return dt.timezone(east if written[0] == "+" else -east)
