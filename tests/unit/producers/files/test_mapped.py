"""`quietcount emit --mapping`, several files, and a dry run: what is sent of an export, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.producers.emissions import GOOD, HEADER, NAME, Place, line, place, said

from quietcount_producers.files import emission

pytestmark = pytest.mark.quick

__all__ = ["place"]  # fixtures, which tests ask for by name

MAPPING = """
source = "intake"
case = "Nr"
record = "ID"
ignore = ["note", "reason"]

[file]
format = "csv"

[[event]]
event = "HelpRequested"
part = "opened"
occurred_on = { column = "opened", format = "day.month.year" }
fields = { region = "where" }

[[event]]
event = "OutcomeRecorded"
part = "closed"
occurred_on = { column = "closed", format = "day.month.year" }
when = [{ column = "closed", filled = true }]

[[skip]]
column = "where"
values = ["test"]
"""
EXPORT = (
    "Nr;ID;opened;closed;where;note;reason\n"
    '17;1;3.10.2023;9.11.2023;ural;"two\nlines";fear\n'
    "18;2;4.10.2023;;VOLGA;;\n"
    "19;3;5.10.2023;;test;;\n"
)


@pytest.fixture
def mapping(place: Place) -> Path:
    path = place.folder / "intake.toml"
    path.write_text(MAPPING)
    return path


def test_a_row_gives_its_events_and_a_row_for_nobody_none(place: Place, mapping: Path) -> None:
    result = place.emit(EXPORT, "--mapping", str(mapping), name="export.csv")
    assert result.exit_code == 0, said(result)
    assert "export.csv: 3 events, and 1 row that stands for nobody; every line is in the log." in result.stderr
    assert [event.event for event in place.events()] == ["HelpRequested", "OutcomeRecorded", "HelpRequested"]
    assert len({event.case_key for event in place.events()}) == 2
    place.emit(EXPORT, "--mapping", str(mapping), name="again.csv")
    assert len({event.event_id for event in place.events()}) == 3


def test_a_row_is_sent_whole_or_not_at_all_and_its_bad_line_is_mended_with_the_same_mapping(
    place: Place, mapping: Path
) -> None:
    mapping.write_text(MAPPING.replace('format = "csv"', 'format = "csv"\ndelimiter = ";"\nencoding = "windows-1251"'))
    export = EXPORT.replace("17;", "Ї;").replace("9.11.2023", "sooner")
    result = place.emit(export.encode("cp1251"), "--mapping", str(mapping), "--skip-bad", name="export.csv")
    assert result.exit_code == 0, said(result)
    assert "export.csv lines 2-3: closed: " in result.stderr
    assert "export.csv: 1 event, and 1 row that stands for nobody; every good line" in result.stderr
    assert len(place.events()) == 1
    bad = place.folder / "export.csv.bad.csv"
    text = bad.read_text("utf-8-sig")
    assert text.startswith("Nr;ID;opened;closed;where;note;reason;line;reason;original")
    mended = place.folder / "mended.csv"
    mended.write_text(text.replace("sooner", "9.11.2023"), encoding="utf-8-sig")
    assert place.run(str(mended), "--mapping", str(mapping)).exit_code == 0
    assert len(place.events()) == 3
    # The same rows as the export has, once it is mended itself.
    place.emit(export.replace("sooner", "9.11.2023").encode("cp1251"), "--mapping", str(mapping), name="whole.csv")
    assert len({event.event_id for event in place.events()}) == 3


def test_a_line_break_is_taken_in_an_ignored_column_alone_unless_it_hides_rows(place: Place, mapping: Path) -> None:
    def told(rows: str) -> str:
        header = EXPORT.partition("\n")[0]
        return said(place.emit(f"{header}\n{rows}", "--mapping", str(mapping), name="export.csv"))

    assert "export.csv lines 2-3: Nr: a quotation mark" in told('"17\n";1;3.10.2023;;ural;;\n')
    hidden = '17;1;3.10.2023;;ural;"stray;\n18;2;4.10.2023;;ural;;\n19;3;4.10.2023;;ural;stray";\n'
    assert "export.csv lines 2-4: note: a quotation mark" in told(hidden)
    assert place.events() == []


def test_columns_that_the_mapping_does_not_know_are_told_with_the_file(place: Place, mapping: Path) -> None:
    shown = said(place.emit("Nr;ID;opened;closed;where;note;reason;more\n", "--mapping", str(mapping), name="x.csv"))
    assert "x.csv: The mapping" in shown
    assert "'more'" in shown
    assert "x.csv: The file has no column" in said(
        place.emit(f"{NAME};b\n1;2\n", "--mapping", str(mapping), name="x.csv")
    )


def test_a_column_that_is_missing_below_a_title_is_told_alone(place: Place, mapping: Path) -> None:
    """The title has none of the columns, but it is not the header."""
    content = "Intake, as of today\n" + EXPORT.replace("closed", "ended", 1)
    told = said(place.emit(content, "--mapping", str(mapping), name="export.csv"))
    assert "The file has no column closed, which the mapping" in told
    told = said(place.emit("Cases of 2023;;\nevent;case;occured_on\nHelpRequested;17;2023-10-03\n", name="cases.csv"))
    assert "column 3 is not a field of any event type; did you mean" in told
    assert "the column case is missing" not in told


@pytest.mark.parametrize("indent", [None, 1])
def test_records_that_lie_at_a_path_of_a_document_are_read_and_mended(place: Place, indent: int | None) -> None:
    mapping = place.folder / "form.toml"
    mapping.write_text(
        'case = "who.id"\nignore = "all others"\n[file]\nformat = "json"\nrecords = "data.results"\n'
        '[[event]]\nevent = "HelpRequested"\noccurred_on = "day"\nfields = { region = "where" }\n'
    )
    records: list[dict[str, object]] = [
        {"who": {"id": str(number)}, "day": "2023-10-03", "where": "URAL", "reason": "x"} for number in range(3)
    ]
    records[1]["where"] = "MOON"
    document = {"count": 3, "data": {"pages": [1, {"results": []}], "results": records, "next": None}}
    content = json.dumps(document, indent=indent)
    result = place.emit(content, "--mapping", str(mapping), "--skip-bad", name="form.json")
    assert result.exit_code == 0, said(result)
    assert len(place.events()) == 2
    kept = json.loads((place.folder / "form.json.bad.jsonl").read_text())
    assert kept["original"] == records[1]
    bad = place.folder / "form.json.bad.jsonl"
    bad.write_text(bad.read_text().replace("MOON", "URAL"))
    assert place.run(str(bad), "--mapping", str(mapping)).exit_code == 0
    assert len({event.case_key for event in place.events()}) == 3
    mapping.write_text(mapping.read_text().replace("data.results", "data.rows"))
    shown = said(place.emit(content, "--mapping", str(mapping), name="form.json"))
    assert "has no list of records at the path that the mapping names. Correct `records` in the mapping" in shown


def test_several_files_are_checked_before_one_is_sent_and_each_is_told(place: Place) -> None:
    for name, content in (
        ("a.jsonl", line() + line(case="b")),
        ("b.csv", HEADER + "HelpRequested,c,2023-10-03,MOON\n"),
    ):
        (place.folder / name).write_text(content)
    paths = [str(place.folder / name) for name in ("a.jsonl", "b.csv")]
    assert "b.csv line 2: service_category" in said(place.run(*paths))
    assert place.events() == []
    result = place.run(*paths, "--skip-bad")
    assert "a.jsonl: 2 events; every line is in the log." in result.stderr
    assert "b.csv has no good line: " in result.stderr
    assert len(place.events()) == 2
    assert place.run(*paths, "--skip-bad", "--bad-file", "x").exit_code == 2


def test_files_of_one_call_are_the_same_events_as_files_of_a_call_each(place: Place) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (place.folder / name).write_text(line() + line())
    paths = [str(place.folder / name) for name in ("a.jsonl", "b.jsonl")]
    place.run(*paths)
    for path in paths:
        place.run(path)
    assert len(place.events()) == 8
    assert len({event.event_id for event in place.events()}) == 2


def test_one_id_with_other_facts_in_a_second_file_is_told(place: Place) -> None:
    identity = "35634c09-e5ef-48a7-ba44-95f0feff2761"
    (place.folder / "a.jsonl").write_text(line(event_id=identity))
    (place.folder / "b.jsonl").write_text(line(event_id=identity, region="URAL"))
    paths = [str(place.folder / name) for name in ("a.jsonl", "b.jsonl")]
    shown = said(place.run(*paths))
    assert "b.jsonl line 1: event_id: stands on line 1 of " in shown
    assert "a.jsonl already with the same revision and other facts" in shown
    (place.folder / "b.jsonl").write_text(line(event_id=identity, region="URAL", revision=1) + line(event_id=identity))
    assert place.run(*paths).exit_code == 0


def test_one_record_with_other_facts_is_told_however_its_name_is_written(place: Place, mapping: Path) -> None:
    rows = "18;caf\u00e9;4.10.2023;;VOLGA;;\n18;cafe\u0301;4.10.2023;;ural;;\n"
    shown = said(place.emit(EXPORT.splitlines()[0] + "\n" + rows, "--mapping", str(mapping), name="export.csv"))
    assert "line 3: ID: stands on line 2 already with the same revision and other facts" in shown


def test_a_reader_that_takes_one_id_for_two_events_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emission.Identities, "other", lambda *_: None)
    with pytest.raises(AssertionError):
        test_one_id_with_other_facts_in_a_second_file_is_told(place)


def test_a_dry_run_shows_events_by_type_and_symbol_and_nothing_else(place: Place, mapping: Path) -> None:
    result = place.emit(EXPORT, "--mapping", str(mapping), "--dry-run", name="export.csv")
    table = [each.split() for each in result.stdout.splitlines()]
    assert ["HelpRequested", "2"] in table
    assert ["OutcomeRecorded", "1"] in table
    assert ["region", "URAL", "1"] in table
    assert ["region", "VOLGA", "1"] in table
    assert "2023" not in result.stdout
    assert (
        "export.csv: 3 events, and 1 row that stands for nobody; every line is good. Nothing was sent." in result.stderr
    )
    assert place.events() == []
    assert GOOD["case"] not in result.output


def test_pages_of_a_tool_that_were_put_together_are_read_whole(place: Place) -> None:
    path = place.folder / "pages.toml"
    path.write_text(
        'case = "id"\nignore = "all others"\n[file]\nrecords = "data.results"\n'
        '[[event]]\nevent = "HelpRequested"\noccurred_on = "day"\n'
    )

    def page(*cases: str) -> str:
        records = [{"id": case, "day": "2023-10-03"} for case in cases]
        return json.dumps({"data": {"count": 1, "results": records, "next": {"page": 2}}, "more": [1]}, indent=1)

    mapped = ("--mapping", str(path))
    result = place.emit(page("c1", "c2") + "\n" + page("c3"), *mapped, name="pages.json")
    assert "pages.json: 3 events; every line is in the log." in result.stderr
    assert len(place.events()) == 3
    for content, message in (
        (page("c4")[:-1], "as if it was cut"),
        (page("c4") + NAME, "has no list of records at the path"),
        (page("c4").replace('"next"', '"results": [], "next"'), "has the list of records twice"),
    ):
        assert message in said(place.emit(content, *mapped, name="pages.json"))
    assert len(place.events()) == 3
