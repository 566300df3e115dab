"""A mapping: which rows are events, of whom, and which columns it takes; no value of a row is in a message."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from tests.unit.producers.mapped_rows import (
    EACH,
    REGISTRY,
    ROW,
    RULE,
    TOP,
    complaint,
    mapping,
    one,
    refused,
    several,
)

from quietcount_producers import Pepper
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_schemas.codec import Codec

pytestmark = pytest.mark.quick

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
