"""What published copies and witnesses say, and what a person hears of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from tests.witnessed_projects import DECLARED, JANUARY, Witnessed

from quietcount_aggregates.errors import LedgerBehind, NoteError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.ledger.signed_heads import read_head
from quietcount_aggregates.ledger.signed_notes import SignedNote
from quietcount_consumers.doctor.partners import check_partners
from quietcount_consumers.errors import WitnessesAway
from quietcount_consumers.maintenance.cosigning import cosigned_head, request_of
from quietcount_consumers.maintenance.recovery import published_chain, reading_ledger, restore_ledger
from quietcount_consumers.witnessing.published_copy import NotVerified
from quietcount_consumers.witnessing.requests import read_request
from quietcount_consumers.witnessing.vigil import Vigil

pytestmark = [pytest.mark.check, pytest.mark.promise("witnessed")]

DOCTORED = ("has signed nothing", "cannot be reached", "there is no such file", "0 of the 1 required witnesses")


def chain_of(world: Witnessed) -> Chain:
    with reading_ledger(world.project.configuration) as ledger:
        return ledger.chain


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


def test_a_ledger_that_the_owner_did_not_sign_is_not_brought_back(tmp_path: Path) -> None:
    """Anybody can write one that begins with the owner's public key."""
    world = Witnessed(tmp_path)
    world.work(DECLARED)
    shutil.copyfile(world.project.public, tmp_path / "forged.duckdb")
    with duckdb.connect(str(tmp_path / "forged.duckdb")) as connection:
        connection.execute('DELETE FROM ledger WHERE "index" = (SELECT max("index") FROM ledger)')
    with pytest.raises(NoteError, match="not the head"):
        published_chain(tmp_path / "forged.duckdb")


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


def test_a_mutant_that_does_not_compare_draws_again_though_a_copy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Witnessed(tmp_path)
    world.work(DECLARED)
    world.snapshot(tmp_path / "before")
    world.work(JANUARY)
    out = world.published()
    shutil.copyfile(world.project.public, tmp_path / "out.duckdb")
    world.put_back(tmp_path / "before")
    world.name(copies=[tmp_path / "out.duckdb"])
    monkeypatch.setattr(Vigil, "compare", lambda *_: 0)
    world.work(JANUARY)
    assert world.published() != out


def test_a_mutant_that_does_not_wait_publishes_what_nobody_has_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Witnessed(tmp_path, partners=1).name(require=1, urls=[None])
    monkeypatch.setattr(Vigil, "enough", lambda *_: True)
    world.work(DECLARED)
    assert world.project.public.exists()


@pytest.mark.parametrize(
    "tables, words",
    [
        (
            "CREATE VIEW about AS SELECT 'signed_head' AS key, 'x' AS value; CREATE TABLE ledger (x int)",
            "is damaged, or not a file",
        ),
        ("CREATE TABLE about (key text, value text); CREATE TABLE ledger (x int)", "is damaged, or not a file"),
        (
            "CREATE TABLE about (key text, value text); CREATE TABLE ledger AS "
            "SELECT i AS \"index\", repeat('a', 2000000)::blob AS entry FROM range(3) t(i)",
            "longer than any",
        ),
        (
            'CREATE TABLE about (key text, value text); CREATE TABLE ledger ("index" bigint, entry blob)',
            "no signed head",
        ),
        (
            "CREATE MACRO duckdb_tables() AS TABLE (SELECT 'main' AS schema_name, false AS internal, unnest(['about', "
            "'ledger']) AS table_name, false AS temporary); CREATE VIEW about AS SELECT 'signed_head' AS key, "
            "count(*)::text AS value FROM range(10000000) a, range(10000000) b WHERE (a.range * b.range) % 7 = 3; "
            "CREATE TABLE ledger (x int)",
            "is damaged, or not a file",
        ),
    ],
)
def test_a_file_of_somebody_who_means_harm_is_refused_in_a_sentence_and_not_executed(
    tables: str, words: str, tmp_path: Path
) -> None:
    with duckdb.connect(str(tmp_path / "bad.duckdb")) as connection:
        connection.execute(tables)
    with pytest.raises(NotVerified, match=words) as caught:
        read_request(tmp_path / "bad.duckdb")
    assert caught.value.remedy
