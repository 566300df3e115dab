"""Looking at a ledger, and changing it on purpose, through the commands."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import click
import duckdb
import pytest
from click.testing import CliRunner, Result
from tests.catalogues import statistic
from tests.e2e.projects import EXACT, Project, simulated, true_cells

from quietcount_aggregates import migrations, state_file
from quietcount_aggregates.errors import StateError
from quietcount_aggregates.ledger import Chain
from quietcount_aggregates.marks import ConsumerSecret
from quietcount_aggregates.release import Step
from quietcount_aggregates.state import State
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.query import query_command
from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.doctor.data import check_state, ledger_of
from quietcount_consumers.embedded_ledger import EmbeddedLedger
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance import losses as recording
from quietcount_consumers.maintenance.losses import Lost
from quietcount_consumers.maintenance.state_facts import state_of
from quietcount_consumers.opening import open_service
from quietcount_schemas.errors import QuietcountError

pytestmark = pytest.mark.quick

MARCH = dt.datetime(2023, 3, 8, tzinfo=dt.UTC)


class Crash(BaseException):
    """The end of a process amid a release."""


def crash(step: Step) -> None:
    if step is Step.APPENDED:
        raise Crash


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    project.emit(simulated(100))
    return project


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that released a month; a test that alters its files puts them back."""
    project = Project(tmp_path_factory.mktemp("released") / "project")
    project.emit(simulated(50))
    project.run_here("2023-02-08")
    return project


def invoked(project: Project, command: click.Command, *arguments: str) -> Result:
    """Invoke a command that must succeed."""
    result = CliRunner().invoke(command, [*arguments, "--config", str(project.config)])
    assert result.exit_code == 0, result.output
    return result


def refused(project: Project, command: click.Command, *arguments: str) -> str:
    result = CliRunner().invoke(command, [*arguments, "--config", str(project.config)])
    assert isinstance(result.exception, QuietcountError), result.output
    return str(result.exception)


def contents(project: Project) -> dict[str, str]:
    return {str(path): digest(path) for path in sorted(project.data.rglob("*")) if path.is_file()}


def test_a_dry_run_says_what_a_release_does_and_touches_nothing(project: Project) -> None:
    when = ("--as-of", "2023-04-08", "--format", "json")
    first = contents(project)
    foretold = json.loads(invoked(project, release_command, *when, "--dry-run").stdout)
    assert contents(project) == first  # not even a ledger or a state comes into being
    released = json.loads(invoked(project, release_command, *when).stdout)
    assert released == foretold
    assert [row["period_start"] for row in released] == ["2023-01-01", "2023-02-01", "2023-03-01"] * 2
    before = contents(project)
    more = json.loads(
        invoked(project, release_command, "--as-of", "2023-05-08", "--format", "json", "--dry-run").stdout
    )
    assert [row["period_start"] for row in more] == ["2023-04-01"] * 2
    assert json.loads(invoked(project, release_command, *when, "--dry-run").stdout) == []
    assert contents(project) == before


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_the_ledger_is_shown_entry_by_entry(project: Project, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    invoked(project, release_command, "--as-of", "2023-02-08")
    shown = invoked(project, ledger_command, "show", "--format", form).stdout
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(shown)))
    elif form == "json":
        rows = json.loads(shown)
    else:
        assert shown.split()[:7] == ["index", "recorded_at", "kind", "statistic", "period_start", "what", "digest"]
        assert len(shown.splitlines()) == 6
        return
    assert [row["kind"] for row in rows] == ["opened", "declared", "declared", "released", "released"]
    assert [int(row["index"]) for row in rows] == [0, 1, 2, 3, 4]
    assert rows[1]["what"] == "epsilon 20 spent, released by month"
    assert {row["recorded_at"] for row in rows} == {"2023-02-08T00:00:00Z"}
    assert rows[3]["period_start"] == "2023-01-01"
    assert len({row["digest"] for row in rows}) == 5


def test_wide_rows_read_well_at_80_columns(released: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ledger = invoked(released, ledger_command, "show", "--format", "table").stdout.split("\n\n")
    assert len(ledger) == 5
    assert "kind:" in ledger[3]
    assert ledger[3].splitlines()[2].split() == ["kind:", "released"]
    assert all(len(line) <= 80 for block in ledger for line in block.splitlines())
    rows = invoked(released, query_command, "FROM statistics", "--format", "table").stdout.split("\n\n")
    assert len(rows) == len(released.released())
    assert {line.split(":")[0] for line in rows[0].splitlines()} >= {"statistic", "cell", "estimate", "lower", "upper"}


def test_a_public_file_that_was_altered_is_found(project: Project) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    assert "holds exactly" in invoked(project, ledger_command, "verify").stdout
    with duckdb.connect(str(project.public)) as connection:
        connection.execute("UPDATE statistics SET estimate = estimate + 1 WHERE cell LIKE '%SURRENDER%'")
    message = refused(project, ledger_command, "verify")
    assert "table statistics does not hold what the ledger says" in message
    assert "Delete it" in message
    project.public.unlink()
    invoked(project, run_command, "--until-idle", "--as-of", "2023-02-08")
    assert "holds exactly" in invoked(project, ledger_command, "verify").stdout


@pytest.mark.check
@pytest.mark.parametrize(
    "sql, what",
    [
        ("UPDATE margins SET margin = margin + 1", "table margins"),
        ("UPDATE data_dictionary SET description = 'exact'", "table data_dictionary"),
        ("UPDATE about SET value = 'none' WHERE key = 'bound'", "table about"),
        ("DELETE FROM budget", "table budget"),
        ("DELETE FROM ledger WHERE kind = 'released'", "table ledger"),
        ("CREATE OR REPLACE VIEW requests AS SELECT 12345 AS estimate", "view requests"),
        ("DROP VIEW requests", "view requests"),
        ("CREATE OR REPLACE MACRO total(a, b, c, cells := '{}') AS TABLE SELECT 12345 AS estimate", "macro total"),
        ("DROP MACRO TABLE compare", "macro compare"),
        ("CREATE TABLE more AS SELECT 1", "table more"),
        ("COMMENT ON COLUMN statistics.estimate IS 'The exact count.'", "column statistics.estimate"),
    ],
)
def test_a_public_file_that_was_altered_anywhere_is_found(released: Project, sql: str, what: str) -> None:
    whole = released.public.read_bytes()
    with duckdb.connect(str(released.public)) as connection:
        connection.execute(sql)
    try:
        message = refused(released, ledger_command, "verify")
    finally:
        released.public.write_bytes(whole)
    assert f"{what} does not hold what the ledger says" in message
    assert "Delete it: `quietcount run` brings it back" in message


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_foreign_file_in_the_place_of_the_public_one_may_be_moved_away(released: Project, content: bytes) -> None:
    whole = released.public.read_bytes()
    released.public.write_bytes(content)
    try:
        for command, argument in ((ledger_command, "verify"), (query_command, "FROM requests")):
            assert "Move it away: `quietcount run` brings it back" in refused(released, command, argument)
    finally:
        released.public.write_bytes(whole)


def test_a_ledger_that_was_altered_is_found(project: Project) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    with closing(sqlite3.connect(project.private / "ledger.sqlite")) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute('DELETE FROM entries WHERE "index" = 4')
        connection.execute("DROP TRIGGER entries_are_not_changed")
        entry = bytearray(connection.execute('SELECT entry FROM entries WHERE "index" = 3').fetchone()[0])
        entry[-1] ^= 1
        connection.execute('UPDATE entries SET entry = ? WHERE "index" = 3', (bytes(entry),))
        connection.commit()
    for command, arguments in (
        (ledger_command, ("verify",)),
        (ledger_command, ("show",)),
        (run_command, ("--until-idle", "--as-of", "2023-03-08")),
    ):
        assert "Restore it" in refused(project, command, *arguments) or command is ledger_command
        assert "ledger entry" in refused(project, command, *arguments)


@pytest.mark.check
def test_a_retired_statistic_is_released_no_more_and_its_epsilon_stays_spent(project: Project) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    assert "known" not in refused(project, ledger_command, "retire", "nothing")
    assert "court_cases" in refused(project, ledger_command, "retire", "nothing")
    invoked(project, ledger_command, "retire", "court_cases")
    assert "retired already" in refused(project, ledger_command, "retire", "court_cases")
    assert "court_cases' was retired" in refused(project, run_command, "--until-idle")
    assert "retired" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(text[: text.rindex("[[statistic]]")], encoding="utf-8")
    rows = json.loads(invoked(project, release_command, "--as-of", "2023-03-08", "--format", "json").stdout)
    assert [row["statistic"] for row in rows] == ["requests"]
    budget = invoked(project, query_command, "SELECT statistic, epsilon, retired FROM budget ORDER BY ALL").stdout
    assert budget == "statistic,epsilon,retired\ncourt_cases,20.0,True\nrequests,20.0,False\n"


def test_a_recorded_loss_raises_the_bound_in_public_and_lets_releases_go_on(project: Project) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    before = project.released()
    sql = "SELECT value FROM about WHERE key = 'bound'"
    assert "stays under epsilon 100;" in invoked(project, query_command, sql).stdout
    (project.private / "state.duckdb").unlink()
    asked = CliRunner().invoke(ledger_command, ["record-loss", "--config", str(project.config)], input="n\n")
    assert asked.exit_code == 1
    assert "state.duckdb is missing." in asked.output
    assert "Every case gets its limits again" in asked.output
    assert "The stated bound rises from epsilon 100 to 200, permanently." in asked.output
    assert "stays under epsilon 100;" in invoked(project, query_command, sql).stdout
    assert "record-loss" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    said = invoked(project, ledger_command, "record-loss", "--yes").stderr
    assert "stays under epsilon 200;" in said
    assert said.splitlines()[-1] in invoked(project, query_command, sql + " -- \n").stdout
    assert "stays under epsilon 200;" in invoked(project, ledger_command, "verify").stdout
    invoked(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert before.items() < project.released().items()
    kinds = invoked(project, query_command, "SELECT kind FROM ledger WHERE kind = 'state_lost'").stdout
    assert kinds == "kind\nstate_lost\n"


# What of a state can be called lost


def bound(project: Project) -> str:
    return invoked(project, query_command, "SELECT value FROM about WHERE key = 'bound'").stdout


def losses(project: Project) -> int:
    shown = invoked(project, ledger_command, "show", "--format", "json").stdout
    return sum(row["kind"] == "state_lost" for row in json.loads(shown))


def digest(path: Path) -> str:
    """What stands for the bytes: to show how two files differ takes pytest minutes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_a_sound_state_is_left_alone(project: Project) -> None:
    """Try to record a loss, with and without being asked; say what it would have cost."""
    before = digest(project.public), losses(project)
    for arguments in (("--yes",), ()):
        result = CliRunner().invoke(
            ledger_command, ["record-loss", *arguments, "--config", str(project.config)], input="y\n"
        )
        assert (digest(project.public), losses(project)) == before
        assert isinstance(result.exception, ServiceError), result.output
        assert "the state is sound" in result.exception.what
        assert "from epsilon 100 to 200, permanently" in result.exception.what
        for secret in Lost:
            assert f"--lost {secret}" in result.exception.remedy


def test_no_loss_is_recorded_while_the_state_is_sound(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    check_a_sound_state_is_left_alone(project)
    before = project.released()
    project.run_here("2023-03-08")
    assert before.items() < project.released().items()
    assert losses(project) == 0


def test_no_loss_is_recorded_of_a_release_that_the_state_began_and_a_crash_cut_short(
    released: Project, tmp_path: Path
) -> None:
    project = released.copy(tmp_path / "project")
    with pytest.raises(Crash), open_service(project.configuration, MARCH, observe=crash) as service:
        service.tick(MARCH)
    check_a_sound_state_is_left_alone(project)
    project.run_here("2023-03-08")
    assert losses(project) == 0


def test_a_twin_that_does_not_look_is_found(released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = released.copy(tmp_path / "project")
    monkeypatch.setattr(recording, "_found", lambda *_: "whatever is there")
    with pytest.raises(AssertionError):
        check_a_sound_state_is_left_alone(project)


def test_the_price_of_a_loss_is_that_of_the_ledger(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    for before, after in ((100, 200), (200, 300)):
        said = invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes").stderr
        assert f"The stated bound rises from epsilon {before} to {after}, permanently." in said
        assert f"stays under epsilon {after};" in bound(project)
        # Once more without a release in between, as after a crash.
        said = invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes").stderr
        assert f"The loss is recorded already. The stated bound stays at epsilon {after}." in said
        assert f"stays under epsilon {after};" in bound(project)
        project.run_here(f"2023-0{2 + before // 100}-08")


def test_a_secret_that_is_there_is_not_recorded_as_lost(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    secret = project.configuration.service.secret_file
    said = refused(project, ledger_command, "record-loss", "--lost", "secret", "--yes")
    assert f"{secret}: is the secret that the state was made with" in said
    said = refused(project, ledger_command, "record-loss", "--lost", "year", "--yes")
    assert "holds the secret of each year" in said
    assert losses(project) == 0
    mine = secret.read_bytes()
    secret.unlink()
    ConsumerSecret.generate(secret)
    assert "--lost secret" in refused(project, run_command, "--until-idle", "--as-of", "2023-02-08")
    check_a_sound_state_is_left_alone(project)  # the right one may only be misplaced
    said = invoked(project, ledger_command, "record-loss", "--lost", "secret", "--yes").stderr
    assert "is another secret than the state was made with" in said
    assert "from epsilon 100 to 200" in said
    assert secret.read_bytes() != mine
    project.run_here("2023-03-08")
    assert losses(project) == 1


def test_a_years_secret_that_is_missing_is_recorded_as_lost(tmp_path: Path) -> None:
    yearly = EXACT + statistic("sentences", "SentencePassed", by="sentence", horizon="year")
    project = Project(tmp_path / "project", yearly)
    project.emit(simulated(50))
    project.run_here("2023-02-08")
    (secret,) = project.configuration.years_dir.glob("2023")
    secret.unlink()
    assert "--lost year" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert "2023 is missing" in invoked(project, ledger_command, "record-loss", "--lost", "year", "--yes").stderr
    project.run_here("2023-03-08")
    assert losses(project) == 1


def test_a_state_that_does_not_know_what_was_released_is_recorded_as_lost(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    older = (project.private / "state.duckdb").read_bytes()
    project.run_here("2023-03-08")
    (project.private / "state.duckdb").write_bytes(older)
    said = invoked(project, ledger_command, "record-loss", "--yes").stderr
    assert "state.duckdb does not know what the ledger released." in said
    assert losses(project) == 1


def unknowing(project: Project) -> set[str]:
    """Put an older state back under a newer ledger; return who says that it does not know what was released."""
    older = (project.private / "state.duckdb").read_bytes()
    project.run_here("2023-03-08")
    (project.private / "state.duckdb").write_bytes(older)
    said = {}
    for name, command, arguments in (
        ("start", run_command, ("--until-idle", "--as-of", "2023-03-08")),
        ("retire", ledger_command, ("retire", "requests")),
    ):
        result = CliRunner().invoke(command, [*arguments, "--config", str(project.config)])
        said[name] = str(result.exception)
        (project.private / "state.duckdb").write_bytes(older)
    facts, chain = state_of(project.configuration), ledger_of(project.configuration)
    assert facts is not None
    said["doctor"] = " ".join(
        f"{each.where} {each.what}" for each in check_state(project.configuration, facts, chain, None)
    )
    return {name for name, text in said.items() if "the ledger has releases that" in text}


def test_one_rule_says_everywhere_that_a_state_does_not_know_what_was_released(
    released: Project, tmp_path: Path
) -> None:
    assert unknowing(released.copy(tmp_path / "project")) == {"start", "retire", "doctor"}


def test_a_twin_of_that_rule_is_found_everywhere(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chain, "is_ahead_of", lambda *_: False)
    assert unknowing(released.copy(tmp_path / "project")) == set()


def test_damage_that_only_reading_everything_finds_is_recorded_as_a_loss(released: Project, tmp_path: Path) -> None:
    """Each block is damaged in turn; a state that is called sound goes on and releases."""
    state = released.private / "state.duckdb"
    whole = state.read_bytes()
    said = []
    for number, place in enumerate(range(12288 + 5000, len(whole), 262144)):
        project = released.copy(tmp_path / f"project-{number}")
        content = bytearray(whole)
        content[place] ^= 1
        (project.private / "state.duckdb").write_bytes(content)
        result = CliRunner().invoke(ledger_command, ["record-loss", "--yes", "--config", str(project.config)])
        said.append("damaged" if result.exit_code == 0 else "sound")
        project.run_here("2023-03-08")
        assert losses(project) == (result.exit_code == 0)
    assert "damaged" in said


def test_what_there_is_not_yet_is_said(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    for arguments in (("show",), ("verify",), ("retire", "requests")):
        assert "quietcount run" in refused(project, ledger_command, *arguments)
    assert "is not there: nothing is published yet" in refused(project, query_command, "SELECT 1")


def without_ledger(project: Project) -> None:
    for path in project.private.glob("ledger.sqlite*"):
        path.unlink()


@pytest.mark.parametrize("left", ["statistics.duckdb", "service-head"])
def test_a_ledger_that_is_lost_is_told_from_one_that_never_was(released: Project, tmp_path: Path, left: str) -> None:
    project = released.copy(tmp_path / "project")
    without_ledger(project)
    if left == "service-head":
        project.public.unlink()
    else:
        (project.folder / "secrets" / "service-head").unlink()
    for arguments in (("show",), ("verify",), ("retire", "requests"), ("record-loss", "--yes")):
        said = refused(project, ledger_command, *arguments)
        assert left in said
        assert "with: quietcount ledger restore" in said
        assert "quietcount run" not in said
    assert not list(project.private.glob("ledger.sqlite*"))


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000], ids=["empty", "garbage"])
def test_what_may_be_the_last_copy_of_a_ledger_is_never_told_to_be_deleted(
    released: Project, tmp_path: Path, content: bytes
) -> None:
    project = released.copy(tmp_path / "project")
    without_ledger(project)
    whole = project.public.read_bytes()
    copy = tmp_path / "copy.duckdb"
    said = []
    for damaged in (whole[: len(whole) // 2], content):
        copy.write_bytes(damaged)
        said.append(refused(project, ledger_command, "restore", "--yes", str(copy)))
        assert "Keep it, and try another copy" in said[-1]
    project.public.write_bytes(content)
    said.append(refused(project, run_command, "--until-idle"))
    said.append(refused(project, query_command, "FROM requests"))
    copy.write_bytes(whole)
    said.append(refused(project, ledger_command, "restore", "--yes", str(copy)))
    assert "Move it away and keep it" in said[-1]
    assert not [each for each in said if "elete" in each]
    assert "there is no such file" in refused(project, ledger_command, "restore", "--yes", str(tmp_path / "none"))
    without_ledger(project)
    project.public.unlink()
    invoked(project, ledger_command, "restore", "--yes", str(copy))
    assert "Error" not in invoked(project, run_command, "--until-idle", "--as-of", "2023-02-08").stderr


def test_a_restore_that_is_refused_changes_nothing_not_even_the_format_of_the_state(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = released.copy(tmp_path / "project")
    older = tmp_path / "older.duckdb"
    older.write_bytes(project.public.read_bytes())
    project.run_here("2023-03-08")
    without_ledger(project)
    before = contents(project)
    # As the version after this one, whose format is another.
    monkeypatch.setattr(migrations, "STEPS", {**migrations.STEPS, state_file.FORMAT: "SELECT 1"})
    monkeypatch.setattr(state_file, "FORMAT", state_file.FORMAT + 1)
    assert "state.duckdb was built from" in refused(project, ledger_command, "restore", "--yes", str(older))
    assert contents(project) == before
    with State(project.folder / "other.duckdb") as other:
        other.bind(ledger_id="0" * 32)
    (project.folder / "other.duckdb").replace(project.private / "state.duckdb")
    assert "the ledger is another one" in refused(project, ledger_command, "restore", "--yes", str(project.public))
    assert not (project.private / "ledger.sqlite").exists()


def test_a_ledger_is_not_restored_under_a_service_that_runs(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    without_ledger(project)
    with State(project.private / "state.duckdb"):
        said = refused(project, ledger_command, "restore", "--yes", str(project.public))
        assert "another quietcount service holds it" in said
    assert not (project.private / "ledger.sqlite").exists()


def test_retire_before_the_first_run_brings_nothing_into_being(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.private.mkdir(parents=True)
    assert "there is no ledger yet" in refused(project, ledger_command, "retire", "requests")
    assert list(project.private.iterdir()) == []
    EmbeddedLedger(project.private / "ledger.sqlite").close()  # made by a first run that was refused
    before = contents(project)
    assert "there is no ledger yet" in refused(project, ledger_command, "retire", "requests")
    assert "there is no ledger yet" in refused(project, ledger_command, "record-loss", "--yes")
    assert contents(project) == before


def test_retire_without_the_state_names_the_way_on_and_makes_none(released: Project) -> None:
    state = released.private / "state.duckdb"
    state.rename(aside := state.with_name("aside"))
    try:
        assert "record-loss" in refused(released, ledger_command, "retire", "requests")
        assert not state.exists()
    finally:
        aside.rename(state)


@pytest.mark.check
@pytest.mark.parametrize("damage", ["garbage", "cut", "foreign", "write-ahead log", "write-ahead log alone"])
def test_a_damaged_state_is_moved_aside_when_its_loss_is_recorded(project: Project, damage: str) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    released = project.released()
    state = project.private / "state.duckdb"
    if damage == "garbage":
        state.write_bytes(b"not a database" * 1000)
    elif damage == "cut":
        state.write_bytes(state.read_bytes()[:6000])
    elif damage.startswith("write-ahead log"):
        state.write_bytes(b"")
        state.with_name("state.duckdb.wal").write_bytes(b"what DuckDB would replay")
        if damage.endswith("alone"):
            state.unlink()
    else:
        state.unlink()
        with duckdb.connect(str(state)) as connection:
            connection.execute("CREATE TABLE theirs (a INTEGER)")
    damaged = state.read_bytes() if state.exists() else None
    taken = state.with_name("state.duckdb.damaged")
    taken.write_bytes(b"of an earlier time")
    for command, arguments in (
        (run_command, ("--until-idle", "--as-of", "2023-03-08")),
        (release_command, ("--as-of", "2023-03-08")),
        (ledger_command, ("retire", "requests")),
    ):
        assert "quietcount ledger record-loss" in refused(project, command, *arguments)
    said = invoked(project, ledger_command, "record-loss", "--yes").stderr
    aside = state.with_name("state.duckdb.damaged-2")
    assert str(aside) in said
    assert "stays under epsilon 200;" in said
    assert (aside.read_bytes() if aside.exists() else None) == damaged
    assert taken.read_bytes() == b"of an earlier time"
    assert not state.with_name("state.duckdb.wal").exists()
    if damage.startswith("write-ahead log"):
        assert aside.with_name(f"{aside.name}.wal").read_bytes() == b"what DuckDB would replay"
    invoked(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert released.items() < project.released().items()


def test_a_state_that_is_held_or_cannot_be_written_is_not_moved_aside(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    state = project.private / "state.duckdb"
    with State(state):
        assert "another quietcount service holds it" in refused(project, ledger_command, "record-loss", "--yes")

    def full(_: Path) -> None:
        raise StateError("the disk is full; make room")

    monkeypatch.setattr("quietcount_consumers.maintenance.losses.State", full)
    assert "make room" in refused(project, ledger_command, "record-loss", "--yes")
    assert state.exists()
    assert list(project.private.glob("*.damaged*")) == []


@pytest.mark.check
def test_after_a_lost_log_the_service_goes_on_with_a_new_one(project: Project) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    released = project.released()
    log = project.private / "log.sqlite"
    for suffix in ("", "-wal", "-shm"):
        Path(f"{log}{suffix}").unlink(missing_ok=True)
    assert "quietcount ledger new-log" in refused(project, run_command, "--until-idle", "--as-of", "2023-02-08")
    asked = CliRunner().invoke(ledger_command, ["new-log", "--config", str(project.config)], input="n\n")
    assert asked.exit_code == 1
    assert "Is the old log permanently lost?" in asked.output
    with State(project.private / "state.duckdb"):
        assert "another quietcount service holds it" in refused(project, ledger_command, "new-log", "--yes")
    assert "Emit again" in invoked(project, ledger_command, "new-log", "--yes").stderr
    # Emitted again, as the command says: what was folded from the old log counts once.
    project.emit(simulated(100))
    invoked(project, run_command, "--until-idle", "--as-of", "2024-01-08")
    assert released.items() < project.released().items()
    assert {cell: n for cell, n in project.released().items() if n} == true_cells(simulated(100))
    assert "holds exactly" in invoked(project, ledger_command, "verify").stdout


def test_a_new_log_is_refused_where_there_is_none_to_follow(project: Project) -> None:
    assert "there is no state" in refused(project, ledger_command, "new-log", "--yes")
    invoked(project, release_command, "--as-of", "2023-02-08")
    before = project.state()
    assert "folds already" in refused(project, ledger_command, "new-log", "--yes")
    assert project.state() == before


def test_a_statistic_that_cannot_be_declared_is_found_in_the_configuration_it_names(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(text.replace('by = ["help_kind"]', 'by = ["nothing"]'), encoding="utf-8")
    for command, arguments in (
        (run_command, ("--until-idle", "--as-of", "2023-02-08")),
        (release_command, ("--as-of", "2023-02-08")),
        (release_command, ("--as-of", "2023-02-08", "--dry-run")),
    ):
        message = refused(project, command, *arguments)
        assert message.startswith(f"{project.config}: ")
        assert "requests" in message


def test_no_log_line_says_when_it_was_written(project: Project) -> None:
    lines = invoked(project, run_command, "--until-idle", "--as-of", "2023-03-08").stderr.splitlines()
    assert any('"event": "released"' in line for line in lines)
    today = dt.datetime.now(dt.UTC)
    for line in lines:
        assert "timestamp" not in line
        assert not any(f"{today + dt.timedelta(days=days):%Y-%m-%d}" in line for days in (-1, 0))
        assert line.startswith('{"tick": "2023-03-08T00:00:00+00:00", "level": ')
