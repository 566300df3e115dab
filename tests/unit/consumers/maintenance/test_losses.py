"""Recording that the state is lost: only if it is lost, at the price that is named."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.catalogues import statistic
from tests.commanded import invoked, losses, refused
from tests.e2e.projects import Project, simulated
from tests.unit.consumers.maintenance.lost_states import MARCH, Crash, bound, check_a_sound_state_is_left_alone, crash

from quietcount_aggregates.ledger.chain import Chain
from quietcount_aggregates.state.state import State
from quietcount_consumers.commands.ledger import ledger_command
from quietcount_consumers.commands.readers.query import query_command
from quietcount_consumers.commands.service import release_command, run_command
from quietcount_consumers.maintenance import losses as recording
from quietcount_consumers.opening import open_service
from quietcount_consumers.wiring import open_log
from quietcount_schemas.log import CASE_EVENTS

pytestmark = pytest.mark.quick


def test_a_recorded_loss_raises_the_bound_in_public_and_lets_releases_go_on(project: Project) -> None:
    invoked(project, release_command, "--as-of", "2023-02-08")
    before = project.released()
    sql = "SELECT value FROM about WHERE key = 'bound'"
    assert "stays under epsilon 100;" in invoked(project, query_command, sql).stdout
    (project.private / "state-0.duckdb").unlink()
    asked = CliRunner().invoke(ledger_command, ["record-loss", "--config", str(project.config)], input="n\n")
    assert asked.exit_code == 1
    assert "state-0.duckdb is missing." in asked.output
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
    (project.private / "state-0.duckdb").unlink()
    assert "mit again" not in invoked(project, ledger_command, "record-loss", "--yes").stderr


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
    monkeypatch.setattr(recording, "_found", lambda *_: "whatever is there")
    with pytest.raises(AssertionError):
        check_a_sound_state_is_left_alone(project)
    assert losses(project) == 1


def test_the_price_of_a_loss_is_that_of_the_ledger(released: Project, tmp_path: Path) -> None:
    project = released.copy(tmp_path / "project")
    for before, after in ((100, 200), (200, 300)):
        (project.private / "state-0.duckdb").unlink()
        said = invoked(project, ledger_command, "record-loss", "--yes").stderr
        assert f"The stated bound rises from epsilon {before} to {after}, permanently." in said
        assert f"stays under epsilon {after};" in bound(project)
        # Once more without a release in between, as after a crash.
        (project.private / "state-0.duckdb").unlink()
        said = invoked(project, ledger_command, "record-loss", "--yes").stderr
        assert f"The loss is recorded already. The stated bound stays at epsilon {after}." in said
        assert f"stays under epsilon {after};" in bound(project)
        project.run_here(f"2023-0{2 + before // 100}-08")


def check_the_price_that_a_sound_state_names(project: Project) -> None:
    """Lose the state, record that, put the state back: a second loss would cost nothing, and none is recorded."""
    state = project.private / "state-0.duckdb"
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
    def one_more(chain: Chain, _: Iterable[int | None]) -> Decimal:
        return chain.budget.bound + chain.budget.lifetime_epsilon

    monkeypatch.setattr(recording, "bound_after_losses", one_more)
    with pytest.raises(AssertionError):
        check_the_price_that_a_sound_state_names(released.copy(tmp_path / "project"))


def begun(project: Project) -> dict[str, dict[int, int]]:
    with State(project.private / "state-0.duckdb") as state:
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
    (project.private / "state-0.duckdb").unlink()
    invoked(project, ledger_command, "record-loss", "--yes")
    with closing(open_log(project.configuration)) as log:
        ends = log.end_offsets(CASE_EVENTS)
    assert ends != declared
    assert begun(project)["later"] == (ends if restored else declared)
    project.run_here("2023-04-08")
    assert losses(project) == 1
