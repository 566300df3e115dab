"""Imports point one way, and an emitter's parts never meet the database: the contracts hold, and a break is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

PARTS = ("schemas", "producers", "aggregates", "consumers")


def copy_of(root: Path, folder: Path) -> Path:
    """The modules of the four packages and the contracts, where a fault can be put in."""
    for part in PARTS:
        package = f"{part}/quietcount_{part}"
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.avsc"))
    shutil.copy(root / "pyproject.toml", folder)
    return folder


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(tree / part) for part in PARTS)
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.mark.promise("light-emitter")
def test_imports_keep_the_contracts(root: Path, tmp_path: Path) -> None:
    verdict = lint_imports(copy_of(root, tmp_path))
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert "0 broken" in verdict.stdout


@pytest.mark.check
@pytest.mark.parametrize(
    "part, line",
    [
        ("schemas", "import quietcount_producers"),
        ("producers", "import quietcount_aggregates"),
        ("aggregates", "import quietcount_producers"),
        ("aggregates", "import quietcount_consumers"),
        ("producers", "import duckdb"),
        ("schemas", "import cryptography"),
        ("producers", "import prometheus_client"),
        ("producers", "import quietcount_producers.prometheus"),
    ],
)
def test_an_import_against_the_contracts_is_refused(root: Path, tmp_path: Path, part: str, line: str) -> None:
    tree = copy_of(root, tmp_path)
    (tree / part / f"quietcount_{part}" / "fault.py").write_text(f"from __future__ import annotations\n\n{line}\n")
    verdict = lint_imports(tree)
    assert verdict.returncode == 1, verdict.stdout + verdict.stderr
    assert f"quietcount_{part}.fault" in verdict.stdout
