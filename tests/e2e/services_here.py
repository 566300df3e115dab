"""A project whose commands are run in the test's own process, and what lies in its folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.projects import Finished, Project, simulated, true_cells

from quietcount_schemas.cli import main

LINES = simulated(250)
TRUE = true_cells(LINES)


def nonzero(project: Project) -> dict[tuple[str, str, str], int]:
    return {cell: value for cell, value in project.released().items() if value}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """`quietcount` in this process, in the folder of a project: the same main, without an interpreter's start."""

    def run(project: Project, *arguments: str) -> Finished:
        monkeypatch.chdir(project.folder)
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        code = caught.value.code
        out, err = capfd.readouterr()
        return Finished(code if isinstance(code, int) else 1, out, err)

    return run


def rewritten(project: Project, old: str, new: str) -> None:
    text = project.config.read_text(encoding="utf-8")
    assert old in text
    project.config.write_text(text.replace(old, new, 1), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


RUN = ("run", "--until-idle", "--as-of", "2024-01-08")
