"""Files of the kinds that people brought: each gives the right events, or a message that says what to do."""

from __future__ import annotations

import json
import re

import pytest
from tests.unit.producers.emissions import NAME, Place, place, said

from quietcount_producers.files import csv_rows

pytestmark = pytest.mark.quick

__all__ = ["place"]  # fixtures, which tests ask for by name

HEADER = "event,case,occurred_on,region"
ROWS = ["HelpRequested,c1,2023-10-03,URAL", "HelpRequested,c2,2023-10-04,VOLGA"]
TABLE = "\n".join([HEADER, *ROWS, ""])
EVENTS = [{"event": "HelpRequested", "case": f"c{number}", "occurred_on": "2023-10-03"} for number in (1, 2)]

TAKEN: dict[str, tuple[str, str | bytes]] = {
    "UTF-16 without a mark": ("csv", TABLE.encode("utf-16-le")),
    "UTF-16 the other way round, without a mark": ("csv", TABLE.encode("utf-16-be")),
    "UTF-16 of Cyrillic names, without a mark": ("csv", TABLE.replace("c1", "Кириллица" * 100).encode("utf-16-le")),
    "marks in marks": ("csv", TABLE.replace("c1", '"a ""b"" c"')),
    "UTF-16 with a mark": ("csv", TABLE.encode("utf-16")),
    "a line that names the separator": ("csv", "sep=;\n" + TABLE.replace(",", ";")),
    "carriage returns alone": ("csv", TABLE.replace("\n", "\r")),
    "carriage returns, none at the end": ("csv", TABLE.replace("\n", "\r").rstrip("\r")),
    "a title": ("csv", f"Export of 2023-11-01,,,\n{TABLE}"),
    "a title with a comma, and a line of dates": ("csv", f"Helpline, all\n\n2023-10-01;2023-10-31\n{TABLE}"),
    "tags below the header": ("csv", f"{HEADER}\n#event,#id+case,#date,#adm1 +name\n" + "\n".join(ROWS)),
    "columns without a name at the end": ("csv", "\n".join(f"{each},," for each in (HEADER, *ROWS))),
    "a list": ("json", json.dumps(EVENTS)),
    "a list over many lines": ("jsonl", json.dumps(EVENTS, indent=2)),
    "a list with a mark": ("json", "\ufeff" + json.dumps(EVENTS, indent=2)),
    "a list in UTF-16": ("json", json.dumps(EVENTS).encode("utf-16")),
    "objects over many lines": ("jsonl", "\n".join(json.dumps(each, indent=1) for each in EVENTS)),
    "an object a line, called json": ("json", "\n".join(map(json.dumps, EVENTS))),
}


@pytest.mark.parametrize("what", TAKEN)
def test_a_file_as_tools_write_it_gives_its_events(place: Place, what: str) -> None:
    suffix, content = TAKEN[what]
    result = place.emit(content, name=f"cases.{suffix}")
    assert result.exit_code == 0, said(result)
    assert result.stderr.endswith(f"cases.{suffix}: 2 events; every line is in the log.\n")
    assert len({event.case_key for event in place.events()}) == 2


REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "a mark that is closed lines below": (
        "csv",
        f'{HEADER}\nHelpRequested,"{NAME},2023-10-03,URAL\n{ROWS[0]}\nHelpRequested,c3",2023-10-05,URAL\n{ROWS[1]}\n',
        "cases.csv lines 2-4: case: a quotation mark opens a cell that goes on over these lines",
    ),
    "a mark that swallows four hundred rows": (
        "csv",
        f'{HEADER}\nHelpRequested,"{NAME},2023-10-03,URAL\n'
        + f"{ROWS[0]}\n" * 399
        + 'HelpRequested,a",2023-10-03,URAL\n',
        "cases.csv lines 2-402: case: a quotation mark",
    ),
    "a mark that is never closed": (
        "csv",
        f'{HEADER}\nHelpRequested,"{NAME},2023-10-03,URAL\n' + f"{ROWS[0]}\n" * 5000,
        "cases.csv line 2: opens a cell with a quotation mark that is not closed",
    ),
    "a mark on each of two lines": (
        "csv",
        f'{HEADER}\n{ROWS[0]}\nHelpRequested,"{NAME},2023-10-03,URAL\nHelpRequested,"{NAME},2023-10-03,URAL\n{ROWS[1]}\n',
        "cases.csv lines 3-4: opens a cell with a quotation mark that is not closed",
    ),
    "a mark that only closes": (
        "csv",
        f'{HEADER}\nHelpRequested,{NAME}",2023-10-03,URAL\n{ROWS[0]}\n',
        "cases.csv line 2: case: holds a quotation mark that is not part of a pair",
    ),
    "a space before a mark": (
        "csv",
        f'{HEADER}\nHelpRequested, "{NAME}",2023-10-03,URAL\n',
        "cases.csv line 2: case: holds a quotation mark that is not part of a pair",
    ),
    "Windows-1251": (
        "csv",
        f"{HEADER}\nHelpRequested,Кириллица,2023-10-03,URAL\n".encode("cp1251"),
        "line 2: is not UTF-8 text; save the file as UTF-8, or if it is windows-1251 (Cyrillic), give --encoding",
    ),
    "Windows-1252": (
        "csv",
        f"{HEADER}\nHelpRequested,Zoé Müller,2023-10-03,URAL\n".encode("cp1252"),
        "line 2: is not UTF-8 text; save the file as UTF-8, or if it is windows-1252 (Western Europe), give",
    ),
    "another encoding above the header": (
        "csv",
        "Отчёт\n".encode("cp1251") + TABLE.encode(),
        "--encoding windows-1251",
    ),
    "a title and no header": ("csv", f"{NAME}, all\n{ROWS[0]}\n", "the column event is missing"),
    "forty columns of its own": (
        "csv",
        ",".join(f"{NAME}{number}" for number in range(40)) + "\n",
        "columns 1-40 are not fields of any event type",
    ),
    "a list that breaks off": ("json", json.dumps(EVENTS)[:-20], "line 1 is not JSON: it breaks off before the end"),
    "a list without a comma": ("json", json.dumps(EVENTS, indent=1).replace("},", "}"), "a comma is missing"),
    "a list with text behind it": ("json", json.dumps(EVENTS) + NAME, "has text behind the end of its list"),
    "no JSON in a list": ("json", f"[\n{json.dumps(EVENTS[0])},\n{NAME}]", "line 3 is not JSON: it cannot be read"),
    "a list of lists": ("json", f'[["{NAME}"]]', "line 1: is not a JSON object"),
    "a key twice in a list": ("json", f'[{{"event":1, "event":2, "case": "{NAME}"}}]', "has a key twice"),
    "a first line that is cut": ("jsonl", '{"event": "Help\n' + json.dumps(EVENTS[0]) + "\n", "line 1: is not JSON"),
    "a list inside a document": (
        "json",
        json.dumps({"count": 2, "results": EVENTS}),
        "A mapping says where its records",
    ),
    "a workbook that is none": ("xlsx", NAME, "is not an .xlsx workbook"),
    "one id for two events": (
        "csv",
        f"{HEADER},event_id\n{ROWS[0]},3f0c1d52-7a64-4c1e-9a51-0b6f2d7e8a12\n\n"
        f"{ROWS[0].replace('URAL', 'VOLGA')},3F0C1D52-7A64-4C1E-9A51-0B6F2D7E8A12\n",
        "line 4: event_id: stands on line 2 already with the same revision and other facts",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_cannot_be_read_is_told_what_it_is_and_the_way_on(place: Place, what: str) -> None:
    suffix, content, message = REFUSED[what]
    result = place.emit(content, name=f"cases.{suffix}")
    shown = said(result)
    assert result.exit_code == 1
    assert message in shown
    assert len(shown.replace(str(place.folder), "")) < 1200
    for value in (NAME, "Кирил", "Müller", "3f0c1d52"):
        assert value not in shown.replace(str(place.folder), "")
    assert place.events() == []


def test_a_file_without_events_says_so_and_is_no_error(place: Place) -> None:
    for options in ((), ("--dry-run",)):
        result = place.emit(HEADER + "\n", *options, name="cases.csv")
        assert result.exit_code == 0
        assert "cases.csv holds no events: it has no line, or none below the names of the columns." in result.stderr
        assert "every line" not in result.stderr


def test_what_follows_a_mark_that_is_not_closed_is_sent_and_the_one_line_kept(place: Place) -> None:
    lines = [f"HelpRequested,c{number},2023-10-03,URAL" for number in range(3000)]
    content = "\n".join([HEADER, 'HelpRequested,"a,2023-10-03,URAL', *lines, ""])
    result = place.emit(content, "--skip-bad", name="cases.csv")
    assert "3,000 events; every good line is in the log" in result.stderr
    assert len(place.events()) == 3000
    kept = (place.folder / "cases.csv.bad.csv").read_text()
    assert kept.count("\n") == 2
    assert '"HelpRequested,""a,2023-10-03,URAL"' in kept


def test_lines_that_a_mark_swallowed_are_kept_whole_and_told_as_not_mended(place: Place) -> None:
    swallowed = 'HelpRequested,"a,2023-10-03,URAL\nHelpRequested,c3",2023-10-05,URAL'
    place.emit("\n".join([HEADER, swallowed, *ROWS]), "--skip-bad", name="cases.csv")
    assert len(place.events()) == 2
    bad = place.folder / "cases.csv.bad.csv"
    assert swallowed.replace('"', '""') in bad.read_text()
    assert "is a bad line that nobody has mended yet" in said(place.run(str(bad)))


def test_a_windows_encoding_is_read_if_it_is_named_and_gives_the_same_people(place: Place) -> None:
    text = f"{HEADER}\nHelpRequested,Кириллица,2023-10-03,URAL\n"
    place.emit(text, name="utf-8.csv")
    assert place.emit(text.encode("cp1251"), "--encoding", "windows-1251", name="cases.csv").exit_code == 0
    one, other = place.events()
    assert one == other
    # Named for a file that is UTF-8, it would make another person of each name.
    assert "is UTF-8 text, and not in the encoding" in said(place.emit(text, "--encoding", "cp1251", name="utf-8.csv"))
    assert "is UTF-8 text, and not in the encoding" in said(place.emit(text, "--encoding", "gbk", name="utf-8.csv"))
    assert "no encoding of the name" in said(place.emit(text, "--encoding", "rot13", name="utf-8.csv"))


def test_a_reader_that_lets_cells_go_on_over_lines_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "_swallowing", lambda *_: None)
    _, content, _ = REFUSED["a mark that swallows four hundred rows"]
    result = place.emit(content, name="cases.csv")
    assert not re.search("lines 2-402: case: a quotation mark opens", said(result))


def test_problems_are_told_once_with_ranges_of_lines(place: Place) -> None:
    rows = [f"HelpRequested,c{number},2023-10-03,MOON" for number in range(400)]
    rows[200] = "HelpRequested,,2023-10-03,URAL"
    shown = said(place.emit("\n".join([HEADER, *rows]), name="cases.csv"))
    assert "cases.csv lines 2-201, 203-401: region: must be one of" in shown
    assert "cases.csv line 202: case: is missing" in shown
    assert shown.count("\n") == 2


LOOK_ALIKES = {
    "capitals": (f"{NAME} 17", f"{NAME} 17".upper()),
    "Cyrillic": ("A 17", "\u0410 17"),
    "Greek": ("AB 17", "\u0391\u0392 17"),
    "capitals of Cyrillic": ("\u0434\u0435\u043b\u043e 17", "\u0414\u0435\u043b\u043e 17"),
    "both": ("p 17", "\u0420 17"),
}


@pytest.mark.parametrize("what", LOOK_ALIKES)
def test_identifiers_of_one_file_that_look_alike_are_told_with_their_lines(place: Place, what: str) -> None:
    one, other = LOOK_ALIKES[what]
    rows = [f"HelpRequested,{case},2023-10-03,URAL" for case in (one, "c1", other, "c2", other, one)]
    for options, good in (((), True), (("--dry-run",), True), ((), False)):
        content = "\n".join([HEADER, *rows, *([] if good else ["HelpRequested,,2023-10-03,URAL"]), ""])
        result = place.emit(content, *options, name="cases.csv")
        assert (result.exit_code == 0) is good
        notes = [each for each in result.stderr.splitlines() if "letters of another alphabet" in each]
        assert len(notes) == 1
        assert "cases.csv lines 2 and 4: the identifiers differ only in capitals" in notes[0]
        for value in (one, other, "17"):
            assert value.casefold() not in said(result).replace(str(place.folder), "").casefold()
    assert len({event.case_key for event in place.events()}) == 4  # they stay different people


def test_identifiers_that_are_one_or_differ_otherwise_are_not_told(place: Place) -> None:
    rows = [
        f"HelpRequested,{case},2023-10-03,URAL" for case in ("Zo\u00eb", "Zoe\u0308", "Zoe", "17", "017", "A17", "A18")
    ]
    result = place.emit("\n".join([HEADER, *rows, ""]), name="cases.csv")
    assert result.exit_code == 0, said(result)
    assert "letters of another alphabet" not in result.stderr


@pytest.mark.parametrize("path", ["/", ".", ""])
def test_a_folder_without_a_name_is_no_file(place: Place, path: str) -> None:
    assert "is a folder. Name the files in it" in said(place.run(path, "--format", "csv"))


def test_events_that_stand_there_twice_under_one_id_are_told(place: Place) -> None:
    one = f"{ROWS[0]},3f0c1d52-7a64-4c1e-9a51-0b6f2d7e8a12"
    result = place.emit("\n".join([f"{HEADER},event_id", one, one, f"{ROWS[0]},", f"{ROWS[0]},", ""]), name="cases.csv")
    assert "3 events, and 1 more that stood there before under the same id and count once" in result.stderr
    assert len({event.event_id for event in place.events()}) == 3


def test_a_copy_of_a_file_is_told(place: Place) -> None:
    for name in ("may.csv", "copy.csv"):
        (place.folder / name).write_text(TABLE)
    paths = [str(place.folder / name) for name in ("may.csv", "copy.csv")]
    result = place.run(*paths, "--dry-run")
    assert "may.csv: 2 events; every line" in result.stderr
    assert "copy.csv: 0 events, and 2 more that stood there before under the same id and count once" in result.stderr
    assert re.search(r"^HelpRequested +2$", result.stdout, re.MULTILINE)
    place.run(*paths)
    assert len({event.event_id for event in place.events()}) == 2


def test_a_file_that_is_named_twice_is_refused(place: Place) -> None:
    path = place.folder / "may.csv"
    path.write_text(TABLE)
    (place.folder / "link.csv").symlink_to(path)
    for twice in ((str(path), str(path)), (str(path), str(place.folder / "link.csv")), ("-", "-")):
        assert "is the same file as" in said(place.run(*twice))
    assert place.events() == []


def test_a_number_beyond_all_numbers_is_refused_in_a_file_as_in_a_delivery(place: Place) -> None:
    line = '{"event": "HelpRequested", "case": "c1", "occurred_on": "2023-10-03", "service_category": 1e999}\n'
    result = place.emit(line, name="cases.jsonl")
    assert "line 1: holds a number that is too large" in said(result)
    assert place.events() == []
