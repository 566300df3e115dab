"""Each command that a distribution lists is there, under its listed name, and says what the list says."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click
import pytest

from quietcount_schemas.cli import TABLES

pytestmark = pytest.mark.quick

Row = tuple[str, str, str]


def listed() -> list[Row]:
    return [row for table in TABLES for row in import_module(table).COMMANDS]


def check(row: Row) -> None:
    name, target, summary = row
    module, _, attribute = target.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help
    assert not command.hidden
    assert summary == command.get_short_help_str(limit=80)


def makers(row: Row) -> set[str]:
    """The modules of the commands that a listed group has."""
    module, _, attribute = row[1].partition(":")
    command = getattr(import_module(module), attribute, None)
    members = command.commands.values() if isinstance(command, click.Group) else ()
    return {member.callback.__module__ for member in members if member.callback}


def forgotten(rows: Sequence[Row], root: Path) -> set[str]:
    """The modules with commands that neither a row names nor a listed group has."""
    found = {
        ".".join(file.relative_to(root / part).with_suffix("").parts)
        for part in ("schemas", "producers", "consumers")
        for file in (root / part / f"quietcount_{part}" / "commands").rglob("*.py")
        if "\n@click." in file.read_text(encoding="utf-8")
    }
    named = {target.partition(":")[0] for _, target, _ in rows}
    return found - named - {made for row in rows for made in makers(row)}


def test_no_command_is_listed_twice() -> None:
    names = [name for name, _, _ in listed()]
    assert len(names) == len(set(names))
    assert {"schemas", "emit", "simulate", "init", "run", "release", "query", "ledger", "demo"} <= set(names)


@pytest.mark.parametrize("row", listed(), ids=lambda row: row[0])
def test_a_listed_command_is_there_and_says_what_the_list_says(row: Row) -> None:
    check(row)


def test_every_module_with_commands_is_listed(root: Path) -> None:
    assert forgotten(listed(), root) == set()


def test_a_list_that_does_not_fit_is_found(root: Path) -> None:
    """The mutants: another name, another summary, no such command, and a row that is left out."""
    (row,) = (each for each in listed() if each[0] == "query")
    name, target, summary = row
    for wrong in (("ask", target, summary), (name, target, summary + "!"), (name, "json:loads", summary)):
        with pytest.raises(AssertionError):
            check(wrong)
    assert forgotten([each for each in listed() if each != row], root) == {target.partition(":")[0]}
