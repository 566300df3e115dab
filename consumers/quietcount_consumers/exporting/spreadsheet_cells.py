"""Cells of a CSV file that a spreadsheet takes as they are: it runs none, and turns no text into a date.

A spreadsheet guesses what a cell is. A text that begins with = + - or @ is run as a formula, which may send the sheet
away (CWE-1236). 1-2 and MAR1 become dates, and LibreOffice takes 365+, which is a symbol of ours, for a number. Titles
and labels come from people. So an apostrophe stands before such a text, and before a text that begins with an
apostrophe: to have the text back, take one apostrophe away.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any, Final

__all__ = ["GUARD", "cell", "inert", "plain_text"]

GUARD: Final = "'"

# At the beginning, and after what a spreadsheet of another country takes for the end of a cell: a semicolon or a tab.
_FORMULA = re.compile(r"(^|[;\t])(?='|[\s\u200b\ufeff]*[=+\-@＝＋－＠])")

_MONTH: Final = (
    "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mai|mär|okt|dez|"  # English, German
    "янв|фев|мар|апр|мая|май|июн|июл|авг|сен|окт|ноя|дек|"
    "січ|лют|бер|кві|тра|чер|лип|сер|вер|жов|лис|гру"
)
_DATE = re.compile(
    rf"""\d{{1,4}} \s* [-/.:] \s* \d{{1,4}} ( \s* [-/.:] \s* \d{{0,4}} )?   # 1-2, 3/4, 1.2.2024, 12:30
    | \d{{1,4}} [\s./-]* ({_MONTH}) \w* [\s./,-]* \d{{0,4}}                   # 2 March, 1-янв-24
    | ({_MONTH}) [^\W\d_]* [\s./,-]* \d{{1,4}} ( [\s./,-]+ \d{{1,4}} )?       # MAR1, Dec 2024
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")  # a date is what it is
_NUMBER = re.compile(r"\d+[+-]|0\d+|\d+([.,]\d+)?[eE][+-]?\d+")  # which would lose its sign or its zeros
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def cell(value: Any) -> str:
    """Return a value as the cell of a CSV file: nothing for NULL, dates by ISO 8601, decimals with a point."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dt.datetime():
            # With a space, because a spreadsheet takes the form with a T for text.
            return value.isoformat(sep=" ")
        case dt.date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case int() | float():
            return repr(value)
        case _:
            return inert(str(value))


def inert(text: str) -> str:
    """Return a text of one line that no spreadsheet runs or turns into a date."""
    text = _FORMULA.sub(rf"\1{GUARD}", plain_text(text))
    bare = text.strip()
    if _NUMBER.fullmatch(bare) or (_DATE.fullmatch(bare) and not _ISO_DATE.fullmatch(bare)):
        return GUARD + text
    return text


def plain_text(text: str) -> str:
    """Return the text as one line without control characters."""
    return _CONTROL.sub(" ", text)
