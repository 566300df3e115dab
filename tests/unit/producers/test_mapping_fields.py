"""The fields of a mapping: a value, a word, a day, and a question with several answers."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.unit.producers.mapped_rows import (
    EACH,
    FIELD,
    FLAGGED,
    RULE,
    TOP,
    TRIAL,
    one,
    refused,
    several,
)

pytestmark = pytest.mark.quick


# ---------------------------------------------------------------- fields


def test_a_column_becomes_a_field_and_a_day(tmp_path: Path) -> None:
    found = one(tmp_path, TOP + RULE + 'fields = { region = "where" }', where=" volga ")
    assert (found.event, found.case, found.occurred_on) == ("HelpRequested", "17", dt.date(2023, 10, 3))
    assert found.attributes == {"region": "VOLGA"}
    assert (found.record, found.event_id, found.revision) == (None, None, None)


@pytest.mark.parametrize("value", ["Рапорт об отказе", "  рапорт  ОБ отказе ", "7.1", "desertion", "DESERTION"])
def test_values_stand_for_symbols_whatever_their_case_and_spaces(tmp_path: Path, value: str) -> None:
    text = FIELD + 'column = "why"\nvalues = { "Рапорт об отказе" = "DESERTION", "7.1" = "DESERTION" }'
    assert one(tmp_path, text, why=value).attributes == {"help_kind": "DESERTION"}


def test_any_other_value_is_refused_or_what_otherwise_says(tmp_path: Path) -> None:
    assert refused(tmp_path, FIELD + 'column = "why"', why="Something") == ["why"]
    assert one(tmp_path, FIELD + 'column = "why"\notherwise = "OTHER"', why="Something").attributes == {
        "help_kind": "OTHER"
    }


def test_an_empty_cell_takes_the_default_or_what_empty_says_or_is_refused(tmp_path: Path) -> None:
    assert one(tmp_path, FIELD + 'column = "why"\notherwise = "OTHER"', why=" ").attributes == {}
    assert one(tmp_path, FIELD + 'column = "why"\nempty = "LEGAL_AID"').attributes == {"help_kind": "LEGAL_AID"}
    assert refused(tmp_path, FIELD + 'column = "why"\nrequired = true', why=None) == ["why"]


def test_a_text_that_the_mapping_calls_blank_is_an_empty_cell(tmp_path: Path) -> None:
    text = 'blanks = ["---", "N/A"]\n' + FIELD + 'column = "why"'
    assert one(tmp_path, text, why="n/a").attributes == {}
    assert refused(tmp_path, text, Nr="---") == ["Nr"]


def test_a_field_may_always_be_the_same(tmp_path: Path) -> None:
    assert one(tmp_path, FIELD + 'always = "LEGAL_AID"').attributes == {"help_kind": "LEGAL_AID"}


@pytest.mark.parametrize(
    "value, truth",
    [*((each, True) for each in ("yes", "JA", "да", "Так", "1", "x", 1, 1.0, True)), *((e, False) for e in ("no", 0))],
)
def test_yes_and_no_are_known_in_several_languages(tmp_path: Path, value: object, truth: bool) -> None:
    text = TOP + TRIAL + 'fields = { urgent = "hurry" }'
    assert one(tmp_path, text, FLAGGED, hurry=value).attributes == {"urgent": truth}


def test_other_words_for_yes_and_no_are_listed(tmp_path: Path) -> None:
    text = TOP + TRIAL + '[event.fields.urgent]\ncolumn = "hurry"\nvalues = { "very" = true, "not so" = false }'
    assert one(tmp_path, text, FLAGGED, hurry="Very").attributes == {"urgent": True}
    assert refused(tmp_path, text, FLAGGED, hurry="perhaps") == ["hurry"]


@pytest.mark.parametrize("value", ["7", "7.0", "7,0", " 7 ", 7, 7.0])
def test_a_number_is_whole_however_a_spreadsheet_writes_it(tmp_path: Path, value: object) -> None:
    assert one(tmp_path, TOP + TRIAL + 'fields = { people = "n" }', FLAGGED, n=value).attributes == {"people": 7}


@pytest.mark.parametrize("value", ["7.5", "1.000", 7.5, "twelve", True, "9" * 11, float("inf"), float("nan"), [1]])
def test_what_is_no_whole_number_of_the_field_is_refused(tmp_path: Path, value: object) -> None:
    assert refused(tmp_path, TOP + TRIAL + 'fields = { people = "n" }', FLAGGED, n=value) == ["n"]


def test_a_field_that_is_a_date_has_a_format_of_its_own(tmp_path: Path) -> None:
    text = TOP + TRIAL + '[event.fields.noted]\ncolumn = "on"\nformat = "month/day/year"'
    assert one(tmp_path, text, FLAGGED, on="10/03/2023").attributes == {"noted": dt.date(2023, 10, 3)}
    assert refused(tmp_path, text, FLAGGED, on="10/03/1999") == ["on"]


def test_a_day_may_stand_in_several_columns(tmp_path: Path) -> None:
    several_columns = '{ column = ["year", "month", "d"], format = "year month day" }'
    text = TOP + RULE.replace('"day"', several_columns)
    assert one(tmp_path, text, year=2023.0, month="10", d=3).occurred_on == dt.date(2023, 10, 3)
    assert refused(tmp_path, text, year="2023", month="", d="3") == ["month"]
    assert refused(tmp_path, text, year="2023", month="13", d="7") == ["year and month and d"]
    assert refused(tmp_path, text, year="2023", month="10", d="") == ["year and month and d"]
    month = text.replace('"year month day"', '["year month day", "year month"]')
    assert one(tmp_path, month, year="2023", month="10", d="").occurred_on == dt.date(2023, 10, 1)
    assert refused(tmp_path, month, year="2023", month="", d="3") == ["month"]
    assert refused(tmp_path, month, year="2023", month="", d="") == ["year and month and d"]


# ---------------------------------------------------------------- several answers


@pytest.mark.parametrize("value", ["law move", " move  law ", ["move", "law"], '["law", "move"]', "law move law"])
def test_a_question_with_several_answers_is_an_event_of_each(tmp_path: Path, value: object) -> None:
    text = 'source = "s"\nrecord = "Nr"\n' + EACH
    first, second = several(tmp_path, text, why=value)
    assert first.attributes == {"help_kind": "LEGAL_AID"}
    assert second.attributes == {"help_kind": "RELOCATION"}
    assert first.record != second.record


def test_answers_may_be_separated_otherwise_and_count_once_if_they_stand_for_one_symbol(tmp_path: Path) -> None:
    text = EACH.replace("[event.fields.help_kind]", "[event.fields.help_kind]\nseparator = ','") + 'otherwise = "OTHER"'
    kinds = [each.attributes["help_kind"] for each in several(tmp_path, text, why="law, this thing, that thing")]
    assert kinds == ["LEGAL_AID", "OTHER"]


@pytest.mark.parametrize("answers", ["law, move", "law,move", "law;move", "law | move"])
def test_answers_that_spaces_alone_do_not_separate_are_no_other_answer(tmp_path: Path, answers: str) -> None:
    """`otherwise` would take "law," for an answer that nobody named, and a boolean would be false."""
    assert refused(tmp_path, EACH + 'otherwise = "OTHER"', why=answers) == ["why"]
    flag = TOP + TRIAL + '[event.fields.urgent]\ncolumn = "why"\nchosen = "law"\n'
    assert refused(tmp_path, flag, FLAGGED, why=answers) == ["why"]


def test_a_row_without_an_answer_is_nobody_or_what_empty_says_or_is_refused(tmp_path: Path) -> None:
    assert several(tmp_path, EACH) == []
    assert one(tmp_path, EACH + 'empty = "OTHER"').attributes == {"help_kind": "OTHER"}
    assert refused(tmp_path, EACH + "required = true") == ["why"]
    assert refused(tmp_path, EACH, why="law somethingelse") == ["why"]


def test_columns_of_the_answers_are_an_event_of_each_that_is_marked(tmp_path: Path) -> None:
    text = FIELD.replace("help_kind", "help_kind.choices") + '"why/law" = "LEGAL_AID"\n"why/move" = "RELOCATION"\n'
    found = several(tmp_path, text, **{"why/law": "1", "why/move": "0"})
    assert [each.attributes for each in found] == [{"help_kind": "LEGAL_AID"}]
    assert refused(tmp_path, text, **{"why/law": "2"}) == ["why/law"]


def test_an_answer_among_several_makes_a_boolean_true(tmp_path: Path) -> None:
    text = TOP + TRIAL + '[event.fields.urgent]\ncolumn = "flags"\nchosen = "Hurry"'
    values = {"calm hurry": True, "hurryup": False, "": False}
    assert {each: one(tmp_path, text, FLAGGED, flags=each).attributes["urgent"] for each in values} == values
