"""How rows and bars are shown."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietcount_consumers.demo.chart import Bar, bar_chart
from quietcount_consumers.errors import ConsumersError
from quietcount_consumers.terminal.presentation import Format, show_rows

pytestmark = pytest.mark.quick

COLUMNS = ["name", "day", "count", "share", "raw", "nothing"]
ROWS = [
    ("a, b", dt.date(2023, 4, 1), 12, Decimal("0.5"), b"\x01\xff", None),
    ("[bold]x[/bold]", dt.date(2023, 5, 1), -3, Decimal("1.25"), b"", None),
]


def test_csv_is_read_back_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(COLUMNS, ROWS, Format.CSV)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [
        COLUMNS,
        ["a, b", "2023-04-01", "12", "0.5", "01ff", ""],
        ["[bold]x[/bold]", "2023-05-01", "-3", "1.25", "", ""],
    ]


def test_json_is_a_list_of_objects(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(
        COLUMNS,
        [*ROWS, ("é", dt.datetime(2023, 1, 1, tzinfo=dt.UTC), 0, {"a": [dt.date(2023, 1, 1)]}, (1, 2), True)],
        Format.JSON,
    )
    out = capsys.readouterr().out
    shown = json.loads(out)
    assert shown[0] == {
        "name": "a, b", "day": "2023-04-01", "count": 12, "share": 0.5, "raw": "01ff", "nothing": None,
    }  # fmt: skip
    assert shown[2]["share"] == {"a": ["2023-01-01"]}
    assert shown[2]["raw"] == [1, 2]
    assert "é" in out


def test_a_table_shows_what_stands_in_cells_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(COLUMNS, ROWS, Format.TABLE)
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "None" not in out
    assert out.splitlines()[0].split() == COLUMNS


def test_a_table_wider_than_the_terminal_is_shown_as_a_block_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = [f"column_{index}" for index in range(14)]
    show_rows(columns, [range(14), ["x" * 120, None, *range(12)]], Format.TABLE)
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines() == [f"{column + ':':<11}{index}" for index, column in enumerate(columns)]
    assert second.splitlines()[0] == "column_0: " + " " + "x" * 120  # whole, to be copied
    assert second.splitlines()[1].strip() == "column_1:"
    show_rows(["sql", "other"], [("SELECT 1\nFROM t" + " " * 80, ":eye:")], Format.TABLE)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "sql:   SELECT 1",
        "       FROM t",
        "other: :eye:",
    ]
    show_rows(columns[:3], [range(3)], Format.TABLE)
    assert capsys.readouterr().out.splitlines()[0].split() == columns[:3]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [float("nan")], {"a": float("inf")}])
def test_json_has_null_for_what_is_no_number(capsys: pytest.CaptureFixture[str], value: object) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    show_rows(["a"], [(value,)], Format.JSON)
    (row,) = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert row["a"] in (None, [None], {"a": None})


def test_json_refuses_two_columns_of_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConsumersError, match="two columns are named 'a'"):
        show_rows(["a", "b", "a"], [(1, 2, 3)], Format.JSON)
    assert capsys.readouterr().out == ""
    show_rows(["a", "a"], [(1, 2)], Format.CSV)
    assert capsys.readouterr().out == "a,a\n1,2\n"


@pytest.mark.parametrize("form, expected", [(Format.CSV, "a,b\n"), (Format.JSON, "[]\n")])
def test_no_rows_are_shown_as_none(capsys: pytest.CaptureFixture[str], form: Format, expected: str) -> None:
    show_rows(["a", "b"], [], form)
    assert capsys.readouterr().out == expected


def test_a_bar_ends_at_its_estimate_and_its_error_bar_at_the_interval() -> None:
    lines = bar_chart([Bar("May", 50, 40, 60), Bar("June", 100, 90, 110)], 80)
    assert len(lines) == 2
    assert lines[0].index("├") == lines[0].index("█") + lines[0].count("█")
    assert lines[1].index("┤") > lines[0].index("┤")
    assert lines[0].endswith("50 (40-60)")
    assert bar_chart([], 80) == []


@given(
    st.lists(
        st.builds(
            lambda label, low, more, most: Bar(label, low + more, low, low + more + most),
            st.text("abc", max_size=8),
            *[st.integers(0, 10**6)] * 3,
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(40, 200),
)
def test_no_line_of_a_chart_is_wider_than_the_terminal(bars: list[Bar], width: int) -> None:
    lines = bar_chart(bars, width)
    assert len(lines) == len(bars)
    assert len({len(line) for line in lines}) == 1
    needed = 2 + max(len(bar.label) for bar in bars) + 1 + 10 + 1 + max(len(line.split()[-1]) + 8 for line in lines)
    assert all(len(line) <= max(width, needed) for line in lines)
