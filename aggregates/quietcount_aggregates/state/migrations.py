"""The migrations of the private state: what takes a file that an older version wrote to the next format.

A step is SQL. It runs in one transaction with every other step and the new format's number: if it is killed anywhere,
the file is of the old format or of the new one. A step never changes once a version has been published with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["FIRST", "STEPS"]

FIRST: Final = 1
"""The oldest format that can be read."""

STEPS: Final[Mapping[int, str]] = MappingProxyType({})
"""By format, the SQL that takes a state of it to the following one. There is one format so far."""
