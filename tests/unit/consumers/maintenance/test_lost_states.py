"""A state that is damaged or does not know what was released: all who look find it, and its loss can be recorded."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from tests.commanded import invoked, losses, refused
from tests.e2e.projects import Project
from tests.unit.consumers.maintenance.lost_states import MARCH, Crash, check_a_sound_state_is_left_alone, crash

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.state.state import State
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.doctor.data import check_state, ledger_of
from quietcount_consumers.maintenance.state_facts import state_of
from quietcount_consumers.opening import open_service

pytestmark = pytest.mark.quick


@pytest.mark.usefixtures("light")
def test_a_state_that_has_not_folded_what_its_release_counted_is_recorded_as_lost(
    released: Project, tmp_path: Path
) -> None:
    project = released.copy(tmp_path / "project")
    with pytest.raises(Crash), open_service(project.configuration, MARCH, observe=crash) as service:
        service.tick(MARCH)
    with State(project.private / "state-0.duckdb") as state:
        state.connection.execute("UPDATE offsets SET next_offset = next_offset - 1")
    before = project.ledger_values()
    assert "does not know: the state was lost" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert project.ledger_values() == before
    said = invoked(project, ledger_command, "record-loss", "--yes").stderr
    assert "does not know what the ledger released." in said
    project.run_here("2023-03-08")
    assert losses(project) == 1


def held(project: Project) -> dict[Path, bytes]:
    """Return the state's files, as a backup has them."""
    return {path: path.read_bytes() for path in project.private.glob("state-*")}


def put_back(project: Project, older: dict[Path, bytes]) -> None:
    """Put a backup of the state in the place of the state, as docs/recovery.md says."""
    for path in held(project):
        path.unlink()
    for path, content in older.items():
        path.write_bytes(content)


@pytest.mark.usefixtures("light")
def test_a_state_that_had_folded_what_the_newest_release_counts_finishes_it(released: Project, tmp_path: Path) -> None:
    project, undisturbed = (released.copy(tmp_path / name) for name in ("project", "undisturbed"))
    older = held(project)
    project.run_here("2023-03-08")
    before = project.ledger_values()
    put_back(project, older)
    check_a_sound_state_is_left_alone(project)
    project.run_here("2023-03-08")
    assert project.ledger_values() == before
    for each in (project, undisturbed):
        each.run_here("2023-03-08")
        each.run_here("2024-01-08")
    assert project.ledger_values() == undisturbed.ledger_values(), "a case counts again, or not at all"
    assert losses(project) == 0


@pytest.mark.usefixtures("light")
def test_a_state_that_does_not_know_what_was_released_is_recorded_as_lost(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    older = held(project)
    for month in ("2023-03-08", "2023-04-08"):
        project.run_here(month)
    put_back(project, older)
    said = invoked(project, ledger_command, "record-loss", "--yes").stderr
    assert "state-0.duckdb does not know what the ledger released." in said
    assert losses(project) == 1


def unknowing(project: Project) -> set[str]:
    """Put an older state back under a newer ledger; return who says that it does not know what was released."""
    older = (project.private / "state-0.duckdb").read_bytes()
    for month in ("2023-03-08", "2023-04-08"):
        project.run_here(month)
    (project.private / "state-0.duckdb").write_bytes(older)
    said = {}
    for name, command, arguments in (
        ("start", run_command, ("--until-idle", "--as-of", "2023-04-08")),
        ("retire", ledger_command, ("retire", "requests")),
    ):
        result = CliRunner().invoke(command, [*arguments, "--config", str(project.config)])
        said[name] = str(result.exception)
        (project.private / "state-0.duckdb").write_bytes(older)
    facts, chain = state_of(project.configuration, 0), ledger_of(project.configuration)
    assert facts is not None
    said["doctor"] = " ".join(
        f"{each.where} {each.what}" for each in check_state(project.configuration, facts, chain, None)
    )
    return {name for name, text in said.items() if "the ledger has releases that" in text}


@pytest.mark.usefixtures("light")
def test_one_rule_says_everywhere_that_a_state_does_not_know_what_was_released(
    released: Project, tmp_path: Path
) -> None:
    assert unknowing(released.copy(tmp_path / "project")) == {"start", "retire", "doctor"}


@pytest.mark.usefixtures("light")
def test_a_twin_of_that_rule_is_found_everywhere(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chain, "is_ahead_of", lambda *_: False)
    assert unknowing(released.copy(tmp_path / "project")) == set()


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.soak) for first in (1, 2))])
def test_damage_that_only_reading_everything_finds_is_recorded_as_a_loss(
    released: Project, tmp_path: Path, first: int
) -> None:
    """Each third block is damaged in turn; a state that is called sound goes on and releases."""
    state = released.private / "state-0.duckdb"
    whole = state.read_bytes()
    said = []
    for number, place in enumerate(range(12288 + 5000 + first * 262144, len(whole), 3 * 262144)):
        project = released.copy(tmp_path / f"project-{number}")
        content = bytearray(whole)
        content[place] ^= 1
        (project.private / "state-0.duckdb").write_bytes(content)
        result = CliRunner().invoke(ledger_command, ["record-loss", "--yes", "--config", str(project.config)])
        said.append("damaged" if result.exit_code == 0 else "sound")
        project.run_here("2023-03-08")
        assert losses(project) == (result.exit_code == 0)
    assert "damaged" in said


@pytest.mark.check
@pytest.mark.parametrize("damage", ["garbage", "cut", "foreign", "write-ahead log", "write-ahead log alone"])
def test_a_damaged_state_is_moved_aside_when_its_loss_is_recorded(project: Project, damage: str) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    released = project.released()
    state = project.private / "state-0.duckdb"
    if damage == "garbage":
        state.write_bytes(b"not a database" * 1000)
    elif damage == "cut":
        state.write_bytes(state.read_bytes()[:6000])
    elif damage.startswith("write-ahead log"):
        state.write_bytes(b"")
        state.with_name("state-0.duckdb.wal").write_bytes(b"what DuckDB would replay")
        if damage.endswith("alone"):
            state.unlink()
    else:
        state.unlink()
        with duckdb.connect(str(state)) as connection:
            connection.execute("CREATE TABLE theirs (a INTEGER)")
    damaged = state.read_bytes() if state.exists() else None
    taken = state.with_name("state-0.duckdb.damaged")
    taken.write_bytes(b"of an earlier time")
    for command, arguments in (
        (run_command, ("--until-idle", "--as-of", "2023-03-08")),
        (release_command, ("--as-of", "2023-03-08")),
        (ledger_command, ("retire", "requests")),
    ):
        assert "quietcount ledger record-loss" in refused(project, command, *arguments)
    said = invoked(project, ledger_command, "record-loss", "--yes").stderr
    aside = state.with_name("state-0.duckdb.damaged-2")
    assert str(aside) in said
    assert "stays under epsilon 200;" in said
    assert (aside.read_bytes() if aside.exists() else None) == damaged
    assert taken.read_bytes() == b"of an earlier time"
    assert not state.with_name("state-0.duckdb.wal").exists()
    if damage.startswith("write-ahead log"):
        assert aside.with_name(f"{aside.name}.wal").read_bytes() == b"what DuckDB would replay"
    invoked(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert released.items() < project.released().items()


@pytest.mark.usefixtures("light")
def test_a_state_that_is_held_or_cannot_be_written_is_not_moved_aside(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    state = project.private / "state-0.duckdb"
    with State(state):
        assert "another quietcount service holds it" in refused(project, ledger_command, "record-loss", "--yes")

    def full(_: Path, __: int) -> None:
        raise StateError("the disk is full; make room")

    monkeypatch.setattr("quietcount_consumers.maintenance.losses.State", full)
    assert "make room" in refused(project, ledger_command, "record-loss", "--yes")
    assert state.exists()
    assert list(project.private.glob("*.damaged*")) == []
