"""Cells that a spreadsheet takes as they are: no formula, no date, and nothing that cannot be taken back."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietcount_consumers.exporting.spreadsheet_cells import GUARD, cell, inert, plain_text

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+7 900", "-1", "@SUM(A1)", "  =1+1", "\t=1+1", "\ufeff=1+1", "＝1+1", "-10..-1", "'quoted'"),
        *("1-2", "3/4", "1.2", "1.2.2024", "12:30", "2 - 8", "MAR1", "DEC2", "Dec 2024", "2 march", "1 янв"),
        *("март 3", "3 січня 2024", "365+", "007", "1e5", "01-02-03"),
    ],
)
def test_a_text_that_means_something_to_a_spreadsheet_has_an_apostrophe_before_it(text: str) -> None:
    assert inert(text) == GUARD + plain_text(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "7..29",
            "<0",
            "0..6",
            "0",
            "unknown",
            "DESERTION",
            "SURRENDERED_VOLUNTARILY",
            "true",
            "",
            "all",
            "2023-12-31",
        ),
        *("help_kind=DESERTION, urgent=false", "Margin ±3", "May", "12 months", "1 person", "Decided", "Март", "a-b"),
    ],
)
def test_any_other_text_stays_as_it_is(text: str) -> None:
    assert inert(text) == text


def test_what_another_country_takes_for_a_new_cell_is_harmless_too() -> None:
    assert inert("a;=1+1; -2;b") == "a;'=1+1;' -2;b"


@given(st.text())
def test_no_text_begins_as_a_formula_and_each_is_one_line(text: str) -> None:
    made = inert(text)
    assert not re.search(r"(^|[;\t])\s*[=+\-@＝＋－＠]", made)
    assert len(made.splitlines()) <= 1


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"))))
def test_no_two_texts_have_one_cell(text: str) -> None:
    """One apostrophe less at each place where one may stand gives the text back."""
    made = inert(text)
    assert re.sub(r"(^|;)'", r"\1", made) == text


@pytest.mark.parametrize(
    "value, text",
    [
        (None, ""),
        (-3, "-3"),
        (Decimal("-5.250000"), "-5.250000"),
        (Decimal("0E-6"), "0.000000"),
        (0.7, "0.7"),
        (True, "true"),
        (dt.date(2023, 12, 31), "2023-12-31"),
        (dt.datetime(2023, 12, 8, 6, 30), "2023-12-08 06:30:00"),  # noqa: DTZ001  # as DuckDB has it: UTC
        ("-3", "'-3"),
    ],
)
def test_values_are_written_as_programs_and_spreadsheets_read_them(value: Any, text: str) -> None:
    assert cell(value) == text
