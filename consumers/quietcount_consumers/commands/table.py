"""The commands of this distribution as a table, so that `quietcount --help` lists them without importing any."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS: tuple[tuple[str, str, str], ...] = (
    (
        "audit",
        "quietcount_consumers.commands.audit:audit_command",
        "Measure the guarantee on synthetic events, from emitted bytes to the published file.",
    ),
    (
        "dead-letters",
        "quietcount_consumers.commands.dead_letters:dead_letters_command",
        "Look at rejected records, and replay those that are good now.",
    ),
    (
        "declare",
        "quietcount_consumers.commands.declare:declare_command",
        "Declare what is new in the catalogue, and stop: nothing is folded or released.",
    ),
    ("demo", "quietcount_consumers.commands.demo:demo_command", "Do the whole job on synthetic cases, in seconds."),
    (
        "doctor",
        "quietcount_consumers.commands.doctor:doctor_command",
        "Look at all that the service needs; say what is wrong and how to mend it.",
    ),
    (
        "export",
        "quietcount_consumers.commands.readers.export:export_command",
        "Write the published figures as CSV, Parquet, SQLite and a Data Package.",
    ),
    (
        "init",
        "quietcount_consumers.commands.init:init_command",
        "Start a project: a commented quietcount.toml, and secrets with the right modes.",
    ),
    (
        "ledger",
        "quietcount_consumers.commands.ledger:ledger_command",
        "Look into the ledger of what was declared and released.",
    ),
    (
        "plan",
        "quietcount_consumers.commands.plan:plan_command",
        "Say which margins a catalogue will give, before any budget is spent.",
    ),
    (
        "query",
        "quietcount_consumers.commands.readers.query:query_command",
        "Answer one SQL query from the published statistics.",
    ),
    (
        "release",
        "quietcount_consumers.commands.service:release_command",
        "Release what is due and stop; what was released is written to stdout.",
    ),
    (
        "report",
        "quietcount_consumers.commands.readers.report:report_command",
        "Write the published statistics as one page, with pictures and margins.",
    ),
    (
        "run",
        "quietcount_consumers.commands.service:run_command",
        "Run the service: fold in ticks, release what is due, publish.",
    ),
    ("topics", "quietcount_consumers.commands.topics:topics_command", "Make and check the topics on Kafka."),
    (
        "witness",
        "quietcount_consumers.commands.witness:witness_command",
        "Witness the ledger of another organisation: sign that it has one history.",
    ),
)
"""By command: its name, where it is ("module:attribute"), and its summary. A test holds all three to the command."""
