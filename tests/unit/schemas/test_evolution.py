"""The evolution check: what a later version may change, each refusal for its own reason."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.strategies import trial

from quietcount_schemas.events.definition import schema_version
from quietcount_schemas.events.event_types import SchemaVersion
from quietcount_schemas.finding import place
from quietcount_schemas.lint.evolution import EvolutionReason, check_evolution

pytestmark = pytest.mark.quick

BASE = trial(
    {"name": "urgent", "type": "boolean", "default": False, "doc": "Whether it hurries."},
)
KIND, PEOPLE, URGENT = 4, 5, 6
ADDED = {"name": "added", "type": "boolean", "default": True, "doc": "New."}

Edit = Callable[[dict[str, Any]], object]


def history(*edits: Edit) -> list[SchemaVersion]:
    """Version 1, and one more for each edit of the version before it."""
    written = [copy.deepcopy(BASE)]
    for edit in edits:
        written.append(copy.deepcopy(written[-1]))
        edit(written[-1])
    return [schema_version(each, number, f"Trial/{number}.avsc") for number, each in enumerate(written, 1)]


def add_field(schema: dict[str, Any]) -> None:
    schema["fields"].append(copy.deepcopy(ADDED))


def drop_field(schema: dict[str, Any]) -> None:
    schema["fields"].pop(URGENT)


def append_symbol(schema: dict[str, Any]) -> None:
    schema["fields"][KIND]["type"]["symbols"].append("C")


def reorder(schema: dict[str, Any]) -> None:
    schema["fields"][KIND:] = reversed(schema["fields"][KIND:])


def other_defaults(schema: dict[str, Any]) -> None:
    schema["fields"][KIND]["default"] = "B"
    schema["fields"][KIND]["type"]["default"] = "B"
    add_field(schema)


@pytest.mark.parametrize("edit", [add_field, drop_field, append_symbol, reorder, other_defaults])
def test_a_compatible_change_has_no_finding(edit: Edit) -> None:
    assert check_evolution(history(edit)) == []


def test_one_version_alone_has_no_finding() -> None:
    assert check_evolution(history()) == []


def test_several_compatible_changes_have_no_finding() -> None:
    assert check_evolution(history(add_field, append_symbol, drop_field)) == []


def _drop_enum_default(schema: dict[str, Any]) -> None:
    """Remove a symbol, and the default that would stand for it."""
    schema["fields"][KIND]["type"].pop("default")
    schema["fields"][KIND]["type"]["symbols"].pop()


def _rename_enum(schema: dict[str, Any]) -> None:
    schema["fields"][KIND]["type"]["name"] = "Sort"


def _reread_dates(schema: dict[str, Any]) -> None:
    schema["fields"][PEOPLE]["type"]["logicalType"] = "date"


def _without_default(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "added", "type": "boolean", "doc": "New."})


def _widen(schema: dict[str, Any]) -> None:
    schema["fields"][PEOPLE]["type"]["maximum"] = 10
    add_field(schema)


REFUSED: list[tuple[EvolutionReason, str, Edit]] = [
    (EvolutionReason.SAME_FINGERPRINT, "", lambda schema: schema["fields"][KIND].update(default="B")),
    (EvolutionReason.NAME_CHANGED, "", lambda schema: schema.update(name="Test")),
    (EvolutionReason.NAME_CHANGED, "", lambda schema: schema.update(namespace="example.other")),
    (EvolutionReason.ROLE_CHANGED, "", lambda schema: schema.update({"quietcount.role": "withdrawal"})),
    (EvolutionReason.FIELD_WITHOUT_DEFAULT, "added", _without_default),
    (EvolutionReason.TYPE_CHANGED, "urgent", lambda schema: schema["fields"][URGENT].update(type="int")),
    (EvolutionReason.TYPE_CHANGED, "people", _reread_dates),
    (EvolutionReason.ENUM_RENAMED, "kind", _rename_enum),
    (EvolutionReason.ENUM_WITHOUT_DEFAULT, "kind", _drop_enum_default),
    (EvolutionReason.NULL_CHANGED, "urgent", lambda schema: schema["fields"][URGENT].update(type=["null", "boolean"])),
    (EvolutionReason.BOUNDS_CHANGED, "people", _widen),
    (EvolutionReason.SYMBOLS_NOT_APPENDED, "kind", lambda schema: schema["fields"][KIND]["type"]["symbols"].reverse()),
    (
        EvolutionReason.SYMBOLS_NOT_APPENDED,
        "kind",
        lambda schema: schema["fields"][KIND]["type"]["symbols"].insert(1, "C"),
    ),
]


@pytest.mark.parametrize("reason, path, edit", REFUSED)
def test_an_incompatible_change_is_refused_for_its_own_reason(reason: EvolutionReason, path: str, edit: Edit) -> None:
    versions = history(edit)
    found = check_evolution(versions)
    source = versions[-1].source
    assert (place(source, path), reason) in [(finding.where, finding.code) for finding in found]
    assert all(finding.where.startswith(source) and finding.remedy for finding in found)


def test_every_reason_has_a_change_that_shows_it() -> None:
    assert {reason for reason, _, _ in REFUSED} == set(EvolutionReason)


def test_a_field_that_comes_back_as_another_type_is_refused_across_the_version_between() -> None:
    def back(schema: dict[str, Any]) -> None:
        schema["fields"].append({"name": "urgent", "type": "Kind", "default": "A", "doc": "Other."})

    found = check_evolution(history(drop_field, back))
    assert [finding.code for finding in found] == [EvolutionReason.TYPE_CHANGED]
    assert "version 3 against version 1" in str(found[0])
