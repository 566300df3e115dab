""".ci/run on a machine that lacks something: it says what, and who can install it how."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick


@pytest.fixture
def bare(root: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs .ci/run with the given programs (name and script) alone on its search path."""

    def run(**programs: str) -> subprocess.CompletedProcess[str]:
        folder, path = tmp_path / ".ci", tmp_path / "path"
        folder.mkdir()
        path.mkdir()
        shutil.copy(root / ".ci" / "run", folder)
        for tool in ("bash", "dirname"):
            (path / tool).symlink_to(str(shutil.which(tool)))
        for name, script in programs.items():
            program = path / name.replace("_", "-")
            program.write_text(f"#!{path / 'bash'}\n{script}\n", encoding="utf-8")
            program.chmod(0o755)
        command = [str(path / "bash"), str(folder / "run")]
        return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize("sudo", [{}, {"sudo": "echo 'sudo: a password is required' >&2; exit 1"}])
def test_without_root_and_without_sudo_it_says_what_is_missing_and_how_root_installs_it(
    bare: Callable[..., subprocess.CompletedProcess[str]], sudo: dict[str, str]
) -> None:
    done = bare(id="echo 1000", apt_get="exit 0", **sudo)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Missing: make. ")
    assert done.stderr.endswith("run apt-get install make\n")


def test_without_apt_get_it_says_what_is_missing(bare: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = bare(id="echo 1000")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Missing: make. There is no apt-get here: install them another way.\n"


def test_with_sudo_it_installs(bare: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = bare(id="echo 1000", apt_get='echo "$@" >&2; [ "$1" = update ]', sudo='shift; [ "$1" = true ] || "$@"')
    assert done.returncode != 0  # this apt-get finds nothing
    assert done.stderr.splitlines() == ["update -qq", "install -y -qq --no-install-recommends make"]
