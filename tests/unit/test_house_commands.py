"""Each command that a distribution declares is there, under its declared name, and says what it does."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).resolve().parents[2]
GROUP = "quietcount.commands"


def declared() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for part in ("schemas", "producers", "aggregates", "consumers"):
        document = tomllib.loads((ROOT / part / "pyproject.toml").read_text(encoding="utf-8"))
        found += document["project"].get("entry-points", {}).get(GROUP, {}).items()
    return found


def test_no_command_is_declared_twice() -> None:
    names = [name for name, _ in declared()]
    assert len(names) == len(set(names))
    assert {"schemas", "emit", "simulate", "init", "run", "release", "query", "ledger", "demo"} <= set(names)


@pytest.mark.parametrize("name, target", declared())
def test_a_declared_command_is_there_and_says_what_it_does(name: str, target: str) -> None:
    module, _, attribute = target.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help
