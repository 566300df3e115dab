"""A mapping: each key of its file does what it says, and no value of a row is in a message."""

from __future__ import annotations

import copy
import datetime as dt
import os
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.strategies import registry_of, trial

from quietcount_producers import Pepper
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.mapping import Mapping, Reading
from quietcount_producers.mapping.definition import definition_of
from quietcount_schemas.codec import Codec
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
FLAGGED = registry_of(
    trial(
        {"name": "urgent", "type": "boolean", "default": False, "doc": "Whether it is urgent."},
        {
            "name": "noted",
            "type": {"type": "int", "logicalType": "date", "minimum": 10957, "maximum": 36523},
            "default": 10957,
            "doc": "When it was noted.",
        },
    )
)
TOP = 'case = "Nr"\n'
RULE = '[[event]]\nevent = "HelpRequested"\noccurred_on = "day"\n'
TRIAL = '[[event]]\nevent = "Trial"\noccurred_on = "day"\n'
ROW: dict[str, object] = {"Nr": "17", "day": "2023-10-03"}


def mapping(folder: Path, text: str, registry: SchemaRegistry = REGISTRY) -> Mapping:
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return Mapping.load(path, registry)


def facts(made: list[Facts] | list[EventRefused]) -> list[Facts]:
    good = [each for each in made if isinstance(each, Facts)]
    assert len(good) == len(made), made
    return good


def several(folder: Path, text: str, registry: SchemaRegistry = REGISTRY, /, **row: object) -> list[Facts]:
    return facts(mapping(folder, text, registry).events({**ROW, **row}))


def one(folder: Path, text: str, registry: SchemaRegistry = REGISTRY, /, **row: object) -> Facts:
    (found,) = several(folder, text, registry, **row)
    return found


def refused(folder: Path, text: str, registry: SchemaRegistry = REGISTRY, /, **row: object) -> list[str]:
    """The columns that are refused, each with a reason that shows nothing of the row."""
    made = mapping(folder, text, registry).events({**ROW, **row})
    problems = [each for each in made if isinstance(each, EventRefused)]
    assert problems
    assert len(problems) == len(made)
    for problem in problems:
        assert problem.reason
        for value in row.values():
            assert str(value) not in problem.reason or not value
    return [each.field for each in problems]


def complaint(folder: Path, text: str, registry: SchemaRegistry = REGISTRY) -> str:
    with pytest.raises(ProducersError) as caught:
        mapping(folder, text, registry)
    assert caught.value.what
    assert caught.value.remedy
    assert str(folder / "mapping.toml") in caught.value.what
    return str(caught.value)


# ---------------------------------------------------------------- fields


def test_a_column_becomes_a_field_and_a_day(tmp_path: Path) -> None:
    found = one(tmp_path, TOP + RULE + 'fields = { region = "where" }', where=" volga ")
    assert (found.event, found.case, found.occurred_on) == ("HelpRequested", "17", dt.date(2023, 10, 3))
    assert found.attributes == {"region": "VOLGA"}
    assert (found.record, found.event_id, found.revision) == (None, None, None)


FIELD = TOP + RULE + "[event.fields.help_kind]\n"


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

EACH = FIELD + 'choices = "why"\nvalues = { "law" = "LEGAL_AID", "move" = "RELOCATION" }\n'


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


# ---------------------------------------------------------------- several events, and rows that are none

TWO = (
    'source = "s"\nrecord = "Nr"\n'
    + TOP
    + RULE
    + '[[event]]\nevent = "OutcomeRecorded"\noccurred_on = "closed"\nwhen = { column = "closed", filled = true }\n'
)


def test_a_row_may_be_several_events_each_with_an_id_of_its_own(tmp_path: Path) -> None:
    opened, closed = several(tmp_path, TWO, closed="2023-11-04")
    assert (opened.event, closed.event, closed.occurred_on) == (
        "HelpRequested",
        "OutcomeRecorded",
        dt.date(2023, 11, 4),
    )
    assert one(tmp_path, TWO, closed="").event == "HelpRequested"


def test_two_events_of_one_type_need_names(tmp_path: Path) -> None:
    twice = TWO.replace("OutcomeRecorded", "HelpRequested")
    assert "event.2.part" in complaint(tmp_path, twice)
    first, second = several(tmp_path, twice + 'part = "again"', closed="2023-11-04")
    assert first.record != second.record


def test_the_name_of_an_event_is_no_answer_of_another(tmp_path: Path) -> None:
    text = 'source = "s"\nrecord = "Nr"\n' + EACH + RULE + 'part = "LEGAL_AID"\n'
    law, first = several(tmp_path, text, why="law")
    assert law.record != first.record


def test_the_type_of_event_may_stand_in_a_column(tmp_path: Path) -> None:
    text = TOP + '[[event]]\noccurred_on = "day"\n[event.event]\ncolumn = "what"\n'
    text += 'values = { "intake" = "HelpRequested", "exit" = "OutcomeRecorded", "note" = "skip" }\n'
    assert one(tmp_path, text, what=" Exit").event == "OutcomeRecorded"
    assert several(tmp_path, text, what="note") == []
    assert refused(tmp_path, text, what="otherthing") == ["what"]
    assert several(tmp_path, text + 'otherwise = "skip"', what="otherthing") == []


@pytest.mark.parametrize(
    "condition, row",
    [
        ('{ column = "status", values = ["Test", "draft"] }', {"status": " test "}),
        ('{ column = "deleted", filled = true }', {"deleted": "2023-10-04"}),
        ('{ column = "consent", filled = false }', {}),
        ('[{ column = "a", values = ["1"] }, { column = "b", values = [true] }]', {"b": True}),
    ],
)
def test_a_row_that_stands_for_nobody_is_skipped(tmp_path: Path, condition: str, row: dict[str, object]) -> None:
    assert several(tmp_path, f"skip = {condition}\n" + TOP + RULE, **row) == []
    other = {"status": "real", "deleted": "", "consent": "yes", "a": 0}
    assert len(several(tmp_path, f"skip = {condition}\n" + TOP + RULE, **other)) == 1


# ---------------------------------------------------------------- identifiers, records, revisions


def test_an_identifier_of_several_columns_is_joined_and_never_ambiguous(tmp_path: Path) -> None:
    text = 'case = ["Year", "Nr"]\n' + RULE
    assert one(tmp_path, text, Year=2023.0).case == "2023|17"
    assert refused(tmp_path, text, Year="a|b") == ["Year"]
    assert refused(tmp_path, text, Year="") == ["Year"]


@pytest.mark.parametrize("part", ["n/a", "(Unknown)", "---", "7.90123E+10", "#REF!"])
def test_a_part_of_an_identifier_that_is_none_is_refused(tmp_path: Path, part: str) -> None:
    """Everybody of a year whose number is not known would be one person."""
    joined = mapping(tmp_path, f'case = ["year", "Nr"]\n{RULE}')
    composer = Composer(REGISTRY, Pepper(bytes(range(32))))
    for row in ({"year": "2023", "Nr": part}, {"year": part, "Nr": "17"}, {"year": part, "Nr": part}):
        found = joined.events({**ROW, **row})
        refused = [each for each in found if isinstance(each, EventRefused)]
        for each in found:
            made = composer.composed(each) if isinstance(each, Facts) else []
            refused += made if isinstance(made, list) else []
        assert refused, row


@pytest.mark.parametrize("value", [17.5, 9007199254740993.0, True, dt.date(2023, 10, 3), ["17"], {"a": 1}, "", None])
def test_what_is_no_identifier_is_refused(tmp_path: Path, value: object) -> None:
    assert refused(tmp_path, TOP + RULE, Nr=value) == ["Nr"]


def test_the_record_of_a_tool_keeps_its_event_and_never_meets_that_of_another(tmp_path: Path) -> None:
    composer = Composer(REGISTRY, Pepper(bytes(range(32))))

    def event_id(text: str, **row: object) -> bytes:
        return Codec(REGISTRY).decode(composer.compose(one(tmp_path, text, **row)).value).event_id

    text = 'source = "a"\nrecord = "key"\n' + TOP + RULE
    first = event_id(text, key=" 5 ")
    assert event_id(text, key="5", day="2023-12-01", Nr="18") == first  # a correction, even of the case
    assert event_id(text, key=5.0) == first
    assert event_id(text, key="6") != first
    assert event_id(text.replace('"a"', '"b"'), key="5") != first
    joined = text.replace('"key"', '["key", "more"]')
    assert event_id(joined, key='5","6', more="7") != event_id(joined, key="5", more='6","7')


def test_the_count_of_edits_is_the_revision(tmp_path: Path) -> None:
    text = 'source = "a"\nrecord = "Nr"\nrevision = "edits"\n' + TOP + RULE
    assert [one(tmp_path, text, edits=each).revision for each in ("3", 3.0, "", None)] == [3, 3, 0, 0]
    assert refused(tmp_path, text, edits="-1") == ["edits"]
    assert refused(tmp_path, text, edits="65536") == ["edits"]


def test_a_later_change_of_a_record_is_a_higher_revision(tmp_path: Path) -> None:
    text = 'source = "a"\nrecord = "Nr"\nrevision = { changed = "changed", since = "made" }\n' + TOP + RULE
    stamps = ["2023-10-03 10:00:00", "2023-10-03 11:00:00", "2023-10-04T09:59:00Z", "2031-03-01 00:00:00"]
    revisions = [one(tmp_path, text, made="2023-10-03 10:00:00", changed=each).revision for each in stamps]
    assert revisions == [0, 1, 23, 64934]
    assert refused(tmp_path, text, made="2015-10-03", changed="2023-10-03") == ["changed"]
    assert refused(tmp_path, text, made="", changed="2023-10-03") == ["made"]
    assert one(tmp_path, text, made="2023-10-04", changed="2023-10-03").revision == 0
    fixed = text.replace('"made"', "2023-01-01")
    assert one(tmp_path, fixed, changed="2023-01-02").revision == 24


# ---------------------------------------------------------------- nested JSON

DEEP: dict[str, Any] = {"form": {"meta": {"id": 7}, "answers": [{"v": "law"}, {"v": "move"}], "a.b": {"c/d": "x"}}}


@pytest.mark.parametrize(
    "path, found", [("form.meta.id", "7"), ("form/meta/id", "7"), ("form.answers.1.v", "move"), ("form.a.b.c/d", "x")]
)
def test_a_path_leads_into_nested_json(tmp_path: Path, path: str, found: str) -> None:
    assert one(tmp_path, f'case = "{path}"\n' + RULE, **DEEP).case == found


def test_a_key_that_is_written_like_a_path_comes_first(tmp_path: Path) -> None:
    assert one(tmp_path, 'case = "form/meta/id"\n' + RULE, **DEEP, **{"form/meta/id": "9"}).case == "9"


@pytest.mark.parametrize("path", ["form", "form.answers", "form.answers.5.v", "form.answers.x", ".", "....", "a." * 40])
def test_a_path_that_leads_nowhere_is_an_empty_cell_or_refused(tmp_path: Path, path: str) -> None:
    assert refused(tmp_path, f'case = "{path}"\n' + RULE, **DEEP) == [path]


# ---------------------------------------------------------------- columns


def test_a_column_that_is_missing_or_that_nobody_decided_on_is_named(tmp_path: Path) -> None:
    made = mapping(tmp_path, 'ignore = ["note"]\n' + TOP + RULE)
    made.check_columns(["Nr", "day", "note"])
    with pytest.raises(ProducersError, match="no column day") as caught:
        made.check_columns(["Nr", "Ivan Petrov", "Day"])
    assert "column 3" in str(caught.value)
    assert "Ivan" not in str(caught.value)
    with pytest.raises(ProducersError, match="neither uses nor ignores the column 'phone'"):
        made.check_columns(["Nr", "day", "phone"])
    with pytest.raises(ProducersError, match="more than once"):
        made.check_columns(["Nr", "day", "Nr"])
    mapping(tmp_path, 'ignore = "all others"\n' + TOP + RULE).check_columns(["Nr", "day", "phone"])
    assert made.columns == ("Nr", "day")


def test_the_composers_refusals_are_told_by_column(tmp_path: Path) -> None:
    made = mapping(tmp_path, 'source = "s"\nrecord = "key"\n' + TOP + RULE + 'fields = { region = "where" }')
    fields = ["case", "occurred_on", "event_id", "region", "other"]
    located = [made.located(EventRefused(each, "why")).field for each in fields]
    assert located == ["Nr", "day", "key", "where", "other"]


# ---------------------------------------------------------------- the file


def test_how_a_file_is_read_is_said_in_a_table(tmp_path: Path) -> None:
    text = '[file]\nformat = "csv"\ndelimiter = ";"\nencoding = "windows-1251"\nskip_rows = 2\nsheet = "a"\n'
    text += 'records = "r"\n'
    assert mapping(tmp_path, TOP + RULE + text).reading == Reading("csv", ";", "windows-1251", "a", 2, "r")
    assert mapping(tmp_path, TOP + RULE).reading == Reading()


WRONG = {
    "an unknown key": ('cse = "Nr"\n' + TOP + RULE, "'cse': is unknown; did you mean \"case\"?"),
    "no case": (RULE, "'case': is missing"),
    "no event": (TOP, "'event': is missing"),
    "an event that is unknown": (TOP + RULE.replace("Help", "Hlp"), 'did you mean "HelpRequested"?'),
    "no day": (TOP + '[[event]]\nevent = "HelpRequested"\n', "'event.1.occurred_on': is missing"),
    "a field that is unknown": (TOP + RULE + 'fields = { regoin = "a" }', 'did you mean "region"?'),
    "a symbol that is unknown": (FIELD + 'column = "w"\nvalues = { "x" = "LEGAL" }', "entry 1 must be one of"),
    "a value twice": (FIELD + 'column = "w"\nvalues = { "X" = "OTHER", " x" = "LEGAL_AID" }', "entry 2 stands there"),
    "otherwise that is no symbol": (
        FIELD + 'column = "w"\notherwise = "other"',
        "'event.1.fields.help_kind.otherwise'",
    ),
    "two sources": (FIELD + 'column = "w"\nalways = "OTHER"', "needs one of `column`, `choices` and `always`"),
    "a record without a source": ('record = "Nr"\n' + TOP + RULE, "'source': is missing"),
    "a revision without a record": ('revision = "n"\n' + TOP + RULE, "'revision': goes with record"),
    "a time zone that is unknown": ('timezone = "Europe/Berln"\n' + TOP + RULE, "'timezone': is a time zone"),
    "a format of nonsense": (
        TOP + RULE.replace('"day"', '{ column = "day", format = "%d.%m.%Y" }'),
        "'event.1.occurred_on.format': has letters",
    ),
    "formats that contradict": (
        TOP + RULE.replace('"day"', '{ column = "d", format = ["day/month/year", "month/day/year"] }'),
        "read the same text as different days",
    ),
    "an epoch without a zone": (
        TOP + RULE.replace('"day"', '{ column = "day", format = "epoch seconds" }'),
        "goes with timezone",
    ),
    "a condition of nothing": ('skip = { column = "a" }\n' + TOP + RULE, "needs one of `values` and `filled`"),
    "an encoding that is unknown": (TOP + RULE + '[file]\nencoding = "hex"', "'file.encoding'"),
    "a delimiter of two": (TOP + RULE + '[file]\ndelimiter = ";;"', "'file.delimiter'"),
    "choices of a boolean": (TOP + RULE + 'fields = { region = { column = "a", chosen = "b" } }', "goes with a field"),
    "no TOML": ("case = \n", "is not TOML"),
    "a list of nothing": ("case = []\n" + RULE, "'case': write the name of a column"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_in_a_mapping_is_named_by_its_key(tmp_path: Path, name: str) -> None:
    text, said = WRONG[name]
    assert said in complaint(tmp_path, text)


def test_every_mistake_is_said_at_once(tmp_path: Path) -> None:
    said = complaint(tmp_path, 'x = 1\ntimezone = 3\n[[event]]\nevent = "A"\n')
    assert all(f"'{key}'" in said for key in ("x", "timezone", "case", "event.1.event", "event.1.occurred_on"))


def test_a_draft_is_refused_until_it_is_filled_in(tmp_path: Path) -> None:
    said = complaint(tmp_path, 'case = "FILL IN"\n' + RULE.replace('"HelpRequested"', '"FILL IN"') + "x = 1")
    assert "Fill in case, event.1.event" in said


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(ProducersError, match="Cannot read the mapping"):
        Mapping.load(Path("x" * 300), REGISTRY)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    for content, said in (
        (b"\xff\xfe", "UTF-8"),
        (b"a" * (1 << 20 | 1), "too large"),
        (b"a = [" + b"[" * 5000, "TOML"),
        (b"a" + b".a" * 3000 + b" = 1", "is unknown"),
    ):
        path = tmp_path / "m.toml"
        path.write_bytes(content)
        with pytest.raises(ProducersError, match=said):
            Mapping.load(path, REGISTRY)
    with pytest.raises(ProducersError, match="There is no mapping"):
        Mapping.load(tmp_path / "none.toml", REGISTRY)


def every_place(table: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Each table or list inside, with each of its keys."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [table]
    while waiting:
        inside = waiting.pop()
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        found += [(inside, key) for key in keys]
        waiting += [inside[key] for key in keys if isinstance(inside[key], (dict, list))]
    return found


def test_no_mutated_mapping_ends_in_anything_but_a_message(tmp_path: Path) -> None:
    """1,000 mappings with values that are replaced: each loads, or is refused with what to mend."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    odd: list[Any] = ["", " ", "x", "FILL IN", "skip", "iso", 0, -1, 1.5, True, [], [[]], ["a", "a"], {}, {"": ""}]
    odd += [dt.date(2023, 1, 1), dt.datetime(2023, 1, 1), dt.time(1), {"column": "a"}, {"column": 3}, [{"a": {}}]]  # noqa: DTZ001
    outcomes = {True: 0, False: 0}
    for _ in range(1_000):
        given = tomllib.loads(WHOLE + '[file]\nformat = "csv"\n')
        for _ in range(chance.randint(1, 3)):
            inside, key = chance.choice(every_place(given))
            if chance.random() < 0.1 and isinstance(inside, dict):
                inside[f"{key}x"] = inside.pop(key)
            else:
                inside[key] = copy.deepcopy(chance.choice(odd))
        try:
            made = Mapping("m.toml", definition_of(given, "m.toml", REGISTRY))
        except ProducersError:
            outcomes[False] += 1
        else:
            made.events(ROW)
            outcomes[True] += 1
    assert min(outcomes.values()) > 10


# ---------------------------------------------------------------- nothing of a row in a message


WHOLE = (
    'source = "s"\nrecord = "key"\nrevision = { changed = "changed", since = "made" }\ntimezone = "Europe/Berlin"\n'
    'blanks = ["---"]\nskip = { column = "status", values = ["test"] }\ncase = ["Year", "Nr"]\n'
    '[[event]]\nevent = { column = "what", values = { "in" = "HelpRequested", "out" = "OutcomeRecorded" } }\n'
    'occurred_on = { column = "day", format = ["iso", "day.month.year", "epoch seconds"] }\n'
    'fields.region = "where"\nfields.help_kind = { choices = "why", values = { "law" = "LEGAL_AID" } }\n'
)
NAME = "Zzyx"


def test_no_mutated_row_breaks_a_mapping_or_shows_a_value(tmp_path: Path) -> None:
    """Rows with cells that are replaced: each becomes events, or reasons without anything that stood in it.

    `QUIETCOUNT_MUTATIONS` sets how many (5,000), `QUIETCOUNT_SEED` repeats a run.
    """
    count = int(os.environ.get("QUIETCOUNT_MUTATIONS") or 5_000)
    seed = int(os.environ.get("QUIETCOUNT_SEED") or random.randrange(2**32))
    print("seed", seed)
    chance = random.Random(seed)
    made = mapping(tmp_path, WHOLE)
    good: dict[str, object] = {"key": "1", "changed": "2023-10-05", "made": "2023-10-03", "status": "real", "Nr": "17"}
    good |= {"Year": 2023, "what": "in", "day": "3.10.2023", "where": "Volga", "why": "law"}
    odd: list[object] = ["", "---", "|", "1e400", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "-1", "\ud800"]
    odd += [float("nan"), float("-inf"), 10**400, True, None, [], {}, [[1]], {"a": [1]}, dt.date(1, 1, 1), "3.13.2023"]
    odd += [dt.datetime(9999, 12, 31, 23), "99999999999999", "2023-02-30", "[", "[" * 9000 + "]", '["law", 3]', NAME]  # noqa: DTZ001
    assert len(facts(made.events(good))) == 1
    outcomes = {True: 0, False: 0}
    for _ in range(count):
        row = dict(good)
        for name in chance.sample(list(row), chance.randint(1, 3)):
            value = chance.choice(odd)
            row[name] = f"{NAME} {value}" if chance.random() < 0.3 else value
        found = made.events(row)
        for each in found:
            outcomes[isinstance(each, Facts)] += 1
            if isinstance(each, EventRefused):
                assert each.field in good
                assert NAME not in str(each)
    assert min(outcomes.values()) > 100
