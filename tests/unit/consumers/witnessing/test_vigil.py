"""With witnesses or copies named, a ledger that is older or another one than theirs draws nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.witnessed_projects import DECLARED, JANUARY, Witnessed, away

from quietcount_aggregates.errors import LedgerBehind
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.signed_heads import read_head
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_consumers.doctor.partners import check_partners
from quietcount_consumers.errors import WitnessesAway
from quietcount_consumers.maintenance.cosigning import cosigned_head, request_of, take_cosignatures
from quietcount_consumers.maintenance.recovery import reading_ledger, restore_ledger
from quietcount_consumers.witnessing.vigil import Vigil

pytestmark = [pytest.mark.quick, pytest.mark.promise("witnessed")]


DOCTORED = ("has signed nothing", "cannot be reached", "there is no such file", "0 of the 1 required witnesses")


def chain_of(world: Witnessed) -> Chain:
    with reading_ledger(world.project.configuration) as ledger:
        return ledger.chain


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
    world = Witnessed(tmp_path)
    rolled_back(world, tmp_path)
    world.name(copies=[tmp_path / "out.duckdb"])
    with pytest.raises(LedgerBehind, match=r"out\.duckdb holds a head .* older copy"):
        world.work(JANUARY)
    assert not world.published()


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
    with pytest.raises(WitnessesAway, match="0 of 1 witnesses answer"):
        world.work(JANUARY)
    assert not world.published()


@pytest.mark.parametrize("named", [False, True])
def test_nothing_is_there_to_tell_if_nobody_is_named_or_asked(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control, and the mutant that does not compare: January is drawn again, with other noise."""
    world = Witnessed(tmp_path)
    out = rolled_back(world, tmp_path)
    if named:
        world.name(copies=[tmp_path / "out.duckdb"])
        monkeypatch.setattr(Vigil, "compare", lambda *_: 0)
    world.work(JANUARY)
    assert world.published().keys() == out.keys()
    assert world.published() != out


def test_two_of_three_witnesses_are_enough_and_one_is_not(tmp_path: Path) -> None:
    world = Witnessed(tmp_path, partners=3)
    with world.serving(0, 2) as urls:
        world.name(require=2, urls=urls)
        assert "publication waits" not in world.work(DECLARED)
        with world.serving(0) as fewer:
            world.name(require=2, urls=fewer)
            with pytest.raises(WitnessesAway, match="1 of 3 witnesses answer, and 2 have to"):
                world.work(JANUARY)
            assert not world.published()
        world.name(require=2, urls=urls)
        world.work(JANUARY)
    assert world.published()
    note = SignedNote.parse(world.project.public.with_suffix(".head").read_text())
    signed = [note.verified(partner.verifier_key) is not None for partner in world.partners]
    assert signed == [True, False, True]


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
    assert world.project.private.joinpath("state.duckdb").exists()
    exchanged(world, tmp_path)
    assert "publication waits" not in world.work(JANUARY)
    assert world.published() == drawn
    assert cosigned_head(world.project.configuration).verified(world.partners[0].verifier_key) is not None


def exchanged(world: Witnessed, folder: Path) -> None:
    """Hand a request to the partner and take its note back."""
    note = world.partners[0].cosign(request_of(world.project.configuration, 0))
    (folder / "note").write_text(note.data)
    assert take_cosignatures(world.project.configuration, folder / "note") == ["partner.example/w1"]


def gone(copy: Path) -> str:
    copy.unlink()
    return "there is no such file"


def damaged(copy: Path) -> str:
    copy.write_bytes(b"nonsense")
    return "neither a file that quietcount published"


def of_others(copy: Path) -> str:
    other = Witnessed(copy.parent / "other")
    other.work(DECLARED)
    shutil.copyfile(other.project.public, copy)
    return "a copy of another ledger"


def forged(copy: Path) -> str:
    note = SignedNote.parse(copy.read_text())
    copy.write_text(note.data.replace(f"\n{read_head(note)[1].length}\n", "\n1\n"))
    return "was altered"


def stripped(copy: Path) -> str:
    note = SignedNote.parse(copy.read_text())
    copy.write_text(note.data.replace("— quietcount.ledger/", "— somebody.else/"))
    return "does not carry our signature"


@pytest.mark.parametrize("spoil", [gone, damaged, of_others, forged, stripped])
def test_a_copy_that_says_nothing_is_an_outage_and_says_why(spoil: Callable[[Path], str], tmp_path: Path) -> None:
    world = Witnessed(tmp_path)
    world.work(DECLARED)
    copy = tmp_path / "copy"
    copy.write_text(cosigned_head(world.project.configuration).data)
    world.name(copies=[copy])
    world.work(DECLARED)
    words = spoil(copy)
    with pytest.raises(WitnessesAway, match=words):
        world.work(JANUARY)
    assert not world.published()


def test_a_lost_ledger_comes_back_from_a_witness_and_an_older_one_is_refused(tmp_path: Path) -> None:
    world = Witnessed(tmp_path, partners=1)
    with world.serving(0) as urls:
        world.name(require=1, urls=urls)
        world.work(DECLARED)
        (tmp_path / "older").write_bytes(request_of(world.project.configuration, 0).data)
        world.work(JANUARY)
        out = world.published()
        newest = world.partners[0].newest(world.partners[0].ledgers()[0].origin)
        assert newest is not None
        (tmp_path / "newest").write_bytes(newest.data)
        shutil.rmtree(world.project.data)
        with pytest.raises(LedgerBehind, match="there is none here"):
            world.work(JANUARY)
        (world.project.folder / "secrets" / "service-head").unlink()
        with pytest.raises(LedgerBehind, match="older copy"):
            restore_ledger(world.project.configuration, tmp_path / "older")
        restore_ledger(world.project.configuration, tmp_path / "newest")
    assert world.project.ledger_values() == out


def test_copies_named_before_anything_was_published_are_refused_with_what_to_do(tmp_path: Path) -> None:
    world = Witnessed(tmp_path).name(copies=[tmp_path / "copy"])
    with pytest.raises(LedgerBehind, match="name the copies after the first publication"):
        world.work(DECLARED)


def test_the_doctor_says_who_answers_and_how_far_each_is(tmp_path: Path) -> None:
    world = Witnessed(tmp_path, partners=2)
    world.work(DECLARED)
    with world.serving(0) as urls:
        world.name(require=1, urls=urls, copies=[tmp_path / "copy"])
        chain = chain_of(world)
        found = [f"{finding.where} {finding.what}" for finding in check_partners(world.project.configuration, chain)]
        assert [part in text for part, text in zip(DOCTORED, found, strict=True)] == [True] * 4, found
        world.name(require=1, urls=urls)
        world.work(DECLARED)
        found = [f"{finding.where} {finding.what}" for finding in check_partners(world.project.configuration, chain)]
        assert f"partner.example/w1 knows {chain.head.length} of the {chain.head.length} entries" in found[0]
        assert len(found) == 2
        shorter = Chain()
        for entry in chain.entries[:-1]:
            shorter.extend(entry.data)
        found = [f"{finding.where} {finding.what}" for finding in check_partners(world.project.configuration, shorter)]
        assert "does not hold" in found[0]
