"""The commands document themselves: help, a summary of one line, an example that is right. The README knows them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from quietcount_schemas.cli import cli

pytestmark = pytest.mark.quick

SUMMARY = 80  # what click shows of it in the list of commands
EXAMPLE = re.compile(r"Example: (quietcount .*)")


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Walk the tree of commands."""
    with click.Context(group, info_name="quietcount") as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield (*path, name), command
            if isinstance(command, click.Group):
                yield from commands(command, (*path, name))


ALL = dict(commands())
LEAVES = {path: command for path, command in ALL.items() if not isinstance(command, click.Group)}


def help_of(path: tuple[str, ...]) -> str:
    with click.Context(ALL[path], info_name="quietcount " + " ".join(path), terminal_width=10_000) as context:
        context.max_content_width = 10_000
        return ALL[path].get_help(context)


def resolved(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """Split what follows `quietcount` into the path of a command and its arguments."""
    path: tuple[str, ...] = ()
    while words and (*path, words[0]) in ALL:
        path, words = (*path, words[0]), words[1:]
    return path, words


def check(line: str) -> tuple[str, ...]:
    """Parse a command line as the command would, without running it; return the command's path."""
    words = shlex.split(line, comments=True)
    assert words[0] == "quietcount"
    path, arguments = resolved(words[1:])
    assert path in LEAVES, line
    if any(isinstance(each, click.Option) and each.prompt for each in LEAVES[path].params):
        arguments = [*arguments, "--yes"]  # nobody is there to be asked
    with click.Context(LEAVES[path], info_name=" ".join(path)) as context:
        LEAVES[path].parse_args(context, arguments)
    return path


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_each_command_has_help_a_summary_of_one_line_and_an_example_of_itself(path: tuple[str, ...]) -> None:
    command = ALL[path]
    summary = command.get_short_help_str(limit=10_000)
    assert summary
    assert summary == command.get_short_help_str(limit=SUMMARY), "the summary does not fit the list of commands"
    (example,) = EXAMPLE.findall(help_of(path))
    assert check(example)[: len(path)] == path


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_each_option_and_argument_says_what_it_is(path: tuple[str, ...]) -> None:
    for parameter in LEAVES[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help[0].isupper()


def shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("quietcount ")]


@pytest.mark.promise("commands")
def test_each_command_is_in_the_readme_and_each_command_line_of_the_readme_is_right(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    lines = shell_lines(text)
    assert len(lines) > 10
    for line in lines:
        check(line)
    # In prose a line may end in the middle of a name.
    flat = re.sub(r"\s+", " ", text)
    missing = [" ".join(path) for path in LEAVES if f"quietcount {' '.join(path)}" not in flat]
    assert missing == []
    assert "make demo" in flat
    named = {tuple(match.split()) for match in re.findall(r"`quietcount ([a-z-]+(?: [a-z-]+)?)", flat)}
    assert all(resolved(list(path))[0] for path in named)


@pytest.mark.parametrize(
    "line", ["quietcount emit", "quietcount run --as-off 2023-01-01", "quietcount ledger", "quietcount x"]
)
def test_the_check_finds_a_command_line_that_is_wrong(line: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        check(line)
