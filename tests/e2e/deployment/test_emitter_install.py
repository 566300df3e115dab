"""An emitter installs schemas and producers alone, and gets a small environment that can emit and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.check, pytest.mark.xdist_group("installation")]

NOT_FOR_EMITTERS = ("duckdb", "opendp", "numpy", "cryptography", "prometheus_client", "uvicorn")
PARTS = ("schemas", "producers", "aggregates", "consumers")
BUILT = shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info")


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment that a test made."""

    folder: Path

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        ignored = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_NO_INDEX")
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=cwd or self.folder,
            env={key: value for key, value in os.environ.items() if key not in ignored} | constraints(self.folder),
            capture_output=True,
            text=True,
        )


def constraints(folder: Path) -> dict[str, str]:
    # The first is for what is installed (and, for an older pip, for what builds it), the second for what builds it.
    file = str(folder.parent / "constraints.txt")
    return {"PIP_CONSTRAINT": file, "PIP_BUILD_CONSTRAINT": file, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="module")
def emitter(root: Path, require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with the two parts that an emitter needs, installed from a copy of the sources."""
    folder = tmp_path_factory.mktemp("emitter")
    shutil.copy(root / "constraints.txt", folder)
    for part in ("schemas", "producers"):
        shutil.copytree(root / part, folder / part, ignore=BUILT)
    made = subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], capture_output=True, text=True)
    require(made.returncode == 0, "a Python that can make virtual environments")
    environment = Environment(folder / "venv")
    installed = environment.run("pip", "install", "--quiet", "./schemas", "./producers", cwd=folder)
    if installed.returncode != 0:
        # Is it us, or the lack of an index? A small package that we do not touch tells.
        probe = environment.run("pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "click", cwd=folder)
        require(probe.returncode == 0, "a package index that pip can reach")
    assert installed.returncode == 0, installed.stderr
    return environment


@pytest.mark.parametrize("module", NOT_FOR_EMITTERS)
def test_an_emitter_has_neither_the_database_nor_the_noise(emitter: Environment, module: str) -> None:
    assert emitter.run("python", "-c", "import quietcount_schemas, quietcount_producers").returncode == 0
    assert emitter.run("python", "-c", f"import {module}").returncode == 1


def test_an_emitter_installs_a_handful_of_distributions_each_as_pinned(root: Path, emitter: Environment) -> None:
    installed = set(emitter.run("pip", "freeze").stdout.split("\n")) - {""}
    foreign = {line for line in installed if not line.startswith("quietcount-")}
    pinned = set((root / "constraints.txt").read_text(encoding="utf-8").split("\n"))
    assert {line.partition(" ")[0] for line in installed - foreign} == {"quietcount-schemas", "quietcount-producers"}
    assert foreign <= pinned
    assert len(foreign) <= 8


def test_an_emitter_can_emit(emitter: Environment) -> None:
    helped = emitter.run("quietcount", "emit", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "--dry-run" in helped.stdout


def test_an_emitter_loads_the_client_of_kafka_only_to_use_it(emitter: Environment) -> None:
    """Its import costs more than all else that a command does before it begins."""
    program = (
        "import sys, quietcount_producers, quietcount_producers.commands.emit, quietcount_producers.commands.spool; "
        "from quietcount_producers import EmitterSettings; print('kafka' in sys.modules); "
        "import quietcount_producers.kafka.writer; print('kafka' in sys.modules); import crc32c"
    )
    assert emitter.run("python", "-c", program).stdout.split() == ["False", "True"]


def test_an_emitter_that_asks_for_metrics_without_their_extra_is_told_what_to_install(emitter: Environment) -> None:
    told = emitter.run("python", "-c", "import quietcount_producers.prometheus")
    assert told.returncode == 1
    assert "pip install './producers[prometheus]'" in told.stderr


def test_an_emitter_that_opens_the_door_without_its_extra_is_told_what_to_install(emitter: Environment) -> None:
    told = emitter.run("quietcount", "receive")
    assert told.returncode == 1
    assert "pip install './producers[receive]'" in told.stderr
    assert "Traceback" not in told.stderr


def test_an_emitter_has_the_schemas(emitter: Environment) -> None:
    listed = emitter.run("quietcount", "schemas", "list")
    assert listed.returncode == 0, listed.stderr
    assert "HelpRequested" in listed.stdout


def test_an_emitter_has_no_command_that_releases(emitter: Environment) -> None:
    refused = emitter.run("quietcount", "release")
    assert refused.returncode == 2
    assert "No such command" in refused.stderr


@pytest.mark.parametrize("part", PARTS)
def test_a_wheel_carries_every_file_of_its_package(root: Path, tmp_path: Path, part: str) -> None:
    source = tmp_path / part
    shutil.copytree(root / part, source, ignore=BUILT)
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = source / f"quietcount_{part}"
    assert carried == {str(file.relative_to(source)) for file in package.rglob("*") if file.is_file()}
