"""What `quietcount emit` says of a file that it cannot send: the line, the field and the reason, never the value."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from tests.unit.producers.emissions import HEADER, NAME, Place, line, place, said

from quietcount_producers.composing.composition import utc_today
from quietcount_producers.files.emission import Check

pytestmark = pytest.mark.quick

__all__ = ["place"]  # fixtures, which tests ask for by name

JSONL_MISTAKES: dict[str, tuple[str | bytes, str]] = {
    "not JSON": ('{"event" "HelpRequested"}', "is not JSON (column 10)"),
    "cut between two values": ("{", "is not JSON: it breaks off before the end of its object"),
    "cut in a text": ('{"event": "HelpRe', "is not JSON: it breaks off before the end of its object"),
    "cut after a comma": ('{"event": "HelpRequested", ', "is not JSON: it breaks off before the end of its object"),
    "NaN": ('{"event": NaN}', "NaN or Infinity"),
    "an array": ("[1]", "is not a JSON object"),
    "a deep one": ("[" * 60_000, "is not the JSON object"),
    "a long number": ('{"revision": ' + "9" * 5000 + "}", "is not the JSON object"),
    "a key twice": ('{"event": "HelpRequested", "event": "HelpRequested"}', "has a key twice"),
    "not UTF-8": (b'{"event": "\xff"}', "is not UTF-8"),
    "a huge line": ('{"event": "' + "x" * 70_000 + '"}', "is longer than 65536 characters"),
    "a number as text": (line(case=17), "case: must be text"),
    "a symbol as number": (line(service_category=1), "service_category: must be one of"),
    "a null symbol": (line(service_category=None), "service_category: may not be null"),
    "a fraction": (line(revision=1.5), "revision: must be a whole number"),
    "text as a number": (line(revision="1"), "revision: must be a whole number"),
    "half a letter": (
        '{"event": "HelpRequested", "case": "\\ud800", "occurred_on": "2023-01-01"}',
        "case: is not valid",
    ),
    "an unknown key": (line(**{NAME: 1}), "key 5: is not a field of HelpRequested"),
    "no event": ('{"case": "a"}', "event: is missing"),
    "an unknown event": (line(event=NAME), "event: is not a known event type"),
    "a withdrawal with attributes": (line(event="CaseWithdrawn"), "is not a field of CaseWithdrawn"),
}


@pytest.mark.parametrize("mistake", JSONL_MISTAKES)
def test_a_bad_line_of_jsonl_is_named_with_its_reason_and_nothing_is_sent(place: Place, mistake: str) -> None:
    text, reason = JSONL_MISTAKES[mistake]
    data = text if isinstance(text, bytes) else text.encode()
    result = place.emit(line().encode() * 2 + b"\r\n" + data.rstrip(b"\n") + b"\n" + line().encode())
    shown = said(result)
    assert result.exit_code == 1
    assert f"cases.jsonl line 4: {reason}" in shown or ("line 4: " in shown and reason in shown)
    assert "line 5" not in shown
    assert NAME not in shown.replace(str(place.folder), "")
    assert place.events() == []


CSV_MISTAKES: dict[str, tuple[str | bytes, str]] = {
    "an unknown symbol": (f"HelpRequested,{NAME},2023-10-03,MOBILISD", 'service_category: .*did you mean "MOBILISED"'),
    "more values": (f"HelpRequested,{NAME},2023-10-03,MOBILISED,{NAME},{NAME}", "has more values than"),
    "fewer values": (f"HelpRequested,{NAME}", "has fewer values than"),
    "not UTF-8": (b"HelpRequested,\xe9,2023-10-03,MOBILISED", "is not UTF-8"),
    "text after a quotation": (f'HelpRequested,"{NAME}"x,2023-10-03,MOBILISED', "quotation mark"),
    "no case": ("HelpRequested,,2023-10-03,MOBILISED", "case: is missing"),
    "a day that is none": (f"HelpRequested,{NAME},2023-02-29,MOBILISED", "occurred_on: is not a day"),
    "a column of another type": (f"CaseWithdrawn,{NAME},2023-02-28,MOBILISED", "service_category: is not a field of"),
}


@pytest.mark.parametrize("mistake", CSV_MISTAKES)
def test_a_bad_line_of_csv_is_named_by_the_line_it_begins_on(place: Place, mistake: str) -> None:
    text, reason = CSV_MISTAKES[mistake]
    data = text if isinstance(text, bytes) else text.encode()
    # What nobody mended of a bad line may hold line breaks.
    header = HEADER.replace("\n", ",original\r\n").encode()
    quoted = f'HelpRequested,{NAME},2023-10-03,MOBILISED,"{NAME}\r\nsecond line"\r\n\r\n'.encode()
    data += b"," if data.count(b",") >= 3 else b""
    result = place.emit(header + quoted + data + b"\n" + quoted, name="cases.csv")
    shown = said(result)
    assert result.exit_code == 1
    assert "cases.csv line 5: " in shown
    assert any(re.search(reason, each) for each in shown.splitlines() if "line 5: " in each)
    assert shown.count(" line ") == 1
    assert NAME not in shown.replace(str(place.folder), "")
    assert place.events() == []


def test_a_quotation_that_is_not_closed_is_named_where_it_opens(place: Place) -> None:
    rest = f"HelpRequested,{NAME},2023-10-03,MOBILISED\n"
    for times in (3, 3000):
        result = place.emit(
            HEADER + rest + f'HelpRequested,"{NAME},2023-10-03,MOBILISED\n' + rest * times, name="c.csv"
        )
        assert "c.csv line 3: " in said(result)
        assert "quotation mark" in said(result)
        assert said(result).count(" line ") == 1


@pytest.mark.parametrize(
    "header, reason",
    [
        (
            "event,case,occurred_on,servicecategory",
            r'column 4 is not a field of any event type; did you mean "service_',
        ),
        (f"HelpRequested,{NAME},2023-10-03,MOBILISED", "columns 1-4 are not fields"),
        ("event,case,occurred_on,case", "column 4 stands there twice"),
        ("event,case", "the column occurred_on is missing"),
        ("event case occurred_on", "column 1 is not a field"),
        ("", "has no header"),
        ('"event', "header cannot be read"),
    ],
)
def test_a_header_that_is_not_in_order_is_said_once(place: Place, header: str, reason: str) -> None:
    body = f"HelpRequested,{NAME},2023-10-03,MOBILISED\n" * 5 if header.count(",") else ""
    result = place.emit(f"{header}\n{body}" if header else "", "--skip-bad", name="cases.csv")
    shown = said(result)
    assert result.exit_code == 1
    assert re.search(reason, shown)
    assert not re.search(r" line \d", shown)
    assert NAME not in shown.replace(str(place.folder), "")
    assert place.events() == []
    assert not list(place.folder.glob("*bad*"))


def test_csv_that_is_read_as_jsonl_is_told_how_to_give_its_format(place: Place) -> None:
    rest = f"HelpRequested,{NAME},2023-10-03,MOBILISED\n" * 3
    first, *others = said(place.emit(HEADER + rest)).splitlines()
    assert first.endswith("line 1: is not JSON (column 1). Give --format csv if it is CSV")
    assert not any("CSV" in each for each in others)
    assert "CSV" not in said(place.emit('{"event" "HelpRequested"}\n[1]\n' + rest))


@pytest.mark.parametrize("suffix", ["xls", "XLSB", "ods"])
def test_an_old_or_a_foreign_spreadsheet_is_to_be_saved_as_another(place: Place, suffix: str) -> None:
    assert "Save the file as .xlsx, or as CSV in UTF-8" in said(place.emit(b"PK\x03\x04", name=f"cases.{suffix}"))


def test_every_mistake_of_a_line_is_said(place: Place) -> None:
    shown = said(place.emit(line(case="", occurred_on="soon", region="MOON", revision="x")))
    assert [each.split(": ")[1] for each in shown.splitlines()[:4]] == ["case", "occurred_on", "revision", "region"]


def check_that_a_reason_is_said_once(place: Place) -> None:
    """One key is wrong in every line, and another one in the last: the first may not hide the second."""
    shown = said(place.emit(line(region="MOON") * 33 + line(region="MOON", case="")))
    assert shown.count("region: must be one of") == 1, "a reason is said again"
    assert "cases.jsonl lines 1-34: region: must be one of" in shown
    assert re.search(r"cases\.jsonl line 34: case: ", shown)
    assert "more problem" not in shown


def test_a_reason_is_said_once_with_the_first_twenty_of_its_lines(place: Place) -> None:
    check_that_a_reason_is_said_once(place)


def test_a_twin_that_says_a_reason_for_each_line_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Check.shown

    def shown(found: Check) -> list[str]:
        return [each for each in real(found) for _ in range(2)]

    monkeypatch.setattr(Check, "shown", shown)
    with pytest.raises(AssertionError, match="said again"):
        check_that_a_reason_is_said_once(place)


def test_twenty_reasons_are_shown_and_the_problems_with_others_are_counted(place: Place) -> None:
    """Each line breaks at another column, so that each has a reason of its own."""
    shown = said(place.emit("".join(f'{{"{"e" * number}" 1}}\n' for number in range(33))))
    assert shown.count("is not JSON (column ") == 20
    assert "... and 13 more problems, for other reasons." in shown
    shown = said(place.emit("".join(f'{{"{"e" * number}" 1}}\n' for number in range(21))))
    assert "... and 1 more problem, for other reasons." in shown


def test_the_fields_of_an_event_are_listed_once_however_many_keys_it_has_not(place: Place) -> None:
    shown = said(place.emit(line(kind=1, regoin=2, other=3)))
    assert shown.count("is not a field of HelpRequested") == 3
    assert shown.count("its fields: ") == 1
    assert 'key 6: is not a field of HelpRequested; did you mean "region"?\n' in shown


def test_a_date_that_lies_ahead_is_told_the_latest_that_is_taken_and_what_to_do(place: Place) -> None:
    before = utc_today()
    shown = said(place.emit(line(occurred_on="2098-01-01")))
    latest = re.search(r"occurred_on: lies in the future; the latest date that is taken is (\S+), tomorrow", shown)
    assert latest
    assert before <= dt.date.fromisoformat(latest[1]) - dt.timedelta(days=1) <= utc_today()
    assert "Correct the date, or emit the event after it occurred" in shown
    assert place.emit(line(occurred_on=latest[1])).exit_code == 0
