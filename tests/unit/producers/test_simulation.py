from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietcount_producers import Mix, Pepper, ProducersError, Tally, simulate
from quietcount_producers.commands.simulate import simulate_command
from quietcount_producers.composing.composition import Composer, Facts
from quietcount_producers.files.event_files import FileFormat
from quietcount_producers.simulation import encoded
from quietcount_schemas.events.event_types import EMITTED_KEYS, Role
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.quick

BUSY = Mix(duplicates=0.1, corrections=0.1, withdrawals=0.1, late=0.2)


def test_the_same_seed_gives_the_same_bytes_on_every_machine() -> None:
    """The digest was taken once; a change of Python, platform or of this module's order of chance changes it."""
    text = b"".join(encoded(line) for line in simulate(500, 7, mix=BUSY))
    assert hashlib.sha256(text).hexdigest() == "8ef7c646ef1dd2423a951941d74b30030a902bc409d1af8aba0c24879d1c9b98"
    assert text == b"".join(encoded(line) for line in simulate(500, 7, mix=BUSY))
    assert text != b"".join(encoded(line) for line in simulate(500, 8, mix=BUSY))


def test_there_are_as_many_distinct_events_as_asked_for() -> None:
    lines = list(simulate(1000, 3, mix=BUSY))
    events = {line["event_id"] for line in lines if line["event"] != "CaseWithdrawn"}
    assert len(events) == 1000
    assert len(lines) > 1150


def test_every_line_can_be_emitted_and_every_symbol_of_the_casework_occurs() -> None:
    registry = SchemaRegistry.load()
    composer = Composer(registry, Pepper(bytes(range(32))))
    seen: dict[tuple[str, str], set[object]] = {}
    for line in simulate(8000, 2, mix=BUSY):
        given = {k: v for k, v in line.items() if k not in EMITTED_KEYS}
        composer.compose(Facts(line["event"], line["case"], line["occurred_on"], given))
        for name, value in given.items():
            seen.setdefault((str(line["event"]), name), set()).add(value)
    for kind in registry.event_types.values():
        if kind.role is Role.EVENT:
            for field in kind.dimensions:
                assert seen[kind.name, field.name] == set(field.symbols), (kind.name, field.name)


def test_days_lie_within_the_span_and_late_events_come_after_later_ones() -> None:
    first, last = dt.date(2023, 4, 1), dt.date(2023, 6, 30)
    punctual = [str(line["occurred_on"]) for line in simulate(500, 1, first=first, last=last)]
    assert punctual == sorted(punctual)
    late = [str(line["occurred_on"]) for line in simulate(500, 1, first=first, last=last, mix=Mix(late=0.3))]
    assert late != sorted(late)
    assert {day[:7] for day in punctual + late} == {"2023-04", "2023-05", "2023-06"}


def test_the_totals_are_those_of_an_independent_count() -> None:
    lines = list(simulate(3000, 11, mix=BUSY))
    tally = Tally()
    for line in lines:
        tally.add(line)
    gone = {line["case"] for line in lines if line["event"] == "CaseWithdrawn"}
    assert gone
    final: dict[object, dict[str, object]] = {}
    for line in sorted(lines, key=lambda line: int(str(line.get("revision", 0)))):
        if line["case"] not in gone:
            final[line["event_id"]] = line
    every = Counter((str(e["event"]), str(e["occurred_on"])[:7]) for e in final.values())
    told = tally.totals()["events"]
    assert isinstance(told, dict)
    assert {(event, month): cell["all"] for event, months in told.items() for month, cell in months.items()} == every
    for event, months in told.items():
        for month, cell in months.items():
            for name, symbols in cell.items():
                if name != "all":
                    assert sum(symbols.values()) == cell["all"], (event, month, name)
    firsts = tally.totals()["first_per_case"]
    assert isinstance(firsts, dict)
    cases = {e["case"] for e in final.values() if e["event"] == "HelpRequested"}
    assert sum(cell["all"] for cell in firsts["HelpRequested"].values()) == len(cases)
    assert sum(cell["all"] for cell in told["HelpRequested"].values()) > len(cases)


def test_a_correction_replaces_a_duplicate_counts_once_and_a_withdrawal_takes_back() -> None:
    asked = {
        "event": "HelpRequested",
        "case": "a",
        "occurred_on": "2023-01-01",
        "event_id": "1",
        "help_kind": "OTHER",
        "service_category": "UNKNOWN",
        "circumstance": "UNKNOWN",
        "region": "UNKNOWN",
    }
    tally = Tally()
    for line in (asked, asked, {**asked, "revision": 1, "region": "URAL"}, asked, {**asked, "case": "b"}):
        tally.add(line)
    tally.add({"event": "CaseWithdrawn", "case": "b"})
    events = tally.totals()["events"]
    assert isinstance(events, dict)
    cell = events["HelpRequested"]["2023-01"]
    assert (cell["all"], cell["region"]["URAL"], cell["region"]["UNKNOWN"]) == (1, 1, 0)


def test_the_command_writes_lines_and_totals(tmp_path: Path) -> None:
    out, totals = tmp_path / "trial.jsonl", tmp_path / "totals.json"
    result = CliRunner().invoke(simulate_command, ["--events", "50", "-o", str(out), "--totals", str(totals)])
    assert result.exit_code == 0
    assert result.output == ""
    assert json.loads(totals.read_text()).keys() == {"events", "first_per_case"}
    printed = CliRunner().invoke(simulate_command, ["--events", "50"])
    assert printed.stdout == out.read_text()
    assert FileFormat.guess(out) is FileFormat.JSONL


def test_the_help_says_how_days_and_shares_are_written_and_what_they_are_by_default() -> None:
    shown = CliRunner().invoke(simulate_command, ["--help"]).output
    assert re.search(r"--from DAY .*\[default: 2023-01-01\]", shown)
    assert re.search(r"--to DAY .*\[default: 2023-12-31\]", shown)
    assert "--late SHARE" in shown
    assert "FLOAT" not in shown


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProducersError, match="must not lie before"):
        simulate(1, first=dt.date(2023, 2, 1), last=dt.date(2023, 1, 1))
    with pytest.raises(ProducersError, match="share of late"):
        Mix(late=1.5)
    for first, last in ((dt.date(1969, 12, 31), dt.date(2023, 1, 1)), (dt.date(2023, 1, 1), dt.date(2100, 1, 1))):
        with pytest.raises(ProducersError, match="lie from 1970-01-01 to 2099-12-31"):
            simulate(1, first=first, last=last)
    for wrong in (
        ["--late", "2"],
        ["--late", "nan"],
        ["--from", "1969-12-31"],
        ["--from", "2024-01-01"],
        ["--to", "x"],
    ):
        result = CliRunner().invoke(simulate_command, wrong)
        assert result.exit_code == 2, wrong
        assert "Error: " in result.output
        assert result.output.startswith("Usage: ")
    result = CliRunner().invoke(simulate_command, ["-o", str(tmp_path / "absent" / "x")])
    assert isinstance(result.exception, ProducersError)
