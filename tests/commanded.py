"""Commands that are invoked in the test's own process, on a small project."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import click
from click.testing import CliRunner, Result
from tests.e2e.projects import Project, simulated

from quietcount_consumers.commands.ledger import ledger_command
from quietcount_schemas.errors import QuietcountError

__all__ = ["contents", "digest", "emitted", "invoked", "losses", "refused", "released_month"]


def emitted(folder: Path, cases: int) -> Project:
    """Make a project with the events of so many cases in its log."""
    project = Project(folder)
    project.emit(simulated(cases))
    return project


def released_month(folder: Path) -> Project:
    """Make a project that released a month."""
    project = emitted(folder, 50)
    project.run_here("2023-02-08")
    return project


def invoked(project: Project, command: click.Command, *arguments: str) -> Result:
    """Invoke a command that must succeed."""
    result = CliRunner().invoke(command, [*arguments, "--config", str(project.config)])
    assert result.exit_code == 0, result.output
    return result


def refused(project: Project, command: click.Command, *arguments: str) -> str:
    result = CliRunner().invoke(command, [*arguments, "--config", str(project.config)])
    assert isinstance(result.exception, QuietcountError), result.output
    return str(result.exception)


def contents(project: Project) -> dict[str, str]:
    return {str(path): digest(path) for path in sorted(project.data.rglob("*")) if path.is_file()}


def losses(project: Project) -> int:
    shown = invoked(project, ledger_command, "show", "--format", "json").stdout
    return sum(row["kind"] == "state_lost" for row in json.loads(shown))


def digest(path: Path) -> str:
    """What stands for the bytes: to show how two files differ takes pytest minutes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
