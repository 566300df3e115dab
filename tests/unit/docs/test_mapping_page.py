"""The page of mappings: each key is on it, and every piece of TOML is sound."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from quietcount_producers.composition import Facts
from quietcount_producers.mapping import Mapping, definition, fields
from quietcount_producers.mapping.catalogue import SHIPPED
from quietcount_producers.mapping.dates import DATE_WORDS
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

REGISTRY = SchemaRegistry.load()
RULE = '\n[[event]]\nevent = "HelpRequested"\noccurred_on = "day"\n'


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "mapping.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def whole(piece: str) -> str:
    """A piece of a mapping with what it lacks."""
    case = "" if re.search("^case = ", piece, re.MULTILINE) else 'case = "Person"\n'
    if "[[event]]" in piece:
        return case + piece
    return case + RULE + piece if piece.startswith("[event.") else case + piece + RULE


def test_every_piece_of_a_mapping_is_sound(page: str, tmp_path: Path) -> None:
    pieces = blocks(page, "toml")
    assert len(pieces) > 6
    for number, piece in enumerate(pieces):
        path = tmp_path / f"{number}.toml"
        path.write_text(whole(piece), encoding="utf-8")
        Mapping.load(path, REGISTRY)


def test_the_worked_example_makes_the_three_events_that_the_page_says(page: str, tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(blocks(page, "toml")[0], encoding="utf-8")
    mapping = Mapping.load(path, REGISTRY)
    rows = list(csv.DictReader(io.StringIO(blocks(page, "csv")[0]), delimiter=";"))
    mapping.check_columns(list(rows[0]))
    made = [each for row in rows for each in mapping.events(row)]
    assert [(each.event, each.case, each.attributes) for each in made if isinstance(each, Facts)] == [
        ("HelpRequested", "A-17", {"region": "VOLGA", "help_kind": "DESERTION"}),
        ("HelpRequested", "A-18", {"help_kind": "LEGAL_AID"}),
        ("OutcomeRecorded", "A-18", {}),
    ]
    assert len(made) == 3


def test_every_key_every_word_of_a_format_and_every_mapping_is_on_the_page(page: str) -> None:
    keys = {
        *(definition._TOP, definition._FILE, definition._RULE, definition._EVENT),
        *(definition._DATE, definition._REVISION, definition._CONDITION, fields._FIELD),
    }
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    said = set(re.findall(r"[a-z_-]+", " ".join(re.findall(r"`([^`]+)`", prose))))
    assert {key for each in keys for key in each} - {"file"} - said == set()
    assert set(DATE_WORDS) - said == set()
    assert {name for name in SHIPPED if f"| `{name}` |" not in page} == set()
