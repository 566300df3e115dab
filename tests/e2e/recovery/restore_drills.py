"""A project with its backups, in which the commands of docs/recovery.md are run.

A line of the page that begins with quietcount is run in this process, and starting the service runs it to the end of
the log as of a day; every other line is run by the shell.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.deployment import blocks_of
from tests.e2e.projects import Cell, Project, simulated
from tests.e2e.service.test_upgrades import CONFIGURATION, Line, asked

from quietcount_schemas.cli import cli
from quietcount_schemas.errors import QuietcountError

JANUARY_DUE, FEBRUARY_DUE, ALL_DUE = "2023-02-08", "2023-03-08", "2024-01-08"
NEW: list[Line] = [asked(f"new-{number}", "2023-03-10", number) for number in range(9)]
"""Requests that come in after the backup was made."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a block ended, and what the last command said."""

    code: int
    text: str

    def refused(self, *messages: str) -> None:
        """Hold that it was refused in the words of the page."""
        assert self.code == 1, self.text
        for message in messages:
            assert flat(message) in flat(self.text)

    def done(self) -> None:
        assert self.code == 0, self.text


def flat(text: str) -> str:
    return " ".join(text.split())


class Page:
    """The sections of the page: the blocks of the shell, and what the service is said to say."""

    def __init__(self, text: str) -> None:
        parts = re.split(r"^(#{2,3}) (.+)$", text, flags=re.MULTILINE)
        self.sections = dict(zip(parts[2::3], parts[3::3], strict=True))
        self.preparation = blocks_of(parts[0], "sh")
        self.cases = re.findall(r"^### (.+)$", text, re.MULTILINE)

    def blocks(self, section: str) -> list[str]:
        return blocks_of(self.sections[section], "sh")

    def messages(self, section: str) -> list[str]:
        found = blocks_of(self.sections[section], "text")
        assert found, "the page tells no message there"
        return found


class Drill:
    """A project, its backups, and a clock as of which the service is started."""

    def __init__(self, project: Project, page: Page) -> None:
        self.project = project
        self.page = page
        self.clock = JANUARY_DUE
        self.backup, self.secrets_backup = project.folder / "backup", project.folder / "secrets-backup"

    def copy(self, folder: Path) -> Drill:
        return Drill(self.project.copy(folder), self.page)

    def do(self, section: str, number: int = 0) -> Said:
        """Run a block of the page, up to the first command that fails."""
        return self.run(self.page.blocks(section)[number])

    def run(self, block: str) -> Said:
        shell = ""
        for line in [*block.replace("\\\n", " ").splitlines(), "quietcount"]:
            own = line.removeprefix("systemctl start ") if line.startswith("systemctl start ") else line
            if not own.startswith("quietcount"):
                shell += f"{line}\n"
                continue
            if shell:
                self._shell(shell)
                shell = ""
            if line == "quietcount":
                break
            said = self.start() if own != line else self.quietcount(*map(self._expanded, shlex.split(line)[1:]))
            if said.code:
                return said
        return Said(0, "")

    def start(self, clock: str | None = None) -> Said:
        """Start the service, which runs to the end of the log."""
        return self.quietcount("run", "--until-idle", "--as-of", clock or self.clock)

    def quietcount(self, *arguments: str) -> Said:
        result = CliRunner().invoke(cli, list(arguments))
        if isinstance(result.exception, QuietcountError):
            return Said(1, str(result.exception).replace(f"{self.project.folder}/", ""))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return Said(result.exit_code, result.output)

    def _expanded(self, word: str) -> str:
        return word.replace("$BACKUP", str(self.backup)).replace("$SECRETS_BACKUP", str(self.secrets_backup))

    def _shell(self, script: str) -> None:
        script = f"systemctl() {{ :; }}\nset -eu\n{self._prepared()}{script}"
        environment = {"PATH": "/usr/bin:/bin"}  # what a block needs besides, the page sets
        subprocess.run(["sh", "-c", script], cwd=self.project.folder, env=environment, check=True)

    def _prepared(self) -> str:
        """The block with which the page begins, with the folders of this drill in the place of its examples."""
        secret = self.project.configuration.service.secret_file.relative_to(self.project.folder)
        own = {"BACKUP": self.backup, "SECRETS_BACKUP": self.secrets_backup, "SECRET": secret}
        (block,) = self.page.preparation
        return re.sub(
            r"^(\w+)=.*$", lambda set_: f"{set_[1]}={shlex.quote(str(own[set_[1]]))}", block, flags=re.MULTILINE
        )

    @property
    def released(self) -> dict[Cell, int]:
        """What is published, but for cells of zero; the ledger holds the same."""
        values = self.project.released()
        assert values == self.project.ledger_values()
        return {cell: value for cell, value in values.items() if value}


@pytest.fixture(scope="module")
def page() -> Page:
    return Page((Path(__file__).parents[3] / "docs" / "recovery.md").read_text(encoding="utf-8"))


LINES: list[Line] = [*simulated(300)]


@pytest.fixture(scope="module")
def backed_up(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Drill:
    """A project of which January is released, and then everything was backed up, as the page says."""
    drill = Drill(Project(tmp_path_factory.mktemp("drill") / "project", CONFIGURATION), page)
    for folder in (drill.backup, drill.secrets_backup):
        folder.mkdir()
    drill.project.emit(LINES)
    drill.project.run_here(JANUARY_DUE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(drill.project.folder)
        for number in range(len(page.blocks("Backing up"))):
            drill.do("Backing up", number).done()
    return drill


@pytest.fixture
def drill(backed_up: Drill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drill:
    copy = backed_up.copy(tmp_path / "project")
    monkeypatch.chdir(copy.project.folder)
    return copy


def go_on(drill: Drill, lines: Sequence[Line]) -> None:
    """Emit `lines` and let February be released."""
    drill.project.emit(lines)
    drill.project.run_here(FEBRUARY_DUE)
    drill.clock = FEBRUARY_DUE


def held(drill: Drill, before: dict[Cell, int]) -> dict[Cell, int]:
    """Release the whole year and return it; what was released before has not changed."""
    drill.start(ALL_DUE).done()
    after = drill.released
    assert before.items() <= after.items(), "a released value changed"
    return after


def losing(drill: Drill) -> None:
    """Hold that the loss is recorded, once, and that the stated bound says so."""
    rows = drill.quietcount("query", "SELECT value FROM about WHERE key = 'state_losses'", "--format", "csv").text
    assert rows.split()[-1] == "1"
