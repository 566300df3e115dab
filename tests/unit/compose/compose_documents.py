"""What the tests of compose/ read and run: its compose.yaml, and the program that makes the secrets."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from tests.deployment import script

Document = dict[str, Any]
PINNED = re.compile(r"[a-z0-9./-]+:v?[0-9]+\.[0-9]+\.[0-9]+[a-z0-9.-]*")


@pytest.fixture(scope="module")
def compose(root: Path) -> Document:
    loaded: Document = yaml.safe_load((root / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def credentials(root: Path, tmp_path: Path) -> ModuleType:
    """The program that makes the secrets, with the folder of each role in `tmp_path`."""
    program = script(root / "compose" / "credentials.py")
    for role in (*program.ROLES, program.MONITORING):
        (tmp_path / role).mkdir()
    return program
