"""What `xdist_group` promises: the tests of a group run on one worker, and so make what they share once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

_TESTS = """
import os, pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(12))
def test_grouped(number, record_property):
    print("grouped on", os.environ["PYTEST_XDIST_WORKER"])

@pytest.mark.parametrize("number", range(12))
def test_alone(number):
    print("alone on", os.environ["PYTEST_XDIST_WORKER"])
"""


def _workers(folder: Path, root: Path, conftest: str) -> set[str]:
    """Return the workers that the tests of the group ran on."""
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_workers.py").write_text(_TESTS)
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-rP", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, f"--rootdir={folder}", "-c", os.devnull, str(folder)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return {line.split()[-1] for line in run.stdout.splitlines() if line.startswith("grouped on")}


def test_a_group_stays_on_one_worker(tmp_path: Path, root: Path) -> None:
    gathered = "import pytest\nfrom tests.groups import gather\n\n@pytest.hookimpl(tryfirst=True)\n"
    hook = "def pytest_collection_modifyitems(config, items):\n    gather(config, items)\n"
    assert len(_workers(tmp_path, root, gathered + hook)) == 1


def test_pytest_xdist_does_not_do_it_by_itself(tmp_path: Path, root: Path) -> None:
    """If this fails, delete `tests/groups.py` and these tests."""
    assert len(_workers(tmp_path, root, "")) == 2
