"""The targets of make: a bare `make` lists them, and it finds a Python that works or says that there is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.check

TARGETS = ("demo", "test", "check", "lint", "types", "bench", "soak", "clean")
TOOLS = ("sh", "cat", "awk", "make", "uname")


@pytest.fixture(scope="module")
def make(require: Callable[[bool, str], None]) -> str:
    found = shutil.which("make")
    require(found is not None, "make")
    return str(found)


def run(make: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # These tests may themselves be run by make, whose flags and level must not reach the one that is tested.
    ignored = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON")
    kept: Mapping[str, str] = {key: value for key, value in os.environ.items() if key not in ignored}
    return subprocess.run(
        [make, *arguments], cwd=folder, env={**kept, "LC_ALL": "C", **environment}, capture_output=True, text=True
    )


def stub(file: Path, script: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def bare(root: Path, tmp_path: Path) -> Path:
    """A folder with the Makefile alone, and beside it a search path that holds no Python."""
    shutil.copy(root / "Makefile", tmp_path)
    (tmp_path / "path").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (tmp_path / "path" / tool).symlink_to(found)
    return tmp_path


def test_a_bare_make_lists_each_target_with_what_it_does(make: str, root: Path) -> None:
    listed = run(make, root)
    assert listed.returncode == 0, listed.stderr
    lines = [line for line in listed.stdout.splitlines() if line.startswith("  ")]
    names = [line.split()[0] for line in lines]
    phony = re.findall(r"^([a-z]+):.*##", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert names == phony
    assert set(TARGETS) <= set(names)
    assert all(re.fullmatch(r"  \w+ +\S.{10,100}", line) for line in lines)


def test_the_readme_names_each_target(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert [target for target in TARGETS if f"make {target}" not in text] == []


def test_a_python_that_only_pretends_is_passed_over(make: str, bare: Path) -> None:
    stub(bare / "path" / "python3.13", "echo 'command not found' >&2; exit 127")
    stub(bare / "path" / "python3.12", f"exec {sys.executable} -c 'raise SystemExit(1)'")
    stub(bare / "path" / "python3", f'exec {sys.executable} "$@"')
    found = run(make, bare, "python", PATH=str(bare / "path"))
    assert (found.returncode, found.stdout) == (0, "python3\n"), found.stderr


def test_the_python_that_is_named_is_the_one_taken(make: str, bare: Path) -> None:
    found = run(make, bare, "python", f"PYTHON={sys.executable}", PATH=str(bare / "path"))
    assert (found.returncode, found.stdout) == (0, f"{sys.executable}\n"), found.stderr


def test_without_a_python_make_says_what_to_install_and_makes_nothing(make: str, bare: Path) -> None:
    for arguments in (("demo",), ("test", "PYTHON=/nowhere/python3")):
        for part in ("schemas", "producers", "aggregates", "consumers"):
            (bare / part).mkdir(exist_ok=True)
            (bare / part / "pyproject.toml").touch()
        (bare / "pyproject.toml").touch()
        (bare / "constraints.txt").touch()
        refused = run(make, bare, *arguments, PATH=str(bare / "path"))
        assert refused.returncode == 2
        assert "CPython 3.11 or later" in refused.stderr
        assert "PYTHON=" in refused.stderr
        assert not (bare / ".venv").exists()


def test_an_environment_that_works_is_kept_and_one_that_does_not_is_made_anew(make: str, bare: Path) -> None:
    sound = run(make, bare, ".venv/made.stamp", f"PYTHON={sys.executable}")
    assert sound.returncode == 0, sound.stderr
    assert "Making .venv" in sound.stdout
    assert "Making" not in run(make, bare, ".venv/made.stamp").stdout
    (bare / ".venv" / "bin" / "python").unlink()
    again = run(make, bare, ".venv/made.stamp", f"PYTHON={sys.executable}")
    assert again.returncode == 0, again.stderr
    assert "Making .venv" in again.stdout


@pytest.mark.parametrize("target", ["soak", "bench"])
def test_the_long_trials_can_be_collected_as_make_runs_them(target: str, root: Path) -> None:
    recipe = next(line for line in (root / "Makefile").read_text().splitlines() if f"-m {target} " in line)
    arguments = recipe.split("pytest", 1)[1].replace("$(ARGS)", "--collect-only").split()
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout[-2000:]
    assert "::test_" in told.stdout
