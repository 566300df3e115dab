"""What the page shows of a plan is what the command says of the starting catalogue."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietcount_consumers.commands.plan import plan_command
from quietcount_consumers.project import configuration_text

pytestmark = pytest.mark.quick

BLOCK = re.compile(r"```console\n\$ (quietcount plan [^\n]*)\n(.*?)```", re.DOTALL)


def shown(text: str) -> tuple[str, list[str]]:
    """The command line of the page, and what it shows of the output: `...` stands for what is left out."""
    ((line, output),) = BLOCK.findall(text)
    return line, [part.strip("\n") for part in output.split("...\n")]


@pytest.fixture
def said(root: Path, tmp_path: Path) -> str:
    line, _ = shown((root / "docs" / "configuration.md").read_text(encoding="utf-8"))
    config = tmp_path / "quietcount.toml"
    config.write_text(configuration_text(), encoding="utf-8")
    arguments = [*shlex.split(line)[2:], "--format", "table", "--config", str(config)]
    result = CliRunner(env={"COLUMNS": "80"}).invoke(plan_command, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def missing(text: str, said: str) -> list[str]:
    """The parts of the page's block that the command did not say, in their order."""
    at, found = 0, []
    for part in shown(text)[1]:
        place = said.find(part, at)
        if place < 0:
            found.append(part)
        else:
            at = place + len(part)
    return found


@pytest.mark.promise("commands")
def test_the_plan_on_the_page_is_what_the_command_says(root: Path, said: str) -> None:
    text = (root / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert len(shown(text)[1]) > 2
    assert missing(text, said) == []
    # And a figure that is out of date is found.
    assert len(missing(text.replace("±6.8", "±6.9"), said)) == 1
