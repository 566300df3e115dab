"""The README of the schemas: its schema passes the check, its code runs, its tables list what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from quietcount_schemas import SchemaRegistry
from quietcount_schemas.commands.schemas import schemas
from quietcount_schemas.folder import inspect_folder

pytestmark = pytest.mark.quick


@pytest.fixture
def readme(root: Path) -> str:
    return (root / "schemas" / "README.md").read_text(encoding="utf-8")


def block(readme: str, language: str, place: int = 0) -> str:
    ours, _ = readme.split("## Clients that are not ours")  # what follows needs a broker, and is run there
    found = re.findall(rf"```{language}\n(.*?)```", ours, re.DOTALL)
    assert len(found) == {"json": 1, "python": 2}[language]
    return str(found[place])


def test_the_schema_of_the_readme_passes_the_check(readme: str, tmp_path: Path) -> None:
    text = block(readme, "json")
    (tmp_path / f"{json.loads(text)['name']}.avsc").write_text(text)
    assert inspect_folder(tmp_path).findings == []
    dimensions = SchemaRegistry.load([tmp_path]).event_type("HotlineCalled").dimensions
    assert [field.name for field in dimensions] == ["channel", "repeated"]


def test_the_code_of_the_readme_runs(readme: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block(readme, "python"), "README.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == "trailing_bytes\n"


def test_the_readme_lists_every_event_type_with_its_fields(readme: str) -> None:
    for name, event_type in SchemaRegistry.load().event_types.items():
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}` |"))
        fields = row.split("|")[3].strip()
        assert fields == (", ".join(f"`{field.name}`" for field in event_type.attributes) or "none")


def test_the_readme_shows_every_command(readme: str) -> None:
    for name in schemas.commands:
        assert f"quietcount schemas {name}" in readme
