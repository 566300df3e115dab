"""Schema folders and the registry: own event types without code, what clashes, and the history that never changes."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.strategies import casework_files, envelope

from quietcount_schemas import Codec, Role, SchemaRegistry, SchemasError
from quietcount_schemas.events.definition import digest, read_definition
from quietcount_schemas.folder import FolderReason, inspect_folder
from quietcount_schemas.lint.evolution import EvolutionReason
from quietcount_schemas.lint.history import HISTORY_FILE, HistoryReason, read_history, record_history
from quietcount_schemas.lint.rules import LintReason
from quietcount_schemas.registry import CASEWORK, configured_folders, inspect

pytestmark = pytest.mark.quick

HOTLINE: dict[str, Any] = {
    "type": "record",
    "name": "HotlineCalled",
    "namespace": "example.hotline",
    "doc": "Somebody called the hotline.",
    "fields": [
        *envelope(),
        {
            "name": "channel",
            "type": {
                "type": "enum",
                "name": "Channel",
                "symbols": ["PHONE", "CHAT", "OTHER"],
                "default": "OTHER",
                "doc": "Ways to reach us.",
            },
            "default": "OTHER",
            "doc": "The way it came.",
        },
        {"name": "repeated", "type": "boolean", "default": False, "doc": "Whether it is not the first call."},
        {"name": "minutes", "type": {"type": "int", "minimum": 0, "maximum": 240}, "default": 0, "doc": "How long."},
    ],
}
ADDED = {"name": "urgent", "type": "boolean", "default": False, "doc": "Whether it hurries."}


def write(path: Path, definition: dict[str, Any], **changes: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**definition, **changes}, indent=2))
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "my-schemas"
    write(folder / "HotlineCalled.avsc", HOTLINE)
    return folder


def reasons(folder: Path) -> list[object]:
    return [finding.code for finding in inspect_folder(folder).findings]


def test_the_built_in_event_types_are_those_of_casework() -> None:
    registry = SchemaRegistry.load()
    assert list(registry.event_types) == [
        "CaptivityRecorded",
        "CaseWithdrawn",
        "CourtCaseFiled",
        "HelpRequested",
        "OutcomeRecorded",
        "SentencePassed",
    ]
    assert [each.name for each in registry.event_types.values() if each.role is Role.WITHDRAWAL] == ["CaseWithdrawn"]
    assert [field.name for field in registry.event_type("HelpRequested").dimensions] == [
        "help_kind",
        "service_category",
        "circumstance",
        "region",
    ]


def test_every_built_in_schema_is_found_by_its_fingerprint() -> None:
    registry = SchemaRegistry.load()
    versions = [version for each in registry.event_types.values() for version in each.versions]
    assert [registry.by_fingerprint(version.fingerprint) for version in versions] == versions
    assert registry.by_fingerprint(b"\0" * 8) is None


def test_an_own_event_type_needs_no_code(own: Path) -> None:
    registry = SchemaRegistry.load([own])
    event_type = registry.event_type("HotlineCalled")
    assert event_type.doc == "Somebody called the hotline."
    assert [field.name for field in event_type.dimensions] == ["channel", "repeated"]
    assert [field.name for field in event_type.attributes] == ["channel", "repeated", "minutes"]
    Codec(registry)


def test_versions_in_a_folder_are_read_in_their_order(own: Path) -> None:
    (own / "HotlineCalled").mkdir()
    (own / "HotlineCalled.avsc").rename(own / "HotlineCalled" / "1.avsc")
    for number in range(2, 12):
        added = [{**ADDED, "name": f"added_{each}"} for each in range(1, number)]
        write(own / "HotlineCalled" / f"{number}.avsc", HOTLINE, fields=[*HOTLINE["fields"], *added])
    event_type = SchemaRegistry.load([own]).event_type("HotlineCalled")
    assert [version.version for version in event_type.versions] == list(range(1, 12))
    assert event_type.current.version == 11
    assert "added_10" in [field.name for field in event_type.dimensions]


def test_a_refused_schema_is_refused_with_file_field_and_reason(own: Path) -> None:
    named = {"name": "full_name", "type": "string", "default": "", "doc": "Who."}
    write(own / "HotlineCalled.avsc", HOTLINE, fields=[*HOTLINE["fields"], named])
    with pytest.raises(SchemasError, match=r"HotlineCalled\.avsc: full_name: a free string can carry a name"):
        SchemaRegistry.load([own])


def test_a_long_list_of_findings_is_cut_short(own: Path) -> None:
    fields = [{"name": f"f{number}", "type": "string", "default": "", "doc": "x"} for number in range(30)]
    write(own / "HotlineCalled.avsc", HOTLINE, fields=[*envelope(), *fields])
    with pytest.raises(SchemasError, match=r"and 10 more: `quietcount schemas check` prints all"):
        SchemaRegistry.load([own])


@pytest.mark.parametrize("name", ["HelpRequested", "helprequested"])
def test_an_own_event_type_called_like_another_is_refused(own: Path, name: str) -> None:
    write(own / f"{name}.avsc", HOTLINE, name=name)
    with pytest.raises(SchemasError, match="already has an event type of that name"):
        SchemaRegistry.load([own])


def test_a_folder_named_twice_counts_once(own: Path) -> None:
    assert "HotlineCalled" in SchemaRegistry.load([own, own / ".." / own.name, CASEWORK]).event_types


def test_a_file_that_is_not_called_like_its_record_is_refused(own: Path) -> None:
    (own / "HotlineCalled.avsc").rename(own / "Hotline.avsc")
    assert reasons(own) == [LintReason.NAME_MISMATCH]


def test_a_folder_that_is_not_there_or_holds_no_schema_is_refused(tmp_path: Path) -> None:
    assert reasons(tmp_path / "nowhere") == [FolderReason.UNREADABLE]
    assert reasons(tmp_path) == [FolderReason.NO_SCHEMA]


def test_a_gap_in_the_versions_is_refused(own: Path) -> None:
    write(own / "Other" / "1.avsc", HOTLINE, name="Other")
    write(own / "Other" / "3.avsc", HOTLINE, name="Other", fields=[*HOTLINE["fields"], ADDED])
    assert reasons(own) == [FolderReason.VERSION_GAP]


def test_a_file_in_two_places_or_without_a_number_is_refused(own: Path) -> None:
    write(own / "HotlineCalled" / "1.avsc", HOTLINE)
    write(own / "HotlineCalled" / "01.avsc", HOTLINE)
    assert set(reasons(own)) == {FolderReason.TWO_PLACES, FolderReason.FILE_NAME}


def test_an_incompatible_version_is_refused(own: Path) -> None:
    write(own / "HotlineCalled" / "1.avsc", HOTLINE)
    (own / "HotlineCalled.avsc").unlink()
    minutes = {**HOTLINE["fields"][-1], "type": {"type": "int", "minimum": 0, "maximum": 600}}
    write(own / "HotlineCalled" / "2.avsc", HOTLINE, fields=[*HOTLINE["fields"][:-1], minutes, ADDED])
    assert reasons(own) == [EvolutionReason.BOUNDS_CHANGED, HistoryReason.MISSING]
    with pytest.raises(SchemasError, match="Add a field of another name instead"):
        SchemaRegistry.load([own])


def test_an_unknown_event_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SchemasError, match="The known ones are: CaptivityRecorded, CaseWithdrawn"):
        SchemaRegistry.load().event_type("HelpRequest")


# ---------------------------------------------------------------- history


def recorded(folder: Path) -> str:
    record_history(folder, inspect_folder(folder).recordable)
    return (folder / HISTORY_FILE).read_text()


def test_the_built_in_history_is_complete_and_true() -> None:
    inspected, clashes = inspect()
    assert [str(finding) for folder in inspected for finding in folder.findings] == []
    assert clashes == []
    history = read_history(CASEWORK)
    assert history is not None
    assert {f"{event}/{version}.avsc" for event, version in history} == set(casework_files())


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CASEWORK, tmp_path / "casework"))


@pytest.mark.parametrize(
    "before, after",
    [
        ('"default": "OTHER",\n      "doc": "The kind', '"default": "LEGAL_AID",\n      "doc": "The kind'),
        ('"LEGAL_AID"', '"LEGAL_ADVICE"'),
        ('"namespace": "quietcount.casework"', '"namespace": "quietcount.caseworks"'),
        ('"name": "circumstance"', '"name": "whereabouts"'),
    ],
)
def test_a_committed_version_edited_in_place_is_refused(copied: Path, before: str, after: str) -> None:
    file = copied / "HelpRequested" / "1.avsc"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    assert reasons(copied) == [HistoryReason.CHANGED]


def test_a_committed_version_that_the_lint_refuses_is_not_called_vanished(copied: Path) -> None:
    file = copied / "HelpRequested" / "1.avsc"
    file.write_text(file.read_text().replace('"quietcount.role": "event"', '"quietcount.role": "withdrawal"'))
    assert reasons(copied) == [LintReason.WITHDRAWAL_WITH_ATTRIBUTES]


def test_a_default_or_bound_edited_in_place_shows_though_the_fingerprint_does_not(own: Path) -> None:
    recorded(own)
    minutes = {**HOTLINE["fields"][-1], "type": {"type": "int", "minimum": 0, "maximum": 600}}
    write(own / "HotlineCalled.avsc", HOTLINE, fields=[*HOTLINE["fields"][:-1], minutes])
    assert reasons(own) == [HistoryReason.CHANGED]
    minutes = {**HOTLINE["fields"][-1], "default": 5}
    write(own / "HotlineCalled.avsc", HOTLINE, fields=[*HOTLINE["fields"][:-1], minutes])
    assert reasons(own) == [HistoryReason.CHANGED]
    with pytest.raises(SchemasError, match=r"Restore it, and put the change into HotlineCalled/2"):
        SchemaRegistry.load([own])


def test_titles_and_labels_may_be_added_and_reworded_and_change_no_message(own: Path) -> None:
    before = SchemaRegistry.load([own]).event_type("HotlineCalled").current
    recorded(own)
    for words in ("Called", "Rang"):
        labelled = copy.deepcopy(HOTLINE)
        labelled["fields"][4]["quietcount.title"] = {"en": f"{words} by"}
        labelled["fields"][5]["quietcount.labels"] = {"en": {"true": f"{words} again", "false": f"{words} once"}}
        write(own / "HotlineCalled.avsc", labelled)
        assert reasons(own) == []
        now = SchemaRegistry.load([own]).event_type("HotlineCalled").current
        assert (now.fingerprint, now.fields) == (before.fingerprint, before.fields)
        assert now.fields[4].titles == {"en": f"{words} by"}
        assert now.fields[5].labels == {"en": {"true": f"{words} again", "false": f"{words} once"}}


def test_every_built_in_dimension_is_labelled_in_english_russian_and_ukrainian() -> None:
    for event_type in SchemaRegistry.load().event_types.values():
        for field in event_type.dimensions:
            assert list(field.titles) == list(field.labels) == ["en", "ru", "uk"]


def test_a_doc_may_be_reworded_and_a_file_laid_out_anew(own: Path) -> None:
    recorded(own)
    (own / "HotlineCalled.avsc").write_text(json.dumps({**HOTLINE, "doc": "Reworded."}))
    assert reasons(own) == []


def test_a_committed_version_that_vanished_is_refused(copied: Path) -> None:
    shutil.rmtree(copied / "SentencePassed")
    assert reasons(copied) == [HistoryReason.VANISHED]


def test_the_first_version_of_a_committed_type_moves_into_its_folder_unnoticed(own: Path) -> None:
    recorded(own)
    (own / "HotlineCalled").mkdir()
    (own / "HotlineCalled.avsc").rename(own / "HotlineCalled" / "1.avsc")
    assert reasons(own) == []


def test_an_own_folder_needs_no_history_until_it_has_one(own: Path) -> None:
    assert reasons(own) == []
    recorded(own)
    write(own / "Other.avsc", HOTLINE, name="Other")
    assert reasons(own) == [HistoryReason.UNRECORDED]
    assert "Other" in SchemaRegistry.load([own]).event_types  # it is in use already: only the check insists


def test_a_history_that_vanished_is_found_once_a_type_has_two_versions(own: Path) -> None:
    (own / "HotlineCalled").mkdir()
    (own / "HotlineCalled.avsc").rename(own / "HotlineCalled" / "1.avsc")
    write(own / "HotlineCalled" / "2.avsc", HOTLINE, fields=HOTLINE["fields"][:-1])
    recorded(own)
    assert reasons(own) == []
    (own / HISTORY_FILE).unlink()
    (found,) = inspect_folder(own).findings
    assert (found.code, found.where) == (HistoryReason.MISSING, f"{own / HISTORY_FILE}: HotlineCalled")
    assert "from your version control" in found.remedy
    assert "HotlineCalled" in SchemaRegistry.load([own]).event_types  # only the check insists


def test_the_built_in_folder_must_have_its_history(copied: Path) -> None:
    (copied / HISTORY_FILE).unlink()
    found = inspect_folder(copied, history_required=True).refusals
    assert {finding.code for finding in found} == {HistoryReason.UNRECORDED}
    assert len(found) == len(casework_files())


def test_recording_adds_lines_and_never_alters_one(own: Path) -> None:
    first = recorded(own)
    assert recorded(own) == first
    (own / HISTORY_FILE).write_text(first.rstrip("\n"))  # as an editor may leave it
    write(own / "Another.avsc", HOTLINE, name="Another")
    second = recorded(own)
    assert second.startswith(first)
    assert len(second.splitlines()) == len(first.splitlines()) + 1
    assert reasons(own) == []


@pytest.mark.parametrize("line", ["HotlineCalled 1 abc", "HotlineCalled 0 " + "0" * 16 + " " + "0" * 64])
def test_a_broken_line_of_the_history_is_refused_with_its_number(own: Path, line: str) -> None:
    (own / HISTORY_FILE).write_text(f"# a comment\n{line}\n")
    with pytest.raises(SchemasError, match=r"fingerprints\.txt, line 2: not a line"):
        read_history(own)
    assert reasons(own) == [FolderReason.UNREADABLE]


def test_a_version_recorded_twice_is_refused(own: Path) -> None:
    text = recorded(own)
    (own / HISTORY_FILE).write_text(text + text.splitlines()[-1] + "\n")
    with pytest.raises(SchemasError, match="recorded twice"):
        read_history(own)


def test_the_digest_sees_everything_but_texts_for_people() -> None:
    definition = read_definition(CASEWORK / "HelpRequested" / "1.avsc", "1.avsc")
    assert digest(definition) == digest({**dict(reversed(definition.items())), "doc": "Other words."})
    assert digest(definition) != digest({**definition, "namespace": "quietcount.other"})


# ---------------------------------------------------------------- configuration


def test_configured_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    config = tmp_path / "quietcount.toml"
    config.write_text('schemas = ["my-schemas", "/srv/more"]\nlog = "embedded"\n')
    assert configured_folders(config) == (tmp_path / "my-schemas", Path("/srv/more"))
    config.write_text('log = "embedded"\n')
    assert configured_folders(config) == ()


def test_configured_folders_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quietcount.toml").write_text('schemas = ["my-schemas"]')
    monkeypatch.setenv("QUIETCOUNT_SCHEMAS", '["others"]')
    assert configured_folders(tmp_path / "quietcount.toml") == (tmp_path / "others",)


@pytest.mark.parametrize(
    "text, message",
    [
        ("schemas = 5", "key 'schemas': write a list"),
        ("schemas = [5]", "key 'schemas': write a list"),
        ("schemas = [", "not TOML"),
        ('shemas = ["x"]', "key 'shemas' is unknown: did you mean 'schemas'"),
    ],
)
def test_a_configuration_that_names_folders_in_another_way_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "quietcount.toml").write_text(text)
    with pytest.raises(SchemasError, match=message):
        configured_folders(tmp_path / "quietcount.toml")


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemasError, match=r"There is no configuration file .*quietcount\.toml"):
        configured_folders(tmp_path / "quietcount.toml")
