"""Days on the command line: each wrong one is refused in our words, before anything is written."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click
import pytest

from quietcount_schemas.cli import main
from quietcount_schemas.commands.days import Day

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("text", ["1970-01-01", "2023-04-01", "2024-02-29", "2099-12-31"])
def test_a_day_is_a_date_of_the_calendar_of_events(text: str) -> None:
    assert Day().convert(text, None, None) == dt.date.fromisoformat(text)


@pytest.mark.parametrize(
    "text", ["yesterday", "", "2023-02-29", "01.04.2023", "20230401", "2023-W13-6", "2023-04-01T06"]
)
def test_what_is_no_day_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a day of the calendar; write one, as 2023-04-01"):
        Day().convert(text, None, None)


@pytest.mark.parametrize("text", ["1969-12-31", "2100-01-01", "0001-01-01", "9999-12-31"])
def test_a_day_on_which_no_event_may_occur_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write a day from 1970-01-01 to 2099-12-31"):
        Day().convert(text, None, None)


@pytest.mark.promise("clear-errors")
@pytest.mark.parametrize("command", [["init", "--since"], ["simulate", "--from"], ["simulate", "--to"]])
def test_each_command_that_takes_a_day_refuses_a_wrong_one_and_makes_nothing(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for text, words in (("yesterday", "write one, as 2023-04-01"), ("2123-04-01", "write a day from 1970-01-01")):
        with pytest.raises(SystemExit) as ended:
            main([*command, text])
        assert ended.value.code == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert f"Invalid value for '{command[1]}': " in shown.err
        assert words in shown.err
    assert list(tmp_path.iterdir()) == []
