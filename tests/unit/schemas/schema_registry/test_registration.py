"""`quietcount schemas register`: what it registers and pins, and a registry that lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.registry.stand_in import Answer, StandIn
from tests.unit.schemas.schema_registry.registrations import HELP, Place, field, place, registry

from quietcount_schemas import SchemaRegistry
from quietcount_schemas.schema_registry import ids as registry_ids
from quietcount_schemas.schema_registry.registration import Registration

pytestmark = pytest.mark.quick

__all__ = ["place", "registry"]  # fixtures, which tests ask for by name

# ---------------------------------------------------------------- registering


def test_every_version_is_registered_in_order_under_its_records_name(place: Place, registry: StandIn) -> None:
    place.own([field("a")], [field("a"), field("b")])
    result = place.register()
    assert result.exit_code == 0, result.exception
    assert result.output.splitlines()[0] == "quietcount.casework.CaptivityRecorded version 1: id 1, new"
    assert result.output.splitlines()[-1].startswith("8 versions registered, 8 of them new")
    assert registry.subjects["example.own.Own"] == [6, 7]
    assert registry.levels == dict.fromkeys(registry.subjects, "FULL_TRANSITIVE")
    loaded = SchemaRegistry.load([place.folder / "own"])
    assert registry_ids.load(place.ids) == {
        number: version.fingerprint
        for number, version in enumerate((v for e in loaded.event_types.values() for v in e.versions), 1)
    }
    told = json.loads(place.ids.read_text())["subjects"]
    assert told["example.own.Own"] == {"1": 6, "2": 7}


def test_compatibility_is_set_before_a_subjects_first_version(place: Place, registry: StandIn) -> None:
    place.register()
    asked = [each for each in registry.asked if HELP in each[1]]
    assert [method for method, _ in asked][:3] == ["PUT", "GET", "POST"]


def test_what_is_registered_is_the_text_of_the_file(place: Place, registry: StandIn, root: Path) -> None:
    """So a client that looks the schema up with its file finds it."""
    place.register()
    committed = root / "schemas" / "quietcount_schemas" / "casework" / "HelpRequested" / "1.avsc"
    assert committed.read_text(encoding="utf-8").strip() in registry.schemas


def test_registering_again_changes_nothing_and_sends_no_schema(place: Place, registry: StandIn) -> None:
    place.register()
    before = place.ids.stat()
    registry.asked.clear()
    result = place.register()
    assert "0 of them new" in result.output
    assert not [path for method, path in registry.asked if method == "POST"]
    assert (place.ids.stat().st_ino, place.ids.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_doc_that_was_reworded_keeps_its_id(place: Place, registry: StandIn) -> None:
    place.own([field("a")])
    place.register()
    path = place.folder / "own" / "Own" / "1.avsc"
    path.write_text(path.read_text().replace("Whether.", "Whether it was."))
    result = place.register()
    assert result.exit_code == 0, result.exception
    assert "example.own.Own version 1: id 6\n" in result.output


def test_a_subject_that_was_deleted_is_registered_again(place: Place, registry: StandIn) -> None:
    place.register()
    del registry.subjects[HELP]
    assert place.register().exit_code == 0
    assert registry.subjects[HELP] == [4]


def test_a_registry_that_was_emptied_gives_the_same_ids_again(place: Place, registry: StandIn) -> None:
    place.register()
    before = place.ids.read_text()
    registry.schemas.clear()
    registry.subjects.clear()
    assert place.register().exit_code == 0
    assert place.ids.read_text() == before


def test_ids_of_others_stay_pinned(place: Place) -> None:
    place.ids.write_text('{"ids": {"900": "00000000000000ff"}, "subjects": {"gone.Gone": {"1": 900}}}')
    assert place.register().exit_code == 0
    assert registry_ids.load(place.ids)[900] == bytes(7) + b"\xff"
    assert json.loads(place.ids.read_text())["subjects"]["gone.Gone"] == {"1": 900}


# ---------------------------------------------------------------- a registry that lies


def swapped(registry: StandIn) -> None:
    registry.schemas[3], registry.schemas[4] = registry.schemas[4], registry.schemas[3]


LIES: dict[str, tuple[Callable[[StandIn], Any], str]] = {
    "another schema under a pinned id": (swapped, "under the id 4 it hands out another schema"),
    "the same schemas under other ids": (
        lambda registry: setattr(registry, "first_id", 100),
        "it gives the id 100, and {ids} has pinned 1",
    ),
    "no schema under a pinned id": (
        lambda registry: registry.forced.update({("GET", "/schemas/ids/4"): (404, {})}),
        f"{HELP} version 1: it gave the id 4, and holds nothing under it",
    ),
    "a schema that is none": (
        lambda registry: registry.forced.update({("GET", "/schemas/ids/4"): (200, {"schema": "[[[["})}),
        "under the id 4 it hands out another schema",
    ),
    "a schema of another kind": (
        lambda registry: registry.forced.update(
            {("GET", "/schemas/ids/4"): (200, {"schema": registry.schemas[3], "schemaType": "JSON"})}
        ),
        "under the id 4 it hands out another schema",
    ),
    "a compatibility that is not kept": (
        lambda registry: registry.forced.update(
            {("PUT", f"/config/{HELP}"): (200, {}), ("GET", f"/config/{HELP}"): (200, {"compatibilityLevel": "NONE"})}
        ),
        f"{HELP}: it does not keep the compatibility FULL_TRANSITIVE",
    ),
}


@pytest.mark.promise("registry")
@pytest.mark.parametrize("lie", LIES)
def test_a_registry_that_contradicts_what_is_pinned_is_refused(place: Place, registry: StandIn, lie: str) -> None:
    place.register()
    make, wanted = LIES[lie]
    make(registry)
    said = place.refused()
    assert wanted.format(ids=place.ids) in said
    assert registry.url in said


FIRST_LIES: dict[str, tuple[str, str, Answer, str]] = {
    "one id for two schemas": ("POST", f"/subjects/{HELP}", (200, {"id": 1}), "it gives the id 1, which"),
    "an id that is text": ("POST", f"/subjects/{HELP}", (200, {"id": "4"}), "not a Schema Registry"),
    "an id that is true": ("POST", f"/subjects/{HELP}", (200, {"id": True}), "not a Schema Registry"),
    "an id of 0": ("POST", f"/subjects/{HELP}", (200, {"id": 0}), "not a Schema Registry"),
    "an id past the last": ("POST", f"/subjects/{HELP}", (200, {"id": 2**31}), "not a Schema Registry"),
    "no id": ("POST", f"/subjects/{HELP}", (200, []), "not a Schema Registry"),
    "an id without a schema": ("POST", f"/subjects/{HELP}", (200, {"id": 77}), "holds nothing under it"),
    "an empty schema": ("GET", "/schemas/ids/4", (200, {}), "hands out another schema"),
    "no object": ("GET", "/schemas/ids/4", (200, [1]), "hands out another schema"),
    "references": ("GET", "/schemas/ids/4", (200, {"schema": "{}", "references": [{}]}), "hands out another schema"),
    "deep nesting": ("GET", "/schemas/ids/4", (200, {"schema": "[" * 100_000}), "hands out another schema"),
}


@pytest.mark.parametrize("lie", FIRST_LIES)
def test_a_registry_that_answers_what_none_does_is_refused(place: Place, registry: StandIn, lie: str) -> None:
    method, path, answer, wanted = FIRST_LIES[lie]
    registry.forced[method, path] = answer
    said = place.refused()
    assert wanted in said
    assert HELP in said
    assert not place.ids.exists()


def test_a_registration_that_believes_the_registry_is_found(
    place: Place, registry: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: without looking at what is handed out, a swapped schema is pinned."""
    monkeypatch.setattr(Registration, "_holds", lambda *_: True)
    place.register()
    swapped(registry)
    assert place.register().exit_code == 0
