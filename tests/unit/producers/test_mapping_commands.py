"""`quietcount mapping`: a draft that knows columns and no people, and the mappings that come with the package."""

from __future__ import annotations

import json
import random
import re
import stat
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.strategies import registry_of, trial
from tests.unit.producers.emissions import Place, said

from quietcount_producers.commands.mapping import mapping_command
from quietcount_producers.errors import ProducersError
from quietcount_producers.mapping.catalogue import SHIPPED
from quietcount_producers.mapping.drafting import draft
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
NAME = "Nobody-may-read-this"
KINDS = ("Deserting", "Legal aid", "Юридическая помощь", "Something else")
HEADER = "Case ID;Opened;Reason;Region;Changed;Urgent;Officer;Note"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def export(rows: int = 60) -> str:
    """An export with identifiers, names and texts of people in it."""
    chance = random.Random(13)
    lines = [HEADER]
    for number in range(rows):
        day, hour = chance.randint(1, 28), chance.randint(10, 23)
        kind = KINDS[number % 4]
        region = ("Volga", "Ural")[number % 2]
        lines.append(
            f"{NAME}-{number};{day}.10.2023;{kind};{region};2023-11-{day:02}T{hour}:00:00Z;"
            f"{chance.choice(('ja', 'nein'))};{NAME} {number % 3};{NAME} said {chance.random()}"
        )
    return "\n".join(lines) + "\n"


def run(place: Place, *arguments: str) -> Result:
    return CliRunner().invoke(mapping_command, [*arguments, "--config", str(place.config)])


def drafted(place: Place, content: str, name: str = "export-2023.csv") -> str:
    path = place.folder / name
    path.write_text(content, encoding="utf-8")
    result = run(place, "new", str(path))
    assert result.exit_code == 0, said(result)
    tomllib.loads(result.stdout)
    return result.stdout


def test_a_draft_knows_columns_kinds_and_symbols_and_nobody(place: Place) -> None:
    text = drafted(place, export())
    assert NAME not in text
    assert all(f"#   {column}" in text for column in HEADER.split(";"))
    assert 'source = "export"' in text
    assert '{ column = "Opened", format = "day.month.year" }' in text
    assert 'timezone = "FILL IN"' in text  # there are times in UTC
    assert '"Deserting" = "DESERTION"' in text
    assert '"Юридическая помощь" = "LEGAL_AID"' in text
    assert '"Something else" = "FILL IN"' in text
    assert '"Volga" = "VOLGA"' in text


def test_a_value_that_does_not_repeat_or_that_stands_in_another_column_is_not_named(place: Place) -> None:
    """A rare answer, a column that is named alike, and one with few names of people."""
    for often in (1, 3):
        assert NAME not in drafted(place, export().replace("Ural", f"Ural {NAME}", often))
    alike = export().replace("Officer", "In charge").replace("Note", "Kind of helper")
    assert NAME not in drafted(place, alike)


def test_a_draft_is_refused_by_emit_until_it_is_filled_in_and_works_then(place: Place) -> None:
    source, target = place.folder / "export.csv", place.folder / "mapping.toml"
    source.write_text(export(), encoding="utf-8")
    result = run(place, "new", str(source), "-o", str(target))
    assert result.exit_code == 0, said(result)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "There is a file" in said(run(place, "new", str(source), "-o", str(target)))
    refused = said(place.run(str(source), "--mapping", str(target)))
    assert "Fill in" in refused
    assert all(key in refused for key in ("case", "record", "timezone", "event.1.event", "event.1.fields.help_kind"))
    text = target.read_text(encoding="utf-8")
    text = text.replace('case = "FILL IN"', 'case = "Case ID"').replace('record = "FILL IN"', 'record = "Case ID"')
    text = text.replace('timezone = "FILL IN"', 'timezone = "Europe/Berlin"')
    text = text.replace('event = "FILL IN"', 'event = "HelpRequested"')
    text = text.replace('occurred_on = "FILL IN"', 'occurred_on = { column = "Opened", format = "day.month.year" }')
    target.write_text(re.sub('"FILL IN"', '"OTHER"', text.replace('otherwise = "FILL IN"', "")), encoding="utf-8")
    result = place.run(str(source), "--mapping", str(target))
    assert result.exit_code == 0, said(result)
    kinds = [str(each.attributes["help_kind"]) for each in place.events()]
    assert sorted(kinds) == sorted(["DESERTION", "LEGAL_AID", "LEGAL_AID", "OTHER"] * 15)


def test_days_that_can_be_read_in_two_ways_are_left_to_the_person() -> None:
    rows = [{"Nr": str(number), "on": f"0{number % 9 + 1}/0{number % 7 + 1}/2023"} for number in range(30)]
    text = draft("a.csv", ["Nr", "on"], rows, REGISTRY)
    assert "a day: day/month/year or month/day/year" in text
    assert 'occurred_on = { column = "on", format = "FILL IN" }' in text


@pytest.mark.parametrize(
    "values, shown",
    [
        (["45201", "45202.5"], 'format = "excel"'),
        (["1696291200", "1696377600"], 'format = "epoch seconds"'),
        (["10/3/2023 11:05 PM", "10/31/2023 1:00 AM"], 'format = "month/day/year hour:minute ampm"'),
        (["3-Oct-2023", "31-Dec-2023"], 'format = "day-monthname-year"'),
        (["2023-10-03T10:00:00+02:00", "2023-10-04"], 'occurred_on = "date"'),
    ],
)
def test_the_format_of_days_is_found(values: list[str], shown: str) -> None:
    rows = [{"Nr": str(number), "date": value} for number, value in enumerate(values)]
    assert shown in draft("a.csv", ["Nr", "date"], rows, REGISTRY)


def test_a_file_without_a_header_is_refused_because_its_first_line_is_somebodys(place: Place) -> None:
    path = place.folder / "a.csv"
    path.write_text(f"{NAME};3.10.2023;Volga\n{NAME} 2;4.10.2023;Ural\n", encoding="utf-8")
    told = said(run(place, "new", str(path)))
    assert "does not look like a header" in told
    assert NAME not in told


def test_a_draft_for_json_names_paths(place: Place) -> None:
    lines = [{"form": {"id": f"{NAME} {n}", "region": ("volga", "ural")[n % 2]}, "tags": ["a"]} for n in range(20)]
    text = drafted(place, "\n".join(map(json.dumps, lines)), "export.jsonl")
    assert "#   form.id " in text
    assert 'column = "form.region"' in text
    assert '"volga" = "VOLGA"' in text
    assert NAME not in text


def test_a_draft_for_a_document_around_its_records_names_their_list(place: Place) -> None:
    records = [{"id": f"{NAME} {n}", "form": {"region": ("volga", "ural")[n % 2]}} for n in range(20)]
    text = drafted(place, json.dumps({"count": 20, "data": {"results": records}}, indent=1), "export.json")
    assert '[file]\nrecords = "data.results"' in text
    assert 'column = "form.region"' in text
    assert NAME not in text


@pytest.mark.parametrize("content", ["", "\n\n", "one column\n1\n", "a;b\n", "a;a\n1;2\n", "\0\0", "[1, 2]"])
def test_a_file_that_no_draft_can_be_made_of_is_refused(place: Place, content: str) -> None:
    path = place.folder / "a.csv"
    path.write_text(content, encoding="utf-8")
    result = run(place, "new", str(path))
    assert isinstance(result.exception, ProducersError)
    assert result.exception.remedy


def test_a_path_that_leads_nowhere_is_refused(place: Place) -> None:
    assert "Cannot read" in said(run(place, "new", str(place.folder / "none.csv")))
    path = place.folder / "export.csv"
    path.write_text(export(), encoding="utf-8")
    assert "Cannot write" in said(run(place, "new", str(path), "-o", str(place.folder / "none" / "a.toml")))


def test_names_of_columns_cannot_break_out_of_a_comment_or_a_text() -> None:
    odd = ['a"b', "c\nd = 1", "e\\", "f\x7f\x01", "# g", "[[h]]", "'''", "i\ud800"]
    tomllib.loads(draft('x".csv', odd, [dict.fromkeys(odd, "1") for _ in range(9)], REGISTRY))


def test_the_mappings_that_come_with_the_package_are_listed_and_shown(place: Place, tmp_path: Path) -> None:
    listed = CliRunner().invoke(mapping_command, ["list"]).output.splitlines()
    assert [line.split()[0] for line in listed] == list(SHIPPED)
    for name, path in SHIPPED.items():
        assert CliRunner().invoke(mapping_command, ["show", name]).output == path.read_text(encoding="utf-8")
    assert CliRunner().invoke(mapping_command, ["show", "none"]).exit_code == 2


SHELTER = "№ записи;Код клиента;Дата обращения;Нужды;Изменено\n" + "".join(
    f"{number};{f'П-{number % 23}' if number % 5 else ''};{number % 9 + 13}.10.2023;врач, юрист;"
    f"{number % 9 + 13}.10.2023 11:{number:02}\n"
    for number in range(1, 41)
)


def test_a_draft_of_a_file_in_another_encoding_is_read_in_it_by_emit(place: Place) -> None:
    source, target = place.folder / "выгрузка.csv", place.folder / "mapping.toml"
    source.write_bytes(SHELTER.encode("cp1251"))
    assert run(place, "new", str(source), "--encoding", "windows-1251", "-o", str(target)).exit_code == 0
    draft = tomllib.loads(target.read_text(encoding="utf-8"))
    assert draft["file"] == {"encoding": "windows-1251"}


def test_a_draft_says_which_columns_may_be_the_person_and_which_the_row(place: Place) -> None:
    """The number of a row, taken for the person, makes two people of one who comes twice."""
    text = drafted(place, SHELTER)
    assert 'case = "FILL IN"    # maybe "Код клиента", "№ записи"\n' in text
    assert 'record = "FILL IN"    # maybe "№ записи"\n' in text


def test_a_draft_counts_the_revision_from_a_day_that_is_written_in_another_form(place: Place) -> None:
    changed, since = (
        '{ changed = "Изменено", since = "Дата обращения"',
        '["day.month.year hour:minute", "day.month.year"]',
    )
    assert f"# revision = {changed}, format = {since} }}\n" in drafted(place, SHELTER)


def test_a_draft_begins_with_event_types_of_ones_own() -> None:
    both = SchemaRegistry([*REGISTRY.event_types.values(), *registry_of(trial()).event_types.values()])
    text = draft("x.csv", ["a", "b"], [{"a": "1", "b": "2"}], both)
    assert 'event = "FILL IN"    # one of Trial, CaptivityRecorded' in text


def test_the_list_of_mappings_is_a_table() -> None:
    lines = CliRunner().invoke(mapping_command, ["list"]).output.splitlines()
    width = max(map(len, SHIPPED)) + 2
    assert all(line[:width].strip() in SHIPPED and line[width] != " " for line in lines)
