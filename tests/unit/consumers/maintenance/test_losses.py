"""Recording that the state or a secret is lost: only what is lost, at the price that is named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from tests.catalogues import statistic
from tests.commanded import digest, emitted, invoked, losses, refused, released_month
from tests.e2e.projects import EXACT, Project, simulated
from tests.privacy.light_publications import light_publications

from quietcount_aggregates.errors import StateError
from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.release import Step
from quietcount_aggregates.state.marks import ConsumerSecret
from quietcount_aggregates.state.state import State
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.query import query_command
from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.doctor.data import check_state, ledger_of
from quietcount_consumers.errors import ServiceError
from quietcount_consumers.maintenance import losses as recording
from quietcount_consumers.maintenance.losses import Lost
from quietcount_consumers.maintenance.state_facts import state_of
from quietcount_consumers.opening import open_service
from quietcount_consumers.wiring import open_log
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick

MARCH = dt.datetime(2023, 3, 8, tzinfo=dt.UTC)


class Crash(BaseException):
    """The end of a process amid a release."""


def crash(step: Step) -> None:
    if step is Step.APPENDED:
        raise Crash


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return emitted(tmp_path / "project", 100)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that released a month."""
    return released_month(tmp_path_factory.mktemp("released") / "project")


@pytest.fixture
def light() -> Iterator[None]:
    """For what is no concern of the public file: publishing it takes most of a release's time."""
    with light_publications():
        yield


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
    assert "that period is never released" in asked.output
    assert "a copy of the state from after the last release, answer no and put it back" in asked.output
    assert "The stated bound rises from epsilon 100 to 200, permanently." in asked.output
    assert "stays under epsilon 100;" in invoked(project, query_command, sql).stdout
    assert "record-loss" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    said = invoked(project, ledger_command, "record-loss", "--yes").stderr
    assert "stays under epsilon 200;" in said
    assert "emit again all that is dated 2023-02-01 or later, and every withdrawal" in said
    assert said.splitlines()[-1] in invoked(project, query_command, sql + " -- \n").stdout
    assert "stays under epsilon 200;" in invoked(project, ledger_command, "verify").stdout
    invoked(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert before.items() < project.released().items()
    kinds = invoked(project, query_command, "SELECT kind FROM ledger WHERE kind = 'state_lost'").stdout
    assert kinds == "kind\nstate_lost\n"


def test_before_a_release_the_log_holds_all_and_nothing_has_to_be_emitted_again(project: Project) -> None:
    invoked(project, run_command, "--until-idle", "--as-of", "2023-01-20")
    (project.private / "state.duckdb").unlink()
    assert "mit again" not in invoked(project, ledger_command, "record-loss", "--yes").stderr


def bound(project: Project) -> str:
    return invoked(project, query_command, "SELECT value FROM about WHERE key = 'bound'").stdout


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


@pytest.mark.usefixtures("light")
def test_no_loss_is_recorded_of_a_release_that_the_state_began_and_a_crash_cut_short(
    released: Project, tmp_path: Path
) -> None:
    project = released.copy(tmp_path / "project")
    with pytest.raises(Crash), open_service(project.configuration, MARCH, observe=crash) as service:
        service.tick(MARCH)
    check_a_sound_state_is_left_alone(project)
    project.run_here("2023-03-08")
    assert losses(project) == 0


@pytest.mark.usefixtures("light")
def test_a_twin_that_does_not_look_is_found(released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = released.copy(tmp_path / "project")
    monkeypatch.setattr(recording, "_found", lambda *_: ("whatever is there", False))
    with pytest.raises(AssertionError):
        check_a_sound_state_is_left_alone(project)
    assert losses(project) == 1


def test_the_price_of_a_loss_is_that_of_the_ledger(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    for before, after in ((100, 200), (200, 300)):
        (project.private / "state.duckdb").unlink()
        said = invoked(project, ledger_command, "record-loss", "--yes").stderr
        assert f"The stated bound rises from epsilon {before} to {after}, permanently." in said
        assert f"stays under epsilon {after};" in bound(project)
        # Once more without a release in between, as after a crash.
        (project.private / "state.duckdb").unlink()
        said = invoked(project, ledger_command, "record-loss", "--yes").stderr
        assert f"The loss is recorded already. The stated bound stays at epsilon {after}." in said
        assert f"stays under epsilon {after};" in bound(project)
        project.run_here(f"2023-0{2 + before // 100}-08")


def test_each_loss_of_a_pepper_has_its_price_and_the_command_says_if_one_is_recorded_last(
    released: Project, tmp_path: Path
) -> None:
    """What is open under the pepper that was lost still counts: a person may count once more under each."""
    project = released.copy(tmp_path / "project")
    for before, after in ((100, 200), (200, 300)):
        said = invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes").stderr
        assert ("The newest entry of the ledger records such a loss: go on only if" in said) is (before == 200)
        assert f"The stated bound rises from epsilon {before} to {after}, permanently." in said
        assert f"stays under epsilon {after};" in bound(project)
    assert losses(project) == 2


@pytest.mark.usefixtures("light")
def test_a_lost_pepper_leaves_the_state_as_it_is(released: Project, tmp_path: Path) -> None:
    """Its marks are of no use to anybody who comes back, and what is open would be lost: it cannot be emitted again."""

    project = released.copy(tmp_path / "project")

    def held() -> list[list[tuple[object, ...]]]:
        with State(project.private / "state.duckdb") as state:
            return [state.rows(f"FROM {table} ORDER BY ALL") for table in ("open_events", "limits", "offsets")]

    before = held()
    assert all(before)
    said = invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes").stderr
    assert "mit again" not in said
    assert "never released" not in said
    assert held() == before
    project.run_here("2023-03-08")
    assert losses(project) == 1
    (project.private / "state.duckdb").unlink()
    said = invoked(project, ledger_command, "record-loss", "--lost", "pepper", "--yes").stderr
    assert "emit again all that is dated" in said, "the state is lost as well"


def check_the_price_that_a_sound_state_names(project: Project) -> None:
    """Lose the state, record that, put the state back: a second loss would cost nothing, and none is recorded."""
    state = project.private / "state.duckdb"
    sound = state.read_bytes()
    state.unlink()
    invoked(project, ledger_command, "record-loss", "--yes")
    state.write_bytes(sound)
    said = refused(project, ledger_command, "record-loss", "--yes")
    assert "the state is sound" in said
    assert "A loss is recorded already, and the stated bound is epsilon 200." in said
    assert "would raise" not in said
    assert losses(project) == 1


@pytest.mark.usefixtures("light")
def test_a_sound_state_after_a_recorded_loss_is_left_alone_and_no_price_is_named_that_nobody_pays(
    released: Project, tmp_path: Path
) -> None:
    check_the_price_that_a_sound_state_names(released.copy(tmp_path / "project"))


@pytest.mark.usefixtures("light")
def test_a_twin_that_always_names_a_price_is_found(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "bound_after_loss", lambda chain: chain.budget.bound + chain.budget.lifetime_epsilon)
    with pytest.raises(AssertionError):
        check_the_price_that_a_sound_state_names(released.copy(tmp_path / "project"))


@pytest.mark.usefixtures("light")
def test_after_a_recorded_loss_the_secret_that_is_there_is_not_called_another_one(
    released: Project, tmp_path: Path
) -> None:
    """The state begins again and knows no secret: which one is there makes no difference."""
    project = released.copy(tmp_path / "project")
    secret = project.configuration.service.secret_file
    (project.private / "state.duckdb").unlink()
    invoked(project, ledger_command, "record-loss", "--yes")
    said = refused(project, ledger_command, "record-loss", "--lost", "secret", "--yes")
    assert f"{secret}: is there, and the state takes it as its secret when it is next opened" in said
    secret.unlink()
    said = invoked(project, ledger_command, "record-loss", "--lost", "secret", "--yes").stderr
    assert said.startswith(f"{secret} is missing.\nThe loss is recorded already.")
    assert losses(project) == 1


@pytest.mark.usefixtures("light")
def test_a_service_whose_secret_is_lost_permanently_goes_on_with_a_new_one(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    secret = project.configuration.service.secret_file
    lost = secret.read_bytes()
    secret.unlink()
    assert "ledger record-loss --lost secret" in refused(project, run_command, "--until-idle", "--as-of", "2023-02-08")
    said = invoked(project, ledger_command, "record-loss", "--lost", "secret", "--yes").stderr
    assert f"A new secret is in {secret}. Make a backup of it." in said
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_bytes() != lost
    project.run_here("2023-03-08")
    assert losses(project) == 1


@pytest.mark.usefixtures("light")
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


@pytest.mark.usefixtures("light")
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


@pytest.mark.usefixtures("light")
def test_a_state_that_folded_to_another_place_than_its_release_counted_is_recorded_as_lost(
    released: Project, tmp_path: Path
) -> None:
    project = released.copy(tmp_path / "project")
    with pytest.raises(Crash), open_service(project.configuration, MARCH, observe=crash) as service:
        service.tick(MARCH)
    with State(project.private / "state.duckdb") as state:
        state.connection.execute("UPDATE offsets SET next_offset = next_offset - 1")
    before = project.ledger_values()
    assert "has not folded exactly" in refused(project, run_command, "--until-idle", "--as-of", "2023-03-08")
    assert project.ledger_values() == before
    said = invoked(project, ledger_command, "record-loss", "--yes").stderr
    assert "has not folded exactly what the ledger released." in said
    project.run_here("2023-03-08")
    assert losses(project) == 1


def begun(project: Project) -> dict[str, dict[int, int]]:
    with State(project.private / "state.duckdb") as state:
        return state.begins


@pytest.mark.parametrize("restored", [False, True], ids=["its ledger", "a restored ledger"])
def test_a_later_population_begins_again_where_the_ledgers_private_log_says(
    released: Project, tmp_path: Path, restored: bool
) -> None:
    project = released.copy(tmp_path / "project")
    with project.config.open("a", encoding="utf-8") as config:
        config.write(statistic("later", "SentencePassed", since="2023-03-01"))
    project.run_here("2023-02-09")
    declared = begun(project)["later"]
    project.emit(simulated(20, seed=2))
    project.run_here("2023-02-10")
    if restored:
        for path in project.private.glob("ledger.sqlite*"):
            path.unlink()
        invoked(project, ledger_command, "restore", str(project.public), "--yes")
        project.run_here("2023-02-10")
        assert begun(project) == {"later": declared}, "the state knows it"
    (project.private / "state.duckdb").unlink()
    invoked(project, ledger_command, "record-loss", "--yes")
    with closing(open_log(project.configuration)) as log:
        ends = log.end_offsets(CASE_EVENTS)
    assert ends != declared
    assert begun(project)["later"] == (ends if restored else declared)
    project.run_here("2023-04-08")
    assert losses(project) == 1


@pytest.mark.usefixtures("light")
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
    state = released.private / "state.duckdb"
    whole = state.read_bytes()
    said = []
    for number, place in enumerate(range(12288 + 5000 + first * 262144, len(whole), 3 * 262144)):
        project = released.copy(tmp_path / f"project-{number}")
        content = bytearray(whole)
        content[place] ^= 1
        (project.private / "state.duckdb").write_bytes(content)
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


@pytest.mark.usefixtures("light")
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
