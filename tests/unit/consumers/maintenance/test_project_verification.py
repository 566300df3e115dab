"""Verifying a project: its ledger, its published file, and what else in it knows how far the ledger went."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.commanded import contents, invoked, refused, released_month
from tests.e2e.projects import Project

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.signed_heads import sign_head
from quietcount_aggregates.ledger.signed_notes import SigningKey
from quietcount_aggregates.publication.publication import publish
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.configuration import Configuration
from quietcount_consumers.maintenance import project_verification
from quietcount_consumers.wiring import signing_key_file, witness_of

pytestmark = [pytest.mark.quick, pytest.mark.promise("older-refused")]


@pytest.fixture
def project(released: Project, tmp_path: Path) -> Project:
    """A project that released a month: a copy of its own for each test."""
    return released.copy(tmp_path / "project")


def cut(project: Project, dropped: int) -> None:
    """Drop the newest entries, and publish what is left with the project's own key: a rollback by the operator."""
    with closing(sqlite3.connect(project.private / "ledger.sqlite")) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (trigger,) in triggers:
            connection.execute(f"DROP TRIGGER {trigger}")
        (length,) = connection.execute("SELECT count(*) FROM entries").fetchone()
        connection.execute('DELETE FROM entries WHERE "index" >= ?', (length - dropped,))
        rows = connection.execute('SELECT entry FROM entries ORDER BY "index"').fetchall()
        connection.commit()
    chain = Chain()
    for (entry,) in rows:
        chain.extend(entry)
    key = SigningKey.load(signing_key_file(project.configuration))
    publish(chain, project.public, sign_head(chain, key).data)


def check_rollback(project: Project) -> None:
    """Hold that a ledger that was cut, with a file that was built from it, is refused by all that remember it.

    It makes no difference whether the project is verified, or that file with the project at hand.
    """
    cut(project, 3)
    witness = witness_of(project.configuration).path
    for file in ([], [str(project.public)]):
        assert f"what {witness.name} was built from" in refused(project, ledger_command, "verify", *file)
    witness.unlink()
    for file in ([], [str(project.public)]):
        assert "what state-0.duckdb was built from" in refused(project, ledger_command, "verify", *file)
    for state in project.private.glob("state*"):
        state.unlink()
    for file in ([], [str(project.public)]):
        assert "the private log beside it has the place" in refused(project, ledger_command, "verify", *file)


def test_all_of_a_project_that_knows_the_ledger_is_asked_and_nothing_is_changed(project: Project) -> None:
    before = contents(project)
    said = invoked(project, ledger_command, "verify").stdout
    for fact in (
        "holds exactly what the ledger says, to the last byte",
        "The ledger holds what the witness",
        "The ledger holds what the state saw",
        "The private log of places beside the ledger fits it",
        "The signing key is that of the ledger",
    ):
        assert fact in said
    assert contents(project) == before


def test_a_ledger_that_was_cut_with_a_file_built_from_it_is_refused_by_each_that_remembers(project: Project) -> None:
    check_rollback(project)


@pytest.mark.check
def test_a_release_while_a_project_is_verified_is_no_rollback(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger was read before the release, and the witness after it."""
    asked = project_verification._asked_witness
    meanwhile = ["2023-03-08"]

    def released_meanwhile(configuration: Configuration, ledger: Ledger) -> list[str]:
        if meanwhile:
            project.run_here(meanwhile.pop())
        return list(asked(configuration, ledger))

    monkeypatch.setattr(project_verification, "_asked_witness", released_meanwhile)
    assert "The ledger holds what the witness" in invoked(project, ledger_command, "verify").stdout


@pytest.mark.check
@pytest.mark.parametrize("left_out", ["_asked_witness", "_asked_state"])
def test_a_twin_that_does_not_ask_is_found(project: Project, left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project_verification, left_out, lambda *_: ())
    with pytest.raises(AssertionError):
        check_rollback(project)


@pytest.mark.check
def test_the_key_of_another_ledger_and_what_is_not_there_are_said(project: Project) -> None:
    configuration = project.configuration
    key = signing_key_file(configuration)
    key.unlink()
    assert (
        f"The signing key could not be checked: {key} is not here" in invoked(project, ledger_command, "verify").stdout
    )
    SigningKey.generate(key)
    assert "is not the key that the ledger names" in refused(project, ledger_command, "verify")
    key.unlink()
    witness_of(configuration).path.unlink()
    for file in project.private.glob("state*"):
        file.unlink()
    said = invoked(project, ledger_command, "verify").stdout
    assert "There is no witness" in said
    assert "The state could not be asked" in said


def check_membership(project: Project, tmp_path: Path) -> None:
    """Hold that of a file it is said whether it is of the project, and that the ledger has to hold it."""
    kept = tmp_path / "kept.duckdb"
    shutil.copy(project.public, kept)
    said = invoked(project, ledger_command, "verify", str(kept)).stdout
    assert f"{kept} is of this project: its ledger holds all entries of the file and no more." in said
    cut(project, 1)
    assert "older than" in refused(project, ledger_command, "verify", str(kept))


@pytest.mark.check
def test_of_a_file_it_is_said_whether_it_is_of_the_project_whose_ledger_has_to_hold_it(
    project: Project, tmp_path: Path
) -> None:
    check_membership(project, tmp_path)


@pytest.mark.check
def test_a_twin_that_does_not_compare_with_the_project_is_found(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "quietcount_consumers.commands.ledger.compare_with_project",
        lambda _, path, __: [f"{path} is of this project: its ledger holds all entries of the file and no more."],
    )
    with pytest.raises(AssertionError):
        check_membership(project, tmp_path)


@pytest.mark.check
def test_a_file_of_another_project_is_verified_all_the_same(project: Project, tmp_path: Path) -> None:
    other = released_month(tmp_path / "other")
    said = invoked(project, ledger_command, "verify", str(other.public)).stdout
    assert "is not of this project: its ledger is another one." in said


@pytest.mark.check
def test_a_project_that_is_not_there_is_missed_only_if_it_is_named(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUIETCOUNT_CONFIG", raising=False)
    arguments = ["verify", str(project.public)]
    assert CliRunner().invoke(ledger_command, arguments).exit_code == 0
    named = CliRunner().invoke(ledger_command, [*arguments, "--config", "missing.toml"])
    assert named.exit_code == 1


def test_a_public_file_that_waits_for_witnesses_is_not_called_altered(project: Project) -> None:
    """Whoever deleted it would take the newest publication from everybody."""
    chain = Chain()
    with closing(sqlite3.connect(project.private / "ledger.sqlite")) as connection:
        rows = connection.execute('SELECT entry FROM entries ORDER BY "index"').fetchall()
    for (entry,) in rows[:-1]:
        chain.extend(entry)
    key = SigningKey.load(signing_key_file(project.configuration))
    publish(chain, project.public, sign_head(chain, key).data)
    message = refused(project, ledger_command, "verify")
    assert "it is sound, but older than the ledger" in message
    assert "Leave it there" in message
    with project.public.open("ab") as file:
        file.write(b"more")
    assert "older" not in refused(project, ledger_command, "verify")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["verify"], "Name a file that was published, statistics.duckdb. There is no project here"),
        (["verify", "."], "this is a folder"),
        (["verify", __file__, "--head", "70736c5a"], "at least the first 16"),
    ],
)
def test_somebody_without_a_project_hears_what_to_name(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUIETCOUNT_CONFIG", raising=False)
    result = CliRunner().invoke(ledger_command, arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_head_is_asked_for_before_anything_is_published(project: Project) -> None:
    project.public.unlink()
    assert "no published file, so no head is published either" in refused(project, ledger_command, "head")


@pytest.mark.promise("clear-errors")
def test_a_configuration_that_happens_to_lie_there_and_cannot_be_read_takes_nothing_from_the_file(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUIETCOUNT_CONFIG", raising=False)
    (tmp_path / "quietcount.toml").write_text("[service\n")
    arguments = ["verify", str(project.public)]
    result = CliRunner().invoke(ledger_command, arguments)
    assert result.exit_code == 0
    assert "The project of quietcount.toml could not be asked: " in result.stdout
    assert CliRunner().invoke(ledger_command, [*arguments, "--config", "quietcount.toml"]).exit_code == 1
