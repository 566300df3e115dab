"""What a release leaves behind, and what the service says: nothing of who came, and nothing of how many."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from tests.e2e.projects import EXACT, Project, simulated

from quietcount_producers.composing.pseudonyms import Pepper
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.check

CASES = [f"caller-{number:03}" for number in range(60)]
CLOSED, OPEN = "2023-01-15", "2023-02-15"
RELEASED_AT = "2023-02-20"  # January is due, February is open

# An emitter that has the log open, wrote to it, and stays.
EMITTER = """
import sys
from pathlib import Path
from quietcount_producers import CaseEventPublisher
with CaseEventPublisher.from_config(Path("quietcount.toml")) as publisher:
    publisher.emit("HelpRequested", "caller-000", "2023-01-20", circumstance="HOSPITAL").result()
    print("emitted", flush=True)
    sys.stdin.readline()
"""


def event(number: int, case: str, day: str) -> dict[str, object]:
    return {
        "event": "HelpRequested",
        "case": case,
        "occurred_on": day,
        "event_id": str(uuid.UUID(int=(number + 1) << 70 | number, version=4)),
        "help_kind": ("DESERTION", "SURRENDER")[number % 2],
        "circumstance": "FRONT_LINE",
        "region": "NORTH_CAUCASIAN",
    }


def traces(project: Project, closed: list[dict[str, object]]) -> dict[str, list[bytes]]:
    """What must not be found of closed events: by kind, each form that the bytes could have."""
    pepper = Pepper.load(project.folder / "secrets" / "pepper")
    keys = [pepper.case_key(str(each["case"])) for each in closed]
    ids = [uuid.UUID(str(each["event_id"])) for each in closed]
    with project.log() as log:
        records = log.poll(CASE_EVENTS, {0: 0}, {0: len(closed)}, len(closed))
    return {
        "identifier": [str(each["case"]).encode() for each in closed],
        "case key": [form for key in keys for form in (key, key.hex().encode(), key.hex().upper().encode())],
        "reversed case key": [key[::-1] for key in keys],  # as a machine of the other byte order would store it
        "event id": [form for each in ids for form in (each.bytes, each.hex.encode(), str(each).encode())],
        "record": [record.value for record in records],
        "attributes": [record.value[42:] + record.value[:2] for record in records],
        "symbol": [b"FRONT_LINE", b"NORTH_CAUCASIAN", b"HOSPITAL"],
    }


def found(project: Project, wanted: dict[str, list[bytes]]) -> dict[str, set[str]]:
    """Return, by kind, the files of the data folder that hold any of it."""
    files = {path.name: path.read_bytes() for path in project.data.rglob("*") if path.is_file()}
    assert {"log.sqlite", "ledger.sqlite", "state-0.duckdb", "statistics.duckdb"} <= set(files)
    result: dict[str, set[str]] = {}
    for kind, forms in wanted.items():
        holding = {name for name, content in files.items() if any(form in content for form in forms)}
        if holding:
            result[kind] = holding
    return result


def test_after_a_release_no_file_holds_anything_of_the_closed_period(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    closed = [event(number, case, CLOSED) for number, case in enumerate(CASES)]
    still_open = [event(number + 100, f"open-{case}", OPEN) for number, case in enumerate(CASES)]
    project.emit([*closed, *still_open])
    wanted, opened = traces(project, closed), {"case key": traces(project, still_open)["case key"]}
    emitter = subprocess.Popen(
        [sys.executable, "-c", EMITTER],
        cwd=project.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert emitter.stdout is not None
        assert emitter.stdout.readline() == "emitted\n"
        project.run_here("2023-01-20")
        before = found(project, wanted)
        assert {"case key", "event id", "record"} <= set(before)  # so the search can find
        assert "log.sqlite" in found(project, opened)["case key"]
        assert emitter.poll() is None
        project.run(RELEASED_AT)
        assert emitter.poll() is None
        assert found(project, wanted) == {}
        assert found(project, opened) == {}, "the state knows what is open, by marks"
    finally:
        emitter.communicate("\n", timeout=60)
    assert found(project, wanted) == {}


def test_an_open_period_is_in_the_private_folder_only_and_by_marks_in_the_state(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    lines = [event(number, case, OPEN) for number, case in enumerate(CASES)]
    project.emit(lines)
    wanted = traces(project, lines)
    project.run_here("2023-02-01")  # nothing is due yet
    assert found(project, wanted)["case key"] <= {"log.sqlite", "log.sqlite-wal"}
    assert "symbol" not in found(project, {"symbol": wanted["symbol"]})
    assert project.private.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in project.private.iterdir()} == {0}


def said(finished_err: str) -> list[str]:
    """The lines without their time stamps."""
    lines = [re.sub(r"timestamp=\S+ ?", "", line) for line in finished_err.splitlines()]
    assert lines
    assert all("timestamp" not in line for line in lines)
    return lines


def test_the_service_says_the_same_of_an_empty_log_and_of_a_full_one(tmp_path: Path) -> None:
    outputs = []
    for name, events in (("empty", 0), ("full", 700)):
        project = Project(tmp_path / name, EXACT.replace("20.0", "0.5"))
        if events:
            project.emit(simulated(events))
        ran = project.run("2023-06-08")
        released = project.quietcount("release", "--as-of", "2023-07-08").done()
        outputs.append((ran.out, said(ran.err), released.out, released.err))
    assert outputs[0] == outputs[1]
    assert any("released" in line for line in outputs[0][1])


@pytest.mark.promise("no-exact-count")
def test_no_exact_count_is_in_what_the_service_says(tmp_path: Path) -> None:
    """Counts that no other number of the output could be mistaken for."""
    project = Project(tmp_path / "project", EXACT.replace("20.0", "0.5"))
    project.emit([event(number, f"c{number}", CLOSED) for number in range(739)])
    finished = project.run(RELEASED_AT)
    words = set(re.findall(r"\d+", finished.out + re.sub(r"timestamp=\S+", "", finished.err)))
    assert words.isdisjoint({"739", "370", "369", "740", "738"})
    assert "2023" in words
