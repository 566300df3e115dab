"""What an emitter installs: packages, bytes on the disk, and the start of a program that imports the publisher."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.benchmarks.test_bench_start import cpu, medians

pytestmark = pytest.mark.bench

BUILT = shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info")
OURS = "from quietcount_producers import CaseEventPublisher"
THEIRS = "import fastavro, kafka"


def test_the_install_of_an_emitter(tmp_path: Path, root: Path) -> None:
    for part in ("schemas", "producers"):
        shutil.copytree(root / part, tmp_path / part, ignore=BUILT)
    folder = tmp_path / "venv"
    python = str(folder / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    constraints = ["--constraint", str(root / "constraints.txt")]
    subprocess.run([*pip, "install", "--quiet", *constraints, "./schemas", "./producers"], cwd=tmp_path, check=True)
    listed = subprocess.run([*pip, "list", "--format", "json"], capture_output=True, text=True, check=True).stdout
    packages = {each["name"] for each in json.loads(listed)} - {"pip", "setuptools"}
    [site] = folder.glob("lib/python3*/site-packages")
    of_python = ("pip", "setuptools", "_distutils_hack", "pkg_resources")
    size = sum(
        path.stat().st_size
        for path in site.rglob("*")
        if path.is_file() and not path.relative_to(site).parts[0].startswith(of_python)
    )
    found = medians({"ours": [python, "-c", OURS], "theirs": [python, "-c", THEIRS]}, tmp_path, cpu)
    print()
    print(f"packages: {len(packages)}, of them ours 2 ({', '.join(sorted(packages))})")
    print(f"on the disk, with bytecode: {size / 1e6:.1f} MB")
    print(
        f"a start that imports the publisher: {found['ours'] * 1000:.0f} ms of CPU; {THEIRS!r}: "
        f"{found['theirs'] * 1000:.0f} ms   ratio {found['ours'] / found['theirs']:.2f}"
    )
