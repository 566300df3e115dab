"""Mappings in a folder, and what becomes of a row under them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.strategies import registry_of, trial

from quietcount_producers.composing.composition import Facts
from quietcount_producers.errors import EventRefused, ProducersError
from quietcount_producers.mapping import Mapping
from quietcount_schemas.registry import SchemaRegistry

__all__ = [
    "EACH",
    "FIELD",
    "FLAGGED",
    "REGISTRY",
    "ROW",
    "RULE",
    "TOP",
    "TRIAL",
    "complaint",
    "facts",
    "mapping",
    "one",
    "refused",
    "several",
]

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
FIELD = TOP + RULE + "[event.fields.help_kind]\n"
EACH = FIELD + 'choices = "why"\nvalues = { "law" = "LEGAL_AID", "move" = "RELOCATION" }\n'
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
