"""The help of the service's commands, as it looks at a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from quietcount_consumers.commands import service as commands

pytestmark = pytest.mark.quick

WIDTH = 80


def every(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from every(inner)


ALL = [
    each for name in sorted(commands.__all__) for each in every(getattr(commands, name))
]  # groups, and what is in them


@pytest.mark.parametrize("command", ALL, ids=lambda command: str(command.name))
def test_an_example_stands_on_a_line_of_its_own_to_be_copied(command: click.Command) -> None:
    shown = CliRunner().invoke(command, ["--help"], terminal_width=WIDTH).stdout.splitlines()
    examples = [
        line.strip()
        for line in (command.help or "").replace("\b", "").splitlines()
        if "quietcount " in line and ": " in line
    ]
    assert any(line.startswith("Example: quietcount ") for line in examples)
    for example in examples:
        assert f"  {example}" in shown
        assert len(example) <= WIDTH - 2


def test_run_has_examples_of_its_three_uses() -> None:
    shown = CliRunner().invoke(commands.run_command, ["--help"], terminal_width=WIDTH).stdout
    assert "quietcount run\n" in shown
    assert "quietcount run --until-idle\n" in shown
    assert "quietcount run --until-idle --as-of 2023-12-08\n" in shown
