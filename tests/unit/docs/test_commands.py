"""The commands document themselves: help, a summary of one line, an example that is right. The pages know them."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.unit.house.test_rules import files_of

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
    words = list(
        itertools.takewhile(lambda word: word not in (">", "|"), words)
    )  # where its output goes is the shell's
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


def command_lines(text: str) -> list[str]:
    """The lines of shell blocks, and of blocks that are set in by four spaces, that run quietcount."""
    set_in = re.findall(r"^    (quietcount .*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return [*shell_lines(text), *set_in]


def pages(root: Path) -> list[Path]:
    """Every page of the project."""
    return [root / file for file in files_of(root) if file.suffix == ".md"]


def flat(page: Path) -> str:
    """The page as one line: in prose a line may end in the middle of a name."""
    return re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))


def test_each_command_line_of_the_pages_is_right(root: Path) -> None:
    for page in pages(root):
        for line in command_lines(page.read_text(encoding="utf-8")):
            check(line)
    assert len(shell_lines((root / "README.md").read_text(encoding="utf-8"))) > 9


def test_each_command_is_named_for_those_who_use_it(root: Path) -> None:
    """In the README or on a page that it leads to; and no page names a command that there is not."""
    told = [flat(root / "README.md"), *(flat(page) for page in sorted((root / "docs").glob("*.md")))]
    told += [flat(root / part / "README.md") for part in ("schemas", "producers")]
    names = [f"quietcount {' '.join(path)}" for path in LEAVES]
    assert [name for name in names if not any(name in text for text in told)] == []
    assert "make demo" in told[0]
    for page in pages(root):
        found = re.findall(r"`quietcount ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", flat(page))
        named = {tuple(match.split()) for match in found}
        assert [path for path in named if not resolved(list(path))[0]] == [], page


@pytest.mark.parametrize(
    "line", ["quietcount emit", "quietcount run --as-off 2023-01-01", "quietcount ledger", "quietcount x"]
)
def test_the_check_finds_a_command_line_that_is_wrong(line: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        check(line)
