"""A migration of the state that is killed anywhere is whole; what a newer version left is refused as that."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb
import pytest
from tests.catalogues import statistic
from tests.e2e.projects import EXACT, Cell, Project, simulated

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.ledger.entries import Entry, Retired
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.state import migrations, state_file
from quietcount_aggregates.state.state import State
from quietcount_consumers.wiring import open_ledger
from quietcount_producers.simulation import Tally

pytestmark = pytest.mark.check

Line = Mapping[str, object]

CONFIGURATION = EXACT + statistic("sentences", "SentencePassed", by="sentence", horizon="year")

# What they count: by statistic, the event type and its dimension.
COUNTED = {
    "requests": ("HelpRequested", "help_kind"),
    "court_cases": ("CourtCaseFiled", "charge"),
    "sentences": ("SentencePassed", "sentence"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that released January; the rest of the year lies open."""
    project = Project(tmp_path_factory.mktemp("made") / "project", CONFIGURATION)
    project.emit(simulated(200))
    project.run_here("2023-02-08")
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return made.copy(tmp_path / "project")


def counted(lines: Iterable[Line]) -> dict[Cell, int]:
    """What the projects count of `lines` in 2023, by the oracle of the simulation; cells of zero are left out."""
    tally = Tally()
    for line in lines:
        tally.add(line)
    firsts = tally.totals()["first_per_case"]
    assert isinstance(firsts, dict)
    return {
        (name, f"{month}-01", f"{dimension}={symbol}"): count
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


# Opens each state in a process that dies as in a power cut: the first before its first statement, the next before its
# second one, ... and one with the migration committed and the file not closed. The last one lives. They are forked,
# since the imports alone take a second. A faulty twin commits each statement by itself.
_DYING = """
import contextlib, os, signal, sys
from pathlib import Path
from unittest import mock
from quietcount_aggregates.state import migrations
from quietcount_aggregates.state import state_file
from quietcount_aggregates.state.state import State

# The version after this one, whose state has a table more.
migrations.STEPS = {**migrations.STEPS, state_file.FORMAT: "CREATE TABLE added (day DATE NOT NULL, PRIMARY KEY (day))"}
state_file.FORMAT += 1

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
        shutil.copyfile(project.private / "state-0.duckdb", path)
    ended = subprocess.run(
        [sys.executable, "-c", _DYING, twin, *map(str, paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return paths[: int(ended.stdout) + 1]


OLD, NEW = str(state_file.FORMAT), str(state_file.FORMAT + 1)


@pytest.fixture
def migrating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Become the version after this one, too."""
    monkeypatch.setattr(state_file, "FORMAT", int(NEW))
    step = "CREATE TABLE added (day DATE NOT NULL, PRIMARY KEY (day))"
    monkeypatch.setattr(migrations, "STEPS", {**migrations.STEPS, int(OLD): step})


@pytest.mark.usefixtures("migrating")
def test_a_kill_at_each_statement_of_the_migration_leaves_a_state_that_opens(project: Project, tmp_path: Path) -> None:
    *killed, lived = deaths(project, tmp_path / "killed")
    whole = tables_of(lived)
    assert format_of(lived) == NEW
    assert {format_of(path) for path in killed} == {OLD, NEW}, "no kill came before, or none after the commit"
    assert len(killed) > 5, "a migration in one transaction has at least five statements"
    for path in killed:
        State(path).close()
        assert format_of(path) == NEW
        assert tables_of(path) == whole


@pytest.mark.usefixtures("migrating")
def test_a_migration_in_pieces_leaves_one_that_does_not(project: Project, tmp_path: Path) -> None:
    *killed, _ = deaths(project, tmp_path / "killed", "piecemeal")
    refused = 0
    for path in killed:
        try:
            State(path).close()
        except StateError:
            refused += 1
    assert refused


# What a newer version left


def test_a_state_of_a_newer_format_is_refused_and_left_alone(project: Project) -> None:
    published = project.released()
    path = project.private / "state-0.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", [str(state_file.FORMAT + 1)])
    before = path.read_bytes()
    said = project.quietcount("run", "--until-idle", "--as-of", "2023-03-08").refusal()
    assert f"written in format {state_file.FORMAT + 1}; this version reads format {state_file.FORMAT}" in said
    assert "Use the newer quietcount" in said
    assert "damaged" not in said
    assert path.read_bytes() == before
    assert project.released() == published
    # Nor does the way on after a loss take it for one.
    said = project.quietcount("ledger", "record-loss", "--yes").refusal()
    assert "Use the newer quietcount" in said
    assert path.read_bytes() == before


@pytest.mark.parametrize("name, says", [("ledger.sqlite", "Use the newer quietcount"), ("log.sqlite", "newer")])
def test_a_file_of_a_newer_format_is_refused_as_that(name: str, says: str, project: Project) -> None:
    published = project.released()
    path = project.private / name
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 2")
    said = project.quietcount("run", "--until-idle", "--as-of", "2023-03-08").refusal()
    assert str(path) in said
    assert says in said
    assert "damaged" not in said
    assert project.released() == published


def of_a_newer_version(project: Project) -> None:
    """Append to the ledger an entry of a schema that nobody has heard of."""
    with contextlib.closing(open_ledger(project.configuration)) as log:
        ledger = Ledger(log)
        ledger.fence()
        head = ledger.chain.head
        entry = Entry.make(head.length, head.digest, ledger.chain.entries[-1].recorded_at, Retired("requests")).data
        unknown = entry[:2] + bytes(8) + entry[10:] + b"a field of tomorrow"
        log.append([unknown], epoch=log.fence(), expected=head.length)


def test_a_ledger_to_which_a_newer_version_has_written_is_refused_as_that(project: Project) -> None:
    published = project.released()
    with contextlib.closing(open_ledger(project.configuration, create=False)) as log:
        entries = len(log.read())
    of_a_newer_version(project)
    for arguments in (("run", "--until-idle", "--as-of", "2023-03-08"), ("ledger", "verify"), ("ledger", "show")):
        said = project.quietcount(*arguments).refusal()
        assert f"ledger entry {entries} was written by a newer version of quietcount" in said
        assert "damaged" not in said
    assert project.released() == published
