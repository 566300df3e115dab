"""A folder with a configuration, in which files are emitted, and lines of such a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quietcount_producers import EmbeddedLog, EmitterSettings, Pepper
from quietcount_producers.commands.emit import emit_command
from quietcount_schemas.codec import CaseEvent, Codec
from quietcount_schemas.errors import QuietcountError
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import SchemaRegistry

CODEC = Codec(SchemaRegistry.load())
NAME = "Nobody-may-read-this"
GOOD = {"event": "HelpRequested", "case": NAME, "occurred_on": "2023-10-03", "service_category": "MOBILISED"}
HEADER = "event,case,occurred_on,service_category\n"


class Place:
    """A folder with a configuration, in which files are emitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "quietcount.toml"
        self.config.write_text('[[population]]\nevents = ["HelpRequested"]\nperiod = "month"\nsince = 2023-01-01\n')
        (folder / "secrets").mkdir()
        Pepper.generate(folder / "secrets" / "pepper")

    def emit(self, content: str | bytes, *options: str, name: str = "cases.jsonl") -> Result:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.run(str(path), *options)

    def run(self, *arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(emit_command, [*arguments, "--config", str(self.config)], input=stdin)

    def events(self, codec: Codec = CODEC) -> list[CaseEvent]:
        path = EmitterSettings.load(self.config, {}).log_file
        if not path.exists():
            return []
        with EmbeddedLog(path, create=False) as log:
            return [codec.decode(r.value) for r in log.poll(CASE_EVENTS, {0: 0}, log.end_offsets(CASE_EVENTS), 10**6)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def line(**changes: object) -> str:
    return json.dumps({**GOOD, **changes}) + "\n"


def said(result: Result) -> str:
    """All that a person sees of `result`, the error included."""
    assert result.exception is None or isinstance(result.exception, (QuietcountError, SystemExit)), result.exception
    error = f"{result.exception}" if isinstance(result.exception, QuietcountError) else ""
    return result.output + error
