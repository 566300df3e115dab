"""Emitting with real processes: at once, killed midway, and on a disk that is full."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import forking

from quietcount_producers import EmbeddedLog, Pepper
from quietcount_schemas.codec import Codec
from quietcount_schemas.log import CASE_EVENTS
from quietcount_schemas.registry import SchemaRegistry

pytestmark = pytest.mark.check

# The command as installed, but from the sources at hand.
_COMMAND = """
import sys
from quietcount_producers.commands.emit import emit_command
from quietcount_producers.commands.simulate import simulate_command
from quietcount_schemas.cli import cli, main
cli.add_command(emit_command)
cli.add_command(simulate_command)
sys.argv[0] = "quietcount"
sys.exit(main())
"""


def quietcount(place: Path, *arguments: str, file_size: int | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}

    def limit() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    return forking.Popen(
        [sys.executable, "-c", _COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place,
        env=environment,
        preexec_fn=limit if file_size is not None else None,  # this process has no other thread that holds a lock
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "quietcount.toml").write_text("")
    (tmp_path / "secrets").mkdir()
    Pepper.generate(tmp_path / "secrets" / "pepper")
    return tmp_path


def stored(place: Path) -> list[bytes]:
    codec = Codec(SchemaRegistry.load())
    path = place / "data" / "private" / "store" / "log.sqlite"
    if not path.exists():
        return []
    with EmbeddedLog(path, create=False) as log:
        records = log.poll(CASE_EVENTS, {0: 0}, log.end_offsets(CASE_EVENTS), 10**6)
    return [codec.decode(record.value).event_id for record in records]


def lines(count: int) -> str:
    """Lines without event ids, some of them equal."""
    facts = {"event": "HelpRequested", "occurred_on": "2023-10-03"}
    return "".join(json.dumps({**facts, "case": f"case {n - n % 10 // 9}"}) + "\n" for n in range(count))


def test_one_file_emitted_twice_at_once_gives_each_event_one_id(place: Path) -> None:
    (place / "cases.jsonl").write_text(lines(3000))
    both = [quietcount(place, "emit", "cases.jsonl") for _ in range(2)]
    for process in both:
        code, out, err = finished(process)
        assert (code, out, err) == (0, "", "Emitted cases.jsonl: 3,000 events; every line is in the log.\n")
    ids = stored(place)
    assert len(ids) == 6000
    assert len(set(ids)) == 3000
    assert {ids.count(each) for each in ids[:50]} == {2}


def test_kill_9_midway_and_running_again_gives_the_ids_of_an_undisturbed_run(place: Path) -> None:
    (place / "cases.jsonl").write_text(lines(20_000))
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    log = place / "data" / "private" / "store" / "log.sqlite"
    for _ in range(3):
        process = quietcount(place, "emit", "cases.jsonl")
        while not log.exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert finished(quietcount(place, "emit", "cases.jsonl"))[0] == 0
    ids = stored(place)
    assert len(set(ids)) == 20_000
    assert {file.name for file in log.parent.iterdir()} == {"log.sqlite"}


def test_a_full_disk_is_said_in_one_sentence_and_mended_by_running_again(place: Path) -> None:
    (place / "cases.jsonl").write_text(lines(4000))
    code, out, err = finished(quietcount(place, "emit", "cases.jsonl", file_size=300_000))
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert err.startswith("Error: Cannot ")
    assert "space" in err or "full" in err
    assert len(stored(place)) < 4000
    assert finished(quietcount(place, "emit", "cases.jsonl"))[0] == 0
    assert len(set(stored(place))) == 4000


def test_a_pipe_from_simulate_to_emit(place: Path) -> None:
    code, out, _ = finished(quietcount(place, "simulate", "--events", "300", "--duplicates", "0.2"))
    assert code == 0
    (place / "trial.jsonl").write_text(out)
    assert finished(quietcount(place, "emit", "trial.jsonl"))[0] == 0
    assert len(set(stored(place))) == 300
    assert len(stored(place)) == out.count("\n") > 300


@pytest.mark.quick
@pytest.mark.promise("clear-errors")
def test_no_error_of_a_person_shows_a_traceback(place: Path) -> None:
    (place / "cases.csv").write_text("event,case,occurred_on\nHelpRequested,a,2023-13-01\n")
    for arguments, code, message in (
        (("emit", "cases.csv"), 1, "cases.csv line 2: occurred_on: is not a day of the calendar"),
        (("emit", "absent.csv"), 1, "Cannot read absent.csv"),
        (("--config", "absent.toml", "emit", "cases.csv"), 1, "quietcount init"),
        (("emit",), 2, "Missing argument"),
    ):
        returned, out, err = finished(quietcount(place, *arguments))
        assert (returned, out) == (code, "")
        assert message in err
        assert "Traceback" not in err
    (place / "secrets" / "pepper").chmod(0o644)
    returned, _, err = finished(quietcount(place, "emit", "cases.csv"))
    assert returned == 1
    assert "chmod 600" in err


@pytest.mark.quick
def test_events_that_count_nowhere_are_told_at_the_terminal_and_are_no_error(place: Path) -> None:
    """A pure emitter's configuration has no population, and says nothing."""
    (place / "cases.jsonl").write_text(lines(20))
    sent = "Emitted cases.jsonl: 20 events; every line is in the log.\n"
    assert finished(quietcount(place, "emit", "cases.jsonl")) == (0, "", sent)
    (place / "quietcount.toml").write_text(
        '[[population]]\nevents = ["HelpRequested"]\nperiod = "month"\nsince = 2023-11-01\n'
    )
    for options in ((), ("--dry-run",)):
        code, out, err = finished(quietcount(place, "emit", "cases.jsonl", *options))
        assert code == 0
        assert ("HelpRequested" in out) is bool(options)
        note, last = err.splitlines()
        assert note.startswith("Note: HelpRequested: events dated before 2023-11-01 count nowhere")
        assert "docs/configuration.md" in note
        assert last == (
            "Checked cases.jsonl: 20 events; every line is good. Nothing was sent." if options else sent.strip()
        )


def test_interrupting_says_how_to_go_on(place: Path) -> None:
    (place / "cases.jsonl").write_text(lines(20_000))
    process = quietcount(place, "emit", "cases.jsonl")
    log = place / "data" / "private" / "store" / "log.sqlite"
    while not log.exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    code, _, err = finished(process)
    assert "Traceback" not in err
    assert code == 130
    assert finished(quietcount(place, "emit", "cases.jsonl"))[0] == 0
    assert len(set(stored(place))) == 20_000
