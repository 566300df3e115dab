"""A mapping: each key of its file does what it says, and no value of a row is in a message."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from quietcount_producers.composition import Facts
from quietcount_producers.errors import EventRefused
from quietcount_producers.mapping import Mapping
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
TOP = 'case = "Nr"\n'
RULE = '[[event]]\nevent = "HelpRequested"\noccurred_on = "day"\n'
ROW = {"Nr": "17", "day": "2023-10-03"}


def mapping(folder: Path, text: str) -> Mapping:
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return Mapping.load(path, REGISTRY)


def facts(made: list[Facts] | list[EventRefused]) -> list[Facts]:
    good = [each for each in made if isinstance(each, Facts)]
    assert len(good) == len(made), made
    return good


def one(folder: Path, text: str, **row: object) -> Facts:
    (found,) = facts(mapping(folder, text).events({**ROW, **row}))
    return found


def test_a_column_becomes_a_field_and_a_day(tmp_path: Path) -> None:
    found = one(tmp_path, TOP + RULE + 'fields = { region = "where" }', where=" volga ")
    assert (found.event, found.case, found.occurred_on) == ("HelpRequested", "17", dt.date(2023, 10, 3))
    assert found.attributes == {"region": "VOLGA"}
    assert found.record is None
