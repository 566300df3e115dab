"""The signing key of a project: made once, kept, refused where it does not belong, and replaced without losing one."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from tests.commanded import contents, invoked, refused
from tests.e2e.projects import Project

from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.ledger.signed_heads import check_signed, signer_of
from quietcount_aggregates.ledger.signed_notes import SignedNote, SigningKey, VerifierKey
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.service import run_command
from quietcount_consumers.maintenance import signing
from quietcount_consumers.maintenance.recovery import published_chain
from quietcount_consumers.maintenance.signing import published_note, renew_key
from quietcount_consumers.opening import open_service
from quietcount_consumers.queries import query

pytestmark = [pytest.mark.quick, pytest.mark.promise("signed-heads")]

NOW = dt.datetime(2023, 2, 8, tzinfo=dt.UTC)


@pytest.fixture
def released(released: Project, tmp_path: Path) -> Project:
    """A project that released a month: a copy of its own for each test."""
    return released.copy(tmp_path / "project")


def key_of(project: Project) -> Path:
    return project.folder / "secrets" / "service-signing"


def start(project: Project) -> None:
    with open_service(project.configuration, NOW):
        pass


def test_what_a_service_publishes_is_signed_with_the_key_that_its_first_run_made(released: Project) -> None:
    chain, note = published_chain(released.public), published_note(released.public)
    check_signed(chain, note)
    public = SigningKey.load(key_of(released)).public
    assert chain.signer == signer_of(public)
    _, ((signer,),) = query(released.public, "SELECT value FROM about WHERE key = 'signer'")
    assert VerifierKey.parse(str(signer)) == chain.signer
    assert invoked(released, ledger_command, "head").stdout == note.data
    before = released.public.read_bytes()
    released.public.unlink()
    start(released)
    assert released.public.read_bytes() == before


def test_a_published_file_whose_signature_was_altered_hands_on_no_head(released: Project) -> None:
    note = published_note(released.public)
    with duckdb.connect(released.public) as file:
        text = note.data.replace("\n", "\n9", 1)
        file.execute("UPDATE about SET value = ? WHERE key = 'signed_head'", [text])
    assert "carries no sound signature" in refused(released, ledger_command, "head")
    assert "its signed head is not that of the ledger" in refused(released, ledger_command, "verify")


@pytest.mark.parametrize(
    "left",
    ["public", pytest.param("ledger", marks=pytest.mark.check), pytest.param("witness", marks=pytest.mark.check)],
)
def test_a_key_that_is_lost_is_not_made_again_in_silence(released: Project, left: str) -> None:
    key_of(released).unlink()
    places = {"public": released.public, "witness": released.folder / "secrets" / "service-head"}
    for name, path in places.items():
        if name != left:
            path.unlink()
    if left != "ledger":
        for path in released.private.glob("ledger.sqlite*"):
            path.unlink()
    said = refused(released, run_command, "--until-idle")
    assert "service-signing: the signing key is missing" in said
    assert "quietcount ledger new-key" in said
    assert not key_of(released).exists()


def test_a_first_run_that_was_killed_before_it_opened_the_ledger_goes_on_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "project")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "declare", killed)
        with pytest.raises(KeyboardInterrupt):
            start(project)
    made = key_of(project).read_bytes()
    assert not project.public.exists()
    start(project)
    assert key_of(project).read_bytes() == made
    check_signed(published_chain(project.public), published_note(project.public))


def test_a_key_lost_before_anything_named_it_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path / "project")
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "declare", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            start(project)
    key_of(project).unlink()
    start(project)
    assert published_chain(project.public).signer == signer_of(SigningKey.load(key_of(project)).public)


def test_the_key_of_another_project_is_refused_before_anything_is_changed(released: Project, tmp_path: Path) -> None:
    own = key_of(released).read_bytes()
    SigningKey.generate(key_of(released), replace=True)
    before = contents(released)
    for said in (
        refused(released, run_command, "--until-idle"),
        refused(released, ledger_command, "retire", "requests", "--yes"),
    ):
        assert "service-signing: is not the key that the ledger names" in said
    assert "is the key of another ledger" in refused(released, ledger_command, "new-key", "--yes", "--stolen")
    assert contents(released) == before
    key_of(released).write_bytes(own)
    start(released)


def test_a_twin_that_signs_with_whatever_key_lies_there_publishes_what_nobody_accepts(
    released: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    SigningKey.generate(key_of(released), replace=True)
    for place in ("quietcount_aggregates.release", "quietcount_aggregates.ledger.signed_heads"):
        monkeypatch.setattr(f"{place}.check_key", lambda *_: None)
    monkeypatch.setattr("quietcount_consumers.opening.check_key", lambda *_: None)
    start(released)
    assert "carries no sound signature" in refused(released, ledger_command, "head")


# A new key


def test_a_sound_key_is_replaced_only_if_it_is_said_to_be_stolen_and_a_no_changes_nothing(released: Project) -> None:
    before = contents(released)
    assert "is there, and is the key that the ledger names" in refused(released, ledger_command, "new-key", "--yes")
    arguments = ["new-key", "--stolen", "--config", str(released.config)]
    asked = CliRunner().invoke(ledger_command, arguments, input="n\n")
    assert asked.exit_code == 1
    assert "somebody else may have it" in asked.output
    assert contents(released) == before
    given = invoked(released, ledger_command, "new-key", "--stolen", "--yes").stdout.strip()
    chain = published_chain(released.public)
    assert VerifierKey.parse(given) == chain.signer
    assert len(chain.keys) == 2
    check_signed(chain, published_note(released.public))
    start(released)


def test_a_lost_key_is_replaced_even_if_the_state_is_lost_too(released: Project) -> None:
    key_of(released).unlink()
    for path in released.private.glob("state-*"):
        path.unlink()
    assert "the signing key is missing" in refused(released, ledger_command, "record-loss", "--yes")
    invoked(released, ledger_command, "new-key", "--yes")
    invoked(released, ledger_command, "record-loss", "--yes")
    start(released)
    check_signed(published_chain(released.public), published_note(released.public))


def test_an_older_ledger_gets_no_new_key(released: Project) -> None:
    older = {path: path.read_bytes() for path in released.private.glob("ledger.sqlite*")}
    invoked(released, ledger_command, "retire", "requests", "--yes")
    for path in released.private.glob("ledger.sqlite*"):
        path.unlink()
    for path, content in older.items():
        path.write_bytes(content)
    key_of(released).unlink()
    assert "the ledger does not hold what" in refused(released, ledger_command, "new-key", "--yes")
    assert not key_of(released).exists()


def kill_at(step: str, patch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def die_of_the_next_key(path: Path, target: Path) -> Path:
        if path.name == "service-signing-next":
            die()
        return replace(path, target)

    match step:
        case "append":
            patch.setattr(Ledger, "append", die)
        case "replace":
            patch.setattr(Path, "replace", die_of_the_next_key)
        case _:
            patch.setattr(signing, "publish_ledger", die)


@pytest.mark.check
@pytest.mark.parametrize("stolen", [False, True])
@pytest.mark.parametrize("step", ["append", "replace", "publish"])
def test_a_kill_at_any_moment_leaves_the_key_that_the_ledger_names_and_a_way_on(
    released: Project, step: str, stolen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not stolen:
        key_of(released).unlink()
    agreed: list[str] = []

    def renew() -> VerifierKey:
        return renew_key(released.configuration, NOW, agreed.append, stolen=stolen)

    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(KeyboardInterrupt):
            renew()
    if step == "append" and stolen:
        start(released)  # nothing happened yet
    if step != "publish":
        signer = renew()
        assert len(agreed) == (2 if step == "append" else 1), "what was agreed to is finished without asking again"
    else:
        start(released)  # which publishes
        signer = published_chain(released.public).signer
    assert sorted(path.name for path in key_of(released).parent.glob("service-signing*")) == ["service-signing"]
    assert SigningKey.load(key_of(released)).public == signer.public
    chain = published_chain(released.public)
    assert (chain.signer, len(chain.keys)) == (signer, 2)
    note = SignedNote.parse(invoked(released, ledger_command, "head").stdout)
    check_signed(chain, note)
