"""What tests need to read the files of compose/."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def script(path: Path) -> ModuleType:
    """The program at `path`, as a module."""
    specification = importlib.util.spec_from_file_location(f"compose_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def properties_of(text: str) -> dict[str, str]:
    """The keys and values of a server.properties."""
    lines = (line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {key: value for key, _, value in lines}
