"""The drill: what docs/recovery.md says of backups and of each loss, done with the page's own commands."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.projects import Cell, Project
from tests.e2e.recovery.restore_drills import (
    ALL_DUE,
    FEBRUARY_DUE,
    JANUARY_DUE,
    LINES,
    NEW,
    Drill,
    Page,
    backed_up,
    drill,
    go_on,
    held,
    losing,
    page,
)
from tests.e2e.service.test_upgrades import CONFIGURATION, Line, asked, counted
from tests.witness_world import partner_in, served

from quietcount_aggregates.ledger.ledger import Ledger
from quietcount_aggregates.state import state_file
from quietcount_consumers.maintenance.recovery import published_chain, restore_ledger
from quietcount_consumers.maintenance.signing import published_note
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.check

__all__ = ["backed_up", "drill", "page"]  # fixtures, which tests ask for by name

# Backing up


def test_the_backups_hold_what_the_page_says_and_no_witness(backed_up: Drill) -> None:
    names = sorted(path.name for path in backed_up.backup.iterdir())
    limits = [f"state-0.limits.{name}.1" for name in ("court_cases.lifetime", "requests.lifetime")]
    state = ["state-0.duckdb", "state-0.duckdb.lock", *limits]
    assert names == ["log.sqlite", *state, "statistics.duckdb"]
    assert sorted(path.name for path in backed_up.secrets_backup.iterdir()) == [
        "service",
        "service-signing",
        "service-years",
    ]
    for name in ("log.sqlite", *state):
        assert (backed_up.backup / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name, block", [("BACKUP", 0), ("SECRETS_BACKUP", 2), ("SECRET", 2)])
def test_a_page_that_leaves_a_name_of_its_blocks_unset_fails_its_drill(
    drill: Drill, name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drill.do("Backing up", block).done()
    (whole,) = drill.page.preparation
    less = re.sub(rf"^{name}=.*\n", "", whole, flags=re.MULTILINE)
    assert less != whole
    monkeypatch.setattr(drill.page, "preparation", [less])
    with pytest.raises(subprocess.CalledProcessError):
        drill.do("Backing up", block)


@pytest.mark.parametrize("folder", ["backup", "secrets_backup"])
def test_a_folder_that_is_not_there_is_noticed_before_anything_is_copied(drill: Drill, folder: str) -> None:
    drill.run("true").done()
    shutil.rmtree(getattr(drill, folder))
    with pytest.raises(subprocess.CalledProcessError):
        drill.run("true")


@pytest.mark.parametrize(
    "secret", ["secrets/service/secret", pytest.param("secrets/private/service", marks=pytest.mark.soak)]
)
def test_backups_and_ways_back_are_right_wherever_the_secret_lies(
    secret: str, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does under systemd, and in the containers."""
    configuration = CONFIGURATION.replace(
        "\n[[population]]", f'\n[service]\nsecret_file = "{secret}"\n[[population]]', 1
    )
    drill = Drill(Project(tmp_path / "project", configuration), page)
    monkeypatch.chdir(drill.project.folder)
    for folder in (drill.backup, drill.secrets_backup, drill.project.folder / "secrets" / "first"):
        folder.mkdir()
    (drill.project.folder / "secrets" / "service").unlink()
    place = drill.project.folder / secret
    drill.start().done()
    before, made = drill.released, place.read_bytes()
    for number in range(len(page.blocks("Backing up"))):
        drill.do("Backing up", number).done()
    endings = ("", "-signing", "-years")
    assert sorted(path.name for path in drill.secrets_backup.iterdir()) == [f"{place.name}{each}" for each in endings]
    for folder in (drill.project.data, place.parent):
        shutil.rmtree(folder)
    for number in range(2):
        drill.do("The machine is lost, and nothing was released since the backup", number).done()
    assert drill.released == before
    assert place.read_bytes() == made
    assert place.parent.stat().st_mode & 0o077 == 0


# Restoring: one test a section of the page


def the_machine_is_lost_and_nothing_was_released_since_the_backup(drill: Drill) -> None:
    before = drill.released
    case = next(line["case"] for line in LINES if str(line["occurred_on"]) >= "2023-06")
    withdrawal = {**asked(str(case), "2023-03-11", 900), "event": "CaseWithdrawn"}
    since: list[Line] = [*NEW, {key: withdrawal[key] for key in ("event", "case", "occurred_on", "event_id")}]
    drill.project.emit(since)
    drill.project.run_here(JANUARY_DUE)
    pepper = (drill.project.folder / "secrets" / "pepper").read_bytes()
    for folder in (drill.project.data, drill.project.folder / "secrets"):
        shutil.rmtree(folder)
    (drill.project.folder / "secrets").mkdir(mode=0o700)
    (drill.project.folder / "secrets" / "pepper").write_bytes(pepper)  # which the emitters have
    (drill.project.folder / "secrets" / "pepper").chmod(0o600)
    drill.do("The machine is lost, and nothing was released since the backup").done()
    assert (drill.project.folder / "secrets").stat().st_mode & 0o077 == 0, "the backup's folder was open to others"
    drill.project.emit(since)
    drill.do("The machine is lost, and nothing was released since the backup", 1).done()
    assert held(drill, before) == counted([*LINES, *since])


def the_machine_is_lost_and_the_state_with_it(drill: Drill) -> None:
    section = "The machine is lost, and the state with it"
    go_on(drill, NEW)
    drill.do("Backing up", 0).done()
    before = drill.released
    shutil.rmtree(drill.project.data)
    (drill.project.folder / "secrets" / "service-head").unlink()
    drill.do(section, 0).done()
    drill.start().refused(*drill.page.messages(section))
    assert drill.project.ledger_values() != {}
    drill.do(section, 1).done()
    assert drill.released == before
    still_open = [
        line for line in [*LINES, *NEW] if str(line["occurred_on"]) >= "2023-03" or line["event"] == "CaseWithdrawn"
    ]
    drill.project.emit(still_open)
    drill.do(section, 2).done()
    after = held(drill, before)
    assert after == before | counted(still_open)
    losing(drill)


def the_state_is_lost_or_damaged(drill: Drill) -> None:
    before = drill.released
    lost = drill.copy(drill.project.folder.parent / "lost")
    (lost.project.private / "state-0.duckdb").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lost.project.folder)
        lost.start().refused("the ledger has releases that data/private/store/state-0.duckdb does not know")
    (drill.project.private / "state-0.duckdb").write_bytes(b"nothing of a state" * 1000)
    drill.start().refused("is damaged")
    drill.do("The state is lost or damaged").done()
    assert (drill.project.private / "state-0.duckdb.damaged").exists()
    drill.project.emit(LINES)  # more than what the command names
    drill.clock = FEBRUARY_DUE
    drill.do("The state is lost or damaged", 1).done()
    check_counts_with_limits_anew(held(drill, before), before)
    losing(drill)


def check_counts_with_limits_anew(after: dict[Cell, int], before: dict[Cell, int]) -> None:
    """At least what it would have been, and no more than if nobody had come before the loss."""
    least, most = counted(LINES), counted([line for line in LINES if str(line["occurred_on"]) >= "2023-02"])
    for cell, value in after.items():
        if cell not in before:
            assert least.get(cell, 0) <= value <= most.get(cell, 0), cell
    assert {cell for cell, value in least.items() if value} <= set(after)


def an_older_state_is_put_back(drill: Drill) -> None:
    section = "An older state is put back"
    before = drill.released
    drill.project.emit(NEW)
    drill.project.run_here(JANUARY_DUE)
    released_since = drill.copy(drill.project.folder.parent / "released-since")
    drill.do(section).done()
    assert held(drill, before) == counted([*LINES, *NEW])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(released_since.project.folder)
        go_on(released_since, [])
        newer = released_since.released
        (unknown,) = drill.page.messages(section)
        released_since.do(section).refused(unknown)
        assert released_since.released == newer
        released_since.run("rm data/private/store/state-*\nmv aside/state-* data/private/store/")
        released_since.project.run_here("2023-04-08")
        newer = released_since.released
        released_since.clock = "2023-04-08"
        released_since.do(section).refused(unknown)
        assert released_since.released == newer


def the_ledger_is_lost_or_an_older_one_was_put_back(drill: Drill) -> None:
    section = "The ledger is lost, or an older one was put back"
    older = (drill.project.private / "ledger.sqlite").read_bytes()
    go_on(drill, NEW)
    before = drill.released
    (drill.project.private / "ledger.sqlite").write_bytes(older)
    drill.start().refused(*drill.page.messages(section))
    assert drill.project.released().items() >= before.items()
    # The backup is older than what was published since, and there is a ledger in the place.
    drill.quietcount("ledger", "restore", "--yes", str(drill.backup / "statistics.duckdb")).refused(
        "the ledger does not hold what state-0.duckdb was built from"
    )
    drill.quietcount("ledger", "restore", "--yes", "data/statistics.duckdb").refused(
        "there is a ledger already, and it is never written over"
    )
    drill.do(section).done()
    assert drill.released == before
    (drill.project.private / "ledger.sqlite").unlink()
    drill.start().refused(*drill.page.messages(section))
    (drill.project.private / "ledger.sqlite").unlink(missing_ok=True)
    drill.do(section).done()
    assert held(drill, before) == counted([*LINES, *NEW])


@pytest.mark.parametrize("damage", ["garbage", "write-ahead log"])
def test_a_lost_ledger_and_a_damaged_state_are_mended_as_the_page_says(drill: Drill, damage: str) -> None:
    section = "The ledger is lost, or an older one was put back"
    before = drill.released
    state = drill.project.private / "state-0.duckdb"
    state.write_bytes(b"nothing of a state" * 1000 if damage == "garbage" else b"")
    if damage != "garbage":
        state.with_name("state-0.duckdb.wal").write_bytes(b"what DuckDB would replay")
    for path in drill.project.private.glob("ledger.sqlite*"):
        path.unlink()
    drill.quietcount("ledger", "record-loss", "--yes").refused("with: quietcount ledger restore")
    drill.do(section).refused("is damaged")
    drill.do("The state is lost or damaged").done()
    assert drill.released == before
    losing(drill)


def the_private_log_of_places_is_damaged(drill: Drill) -> None:
    section = "The private log of places is damaged"
    before = drill.released
    with closing(sqlite3.connect(drill.project.private / "ledger.sqlite")) as ledger:
        ledger.execute("DROP TRIGGER places_are_not_changed")
        ledger.execute("UPDATE places SET place = x'7b7d'")
        ledger.commit()
    drill.start().refused(*drill.page.messages(section))
    drill.do(section).done()
    assert held(drill, before) == counted(LINES)


def the_whole_data_folder_is_an_older_copy(drill: Drill) -> None:
    section = "The whole data folder is an older copy"
    older = drill.project.folder / "older"
    shutil.copytree(drill.project.data, older)
    go_on(drill, NEW)
    drill.do("Backing up", 0).done()
    before = drill.released
    shutil.rmtree(drill.project.data)
    shutil.copytree(older, drill.project.data)
    drill.start().refused(*drill.page.messages(section))
    drill.do(section).refused(drill.page.messages("An older state is put back")[0])
    drill.do("The machine is lost, and the state with it", 1).done()
    assert drill.released == before
    losing(drill)


def a_witness_or_a_published_copy_knows_a_newer_ledger(drill: Drill) -> None:
    older = {name: drill.project.folder / f"older-{name}" for name in ("data", "secrets")}
    for name, folder in older.items():
        shutil.copytree(drill.project.folder / name, folder)
    partner = partner_in(drill.project.folder / "w1", "partner.example/w1")
    partner.trust(published_chain(drill.project.public).signer)
    with served(partner) as url, drill.project.config.open("a") as configuration:
        configuration.write(f'\n[witnesses]\nrequire = 1\n[[witnesses.witness]]\nkey = "{partner.verifier_key.text}"\n')
        configuration.write(f'url = "{url}"\n')
        configuration.flush()
        drill.project.emit(NEW)
        drill.clock = FEBRUARY_DUE
        drill.start().done()
        drill.do("Backing up", 0).done()
        before = drill.released
        for name, folder in older.items():
            shutil.rmtree(drill.project.folder / name)
            shutil.copytree(folder, drill.project.folder / name)
        section = "A witness or a published copy knows a newer ledger"
        drill.start().refused(*drill.page.messages(section))
        again = drill.do("The whole data folder is an older copy")
        again.refused(drill.page.messages("An older state is put back")[0])
        drill.do("The machine is lost, and the state with it", 1).done()
        drill.start().done()
        assert drill.released == before
        losing(drill)


def the_public_file_is_lost(drill: Drill) -> None:
    before = drill.released
    drill.project.public.unlink()
    drill.do("The public file is lost").done()
    assert drill.released == before


def the_log_is_lost_or_an_older_one_was_put_back(drill: Drill) -> None:
    section = "The log is lost, or an older one was put back"
    before = drill.released
    drill.project.emit(NEW)
    drill.project.run_here(JANUARY_DUE)
    log = drill.project.private / "log.sqlite"
    shutil.copyfile(drill.backup / "log.sqlite", log)
    drill.start().refused("the log ends before records that were folded from it. It is an older copy")
    log.unlink()
    drill.start().refused(*drill.page.messages(section))
    drill.project.emit(NEW[:4])
    drill.do(section).done()
    drill.project.emit(NEW[4:])
    drill.do(section, 1).done()
    assert held(drill, before) == counted([*LINES, *NEW])


def the_signing_key_is_lost_or_stolen(drill: Drill) -> None:
    section = "The signing key is lost or stolen"
    before = drill.released
    key = drill.project.folder / "secrets" / "service-signing"
    given_up = published_note(drill.project.public)
    key.unlink()
    drill.start().refused(*drill.page.messages(section))
    drill.run("quietcount init other\nmv other/secrets/service-signing secrets/service-signing")
    drill.start().refused("is not the key that the ledger names")
    key.unlink()
    drill.do(section).done()
    assert (drill.secrets_backup / "service-signing").read_bytes() == key.read_bytes()
    lost = published_chain(drill.project.public).signer
    drill.quietcount("ledger", "new-key", "--yes").refused("is the key that the ledger names")
    drill.quietcount("ledger", "new-key", "--stolen", "--yes").done()
    signed = published_note(drill.project.public)
    now = published_chain(drill.project.public).signer
    assert signed.verified(now) is not None
    assert signed.verified(lost) is None
    assert signed.text.splitlines()[0] == given_up.text.splitlines()[0], "the ledger keeps its name"
    drill.project.emit(NEW)
    assert held(drill, before) == counted([*LINES, *NEW])


def the_services_secret_is_lost(drill: Drill) -> None:
    section = "The service's secret is lost"
    before = drill.released
    secrets = drill.project.folder / "secrets"
    (secrets / "service-head").unlink()
    (secrets / "service-years" / "0" / "2023").rename(drill.backup / "2023")
    drill.start().done()
    assert (secrets / "service-head").exists(), "the witness comes back"
    drill.start(FEBRUARY_DUE).refused("the secret of 2023 is missing")
    (drill.backup / "2023").rename(secrets / "service-years" / "0" / "2023")
    (secrets / "service").unlink()
    drill.start().refused(*drill.page.messages(section))
    drill.run("quietcount init other\nmv other/secrets/service secrets/service")
    drill.start().refused("the service's secret is another one than this state was made with")
    drill.do(section).done()
    drill.project.emit(LINES)
    drill.do(section, 1).done()
    check_counts_with_limits_anew(held(drill, before), before)
    losing(drill)


CASES: dict[str, Callable[[Drill], None]] = {
    "The machine is lost, and nothing was released since the backup": (
        the_machine_is_lost_and_nothing_was_released_since_the_backup
    ),
    "The machine is lost, and the state with it": the_machine_is_lost_and_the_state_with_it,
    "The state is lost or damaged": the_state_is_lost_or_damaged,
    "An older state is put back": an_older_state_is_put_back,
    "The ledger is lost, or an older one was put back": the_ledger_is_lost_or_an_older_one_was_put_back,
    "The private log of places is damaged": the_private_log_of_places_is_damaged,
    "The whole data folder is an older copy": the_whole_data_folder_is_an_older_copy,
    "A witness or a published copy knows a newer ledger": a_witness_or_a_published_copy_knows_a_newer_ledger,
    "The public file is lost": the_public_file_is_lost,
    "The log is lost, or an older one was put back": the_log_is_lost_or_an_older_one_was_put_back,
    "The signing key is lost or stolen": the_signing_key_is_lost_or_stolen,
    "The service's secret is lost": the_services_secret_is_lost,
}


@pytest.mark.promise("losses")
@pytest.mark.parametrize("case", CASES)
def test_each_loss_is_mended_by_what_the_page_says_and_no_value_is_drawn_twice(case: str, drill: Drill) -> None:
    CASES[case](drill)


def test_each_case_of_the_page_is_drilled(page: Page) -> None:
    assert page.cases == list(CASES)


def test_the_page_tells_the_words_in_which_an_older_version_refuses(
    page: Page, drill: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message,) = page.messages("Upgrading")
    assert f"format {state_file.FORMAT + 1}; this version reads format {state_file.FORMAT}." in message
    text = (drill.project.private / "state-0.duckdb").read_bytes()
    monkeypatch.setattr(state_file, "FORMAT", state_file.FORMAT - 1)
    # One version earlier, the same words.
    older = message.replace(f"reads format {state_file.FORMAT + 1}", f"reads format {state_file.FORMAT}")
    older = older.replace(f"in format {state_file.FORMAT + 2}", f"in format {state_file.FORMAT + 1}")
    drill.start().refused(older)
    assert (drill.project.private / "state-0.duckdb").read_bytes() == text


def test_a_ledger_of_another_project_is_refused_and_so_is_a_file_that_is_none_of_ours(
    drill: Drill, tmp_path: Path
) -> None:
    other = Project(tmp_path / "other", CONFIGURATION)
    other.run_here(ALL_DUE)
    for path in drill.project.private.glob("ledger.sqlite*"):
        path.unlink()
    drill.quietcount("ledger", "restore", "--yes", str(other.public)).refused("the ledger is another one")
    drill.quietcount("ledger", "restore", "--yes", "quietcount.toml").refused("not a file that quietcount published")
    drill.quietcount("ledger", "restore", "--yes", "none.duckdb").refused("there is no such file")
    assert not (drill.project.private / "ledger.sqlite").exists()


def test_a_twin_that_restores_any_ledger_would_draw_values_twice(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on(drill, NEW)
    for path in drill.project.private.glob("ledger.sqlite*"):
        path.unlink()
    older = drill.backup / "statistics.duckdb"
    with pytest.raises(QuietcountError, match="was built from"):
        restore_ledger(drill.project.configuration, older)
    assert not (drill.project.private / "ledger.sqlite").exists()
    monkeypatch.setattr(Ledger, "check_not_behind", lambda *_: None)
    restore_ledger(drill.project.configuration, older)
    assert set(drill.project.ledger_values()) < set(drill.project.released()), "February would be released again"
