"""A project that an older version left goes on where it was; one that a newer version left is refused as that."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from tests.catalogues import statistic
from tests.e2e.projects import EXACT, Cell, Project

from quietcount_aggregates import state_file
from quietcount_aggregates.entries import Entry, Retired
from quietcount_aggregates.errors import StateError
from quietcount_aggregates.ledger import Ledger
from quietcount_aggregates.state import State
from quietcount_consumers.wiring import open_ledger
from quietcount_producers.simulation import Tally

pytestmark = pytest.mark.check

Line = Mapping[str, object]

CONFIGURATION = EXACT + statistic("sentences", "SentencePassed", by="sentence", horizon="year")
"""That of the archive's projects."""

# What they count: by statistic, the event type and its dimension.
COUNTED = {
    "requests": ("HelpRequested", "help_kind"),
    "court_cases": ("CourtCaseFiled", "charge"),
    "sentences": ("SentencePassed", "sentence"),
}
JANUARY, FEBRUARY, MARCH = "2023-01", "2023-02", "2023-03"


@dataclass(frozen=True, slots=True)
class Old:
    """What an older version left: see make.py beside the archive."""

    project: Project
    interrupted: Project
    emitted: list[dict[str, str]]
    published: dict[Cell, int]


@pytest.fixture
def old(root: Path, tmp_path: Path) -> Old:
    """The projects of format 1, unpacked with their modes."""
    with tarfile.open(root / "tests" / "fixtures" / "format_1" / "projects.tar.xz") as archive:
        archive.extractall(tmp_path, filter="tar")
    return Old(
        Project(tmp_path / "project", create=False),
        Project(tmp_path / "interrupted", create=False),
        [json.loads(line) for line in (tmp_path / "emitted.jsonl").read_text().splitlines()],
        {
            (name, start, cell): noisy
            for name, start, cell, noisy in json.loads((tmp_path / "published.json").read_text())
        },
    )


def counted(lines: Iterable[Line]) -> dict[Cell, int]:
    """What the projects count of `lines` in 2023, by the oracle of the simulation; cells of zero are left out."""
    tally = Tally()
    for line in lines:
        tally.add(line)
    firsts = tally.totals()["first_per_case"]
    assert isinstance(firsts, dict)
    return {
        (name, f"{month}-01", json.dumps({dimension: symbol}, separators=(",", ":"))): count
        for name, (event, dimension) in COUNTED.items()
        for month, of_month in firsts[event].items()
        for symbol, count in of_month[dimension].items()
        if count and month < "2024"
    }


def format_of(state: Path) -> str:
    with duckdb.connect(str(state), read_only=True) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    assert row is not None
    return str(row[0])


def tables_of(state: Path) -> dict[str, list[tuple[object, ...]]]:
    """The whole content of a state, raw: nothing but the format is left out."""
    with duckdb.connect(str(state), read_only=True) as connection:
        names = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        content = {
            name: connection.execute(f'SELECT * FROM "{name}" ORDER BY ALL').fetchall() for name in sorted(names)
        }
    content["meta"] = [row for row in content["meta"] if row[0] != "format"]
    return content


def asked(case: str, day: str, number: int) -> dict[str, object]:
    """A request for help that nobody has sent before."""
    return {
        "event": "HelpRequested",
        "case": case,
        "occurred_on": day,
        "event_id": f"00000000-0000-4000-8000-{number:012x}",
        "help_kind": "SURRENDER",
        "service_category": "MOBILISED",
        "circumstance": "REAR_UNIT",
        "region": "VOLGA",
    }


def after_the_upgrade(old: Old) -> tuple[list[Line], list[Line]]:
    """What is emitted to the newer version, and what of it an exact count has to know.

    Cases that used up their limit or withdrew ask again; what is counted comes again; a released event is corrected; a
    case withdraws whose requests all lie in open periods; new cases come.
    """
    requests = [line for line in old.emitted if line["event"] == "HelpRequested"]
    withdrawn = {line["case"] for line in old.emitted if line["event"] == "CaseWithdrawn"}
    months: dict[str, set[str]] = {}
    for line in old.emitted:
        months.setdefault(line["case"], set()).add(line["occurred_on"][:7])
    released = next(line for line in requests if line["occurred_on"] < FEBRUARY and line["case"] not in withdrawn)
    spent = [line["case"] for line in requests if line["occurred_on"] < FEBRUARY]
    leaving = next(case for case, seen in months.items() if min(seen) >= MARCH and case not in withdrawn)
    assert spent
    assert withdrawn
    again = [asked(case, "2023-03-09", number) for number, case in enumerate([*spent, *sorted(withdrawn)])]
    new = [asked(f"new-{number}", "2023-03-10", 1000 + number) for number in range(9)]
    leave = {
        "event": "CaseWithdrawn",
        "case": leaving,
        "occurred_on": "2023-03-11",
        "event_id": asked("", "", 5000)["event_id"],
    }
    correction = {**released, "revision": 99, "help_kind": "OTHER"}
    known: list[Line] = [*again, *new, leave]
    return [*old.emitted, correction, *known], known


def test_a_project_of_format_1_goes_on_and_no_value_changes(old: Old) -> None:
    project = old.project
    assert format_of(project.private / "state.duckdb") == "1"
    assert project.released() == old.published
    sent, known = after_the_upgrade(old)
    project.emit(sent)
    project.run("2023-03-08")
    assert format_of(project.private / "state.duckdb") == str(state_file.FORMAT)
    values = project.released()
    assert old.published.items() <= values.items(), "a published value changed"
    truth = counted([*old.emitted, *known])
    assert {cell: noisy for cell, noisy in values.items() if noisy} == {
        cell: count for cell, count in truth.items() if cell[1][:7] in (JANUARY, FEBRUARY)
    }
    project.run_here("2024-01-08")
    values = project.released()
    assert old.published.items() <= values.items()
    assert {cell: noisy for cell, noisy in values.items() if noisy} == truth
    assert project.ledger_values() == values
    assert "holds exactly what the ledger says" in project.quietcount("ledger", "verify").done().out


def test_a_release_that_the_older_version_did_not_finish_is_finished_with_the_same_values(old: Old) -> None:
    project = old.interrupted
    values = project.ledger_values()
    assert project.released() == old.published
    assert len(values) > len(old.published)
    project.run("2023-03-08")
    assert project.released() == project.ledger_values() == values
    project.run_here("2024-01-08")
    assert {cell: noisy for cell, noisy in project.released().items() if noisy} == counted(old.emitted)


# Opens each state in a process that dies as in a power cut: the first before its first statement, the next before its
# second one, ... and one with the migration committed and the file not closed. The last one lives. They are forked,
# since the imports alone take a second. A faulty twin commits each statement by itself.
_DYING = """
import contextlib, os, signal, sys
from pathlib import Path
from unittest import mock
from quietcount_aggregates import state_file
from quietcount_aggregates.state import State

class Dying:
    def __init__(self, connection, left):
        self.connection, self.left = connection, left

    def execute(self, *arguments):
        self.live()
        return self.connection.execute(*arguments)

    def live(self):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def __getattr__(self, name):
        return getattr(self.connection, name)

@contextlib.contextmanager
def piecemeal(state):
    yield state.connection

twin, *paths = sys.argv[1:]
if twin == "piecemeal":
    State.transaction = piecemeal
connect = state_file.connect
for number, path in enumerate(map(Path, paths)):
    child = os.fork()
    if child == 0:
        with mock.patch.object(state_file, "connect", lambda path: Dying(connect(path), number)):
            state = State(path)
            state.connection.live()
            state.close()
        os._exit(0)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        print(number)
        break
"""
MOST_STATEMENTS = 16


def deaths(project: Project, folder: Path, twin: str = "") -> list[Path]:
    """Copies of the project's state, each migrated by a process that died one statement later; the last one lived."""
    folder.mkdir()
    paths = [folder / f"{number}.duckdb" for number in range(MOST_STATEMENTS)]
    for path in paths:
        shutil.copyfile(project.private / "state.duckdb", path)
    ended = subprocess.run(
        [sys.executable, "-c", _DYING, twin, *map(str, paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return paths[: int(ended.stdout) + 1]


def test_a_kill_at_each_statement_of_the_migration_leaves_a_state_that_opens(old: Old, tmp_path: Path) -> None:
    *killed, lived = deaths(old.project, tmp_path / "killed")
    newest = str(state_file.FORMAT)
    whole = tables_of(lived)
    assert format_of(lived) == newest
    left = {format_of(path) for path in killed}
    assert left == {"1", newest}, "no kill came before, or none after the migration was committed"
    assert len(killed) > 5, "a migration in one transaction has at least five statements"
    for path in killed:
        State(path).close()
        assert format_of(path) == newest
        assert tables_of(path) == whole
    shutil.copyfile(killed[3], old.project.private / "state.duckdb")
    old.project.run_here("2024-01-08")
    assert {cell: noisy for cell, noisy in old.project.released().items() if noisy} == counted(old.emitted)


def test_a_migration_in_pieces_leaves_one_that_does_not(old: Old, tmp_path: Path) -> None:
    *killed, _ = deaths(old.project, tmp_path / "killed", "piecemeal")
    refused = 0
    for path in killed:
        try:
            State(path).close()
        except StateError:
            refused += 1
    assert refused


# What a newer version left


def test_a_state_of_a_newer_format_is_refused_and_left_alone(old: Old) -> None:
    path = old.project.private / "state.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", [str(state_file.FORMAT + 1)])
    before = path.read_bytes()
    said = old.project.quietcount("run", "--until-idle", "--as-of", "2023-03-08").refusal()
    assert f"written in format {state_file.FORMAT + 1}; this version reads format {state_file.FORMAT}" in said
    assert "Use the newer quietcount" in said
    assert "damaged" not in said
    assert path.read_bytes() == before
    assert old.project.released() == old.published
    # Nor does the way on after a loss take it for one.
    said = old.project.quietcount("ledger", "record-loss", "--yes").refusal()
    assert "Use the newer quietcount" in said
    assert path.read_bytes() == before


@pytest.mark.parametrize("name, says", [("ledger.sqlite", "Use the newer quietcount"), ("log.sqlite", "newer")])
def test_a_file_of_a_newer_format_is_refused_as_that(name: str, says: str, old: Old) -> None:
    path = old.project.private / name
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 2")
    said = old.project.quietcount("run", "--until-idle", "--as-of", "2023-03-08").refusal()
    assert str(path) in said
    assert says in said
    assert "damaged" not in said
    assert old.project.released() == old.published


def of_a_newer_version(project: Project) -> None:
    """Append to the ledger an entry of a schema that nobody has heard of."""
    with contextlib.closing(open_ledger(project.configuration)) as log:
        ledger = Ledger(log)
        ledger.fence()
        head = ledger.chain.head
        entry = Entry.make(head.length, head.digest, ledger.chain.entries[-1].recorded_at, Retired("requests")).data
        unknown = entry[:2] + bytes(8) + entry[10:] + b"a field of tomorrow"
        log.append([unknown], epoch=log.fence(), expected=head.length)


def test_a_ledger_to_which_a_newer_version_has_written_is_refused_as_that(old: Old) -> None:
    project = old.project
    with contextlib.closing(open_ledger(project.configuration, create=False)) as log:
        entries = len(log.read())
    of_a_newer_version(project)
    for arguments in (("run", "--until-idle", "--as-of", "2023-03-08"), ("ledger", "verify"), ("ledger", "show")):
        said = project.quietcount(*arguments).refusal()
        assert f"ledger entry {entries} was written by a newer version of quietcount" in said
        assert "damaged" not in said
    assert project.released() == old.published


def test_an_older_version_refuses_the_state_after_the_upgrade(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal of format 1's version, in whose words: it is the same check, of another number."""
    State(old.project.private / "state.duckdb").close()
    assert state_file.FORMAT > 1
    monkeypatch.setattr(state_file, "FORMAT", 1)
    with pytest.raises(StateError, match=r"this version reads format 1\. Use the newer quietcount"):
        State(old.project.private / "state.duckdb")
