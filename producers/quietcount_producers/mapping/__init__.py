"""What the columns of somebody's export mean: a TOML file, read once, then applied to each row."""

from __future__ import annotations

from quietcount_producers.mapping.application import Mapping
from quietcount_producers.mapping.definition import Reading

__all__ = ["Mapping", "Reading"]
