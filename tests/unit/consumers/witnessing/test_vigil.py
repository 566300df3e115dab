"""With witnesses or copies named, a ledger that is older or another one than theirs draws nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.commanded import invoked
from tests.witness_world import Owner
from tests.witnessed_projects import DECLARED, FEBRUARY, JANUARY, Witnessed, at, away

from quietcount_aggregates.errors import LedgerBehind
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_aggregates.publication.publication import published_head
from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.doctor.partners import check_partners
from quietcount_consumers.errors import WitnessesAway, WitnessRefused
from quietcount_consumers.maintenance.cosigning import cosigned_head, request_of, take_cosignatures
from quietcount_consumers.maintenance.recovery import reading_ledger
from quietcount_consumers.maintenance.signing import renew_key
from quietcount_consumers.running.ticks import StopSignal
from quietcount_consumers.service import Service
from quietcount_consumers.wiring import signing_key_file
from quietcount_consumers.witnessing.asking import AskedWitness
from quietcount_consumers.witnessing.collected import Collected
from quietcount_consumers.witnessing.publication import WitnessedPublication
from quietcount_consumers.witnessing.vigil import Vigil, unsigned
from quietcount_schemas.finding import Severity

pytestmark = [pytest.mark.quick, pytest.mark.promise("witnessed")]


def rolled_back(world: Witnessed, folder: Path) -> dict[tuple[str, str, str], int]:
    """Publish January, then put data, ledger and secrets back as they were before; return what was published."""
    world.work(DECLARED)
    world.snapshot(folder / "before")
    world.work(JANUARY)
    out = world.published()
    assert out
    for suffix in ("duckdb", "head"):
        if (file := world.project.public.with_suffix(f".{suffix}")).exists():
            shutil.copyfile(file, folder / f"out.{suffix}")
    world.put_back(folder / "before")
    return out


def test_a_project_that_is_put_back_whole_draws_nothing_if_a_published_copy_is_named(tmp_path: Path) -> None:
    """The control comes after: with nobody named nothing can tell, and January is drawn again, with other noise."""
    world = Witnessed(tmp_path)
    out = rolled_back(world, tmp_path)
    world.name(copies=[tmp_path / "out.duckdb"])
    with pytest.raises(LedgerBehind, match=r"out\.duckdb holds a head .* older copy"):
        world.work(JANUARY)
    assert not world.published()
    world.name()
    world.work(JANUARY)
    assert world.published().keys() == out.keys()
    assert world.published() != out


def test_a_project_that_is_put_back_whole_draws_nothing_if_a_witness_is_named(tmp_path: Path) -> None:
    world = Witnessed(tmp_path, partners=1)
    with world.serving(0) as urls:
        world.name(urls=urls, require=1)
        rolled_back(world, tmp_path)
        with pytest.raises(LedgerBehind, match=r"partner\.example/w1 holds a head .* older copy"):
            world.work(JANUARY)
        world.name(urls=urls)
        with pytest.raises(LedgerBehind):
            world.work(JANUARY)
    world.name(urls=[away()], require=1)
    with pytest.raises(WitnessesAway, match="0 of 1 witnesses with an address answer"):
        world.work(JANUARY)
    assert not world.published()


def test_a_project_that_is_put_back_to_before_a_new_key_draws_and_records_nothing(tmp_path: Path) -> None:
    """The copy is signed with a key that the older ledger does not know, and the witness knows that key alone."""
    world = Witnessed(tmp_path, partners=1)
    with world.serving(0) as urls:
        world.name(urls=urls, require=1)
        world.work(DECLARED)
        world.snapshot(tmp_path / "before")
        world.work(JANUARY)
        renewed(world)
        with pytest.raises(WitnessesAway, match=r"knows another key .* If ours is new"):
            world.work(JANUARY)
        request = request_of(world.project.configuration, 0)
        world.partners[0].cosign(request, world.partners[0].unconfirmed(request))
        world.work(JANUARY)
        (tmp_path / "copy").write_text(cosigned_head(world.project.configuration).data)
        world.put_back(tmp_path / "before")
        with pytest.raises(LedgerBehind, match=r"partner\.example/w1 holds a head .* older copy"):
            world.work(JANUARY)
    world.name(copies=[tmp_path / "copy"])
    for act in (lambda: world.work(JANUARY), lambda: renewed(world)):
        with pytest.raises(WitnessesAway, match="a key that the ledger here does not know") as caught:
            act()
        assert "bring the newest ledger back" in caught.value.remedy
    assert not world.published()


def renewed(world: Witnessed) -> None:
    """Lose the signing key, and make a new one."""
    signing_key_file(world.project.configuration).unlink()
    renew_key(world.project.configuration, at(JANUARY), lambda _: None)


def test_two_of_three_witnesses_are_enough_and_one_is_not(tmp_path: Path) -> None:
    world = Witnessed(tmp_path, partners=3)
    with world.serving(0, 2) as urls:
        world.name(require=2, urls=urls)
        assert "publication waits" not in world.work(DECLARED)
        with world.serving(0) as fewer:
            world.name(require=2, urls=fewer)
            with pytest.raises(WitnessesAway, match="1 of 3 witnesses with an address answer, and 2 have to"):
                world.work(JANUARY)
            assert not world.published()
        world.name(require=2, urls=urls)
        world.work(JANUARY)
    assert world.published()
    note = SignedNote.parse(world.project.public.with_suffix(".head").read_text())
    signed = [note.verified(partner.verifier_key) is not None for partner in world.partners]
    assert signed == [True, False, True]


def test_a_command_that_does_not_stay_up_asks_at_a_point_of_the_grid_because_a_signature_has_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is published. Asked as soon as the work is done, it would say how long that took."""
    world = Witnessed(tmp_path, partners=1)
    happened: list[str] = []

    def noted(name: str, method: Callable[..., object]) -> Callable[..., object]:
        def called(*given: object) -> object:
            happened.append(name)
            return method(*given)

        return called

    monkeypatch.setattr(StopSignal, "wait", lambda *_: happened.append("wait"))
    monkeypatch.setattr(AskedWitness, "sign", noted("ask", AskedWitness.sign))
    monkeypatch.setattr(Service, "tick", noted("tick", Service.tick))
    with world.serving(0) as urls:
        world.name(require=1, urls=urls)
        world.work(DECLARED)
        for command in (run_command, release_command):
            happened.clear()
            options = ["--until-idle"] if command is run_command else []
            invoked(world.project, command, *options, "--as-of", JANUARY if options else FEBRUARY)
            assert "tick" in happened
            assert happened[-2:] == ["wait", "ask"]
        happened.clear()
        invoked(world.project, run_command, "--until-idle", "--as-of", FEBRUARY)
    assert "wait" not in happened, "nothing is left to be signed"


def test_what_too_few_have_signed_is_in_the_ledger_and_is_published_later_as_it_was_drawn(tmp_path: Path) -> None:
    """By files: the partner has no address. Each head is signed before the next draw."""
    world = Witnessed(tmp_path, partners=1).name(require=1, urls=[None])
    assert "publication waits" in world.work(DECLARED)
    with pytest.raises(WitnessesAway, match="0 of the 1 required witnesses vouch"):
        world.work(JANUARY)
    assert not world.project.public.exists()
    assert world.project.ledger_values() == {}
    exchanged(world, tmp_path)
    assert {"released", "publication waits"} <= set(world.work(JANUARY))
    drawn = world.project.ledger_values()
    assert drawn
    assert not world.published(), "what was published before stays"
    assert world.project.private.joinpath("state-0.duckdb").exists()
    exchanged(world, tmp_path)
    assert "publication waits" not in world.work(JANUARY)
    assert world.published() == drawn
    assert cosigned_head(world.project.configuration).verified(world.partners[0].verifier_key) is not None


def test_a_signature_by_file_does_not_stand_in_for_a_witness_with_an_address(tmp_path: Path) -> None:
    """It lies in the project, so whoever puts the project back puts it back, too. The doctor says what is missing."""
    world = Witnessed(tmp_path, partners=3)
    with world.serving(0, 1) as urls:
        world.name(require=2, urls=[*urls[:2], None])
        world.work(DECLARED)
    exchanged(world, tmp_path, 2)
    with world.serving(0) as urls:
        world.name(require=2, urls=[*urls[:2], None])
        with pytest.raises(WitnessesAway, match="1 of 2 witnesses with an address answer, and 2 have to"):
            world.work(JANUARY)
        with reading_ledger(world.project.configuration) as ledger:
            found = list(check_partners(world.project.configuration, ledger.chain))
        assert [finding.severity for finding in found] == [Severity.OK, Severity.WARNING, Severity.WRONG, Severity.OK]
        assert "nothing is drawn until then" in found[2].what
        assert found[3].what == "partner.example/w3 has signed the newest head, by file"
        world.name(require=2, urls=[urls[0], None, None])
        assert "released" in world.work(JANUARY)


def test_a_project_that_is_put_back_whole_publishes_nothing_if_its_witness_signs_by_file(tmp_path: Path) -> None:
    """It draws again, as the page says: the signature was put back as well. The partner signs no second history."""
    world = Witnessed(tmp_path, partners=1).name(require=1, urls=[None])
    world.work(DECLARED)
    exchanged(world, tmp_path)
    world.snapshot(tmp_path / "before")
    world.work(JANUARY)
    exchanged(world, tmp_path)
    world.put_back(tmp_path / "before")
    assert "publication waits" in world.work(JANUARY)
    with pytest.raises(WitnessRefused, match="two histories"):
        exchanged(world, tmp_path)
    assert "publication waits" in world.work(JANUARY)
    assert not world.published()


def exchanged(world: Witnessed, folder: Path, number: int = 0) -> None:
    """Hand a request to the partner and take its note back."""
    note = world.partners[number].cosign(request_of(world.project.configuration, 0))
    (folder / "note").write_text(note.data)
    assert take_cosignatures(world.project.configuration, folder / "note") == [f"partner.example/w{number + 1}"]


def test_what_the_ledger_gains_while_a_publication_waits_is_not_published_under_an_older_signature(
    tmp_path: Path,
) -> None:
    owner = Owner(grown=1)
    vigil = Vigil(
        require=0,
        witnesses=[],
        copies=[],
        pending=Collected(tmp_path / "pending"),
        public=Collected(tmp_path / "statistics.head", public=True),
        sign=unsigned,
    )
    publication = WitnessedPublication(vigil, lambda: None)
    publication(owner.chain, tmp_path / "statistics.duckdb", owner.note.data)
    signed = owner.chain.head
    owner.grow()
    assert not publication.show()
    assert published_head(tmp_path / "statistics.duckdb") == signed
