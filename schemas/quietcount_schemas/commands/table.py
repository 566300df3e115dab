"""The commands of this distribution as a table, so that `quietcount --help` lists them without importing any."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("schemas", "quietcount_schemas.commands.schemas:schemas", "List, show, write, check and register event schemas."),
)
"""By command: its name, where it is ("module:attribute"), and its summary. A test holds all three to the command."""
