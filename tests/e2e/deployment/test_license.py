"""What is installed carries its license, also when one part is taken without the others."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.check


@pytest.mark.parametrize("part", ["schemas", "producers", "aggregates", "consumers"])
def test_each_wheel_carries_the_license(root: Path, tmp_path: Path, part: str) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root / part,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/licenses/LICENSE")]
        assert archive.read(name) == (root / "LICENSE").read_bytes()
