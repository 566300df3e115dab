"""The commands of this distribution as a table, so that `quietcount --help` lists them without importing any."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS: tuple[tuple[str, str, str], ...] = (
    (
        "emit",
        "quietcount_producers.commands.emit:emit_command",
        "Send the events of files (CSV, JSON, XLSX) to the log.",
    ),
    (
        "mapping",
        "quietcount_producers.commands.mapping:mapping_command",
        "Draft a mapping for an export, or show those that come with quietcount.",
    ),
    (
        "receive",
        "quietcount_producers.commands.receive:receive_command",
        "Take events over HTTP from tools that can only send JSON.",
    ),
    (
        "simulate",
        "quietcount_producers.commands.simulate:simulate_command",
        "Write synthetic case events with known totals.",
    ),
    (
        "spool",
        "quietcount_producers.commands.spool:spool_command",
        "Show the state of an emitter's spool, or send what waits in it.",
    ),
)
"""By command: its name, where it is ("module:attribute"), and its summary. A test holds all three to the command."""
