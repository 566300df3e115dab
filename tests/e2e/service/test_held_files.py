"""A published file that another program holds open to write, as DuckDB does unless it is told not to.

It is read and replaced all the same, and said to be held. The check that the ledger is not older than what was
published from it is as strict as without.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest
from tests.commanded import released_month
from tests.e2e.projects import Project
from tests.holders import holding

from quietcount_aggregates.errors import LedgerBehind, PublicationHeld
from quietcount_aggregates.publication import publication, published_file
from quietcount_aggregates.publication.publication import published_head

pytestmark = pytest.mark.quick

CELLS = "SELECT count(*), max(period_start) FROM statistics"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that released a month; tests copy it."""
    return released_month(tmp_path_factory.mktemp("released") / "project")


@pytest.fixture
def project(released: Project, tmp_path: Path) -> Project:
    return released.copy(tmp_path / "project")


@pytest.mark.parametrize(
    "command", [("run", "--until-idle", "--as-of", "2023-03-08"), ("release", "--as-of", "2023-03-08")]
)
def test_a_release_replaces_a_held_file_and_its_holder_keeps_the_old_one(
    project: Project, command: tuple[str, ...]
) -> None:
    with holding(project.public) as holder:
        before = holder.ask(CELLS)
        assert "Error" not in project.quietcount(*command).done().err
        assert {start for _, start, _ in project.released()} == {"2023-01-01", "2023-02-01"}
        assert holder.ask(CELLS) == before
    assert {start for _, start, _ in project.released()} == {"2023-01-01", "2023-02-01"}
    assert "holds exactly what the ledger says" in project.quietcount("ledger", "verify").done().out


def test_a_held_file_is_queried_verified_and_examined(project: Project) -> None:
    with holding(project.public) as holder:
        assert project.quietcount("query", "SELECT DISTINCT period_start FROM requests").done().out == (
            "period_start\n2023-01-01\n"
        )
        verified = project.quietcount("ledger", "verify").done().out
        examined = project.quietcount("doctor").out
        for said in (verified, examined):
            assert f"process {holder.pid})" in said
            assert "read_only=True" in said
            assert "Move it away" not in said
            assert "damaged" not in said
        assert "holds exactly what the ledger says" in verified
    assert "held open" not in project.quietcount("ledger", "verify").done().out


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_what_another_program_wrote_beside_the_file_does_not_outlive_the_next_release(
    project: Project, ended: str
) -> None:
    beside = project.public.with_name("statistics.duckdb.wal")
    with holding(project.public, "DELETE FROM statistics") as holder:
        assert beside.exists()
        assert "another program wrote to the published file" in project.quietcount("ledger", "verify").refusal()
        project.run_here("2023-03-08")
        assert not beside.exists()
        if ended == "killed":
            holder.kill()
    assert not beside.exists()
    assert {start for _, start, _ in project.released()} == {"2023-01-01", "2023-02-01"}
    project.quietcount("ledger", "verify").done()


def test_what_a_killed_program_left_beside_the_file_is_found_and_goes_at_the_next_start(project: Project) -> None:
    with holding(project.public, "DELETE FROM statistics") as holder:
        holder.kill()
    assert project.released() == {}  # what every reader would see
    assert "delete this file" in project.quietcount("ledger", "verify").refusal()
    assert "delete this file" in project.quietcount("doctor").out
    assert project.quietcount("query", "SELECT count(*) > 0 AS n FROM statistics").done().out == "n\nTrue\n"
    project.run_here("2023-02-08")
    assert {start for _, start, _ in project.released()} == {"2023-01-01"}


def check_old_ledger(project: Project) -> None:
    """A project put back to an older day is refused by its newest published file, which another program holds."""
    older = project.copy(project.folder.with_name("older"))
    project.run_here("2023-03-08")
    shutil.copyfile(project.public, older.public)
    with holding(older.public, "UPDATE about SET value = '1' WHERE key = 'ledger_length'"):
        with pytest.raises(LedgerBehind, match=r"statistics\.duckdb"):
            older.run_here("2023-04-08")
        assert published_head(older.public) == published_head(project.public)


def test_an_older_ledger_is_refused_while_the_newest_file_is_held(project: Project) -> None:
    check_old_ledger(project)


def test_a_twin_that_reads_no_held_file_is_found(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(path: Path) -> None:
        return None

    monkeypatch.setattr("quietcount_aggregates.release.published_head", nothing)
    with pytest.raises(pytest.fail.Exception):
        check_old_ledger(project)


def test_a_twin_that_copies_what_lies_beside_the_file_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = published_file._copy

    def both(path: Path, copy: Path) -> None:
        copied(path, copy)
        beside = published_file.changes_beside(path)
        if beside is not None:
            shutil.copyfile(beside, copy.with_name(f"{copy.name}.wal"))

    monkeypatch.setattr(published_file, "_copy", both)
    with pytest.raises(AssertionError):
        check_old_ledger(project)


def test_a_twin_that_leaves_what_lies_beside_the_file_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "changes_beside", lambda _: None)
    with pytest.raises(AssertionError):
        test_what_another_program_wrote_beside_the_file_does_not_outlive_the_next_release(project, "killed")


@pytest.mark.parametrize(
    "said, holder",
    [
        ("is held in /opt/.venv/bin/python3.11 (PID 12). See also", "another program (python3.11, process 12)"),
        ("is held in PID 12. See also", "another program (process 12)"),
        ("is held somewhere", "another program"),
    ],
)
def test_a_holder_is_named_as_far_as_duckdb_knows_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, said: str, holder: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise duckdb.IOException(f'Could not set lock on file "x": Conflicting lock {said}')

    monkeypatch.setattr(duckdb, "connect", refuse)
    assert str(published_file.holder_of(project.public)) == holder


# The copy


def test_a_file_that_changes_while_it_is_copied_is_copied_again(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, same = tmp_path / "copy.duckdb", published_file._same
    looks: list[bool] = []

    def changing(*files: object) -> bool:
        if len(looks) < 2:
            with project.public.open("ab") as file:
                file.write(b"more")
        looks.append(same(*files))  # type: ignore[arg-type]
        return looks[-1]

    monkeypatch.setattr(published_file, "_same", changing)
    published_file._copy(project.public, copy)
    assert looks == [False, False, True]
    assert copy.read_bytes() == project.public.read_bytes()


def test_a_file_that_never_stands_still_is_held(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_file, "_same", lambda *_: False)
    with pytest.raises(PublicationHeld, match="without pause"):
        published_file._copy(project.public, tmp_path / "copy.duckdb")


@pytest.mark.parametrize("change", [b"", b"abd", b"ab", b"abcd"])
def test_two_files_are_the_same_only_byte_for_byte(tmp_path: Path, change: bytes) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(change)
    with (tmp_path / "a").open("rb") as first, (tmp_path / "b").open("rb") as second:
        assert not published_file._same(first, second)
