"""The mappings that come with the package, for the exports of tools that many organisations use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

__all__ = ["SHIPPED", "found", "summary"]

_FOLDER: Final = Path(__file__).resolve().parent / "shipped"

SHIPPED: Final[Mapping[str, Path]] = MappingProxyType({path.stem: path for path in sorted(_FOLDER.glob("*.toml"))})
"""By name, the file of each mapping."""


def found(path: Path) -> Path:
    """Return the file that `path` means: itself, or the mapping of that name that comes with the package."""
    shipped = SHIPPED.get(str(path))
    return path if shipped is None or path.exists() else shipped


def summary(name: str) -> str:
    """Return what a mapping says of itself in its first line."""
    return SHIPPED[name].read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
